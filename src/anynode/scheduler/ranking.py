"""Which node is best for a pod: one column of scores per kind of pod, kept up to date row by row. Pure but for chance.

In: a snapshot and a pod. Out: the row with the highest total score among those that pass every filter, ties broken by
the passed ``Random``; or None. A placement changes one row, so only that row is scored again; rows are kept in buckets
by score, so the best is found without looking at all of them. Rules about other pods are applied on top for those who
have any.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np

from anynode.scheduler import plugins
from anynode.scheduler.pods import PodFacts, Shape
from anynode.scheduler.snapshot import Bools, Ints, Snapshot
from anynode.scheduler.topology import NearRules
from anynode.scheduler.wishes import NearWishes

T = TypeVar("T")

COLUMNS_KEPT = 256
ROWS_ONE_BY_ONE = 48
"""Above this many changed rows all rows are scored at once."""


class ScoreColumn:
    """The scores of all rows for pods of one shape; -1 where it cannot go."""

    def __init__(self, snapshot: Snapshot, shape: Shape) -> None:
        self._snapshot = snapshot
        self._shape = shape
        self._needs = plugins.needs_of(snapshot, shape)
        self._layout = -1
        self._cursor = -1
        self._scores: Ints = np.zeros(0, dtype=np.int64)
        self._fixed: Ints = self._scores
        self._allowed: Bools = np.zeros(0, dtype=np.bool_)
        self._taints: Ints = self._scores
        self._preferences: Ints = self._scores
        self._uneven = False
        self._buckets: _Buckets | None = None
        self._asked = 0

    def best(self, chance: random.Random) -> int | None:
        """The row to take, or None."""
        if self._refresh():
            self._asked = 0
        self._asked += 1
        if self._buckets is None:
            if self._asked == 1:
                return _pick(self._scores, chance)
            self._buckets = _Buckets(self._scores)
        return self._buckets.best(chance)

    def scores(self) -> Ints:
        """The total score per row as of now."""
        self._refresh()
        return self._scores

    def _refresh(self) -> bool:
        """Catch up with the snapshot; whether all rows were scored anew."""
        snapshot = self._snapshot
        if self._layout == snapshot.layout:
            if self._cursor == snapshot.usage_log.end:
                return False
            changed = snapshot.usage_log.since(self._cursor)
            if changed is not None and len(changed) <= ROWS_ONE_BY_ONE and self._follow(set(changed)):
                self._cursor = snapshot.usage_log.end
                return False
        else:
            self._read_layout()
        self._score_all()
        self._cursor = snapshot.usage_log.end
        return True

    def _read_layout(self) -> None:
        snapshot, shape = self._snapshot, self._shape
        self._layout = snapshot.layout
        self._allowed = (
            snapshot.present[: snapshot.size]
            & plugins.schedulable(snapshot, shape)
            & plugins.taints_tolerated(snapshot, shape)
            & plugins.node_matches(snapshot, shape)
        )
        self._taints = plugins.intolerable_preferences(snapshot, shape)
        self._preferences = plugins.preference_weights(snapshot, shape)
        self._uneven = bool(self._taints.any() or self._preferences.any())

    def _score_all(self) -> None:
        snapshot, shape = self._snapshot, self._shape
        feasible = self._allowed & plugins.fits(snapshot, shape)
        if shape.ports:
            feasible &= plugins.ports_free(snapshot, shape)
        most_taints = int(self._taints[feasible].max(initial=0)) if self._uneven else 0
        most_preferred = int(self._preferences[feasible].max(initial=0)) if self._uneven else 0
        self._fixed = plugins.TAINT_WEIGHT * plugins.normalized(self._taints, most_taints, reverse=True)
        self._fixed += plugins.AFFINITY_WEIGHT * plugins.normalized(self._preferences, most_preferred, reverse=False)
        total = self._fixed + plugins.FIT_WEIGHT * plugins.least_allocated(snapshot, shape)
        total += plugins.BALANCE_WEIGHT * plugins.balanced(snapshot, shape)
        self._scores = np.where(feasible, total, -1)
        self._buckets = None

    def _follow(self, rows: set[int]) -> bool:
        """Score these rows anew; False when that changes what the others' scores are measured against."""
        scores, buckets = self._scores, self._buckets
        for row in rows:
            new = self._score_at(row)
            old = scores.item(row)
            if new == old:
                continue
            if self._uneven and (new < 0) != (old < 0):
                return False
            scores[row] = new
            if buckets is not None:
                buckets.move(row, old, new)
        return True

    def _score_at(self, row: int) -> int:
        snapshot, shape = self._snapshot, self._shape
        if not self._allowed.item(row) or not plugins.fits_at(snapshot, self._needs, row):
            return -1
        if shape.ports and not plugins.ports_free_at(snapshot, shape, row):
            return -1
        return (
            self._fixed.item(row)
            + plugins.FIT_WEIGHT * plugins.least_allocated_at(snapshot, shape, row)
            + plugins.BALANCE_WEIGHT * plugins.balanced_at(snapshot, shape, row)
        )


