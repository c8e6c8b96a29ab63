"""The scheduler: takes pods without a node, decides, binds.

In: nodes, pods and what bears on them through informers. Out: bindings; Scheduled and FailedScheduling
events; the PodScheduled condition of pods that fit nowhere; evictions of less important pods where that makes room.
A decided pod is *assumed* to be on its node at once, so the next decision already counts it; the binding is written
meanwhile. If that fails the assumption is taken back and the pod tried again. Pods of other schedulers are only
counted. Source: kube-scheduler ``schedule_one.go`` and ``eventhandlers.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Hashable

from anynode.aio.channel import Channel
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import ApiError, NotFound, is_passing
from anynode.api.objects import (
    Object,
    Uid,
    get_path,
    is_deleting,
    labels_of,
    name_of,
    uid_of,
)
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.informer import Delta, InformerFactory
from anynode.informers.recorder import EventRecorder
from anynode.scheduler.claims import Claims, refused_rows
from anynode.scheduler.conditions import ConditionWriter
from anynode.scheduler.default_spread import Fellows
from anynode.scheduler.diagnosis import NEVER, VICTIMS_LEAVING, FitError, explain, refused_by_claims
from anynode.scheduler.evictions import Evictions
from anynode.scheduler.nominations import Nominations
from anynode.scheduler.pods import PodFacts, Shapes, is_finished
from anynode.scheduler.preemption import budgets_of, find_preemption
from anynode.scheduler.queue import QueuedPod, SchedulingQueue, Wake
from anynode.scheduler.ranking import Ranking
from anynode.scheduler.snapshot import NodeChange, Snapshot
from anynode.scheduler.volumes import VolumeNeeds

logger = logging.getLogger(__name__)

PODS, NODES, NAMESPACES = known("pods"), known("nodes"), known("namespaces")
BUDGETS = known("poddisruptionbudgets", "policy")
DEFAULT_NAME = "default-scheduler"
BINDINGS_WAITING = 1024
TURN_SECONDS = 0.005
"""How long decisions may hold the loop."""
WAKE_SECONDS = 0.05
FLUSH_EVERY_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Binding:
    queued: QueuedPod
    node: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    node: str | None
    needs: VolumeNeeds | None = None
    error: FitError | None = None


class Scheduler:
    """Finds nodes for the pods whose ``schedulerName`` is ``name``."""

    def __init__(
        self,
        client: ApiClient,
        informers: InformerFactory,
        *,
        clock: Clock,
        chance: random.Random,
        recorder: EventRecorder | None = None,
        name: str = DEFAULT_NAME,
        binders: int = 16,
    ) -> None:
        self.name = name
        self.snapshot = Snapshot()
        self.queue = SchedulingQueue()
        self._client = client
        self._clock = clock
        self._recorder = recorder or EventRecorder(client, component=name, clock=clock)
        self._owns_recorder = recorder is None
        self._shapes = Shapes()
        self._chance = chance
        self._ranking = Ranking(self.snapshot, chance)
        self._assumed: dict[Uid, str] = {}
        self._explained: dict[Hashable, FitError] = {}
        self._explained_at: tuple[int, int, int] = (0, 0, 0)
        self._ready = asyncio.Event()
        self._changed = asyncio.Event()
        self._changes = Wake.NONE
        self._bindings: Channel[_Binding] = Channel(BINDINGS_WAITING)
        self._binders = binders
        self._nodes = informers.informer(NODES)
        self._pods = informers.informer(PODS)
        self._namespaces = informers.informer(NAMESPACES)
        self._budgets = informers.informer(BUDGETS)
        self._fellows = Fellows(informers)
        self._nominated = Nominations(self.snapshot)
        self._claims = Claims(client, informers, clock=clock, changed=lambda: self._note(Wake.VOLUMES))
        self._conditions = ConditionWriter(client, self._pods.store, clock=clock)
        self._evictions = Evictions(client, self._pods.store, self._recorder, clock=clock, name=name)
        self._namespaces.subscribe(self._on_namespace)
        self._nodes.subscribe(self._on_node)
        self._pods.subscribe(self._on_pod)

    async def run(self) -> None:
        """Schedule until cancelled; begins when nodes and pods are known."""
        for informer in (self._nodes, self._pods, self._namespaces):
            await informer.wait_synced()
        async with Supervisor("scheduler", clock=self._clock) as tasks:
            if self._owns_recorder:
                tasks.start("events", self._recorder.run)
            tasks.start("conditions", self._conditions.run)
            tasks.start("evictions", self._evictions.run)
            tasks.start("claims", self._claims.run)
            tasks.start("wake", self._wake_waiting)
            tasks.start("flush", self._flush)
            for number in range(self._binders):
                tasks.start(f"binder-{number}", self._bind_all)
            await self._schedule()

    # what informers say

    def _on_node(self, delta: Delta) -> None:
        if delta.kind == "deleted":
            self.snapshot.remove_node(name_of(delta.obj))
            return
        change = self.snapshot.set_node(delta.obj)
        if change is not NodeChange.NONE:
            self._note(Wake(int(change)))

    def _on_pod(self, delta: Delta) -> None:
        pod = delta.obj
        uid = uid_of(pod)
        node = get_path(pod, "spec", "nodeName", default="")
        if delta.kind == "deleted" or (node and is_finished(pod)):
            if self._nominated.drop(uid):
                self._note(Wake.POD_GONE)
            self._forget(uid)
            self.queue.remove(uid)
        elif node:
            if delta.old is not None and _same_to_us(delta.old, pod):
                return
            self._nominated.drop(uid)
            self._assumed.pop(uid, None)
            self.queue.remove(uid)
            if self.snapshot.place(self._shapes.facts(pod), node):
                self._note(Wake.POD_PLACED)
        elif uid not in self._assumed and get_path(pod, "spec", "schedulerName", default=DEFAULT_NAME) == self.name:
            self._on_waiting_pod(uid, pod)

    def _on_waiting_pod(self, uid: Uid, pod: Object) -> None:
        if is_deleting(pod) or is_finished(pod):
            if self._nominated.drop(uid):
                self._note(Wake.POD_GONE)
            self.queue.remove(uid)
            return
        facts = self._shapes.facts(pod, self._fellows.selector_of(pod))
        promised = get_path(pod, "status", "nominatedNodeName", default="")
        if promised and uid not in self.queue:
            self._nominated.add(facts, promised)  # by whoever scheduled before us
        if self.queue.set(pod, facts, self._clock.monotonic()):
            self._ready.set()

    def _on_namespace(self, delta: Delta) -> None:
        name, known = name_of(delta.obj), self.snapshot.namespace_labels
        if delta.kind == "deleted":
            labels = known.pop(name, {})
            changed = bool(labels)
        else:
            labels = labels_of(delta.obj)
            changed = labels != known.get(name)
            known[name] = labels
        if changed:
            self._ranking.forget_near()
            self._note(Wake.POD_PLACED)

    def _note(self, change: Wake) -> None:
        self._changes |= change
        self._changed.set()

    def _forget(self, uid: Uid) -> None:
        """The pod takes no room any more."""
        self._assumed.pop(uid, None)
        if self.snapshot.remove(uid):
            self._note(Wake.POD_GONE)

    # deciding

    async def _schedule(self) -> None:
        turn_began = self._clock.monotonic()
        while True:
            queued = self.queue.pop()
            if queued is None:
                self._ready.clear()
                await self._ready.wait()
                turn_began = self._clock.monotonic()
                continue
            await self._schedule_one(queued)
            if self._clock.monotonic() - turn_began > TURN_SECONDS:
                await asyncio.sleep(0)
                turn_began = self._clock.monotonic()

    async def _schedule_one(self, queued: QueuedPod) -> None:
        facts = queued.facts
        if self._nominated:
            with self._nominated.aside(facts):
                node = self._decide(queued)
        else:
            node = self._decide(queued)
        if node is None:
            return
        binding = _Binding(queued, node)
        if not self._bindings.offer(binding):
            await self._bindings.send(binding)
        if self._changes is Wake.NONE and facts.shape.looks_at_pods:
            self._note(Wake.POD_PLACED)

    def _decide(self, queued: QueuedPod) -> str | None:
        """The node, the pod assumed to be there; None when there is none, and the pod told so."""
        facts = queued.facts
        found = self._find(queued)
        if found.node is None:
            self._no_fit(queued, found.error or self._explain(queued))
            return None
        if found.needs is not None and (found.needs.unchosen or found.needs.selected):
            self._wait_for_volumes(queued, found.needs, found.node)
            return None
        self._nominated.drop(facts.uid)
        self.snapshot.place(facts, found.node)
        self._assumed[facts.uid] = found.node
        return found.node

    def _find(self, queued: QueuedPod) -> _Found:
        """The best node, or why there is none (None: for ``_explain`` to say)."""
        facts = queued.facts
        if not facts.has_claims:
            return _Found(self._ranking.best(facts))
        needs = self._claims.needs_of(queued.pod)
        if needs.problem:
            return _Found(None, needs, refused_by_claims(self.snapshot, needs.problem))
        refusals = refused_rows(self.snapshot, needs)
        among = self.snapshot.present[: self.snapshot.size].copy()
        for rows, _ in refusals:
            among &= ~rows
        node = self._ranking.best(facts, among)
        error = explain(self.snapshot, facts, self._ranking.near(facts), refusals) if node is None else None
        return _Found(node, needs, error)

    def _wait_for_volumes(self, queued: QueuedPod, needs: VolumeNeeds, node: str) -> None:
        """Keep the place until the volumes are made there; the claims are told where that is."""
        self._claims.choose(needs.unchosen, node)
        self._nominated.add(queued.facts, node)
        self.queue.failed(queued, frozenset({"VolumeBinding"}), self._clock.monotonic())

    def _no_fit(self, queued: QueuedPod, error: FitError) -> None:
        message = self._preempt(queued, error)
        self.queue.failed(queued, error.plugins, self._clock.monotonic())
        self._recorder.event(queued.pod, "Warning", "FailedScheduling", message, action="Scheduling")
        nominated = self._nominated.node_of(queued.facts.uid)
        self._conditions.set(queued.pod, "Unschedulable", message, nominated=nominated)

    def _preempt(self, queued: QueuedPod, error: FitError) -> str:
        """Have less important pods removed where that makes room; what to tell."""
        facts = queued.facts
        if get_path(queued.pod, "spec", "preemptionPolicy") == "Never":
            return error.without_preemption(NEVER)
        promised = self._nominated.node_of(facts.uid)
        if promised and self._victims_leaving(facts, promised):
            return error.without_preemption(VICTIMS_LEAVING)
        preemption = find_preemption(
            self.snapshot,
            self._ranking,
            facts,
            error.helpable,
            budgets=budgets_of(self._budgets.store),
            start_of=self._start_of,
            chance=self._chance,
        )
        if promised:
            self._note(Wake.POD_GONE)  # what was promised is free for others
        if preemption is None:
            self._nominated.drop(facts.uid)
            return error.message
        for victim in preemption.victims:
            self._evictions.add(victim.key, queued.pod, preemption.node)
        self._nominated.add(facts, preemption.node)
        return error.why

    def _victims_leaving(self, facts: PodFacts, node: str) -> bool:
        row = self.snapshot.row_of(node)
        if row is None:
            return False
        return any(
            other.priority < facts.priority and (other.deleting or self._evictions.pending(other.key))
            for other in self.snapshot.pods_on(row)
        )

    def _start_of(self, facts: PodFacts) -> str:
        return str(get_path(self._pods.store.get(facts.key) or {}, "status", "startTime", default=""))

    def _explain(self, queued: QueuedPod) -> FitError:
        """Why it fits nowhere; told once for equal pods while nothing changes."""
        snapshot = self.snapshot
        now = (snapshot.layout, snapshot.usage_log.end, snapshot.moves.end)
        if now != self._explained_at:
            self._explained.clear()
            self._explained_at = now
        key = queued.group
        error = None if snapshot.anti_affinity_pods else self._explained.get(key)
        if error is None:
            near = self._ranking.near(queued.facts)
            error = self._explained[key] = explain(snapshot, queued.facts, near)
        return error

    async def _wake_waiting(self) -> None:
        """Give waiting pods another try when something changed that may help them."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            changes, self._changes = self._changes, Wake.NONE
            woken, turn_began = 0, self._clock.monotonic()
            for facts in self._nominated:
                # one that cannot have its place although nobody is leaving it gives it up at its next try
                if self._would_fit(facts) or not self._victims_leaving(facts, self._nominated.node_of(facts.uid)):
                    self.queue.wake_one(facts.uid)
                    self._ready.set()
            for group, first in self.queue.helped_by(changes):
                woken += self._look_again(group, first)
                if self._clock.monotonic() - turn_began > TURN_SECONDS:
                    await asyncio.sleep(0)
                    turn_began = self._clock.monotonic()
            if woken:
                self._note(changes)  # those not woken yet get their turn once these have a place
            await self._clock.sleep(WAKE_SECONDS)

    def _look_again(self, group: Hashable, first: QueuedPod) -> int:
        """Try a group of waiting pods again if they would fit now, or fit nowhere for other reasons; how many of those
        that would fit."""
        with self._nominated.aside(first.facts):
            found = self._find(first)
            if found.node is not None:
                self._ready.set()
                woken = self.queue.wake(group)
                return woken if found.needs is None else 0  # those with claims may wait on, which is no progress
            plugins = (found.error or self._explain(first)).plugins
        if plugins != first.plugins and self.queue.refused_by(group, plugins):
            self._ready.set()
        return 0

    def _would_fit(self, facts: PodFacts) -> bool:
        with self._nominated.aside(facts):
            return self._ranking.best(facts) is not None

    async def _flush(self) -> None:
        while True:
            await self._clock.sleep(FLUSH_EVERY_SECONDS)
            if self.queue.flush(self._clock.monotonic()):
                self._ready.set()

    # writing

    async def _bind_all(self) -> None:
        async for binding in self._bindings:
            try:
                await self._bind(binding)
            except NotFound:
                self._forget(binding.queued.facts.uid)
                self.queue.remove(binding.queued.facts.uid)
            except (ApiError, ConnectionError, TimeoutError) as error:
                self._binding_failed(binding, error)
            else:
                self._bound(binding)

    async def _bind(self, binding: _Binding) -> None:
        facts = binding.queued.facts
        await self._client.create(
            PODS,
            {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"namespace": facts.namespace, "name": facts.key.name, "uid": facts.uid},
                "target": {"kind": "Node", "name": binding.node},
            },
            name=facts.key.name,
            subresource="binding",
        )

    def _bound(self, binding: _Binding) -> None:
        message = f"Successfully assigned {binding.queued.facts.key} to {binding.node}"
        self._recorder.event(binding.queued.pod, "Normal", "Scheduled", message, action="Binding")
        self._conditions.forget(binding.queued.facts.key)

    def _binding_failed(self, binding: _Binding, error: Exception) -> None:
        queued = binding.queued
        if queued.facts.uid not in self._assumed:
            return  # the binding took effect, or the pod is gone, whatever the answer said
        self._forget(queued.facts.uid)
        self.queue.errored(queued, self._clock.monotonic())
        message = f"binding rejected: {error}"
        level = logging.DEBUG if is_passing(error) else logging.WARNING
        fields = {"pod": str(queued.facts.key), "error": str(error)}
        logger.log(level, "binding failed and will be tried again", extra=fields)
        self._recorder.event(queued.pod, "Warning", "FailedScheduling", message, action="Scheduling")
        self._conditions.set(queued.pod, "SchedulerError", message)


def _same_to_us(old: Object, new: Object) -> bool:
    """Whether a placed pod's change is none for scheduling; most are changes of its status."""
    return bool(
        old.get("spec") == new.get("spec")
        and labels_of(old) == labels_of(new)
        and is_deleting(old) == is_deleting(new)
        and uid_of(old) == uid_of(new)
    )
