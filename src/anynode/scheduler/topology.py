"""Rules about pods near pods: topology spread constraints, required pod affinity and anti-affinity. Pure.

In: a snapshot and one pod. Out: which rows pass. Counts of matching pods per row are kept from one decision to the next
and follow ``snapshot.moves``; sums per topology domain are array sums over the label column.
Source: kube-scheduler ``framework/plugins/podtopologyspread`` and ``interpodaffinity`` (filtering), 1.36.
"""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True, slots=True)
class Counted:
    """The rows that count for one constraint, and the codes of their domains, each once."""

    rows: Bools
    domains: npt.NDArray[np.int32]


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

    @property
    def key(self) -> str:
        return self.constraint.topology_key

    def passes(self, counted: Counted) -> Bools:
        """Rows where one more pod keeps the skew."""
        constraint, snapshot = self.constraint, self._snapshot
        sums, codes = domain_sums(snapshot, self.key, np.where(counted.rows, self.counts.rows(), 0))
        there = sums[counted.domains]
        if not len(there):
            return np.ones(snapshot.size, dtype=np.bool_)
        fewest = int(there.min()) if len(there) >= constraint.min_domains else 0
        good: Bools = sums[codes] + (self._own - fewest) <= constraint.max_skew
        return good


class SpreadRules:
    """The spread constraints of one kind of pod, and which rows they are about."""

    def __init__(
        self, snapshot: Snapshot, pod: PodFacts, constraints: Sequence[SpreadConstraint], *, all_keys: bool = True
    ) -> None:
        """``all_keys``: nodes that lack one of the topology labels do not count."""
        self._snapshot = snapshot
        self._shape = pod.shape
        self._all_keys = all_keys
        self._rules = [SpreadRule(snapshot, pod, each) for each in constraints]
        self._layout = -1
        self._has: Bools = np.ones(0, dtype=np.bool_)
        self._counted: list[Counted] = []

    def __bool__(self) -> bool:
        return bool(self._rules)

    def has_keys(self) -> Bools:
        """Rows whose nodes have all the topology labels that they must have."""
        self._refresh()
        return self._has

    def rules(self) -> Iterable[tuple[SpreadRule, Counted]]:
        """Each constraint, with the rows that count for it."""
        self._refresh()
        return zip(self._rules, self._counted, strict=True)

    def _refresh(self) -> None:
        snapshot = self._snapshot
        if self._layout == snapshot.layout:
            return
        self._layout = snapshot.layout
        self._has = np.ones(snapshot.size, dtype=np.bool_)
        for rule in self._rules if self._all_keys else ():
            self._has &= snapshot.label(rule.key).rows[: snapshot.size] > 0
        matching = plugins.node_matches(snapshot, self._shape)
        tolerated = plugins.taints_tolerated(snapshot, self._shape)
        self._counted = [self._counted_for(rule, matching, tolerated) for rule in self._rules]

    def _counted_for(self, rule: SpreadRule, matching: Bools, tolerated: Bools) -> Counted:
        rows = self._snapshot.present[: self._snapshot.size] & self._has
        if rule.constraint.honor_affinity:
            rows &= matching
        if rule.constraint.honor_taints:
            rows &= tolerated
        return Counted(rows, np.unique(self._snapshot.label(rule.key).rows[: self._snapshot.size][rows]))


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
        self._spread = SpreadRules(snapshot, pod, shape.spread)
        self._affinity = PodCounts(snapshot, self._matches_all) if shape.affinity else None
        self._anti = [(term.topology_key, PodCounts(snapshot, self._matcher(term))) for term in shape.anti_affinity]

    def spread(self) -> tuple[Bools, Bools]:
        """Rows that have all topology labels, and rows that keep every skew."""
        keeps = np.ones(self._snapshot.size, dtype=np.bool_)
        for rule, counted in self._spread.rules():
            keeps &= rule.passes(counted)
        return self._spread.has_keys(), keeps

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
        passes = np.ones(self._snapshot.size, dtype=np.bool_)
        if self._spread:
            has, keeps = self.spread()
            passes &= has & keeps
        if self._affinity is not None:
            passes &= self.affinity()
        if self._anti:
            passes &= self.anti_affinity()
        if self._snapshot.anti_affinity_pods:
            passes &= self.tolerated_by_others()
        return passes

    def _matches_all(self, other: PodFacts) -> bool:
        labels = self._snapshot.namespace_labels
        return all(term.matches(self._pod.namespace, other, labels) for term in self._pod.shape.affinity)

    def _matcher(self, term: AffinityTerm) -> Callable[[PodFacts], bool]:
        own, labels = self._pod.namespace, self._snapshot.namespace_labels
        return lambda other: term.matches(own, other, labels)