class _Buckets:
    """Rows by score: the best in constant time, a change of one row too."""

    def __init__(self, scores: Ints) -> None:
        self._rows: list[list[int]] = [[] for _ in range(int(scores.max(initial=0)) + 1)]
        self._position = [0] * len(scores)
        for row, score in enumerate(scores.tolist()):
            if score >= 0:
                self._insert(row, score)
        self._top = len(self._rows) - 1

    def best(self, chance: random.Random) -> int | None:
        rows = self._rows
        while self._top >= 0 and not rows[self._top]:
            self._top -= 1
        if self._top < 0:
            return None
        best = rows[self._top]
        return best[int(chance.random() * len(best))]

    def move(self, row: int, old: int, new: int) -> None:
        if old >= 0:
            bucket = self._rows[old]
            last = bucket.pop()
            if last != row:
                position = self._position[row]
                bucket[position] = last
                self._position[last] = position
        if new >= 0:
            self._insert(row, new)
            if new > self._top:
                self._top = new

    def _insert(self, row: int, score: int) -> None:
        while score >= len(self._rows):
            self._rows.append([])
        bucket = self._rows[score]
        self._position[row] = len(bucket)
        bucket.append(row)


class Ranking:
    """The score columns of the kinds of pods seen lately."""

    def __init__(self, snapshot: Snapshot, chance: random.Random) -> None:
        self._snapshot = snapshot
        self._chance = chance
        self._columns: collections.OrderedDict[Shape, ScoreColumn] = collections.OrderedDict()
        self._near: collections.OrderedDict[Hashable, NearRules] = collections.OrderedDict()
        self._wishes: collections.OrderedDict[Hashable, NearWishes] = collections.OrderedDict()

    def best(self, pod: PodFacts, among: Bools | None = None) -> str | None:
        """The node to place ``pod`` on, or None when none (of the rows ``among``) passes every filter."""
        column = self.column(pod.shape)
        snapshot, shape = self._snapshot, pod.shape
        if among is not None:
            row = self._best_near(pod, column, among)
        elif shape.looks_at_pods or pod.wishes or snapshot.anti_affinity_pods or snapshot.opinionated_pods:
            row = self._best_near(pod, column)
        else:
            row = column.best(self._chance)
        return None if row is None else snapshot.names[row]

    def passes_at(self, pod: PodFacts, row: int) -> bool:
        """Whether the pod could go to this row."""
        if self.column(pod.shape).scores().item(row) < 0:
            return False
        if not pod.shape.looks_at_pods and not self._snapshot.anti_affinity_pods:
            return True
        return bool(self.near(pod).passes()[row])

    def _best_near(self, pod: PodFacts, column: ScoreColumn, among: Bools | None = None) -> int | None:
        """The best row where other pods matter, or only some rows will do."""
        snapshot, shape = self._snapshot, pod.shape
        scores = column.scores()
        if among is not None:
            scores = np.where(among, scores, -1)
        if shape.looks_at_pods or snapshot.anti_affinity_pods:
            scores = np.where(self.near(pod).passes(), scores, -1)
        if pod.wishes or snapshot.opinionated_pods:
            feasible = scores >= 0
            scores = np.where(feasible, scores + self.wishes(pod).scores(feasible), -1)
        return _pick(scores, self._chance)

    def column(self, shape: Shape) -> ScoreColumn:
        found = self._columns.get(shape)
        if found is None:
            found = self._columns[shape] = ScoreColumn(self._snapshot, shape)
            if len(self._columns) > COLUMNS_KEPT:
                self._columns.popitem(last=False)
        else:
            self._columns.move_to_end(shape)
        return found

    def forget_near(self) -> None:
        """What namespaces say about themselves changed: count pods anew."""
        self._near.clear()
        self._wishes.clear()

    def near(self, pod: PodFacts) -> NearRules:
        """The rules about other pods, for pods like this one."""
        return _kept(self._near, pod, lambda: NearRules(self._snapshot, pod))

    def wishes(self, pod: PodFacts) -> NearWishes:
        """The wishes about other pods, for pods like this one."""
        return _kept(self._wishes, pod, lambda: NearWishes(self._snapshot, pod))


def _kept(known: collections.OrderedDict[Hashable, T], pod: PodFacts, make: Callable[[], T]) -> T:
    """What is known for pods like ``pod``, made when it is not; the longest unused is forgotten."""
    fellows = None if pod.fellows is None else str(pod.fellows)
    key = (pod.shape, pod.namespace, frozenset(pod.labels.items()), fellows)
    found = known.get(key)
    if found is None:
        found = known[key] = make()
        if len(known) > COLUMNS_KEPT:
            known.popitem(last=False)
    else:
        known.move_to_end(key)
    return found


def _pick(scores: Ints, chance: random.Random) -> int | None:
    highest = int(scores.max(initial=-1))
    if highest < 0:
        return None
    rows = np.flatnonzero(scores == highest)
    return int(rows[int(chance.random() * len(rows))])
