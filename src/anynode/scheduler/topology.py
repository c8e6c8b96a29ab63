"""Rules about pods near pods: topology spread constraints, required pod affinity and anti-affinity. Pure.

In: a snapshot and one pod. Out: which rows pass. Counts of matching pods per row are kept from one decision to the next
and follow ``snapshot.moves``; sums per topology domain are array sums over the label column.
Source: kube-scheduler ``framework/plugins/podtopologyspread`` and ``interpodaffinity`` (filtering), 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from anynode.api.selectors import LabelSelector, Requirement
from anynode.scheduler import plugins
from anynode.scheduler.pods import AffinityTerm, PodFacts, Shape, SpreadConstraint
from anynode.scheduler.snapshot import Bools, Ints, Move, Snapshot


class PodCounts:
    """How many pods that match something are on each row."""

    def __init__(self, snapshot: Snapshot, matches: Callable[[PodFacts], bool]) -> None:
        self._snapshot = snapshot
        self._matches = matches
        self._rows: Ints = np.zeros(len(snapshot.present), dtype=np.int64)
        self._cursor = -1

    def rows(self) -> Ints:
        """The counts as of now, one per row."""
        snapshot = self._snapshot
        moves = snapshot.moves.since(self._cursor) if self._cursor >= 0 else None
        if moves is None or len(self._rows) != len(snapshot.present):
            self._rows = np.zeros(len(snapshot.present), dtype=np.int64)
            for facts, row in snapshot.placements():
                if self._matches(facts):
                    self._rows[row] += 1
        else:
            for move in moves:
                self._follow(move)
        self._cursor = snapshot.moves.end
        return self._rows[: snapshot.size]

    def _follow(self, move: Move) -> None:
        if self._matches(move.facts):
            self._rows[move.row] += move.by


def domain_sums(snapshot: Snapshot, key: str, rows: Ints) -> tuple[Ints, npt.NDArray[np.int32]]:
    """``rows`` added up per value of the label ``key``, and each row's value as an index into that; 0 is "no label"."""
    column = snapshot.label(key)
    codes = column.rows[: snapshot.size]
    return np.bincount(codes, weights=rows, minlength=len(column.values)).astype(np.int64), codes


class Opinions:
    """Per topology key and row, the weights of all terms of placed pods that speak of one kind of pod, added up."""

    def __init__(
        self,
        snapshot: Snapshot,
        pod: PodFacts,
        holders: Callable[[], Iterable[PodFacts]],
        terms_of: Callable[[Shape], Sequence[tuple[AffinityTerm, int]]],
    ) -> None:
        self._snapshot = snapshot
        self._pod = pod
        self._holders = holders
        self._terms_of = terms_of
        self._rows: dict[str, Ints] = {}
        self._cursor = -1
        self._size = 0

    def rows(self) -> Mapping[str, Ints]:
        """The sums as of now."""
        snapshot = self._snapshot
        moves = snapshot.moves.since(self._cursor) if self._cursor >= 0 else None
        if moves is None or self._size != len(snapshot.present):
            self._rows, self._size = {}, len(snapshot.present)
            for facts in self._holders():
                row = snapshot.row_of(snapshot.node_of(facts.uid) or "")
                if row is not None:
                    self._follow(facts, row, 1)
        else:
            for move in moves:
                self._follow(move.facts, move.row, move.by)
        self._cursor = snapshot.moves.end
        return {key: rows[: snapshot.size] for key, rows in self._rows.items()}

    def _follow(self, facts: PodFacts, row: int, by: int) -> None:
        for term, weight in self._terms_of(facts.shape):
            if term.matches(facts.namespace, self._pod, self._snapshot.namespace_labels):
                sums = self._rows.get(term.topology_key)
                if sums is None:
                    sums = self._rows[term.topology_key] = np.zeros(self._size, dtype=np.int64)
                sums[row] += by * weight


