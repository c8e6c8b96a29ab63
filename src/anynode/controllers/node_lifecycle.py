"""Node lifecycle: nodes that stop reporting become Unknown, and are tainted by what their conditions say.

In: Nodes and their Leases. Out: conditions set to Unknown 50 s after the last sign of life, taints, events, pods of
lost nodes marked not ready. NoExecute taints come at most one per ten seconds and zone, and not at all while no node
anywhere is ready: then it is more likely us who are cut off.
Source: kubernetes ``pkg/controller/nodelifecycle``, 1.36.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses

from anynode.aio.backoff import Backoff
from anynode.aio.tasks import Supervisor
from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, condition_of, get_path, key_of, name_of, uid_of, with_path
from anynode.api.resources import known
from anynode.client.api_client import PatchKind
from anynode.controllers import node_health as health
from anynode.controllers.context import ControllerContext
from anynode.controllers.ownership import Latest
from anynode.controllers.pods import PODS, created_at, in_parallel
from anynode.controllers.selection import index_nodes, on_node
from anynode.controllers.times import timestamp
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

NODES = known("nodes")
LEASES = known("leases", "coordination.k8s.io")
LEASE_NAMESPACE = "kube-node-lease"
MONITOR_SECONDS = 5.0
GRACE_SECONDS = 50.0
STARTUP_GRACE_SECONDS = 60.0
_NODES_PER_TURN = 2000
"""Nodes checked before others may run."""


@dataclasses.dataclass(slots=True)
class _Sign:
    """The last sign of life of one node: when it came (monotonic), and whether it ever reported a status."""

    at: float
    reported: bool
    heartbeat: str = ""
    renewed: str = ""


@dataclasses.dataclass(slots=True)
class _Zone:
    nodes: set[str] = dataclasses.field(default_factory=set)
    not_ready: set[str] = dataclasses.field(default_factory=set)
    waiting: dict[str, None] = dataclasses.field(default_factory=dict)
    """Nodes to be given a NoExecute taint, first come first served."""
    tokens: float = 1.0
    refilled: float = 0.0

    @property
    def ready_count(self) -> int:
        return len(self.nodes) - len(self.not_ready)


class NodeLifecycleController:
    """Watches over nodes."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._clock = context.clock
        self._nodes = context.informers.informer(NODES)
        self._leases = context.informers.informer(LEASES, namespace=LEASE_NAMESPACE)
        self._pods = context.informers.informer(PODS)
        index_nodes(self._pods.store)
        self._latest = Latest(self._nodes.store)
        self._signs: dict[str, _Sign] = {}
        self._zones: collections.defaultdict[str, _Zone] = collections.defaultdict(_Zone)
        self._zone_of: dict[str, str] = {}
        self._recorder = context.recorder("node-controller")
        self._controller = context.controller("node-lifecycle", self.reconcile, workers=8)
        self._nodes.subscribe(self._node_changed)
        self._leases.subscribe(self._lease_changed)

    async def run(self) -> None:
        for informer in (self._nodes, self._leases, self._pods):
            await informer.wait_synced()
        async with Supervisor("node-lifecycle", clock=self._clock) as tasks:
            tasks.start("taints", self._controller.run)
            await tasks.start(
                "monitor", self._monitor, restart=Backoff(first_seconds=1.0, most_seconds=MONITOR_SECONDS)
            )

    # what informers say

    def _node_changed(self, delta: Delta) -> None:
        node, name = delta.obj, name_of(delta.obj)
        if delta.kind == "deleted":
            self._signs.pop(name, None)
            self._leave_zone(name)
            self._tell(node, "RemovingNode", f"Removing Node {name} from Controller")
            return
        if delta.kind == "added":
            self._tell(node, "RegisteredNode", f"Registered Node {name} in Controller")
        self._note_status(name, node)
        self._place(name, node)
        if delta.old is None or _looks(delta.old) != _looks(node):
            self._controller.queue.add(key_of(node))

    def _note_status(self, name: str, node: Object) -> None:
        ready = condition_of(node, "Ready")
        heartbeat = "" if ready is None else str(ready.get("lastHeartbeatTime") or "")
        sign = self._signs.get(name)
        now = self._clock.monotonic()
        if sign is None:
            born = now if ready is not None else now - max(0.0, self._context.now() - created_at(node))
            self._signs[name] = _Sign(born, ready is not None, heartbeat)
        elif heartbeat != sign.heartbeat or (ready is not None) != sign.reported:
            sign.at, sign.reported, sign.heartbeat = now, ready is not None, heartbeat

    def _lease_changed(self, delta: Delta) -> None:
        sign = self._signs.get(name_of(delta.obj))
        renewed = get_path(delta.obj, "spec", "renewTime", default="")
        if sign is not None and delta.kind != "deleted" and renewed != sign.renewed:
            sign.at, sign.renewed = self._clock.monotonic(), renewed

    def _place(self, name: str, node: Object) -> None:
        zone_name = health.zone_of(node)
        if self._zone_of.get(name, zone_name) != zone_name:
            self._leave_zone(name)
        zone = self._zones[zone_name]
        self._zone_of[name] = zone_name
        zone.nodes.add(name)
        if health.ready_status(node) == "True":
            zone.not_ready.discard(name)
        else:
            zone.not_ready.add(name)

    def _leave_zone(self, name: str) -> None:
        zone_name = self._zone_of.pop(name, None)
        zone = None if zone_name is None else self._zones.get(zone_name)
        if zone is None or zone_name is None:
            return
        zone.nodes.discard(name)
        zone.not_ready.discard(name)
        zone.waiting.pop(name, None)
        if not zone.nodes:
            del self._zones[zone_name]

    def _tell(self, node: Object, reason: str, text: str) -> None:
        self._recorder.event(node, "Normal", reason, f"Node {name_of(node)} event: {text}")

    # nodes that fall silent

    async def _monitor(self) -> None:
        while True:
            await self.check()
            await self._clock.sleep(MONITOR_SECONDS)

    async def check(self) -> None:
        """Mark nodes that were silent too long, and hand out due NoExecute taints."""
        now = self._clock.monotonic()
        silent: list[str] = []
        for number, (name, sign) in enumerate([*self._signs.items()]):
            grace_seconds = GRACE_SECONDS if sign.reported else STARTUP_GRACE_SECONDS
            if now - sign.at > grace_seconds:
                silent.append(name)
            if number % _NODES_PER_TURN == _NODES_PER_TURN - 1:
                await asyncio.sleep(0)
        failures = await in_parallel(silent, self._mark_unknown)
        await self._hand_out_taints()
        if failures:
            raise failures[0]

    async def _mark_unknown(self, name: str) -> None:
        node = self._latest.get(ObjectKey("", name))
        status = None if node is None else health.plan_unknown(node, self._context.now())
        if node is None or status is None:
            return
        was_ready = health.ready_status(node) == "True"
        try:
            self._latest.note(await self._client.update(NODES, {**node, "status": status}, subresource="status"))
        except NotFound:
            return
        if was_ready:
            text = f"Node {name} status is now: NodeNotReady"
            self._recorder.event(node, "Normal", "NodeNotReady", text)
            failures = await in_parallel(on_node(self._pods.store, name), self._mark_pod_not_ready)
            if failures:
                raise failures[0]

    async def _mark_pod_not_ready(self, pod: Object) -> None:
        ready = condition_of(pod, "Ready")
        if ready is None or ready.get("status") != "True":
            return
        changed = {**ready, "status": "False", "lastTransitionTime": timestamp(self._context.now())}
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [changed]}}
        try:
            await self._client.patch(PODS, key_of(pod), patch, kind=PatchKind.STRATEGIC, subresource="status")
        except NotFound:
            return
        self._recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")

    # taints

    async def reconcile(self, key: ObjectKey) -> Outcome:
        """Bring one node's taints in line with its conditions; NoExecute taints wait for their turn."""
        node = self._latest.get(key)
        zone_name = self._zone_of.get(key.name)
        if node is None or zone_name is None:
            return Done()
        zone = self._zones[zone_name]
        if health.needs_execute(node):
            zone.waiting.setdefault(key.name)
        else:
            zone.waiting.pop(key.name, None)
        execute = key.name in zone.waiting and not self._is_cut_off() and self._take_turn(zone)
        await self._write_taints(node, execute=execute)
        if execute:
            zone.waiting.pop(key.name, None)
        return Done()

    async def _write_taints(self, node: Object, *, execute: bool) -> None:
        taints = health.plan_taints(node, execute=execute, now=self._context.now())
        if taints is None:
            return
        wished = with_path(node, ("spec", "taints"), taints)
        try:
            self._latest.note(await self._client.update(NODES, wished))
        except NotFound:
            return

    async def _hand_out_taints(self) -> None:
        if self._is_cut_off():
            await self._call_off_taints()
            return
        for zone in [*self._zones.values()]:
            for name in [*zone.waiting]:
                node = self._latest.get(ObjectKey("", name))
                if node is None or not health.needs_execute(node):
                    zone.waiting.pop(name, None)
                elif self._take_turn(zone):
                    await self._write_taints(node, execute=True)
                    zone.waiting.pop(name, None)
                else:
                    break

    async def _call_off_taints(self) -> None:
        """No node is ready: take NoExecute taints off again, so that nothing is evicted while we cannot know."""
        for zone in [*self._zones.values()]:
            for name in [*zone.not_ready]:
                node = self._latest.get(ObjectKey("", name))
                if node is not None and health.no_execute_key(node) and not health.needs_execute(node):
                    kept = [
                        each
                        for each in get_path(node, "spec", "taints", default=())
                        if (each.get("key"), each.get("effect")) != (health.no_execute_key(node), "NoExecute")
                    ]
                    wished = with_path(node, ("spec", "taints"), kept)
                    self._latest.note(await self._client.update(NODES, wished))

    def _is_cut_off(self) -> bool:
        return bool(self._zones) and all(
            health.is_fully_disrupted(zone.ready_count, len(zone.not_ready)) for zone in self._zones.values()
        )

    def _take_turn(self, zone: _Zone) -> bool:
        """Whether a NoExecute taint may be set in ``zone`` now."""
        now = self._clock.monotonic()
        rate = health.taints_per_second(zone.ready_count, len(zone.not_ready))
        zone.tokens = min(1.0, zone.tokens + (now - zone.refilled) * rate)
        zone.refilled = now
        if zone.tokens < 1.0 or rate == 0:
            return False
        zone.tokens -= 1.0
        return True


def _looks(node: Object) -> tuple[object, ...]:
    """What of a node decides about its taints."""
    spec = node.get("spec") or {}
    conditions = [(each.get("type"), each.get("status")) for each in get_path(node, "status", "conditions", default=())]
    return spec.get("taints"), spec.get("unschedulable"), conditions, health.zone_of(node)
