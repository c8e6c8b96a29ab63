"""Whom to remove so that a pod of higher priority fits. Pure.

In: a snapshot, a pod no node takes, and the rows where removing pods may help. Out: one node and its victims, or None.
Victims have a lower priority than the pod; as many as possible are spared, the important and the budgeted first. Among
nodes: fewest broken disruption budgets, then the least important victims, then the fewest, then the youngest.
Source: kube-scheduler ``framework/plugins/defaultpreemption`` and ``framework/preemption``, 1.36.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from anynode.api.objects import Object, get_path, namespace_of
from anynode.api.selectors import NOTHING, LabelSelector, SelectorError, of_label_selector
from anynode.scheduler import plugins
from anynode.scheduler.pods import PodFacts
from anynode.scheduler.ranking import Ranking
from anynode.scheduler.snapshot import Bools, Snapshot

FEWEST_CANDIDATES = 100
CANDIDATES_SHARE = 10
MOST_TRIALS = 10
"""How many nodes are tried where rules about other pods matter, which costs more per node."""
PRIORITY_BASE = 2**31


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget: how many of the pods it speaks of may be removed now."""

    namespace: str
    selector: LabelSelector
    allowed: int
    disrupted: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True, slots=True)
class Preemption:
    """Remove ``victims`` (most important first) from ``node``."""

    node: str
    victims: tuple[PodFacts, ...]
    violations: int


def budgets_of(objects: Iterable[Object]) -> list[Budget]:
    """What PodDisruptionBudget objects allow now; a selector that is none speaks of no pod."""
    found = []
    for each in objects:
        try:
            selector = of_label_selector(get_path(each, "spec", "selector"))
        except SelectorError:
            selector = NOTHING
        status = each.get("status") or {}
        disrupted = frozenset(status.get("disruptedPods") or ())
        found.append(Budget(namespace_of(each), selector, status.get("disruptionsAllowed") or 0, disrupted))
    return found


StartOf = Callable[[PodFacts], str]
"""When a pod started, as a timestamp; empty when it did not."""


class _Room(Protocol):
    """One node with pods taken away on trial."""

    def take(self, pod: PodFacts) -> None: ...

    def put_back(self, pod: PodFacts) -> None: ...

    def fits(self) -> bool: ...