class SpreadRule:
    """One DoNotSchedule constraint of one kind of pod."""

    def __init__(self, snapshot: Snapshot, pod: PodFacts, constraint: SpreadConstraint) -> None:
        self._snapshot = snapshot
        self.constraint = constraint
        own = [Requirement(key, "=", (pod.labels[key],)) for key in constraint.match_label_keys if key in pod.labels]
        selector = LabelSelector((*constraint.selector.requirements, *own))
        if not constraint.selector.requirements and not constraint.selector.matches({}):
            selector = constraint.selector  # matches nothing, and stays so
        namespace = pod.namespace
        self._own = int(selector.matches(pod.labels))
        self.counts = PodCounts(
            snapshot,
            lambda other: other.namespace == namespace and not other.deleting and selector.matches(other.labels),
        )

    def has_key(self) -> Bools:
        has: Bools = self._snapshot.label(self.constraint.topology_key).rows[: self._snapshot.size] > 0
        return has

    def passes(self, eligible: Bools) -> Bools:
        """Rows where one more pod keeps the skew; ``eligible`` rows make up the domains."""
        constraint, snapshot = self.constraint, self._snapshot
        codes = snapshot.label(constraint.topology_key).rows[: snapshot.size]
        counted = codes[eligible]
        kinds = len(snapshot.label(constraint.topology_key).values)
        sums = np.bincount(counted, weights=self.counts.rows()[eligible], minlength=kinds).astype(np.int64)
        there = np.bincount(counted, minlength=kinds) > 0
        if not there.any():
            return np.ones(snapshot.size, dtype=np.bool_)
        fewest = int(sums[there].min()) if int(there.sum()) >= constraint.min_domains else 0
        good: Bools = sums[codes] + self._own - fewest <= constraint.max_skew
        return good

    def eligible(self, matching: Bools, tolerated: Bools) -> Bools:
        """Rows that count for this constraint's domains."""
        rows = self._snapshot.present[: self._snapshot.size].copy()
        if self.constraint.honor_affinity:
            rows &= matching
        if self.constraint.honor_taints:
            rows &= tolerated
        return rows


class NearRules:
    """All rules about other pods, for pods like ``pod`` (same shape, namespace and labels)."""

    def __init__(self, snapshot: Snapshot, pod: PodFacts) -> None:
        self._snapshot = snapshot
        self._pod = pod
        shape = pod.shape
        self._shunned = Opinions(
            snapshot,
            pod,
            lambda: snapshot.anti_affinity_pods.values(),
            lambda shape: [(term, 1) for term in shape.anti_affinity],
        )
        self._spread = [SpreadRule(snapshot, pod, each) for each in shape.spread]
        self._affinity = PodCounts(snapshot, self._matches_all) if shape.affinity else None
        self._anti = [(term.topology_key, PodCounts(snapshot, self._matcher(term))) for term in shape.anti_affinity]

    def spread(self) -> tuple[Bools, Bools]:
        """Rows that have all topology labels, and rows that keep every skew."""
        size = self._snapshot.size
        has, keeps = np.ones(size, dtype=np.bool_), np.ones(size, dtype=np.bool_)
        if not self._spread:
            return has, keeps
        for rule in self._spread:
            has &= rule.has_key()
        shape = self._pod.shape
        matching = plugins.node_matches(self._snapshot, shape)
        tolerated = plugins.taints_tolerated(self._snapshot, shape)
        for rule in self._spread:
            keeps &= rule.passes(rule.eligible(matching, tolerated) & has)
        return has, keeps

    def affinity(self) -> Bools:
        """Rows in whose domains a pod lives that matches all affinity terms; anywhere, for the first of its kind."""
        size = self._snapshot.size
        if self._affinity is None:
            return np.ones(size, dtype=np.bool_)
        counts = self._affinity.rows()
        has, near = np.ones(size, dtype=np.bool_), np.ones(size, dtype=np.bool_)
        anywhere = False
        for term in self._pod.shape.affinity:
            sums, codes = domain_sums(self._snapshot, term.topology_key, counts)
            has &= codes > 0
            near &= sums[codes] > 0
            anywhere |= bool(sums[1:].any())
        if not anywhere and self._matches_all(self._pod):
            return has
        return has & near

    def anti_affinity(self) -> Bools:
        """Rows in whose domains no pod lives that this pod's anti-affinity speaks of."""
        passes = np.ones(self._snapshot.size, dtype=np.bool_)
        for key, counts in self._anti:
            sums, codes = domain_sums(self._snapshot, key, counts.rows())
            passes &= (codes == 0) | (sums[codes] == 0)
        return passes

    def tolerated_by_others(self) -> Bools:
        """Rows in whose domains no pod lives whose anti-affinity speaks of this pod."""
        snapshot = self._snapshot
        passes = np.ones(snapshot.size, dtype=np.bool_)
        for key, rows in self._shunned.rows().items():
            sums, codes = domain_sums(self._snapshot, key, rows)
            passes &= (codes == 0) | (sums[codes] == 0)
        return passes

    def passes(self) -> Bools:
        """Rows that satisfy everything."""
        has, keeps = self.spread()
        passes: Bools = has & keeps & self.affinity() & self.anti_affinity()
        if self._snapshot.anti_affinity_pods:
            passes &= self.tolerated_by_others()
        return passes

    def _matches_all(self, other: PodFacts) -> bool:
        labels = self._snapshot.namespace_labels
        return all(term.matches(self._pod.namespace, other, labels) for term in self._pod.shape.affinity)

    def _matcher(self, term: AffinityTerm) -> Callable[[PodFacts], bool]:
        own, labels = self._pod.namespace, self._snapshot.namespace_labels
        return lambda other: term.matches(own, other, labels)
