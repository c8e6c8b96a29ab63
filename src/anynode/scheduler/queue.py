"""Pods that wait for a node: ready, held back after an error, waiting for a change, or gated. Pure; given ``now``.

In: pods, and what became of each try. Out: the next pod to try: highest priority first, then who came first. A pod that
fitted nowhere waits until something changes that may help it and a look at the nodes says that it would fit now, or
until ``FLUSH_SECONDS`` passed; one whose binding failed waits 1 s, 2 s, ... at most 10 s. A pod with scheduling gates
waits for its last gate to go. Source: kube-scheduler ``backend/queue``, 1.36.
"""

from __future__ import annotations

import dataclasses
import enum
import heapq
import itertools
from collections.abc import Hashable, Iterable

from anynode.aio.backoff import Backoff
from anynode.api.objects import Object, Uid
from anynode.scheduler.pods import PodFacts

ERROR_BACKOFF = Backoff(first_seconds=1.0, most_seconds=10.0, factor=2.0)
FLUSH_SECONDS = 300.0
WOKEN_AT_ONCE = 64
"""How many pods of one kind one change wakes: when all of them found a place the next are woken."""


class Wake(enum.IntFlag):
    """What may help a waiting pod. The first four are ``snapshot.NodeChange``."""

    NONE = 0
    NODE_ADDED = 1
    NODE_ALLOCATABLE = 2
    NODE_LABELS = 4
    NODE_TAINTS = 8
    POD_GONE = 16
    POD_PLACED = 32
    VOLUMES = 64
    ANYTHING = 127


_HELPED_BY = {
    "NodeUnschedulable": Wake.NODE_ADDED | Wake.NODE_TAINTS,
    "TaintToleration": Wake.NODE_ADDED | Wake.NODE_TAINTS,
    "NodeAffinity": Wake.NODE_ADDED | Wake.NODE_LABELS,
    "NodePorts": Wake.NODE_ADDED | Wake.POD_GONE,
    "NodeResourcesFit": Wake.NODE_ADDED | Wake.NODE_ALLOCATABLE | Wake.POD_GONE,
    "PodTopologySpread": Wake.NODE_ADDED | Wake.NODE_LABELS | Wake.NODE_TAINTS | Wake.POD_GONE | Wake.POD_PLACED,
    "VolumeBinding": Wake.NODE_ADDED | Wake.NODE_LABELS | Wake.VOLUMES,
    "InterPodAffinity": Wake.NODE_ADDED | Wake.NODE_LABELS | Wake.POD_GONE | Wake.POD_PLACED,
}


class Place(enum.Enum):
    """Where a pod of the queue is."""

    ACTIVE = "active"
    BACKOFF = "backoff"
    UNSCHEDULABLE = "unschedulable"
    GATED = "gated"
    TAKEN = "taken"


@dataclasses.dataclass(slots=True, eq=False)
class QueuedPod:
    """One waiting pod."""

    pod: Object
    facts: PodFacts
    added_at: float
    place: Place = Place.GATED
    ticket: int = 0
    errors: int = 0
    waiting_since: float = 0.0
    plugins: frozenset[str] = frozenset()
    helped_by: Wake = Wake.ANYTHING

    @property
    def group(self) -> Hashable:
        """Pods of one group fit or fail together."""
        facts = self.facts
        if facts.has_claims:
            return facts.uid
        if not facts.shape.looks_at_pods:
            return facts.shape
        return (facts.shape, facts.namespace, frozenset(facts.labels.items()))