def find_preemption(
    snapshot: Snapshot,
    ranking: Ranking,
    pod: PodFacts,
    rows: Bools,
    *,
    budgets: Sequence[Budget],
    start_of: StartOf,
    chance: random.Random,
) -> Preemption | None:
    """The best node of ``rows`` to preempt on; the snapshot is as before when this returns."""
    if snapshot.lowest_priority() >= pod.priority:
        return None
    simple = not (pod.shape.looks_at_pods or pod.shape.ports or snapshot.anti_affinity_pods)
    candidates = _candidates(snapshot, pod, rows)
    if not candidates:
        return None
    most = max(FEWEST_CANDIDATES, len(candidates) * CANDIDATES_SHARE // 100) if simple else MOST_TRIALS
    offset = chance.randrange(len(candidates))
    found = []
    for row in candidates[offset:] + candidates[:offset]:
        room = _Sums(snapshot, pod, row) if simple else _Trial(snapshot, ranking, pod, row)
        preemption = _on_node(snapshot, pod, row, room, budgets, start_of)
        if preemption is not None:
            found.append(preemption)
            if len(found) >= most:
                break
    return min(found, key=lambda each: _cost(each, start_of)) if found else None


def _candidates(snapshot: Snapshot, pod: PodFacts, rows: Bools) -> list[int]:
    """Rows where the pod's requests would fit without all pods of lower priority."""
    needs = plugins.needs_of(snapshot, pod.shape)
    freed = np.zeros((len(needs) + 1, snapshot.size), dtype=np.int64)
    columns = {column: index for index, (column, _) in enumerate(needs)}
    for other, row in snapshot.placements():
        if other.priority < pod.priority and rows[row]:
            freed[-1, row] += 1
            for resource, amount in other.shape.requests.amounts.items():
                index = columns.get(snapshot.column(resource))
                if index is not None:
                    freed[index, row] += amount
    good = rows & (freed[-1] > 0)
    size = snapshot.size
    good &= snapshot.pod_limit[:size] - snapshot.pod_count[:size] + freed[-1] >= 1
    for index, (column, amount) in enumerate(needs):
        good &= snapshot.allocatable[column, :size] - snapshot.requested[column, :size] + freed[index] >= amount
    return [int(row) for row in np.flatnonzero(good)]


def _on_node(
    snapshot: Snapshot, pod: PodFacts, row: int, room: _Room, budgets: Sequence[Budget], start_of: StartOf
) -> Preemption | None:
    potential = [other for other in snapshot.pods_on(row) if other.priority < pod.priority]
    potential.sort(key=lambda other: (-other.priority, start_of(other) or "~"))
    for other in potential:
        room.take(other)
    victims: list[PodFacts] = []
    violations = 0
    fits = room.fits()
    if fits:
        violating = _violating(potential, budgets)
        for other in sorted(potential, key=lambda each: each.uid not in violating):
            room.put_back(other)
            if not room.fits():
                room.take(other)
                victims.append(other)
                violations += other.uid in violating
    for other in victims if fits else potential:
        room.put_back(other)
    if not victims:
        return None
    order = {other.uid: position for position, other in enumerate(potential)}
    victims.sort(key=lambda other: order[other.uid])
    return Preemption(snapshot.names[row], tuple(victims), violations)


def _violating(potential: Iterable[PodFacts], budgets: Sequence[Budget]) -> set[str]:
    """The pods whose removal would break a budget, the most important counted first."""
    left = [budget.allowed for budget in budgets]
    found: set[str] = set()
    for pod in potential:
        for index, budget in enumerate(budgets):
            if budget.namespace != pod.namespace or not budget.selector.requirements:
                continue
            if pod.key.name in budget.disrupted or not budget.selector.matches(pod.labels):
                continue
            left[index] -= 1
            if left[index] < 0:
                found.add(pod.uid)
    return found


def _cost(preemption: Preemption, start_of: StartOf) -> tuple[int, int, int, int, tuple[int, ...]]:
    victims = preemption.victims
    highest = victims[0].priority
    earliest = min((start_of(each) for each in victims if each.priority == highest), default="")
    return (
        preemption.violations,
        highest,
        sum(each.priority + PRIORITY_BASE for each in victims),
        len(victims),
        tuple(-ord(letter) for letter in earliest),  # later is better
    )


class _Sums:
    """A node where only sums matter: resources and the number of pods."""

    def __init__(self, snapshot: Snapshot, pod: PodFacts, row: int) -> None:
        self._needs = pod.shape.requests.amounts
        self._free: dict[str, int] = {}
        for resource in self._needs:
            column = snapshot.column(resource)
            self._free[resource] = snapshot.allocatable.item(column, row) - snapshot.requested.item(column, row)
        self._places = snapshot.pod_limit.item(row) - snapshot.pod_count.item(row)

    def take(self, pod: PodFacts) -> None:
        self._count(pod.shape.requests.amounts, 1)

    def put_back(self, pod: PodFacts) -> None:
        self._count(pod.shape.requests.amounts, -1)

    def fits(self) -> bool:
        return self._places >= 1 and all(self._free[name] >= amount for name, amount in self._needs.items())

    def _count(self, amounts: Mapping[str, int], by: int) -> None:
        self._places += by
        for resource in self._free:
            self._free[resource] += by * amounts.get(resource, 0)


class _Trial:
    """A node where anything may matter: the snapshot itself is changed and changed back."""

    def __init__(self, snapshot: Snapshot, ranking: Ranking, pod: PodFacts, row: int) -> None:
        self._snapshot = snapshot
        self._ranking = ranking
        self._pod = pod
        self._row = row
        self._node = snapshot.names[row]

    def take(self, pod: PodFacts) -> None:
        self._snapshot.remove(pod.uid)

    def put_back(self, pod: PodFacts) -> None:
        self._snapshot.place(pod, self._node)

    def fits(self) -> bool:
        return self._ranking.passes_at(self._pod, self._row)
