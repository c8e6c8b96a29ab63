"""Pods nobody will ever finish: on nodes that are gone, never scheduled, on nodes out of service, or just too many.

In: all pods and nodes, every 20 s. Out: those pods set to Failed and deleted without grace.
Source: kubernetes ``pkg/controller/podgc``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping

from anynode.aio.backoff import Backoff
from anynode.aio.tasks import Supervisor
from anynode.api.errors import Conflict, NotFound
from anynode.api.objects import Object, ObjectKey, get_path, is_deleting, key_of, name_of, uid_of
from anynode.api.resources import known
from anynode.client.api_client import PatchKind
from anynode.controllers.context import ControllerContext
from anynode.controllers.node_health import OUT_OF_SERVICE, ready_status
from anynode.controllers.pods import PODS, created_at, in_parallel, is_terminal, names_node, phase_of
from anynode.controllers.selection import index_nodes, on_node
from anynode.controllers.taint_eviction import disruption_patch

NODES = known("nodes")
PERIOD_SECONDS = 20.0
QUARANTINE_SECONDS = 40.0
MOST_TERMINATED = 12_500
_PODS_PER_TURN = 2000


@dataclasses.dataclass(slots=True)
class Candidates:
    """What a walk over all pods found."""

    terminated: list[Object] = dataclasses.field(default_factory=list)
    unscheduled: list[Object] = dataclasses.field(default_factory=list)
    out_of_service: list[Object] = dataclasses.field(default_factory=list)
    lost_nodes: set[str] = dataclasses.field(default_factory=set)


def sort_out(found: Candidates, pods: Iterable[Object], nodes: Mapping[str, Object]) -> None:
    """Add ``pods`` to ``found``."""
    for pod in pods:
        node_name = names_node(pod)
        if phase_of(pod) not in ("Pending", "Running", "Unknown", ""):
            found.terminated.append(pod)
        if node_name and node_name not in nodes:
            found.lost_nodes.add(node_name)
        if not is_deleting(pod):
            continue
        if not node_name:
            found.unscheduled.append(pod)
        elif (node := nodes.get(node_name)) is not None and is_out_of_service(node):
            found.out_of_service.append(pod)


def is_out_of_service(node: Object) -> bool:
    taints = get_path(node, "spec", "taints", default=())
    return ready_status(node) != "True" and any(each.get("key") == OUT_OF_SERVICE for each in taints)


def surplus(terminated: list[Object], most: int) -> list[Object]:
    """The finished pods beyond ``most``: evicted ones first, then the oldest."""
    count = len(terminated) - most
    if most <= 0 or count <= 0:
        return []
    return sorted(
        terminated,
        key=lambda pod: (get_path(pod, "status", "reason") != "Evicted", created_at(pod), name_of(pod)),
    )[:count]


class PodGarbageCollector:
    """Removes lost pods."""

    def __init__(self, context: ControllerContext, *, most_terminated: int = MOST_TERMINATED) -> None:
        self._context = context
        self._client = context.client
        self._most_terminated = most_terminated
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)
        index_nodes(self._pods.store)
        self._missing_since: dict[str, float] = {}

    async def run(self) -> None:
        await self._pods.wait_synced()
        await self._nodes.wait_synced()
        async with Supervisor("pod-gc", clock=self._context.clock) as tasks:
            again = Backoff(first_seconds=1.0, most_seconds=PERIOD_SECONDS)
            await tasks.start("walk", self._walk, restart=again)

    async def _walk(self) -> None:
        while True:
            await self.collect()
            await self._context.clock.sleep(PERIOD_SECONDS)

    async def collect(self) -> None:
        """One walk over all pods."""
        nodes = {name_of(node): node for node in self._nodes.store}
        found = Candidates()
        pods = self._pods.store.list()
        for start in range(0, len(pods), _PODS_PER_TURN):
            sort_out(found, pods[start : start + _PODS_PER_TURN], nodes)
            await asyncio.sleep(0)
        doomed = [*surplus(found.terminated, self._most_terminated), *found.out_of_service, *found.unscheduled]
        failures = await in_parallel(doomed, self._remove)
        failures += await in_parallel(await self._orphaned(found.lost_nodes), self._remove_orphan)
        if failures:
            raise failures[0]

    async def _orphaned(self, lost: set[str]) -> list[Object]:
        """Pods of nodes that have been missing for the time of quarantine, and are missing at the server too."""
        now = self._context.clock.monotonic()
        self._missing_since = {name: self._missing_since.get(name, now) for name in lost}
        pods: list[Object] = []
        for name, since in self._missing_since.items():
            if now - since < QUARANTINE_SECONDS:
                continue
            try:
                await self._client.get(NODES, ObjectKey("", name))
            except NotFound:
                pods.extend(on_node(self._pods.store, name))
        return pods

    async def _remove(self, pod: Object) -> None:
        await self._fail_and_delete(pod, None)

    async def _remove_orphan(self, pod: Object) -> None:
        message = "PodGC: node no longer exists"
        await self._fail_and_delete(pod, disruption_patch(pod, "DeletionByPodGC", message, self._context.now()))

    async def _fail_and_delete(self, pod: Object, disruption: Object | None) -> None:
        key = key_of(pod)
        try:
            if not is_terminal(pod):
                patch = disruption or {"metadata": {"uid": uid_of(pod)}, "status": {}}
                patch = {**patch, "status": {**patch["status"], "phase": "Failed"}}
                await self._client.patch(PODS, key, patch, kind=PatchKind.STRATEGIC, subresource="status")
            await self._client.delete(PODS, key, grace_seconds=0, uid=uid_of(pod))
        except (NotFound, Conflict):
            return