class SchedulingQueue:
    """The waiting pods of one scheduler."""

    def __init__(self) -> None:
        self._pods: dict[Uid, QueuedPod] = {}
        self._active: list[tuple[int, float, int, QueuedPod]] = []
        self._backoff: list[tuple[float, int, QueuedPod]] = []
        self._unschedulable: dict[Hashable, dict[Uid, QueuedPod]] = {}
        self._tickets = itertools.count(1)

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, uid: Uid) -> bool:
        return uid in self._pods

    def count(self, place: Place) -> int:
        return sum(1 for each in self._pods.values() if each.place is place)

    def set(self, pod: Object, facts: PodFacts, now: float) -> bool:
        """Add or update a pod without a node; whether it is now ready to be tried."""
        queued = self._pods.get(facts.uid)
        if queued is None:
            queued = self._pods[facts.uid] = QueuedPod(pod, facts, now)
        elif queued.place is Place.TAKEN:
            queued.pod = pod
            return False
        else:
            changed = queued.facts.shape is not facts.shape or queued.facts.labels != facts.labels
            if queued.place is not Place.GATED and not changed and queued.facts.priority == facts.priority:
                queued.pod = pod
                return False
            self._leave(queued)
            queued.pod, queued.facts = pod, facts
        if (pod.get("spec") or {}).get("schedulingGates"):
            queued.place = Place.GATED
            return False
        self._activate(queued)
        return True

    def remove(self, uid: Uid) -> None:
        """The pod has a node, or is gone."""
        queued = self._pods.pop(uid, None)
        if queued is not None:
            self._leave(queued)
            queued.ticket = 0

    def pop(self) -> QueuedPod | None:
        """The next pod to try; it stays known until ``remove``, ``failed`` or ``errored``."""
        while self._active:
            _, _, ticket, queued = heapq.heappop(self._active)
            if queued.ticket == ticket:
                queued.place, queued.ticket = Place.TAKEN, 0
                return queued
        return None

    def failed(self, queued: QueuedPod, plugins: frozenset[str], now: float) -> None:
        """No node fits, because of these plugins: wait for a change."""
        if self._pods.get(queued.facts.uid) is not queued:
            return
        queued.place, queued.waiting_since, queued.errors = Place.UNSCHEDULABLE, now, 0
        queued.plugins, queued.helped_by = plugins, _helped_by(plugins)
        self._unschedulable.setdefault(queued.group, {})[queued.facts.uid] = queued

    def errored(self, queued: QueuedPod, now: float) -> None:
        """Something went wrong that has nothing to do with the nodes: wait a little."""
        if self._pods.get(queued.facts.uid) is not queued:
            return
        queued.errors += 1
        queued.place, queued.ticket = Place.BACKOFF, next(self._tickets)
        heapq.heappush(self._backoff, (now + ERROR_BACKOFF.delay_seconds(queued.errors), queued.ticket, queued))

    def helped_by(self, what: Wake) -> list[tuple[Hashable, QueuedPod]]:
        """The groups of waiting pods that ``what`` may have helped, each with one of its pods."""
        found = []
        for group, pods in self._unschedulable.items():
            first = next(iter(pods.values()))
            if first.helped_by & what:
                found.append((group, first))
        return found

    def refused_by(self, group: Hashable, plugins: frozenset[str]) -> int:
        """A group still fits nowhere, but now for the sake of these plugins: some of it are to be told; how many."""
        for queued in self._unschedulable.get(group, {}).values():
            queued.plugins, queued.helped_by = plugins, _helped_by(plugins)
        return self.wake(group)

    def wake(self, group: Hashable) -> int:
        """Make ready the first pods of a group; how many."""
        woken = [*itertools.islice(self._unschedulable.get(group, {}).values(), WOKEN_AT_ONCE)]
        for queued in woken:
            self._leave(queued)
            self._activate(queued)
        return len(woken)

    def wake_one(self, uid: Uid) -> None:
        """Make one waiting pod ready."""
        queued = self._pods.get(uid)
        if queued is not None and queued.place is Place.UNSCHEDULABLE:
            self._leave(queued)
            self._activate(queued)

    def flush(self, now: float) -> int:
        """Make ready those whose back-off is over or who waited too long; how many."""
        ready = 0
        while self._backoff and self._backoff[0][0] <= now:
            _, ticket, queued = heapq.heappop(self._backoff)
            if queued.ticket == ticket:
                self._activate(queued)
                ready += 1
        for pods in tuple(self._unschedulable.values()):
            for queued in tuple(pods.values()):
                if now - queued.waiting_since < FLUSH_SECONDS:
                    break  # they stand in the order they came
                self._leave(queued)
                self._activate(queued)
                ready += 1
        return ready

    def _activate(self, queued: QueuedPod) -> None:
        queued.place, queued.ticket = Place.ACTIVE, next(self._tickets)
        heapq.heappush(self._active, (-queued.facts.priority, queued.added_at, queued.ticket, queued))

    def _leave(self, queued: QueuedPod) -> None:
        queued.ticket = 0  # heaps skip entries whose ticket is old
        if queued.place is Place.UNSCHEDULABLE:
            pods = self._unschedulable.get(queued.group)
            if pods is not None and pods.pop(queued.facts.uid, None) is not None and not pods:
                del self._unschedulable[queued.group]


def _helped_by(plugins: Iterable[str]) -> Wake:
    """What may help a pod that these plugins refused."""
    helped_by = Wake.NONE
    for plugin in plugins:
        helped_by |= _HELPED_BY.get(plugin, Wake.ANYTHING)
    return helped_by or Wake.ANYTHING
