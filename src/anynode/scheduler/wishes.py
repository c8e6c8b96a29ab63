"""Wishes about pods near pods: ScheduleAnyway spreading and preferred pod affinity, as scores. Pure.

In: a snapshot, one pod, and the rows that pass every filter. Out: the weighted scores of these rows, 0 for the others.
Both wishes of the pod itself and those of pods already placed count. Source: kube-scheduler
``framework/plugins/podtopologyspread`` and ``interpodaffinity`` (scoring), 1.36.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from anynode.api.selectors import LabelSelector
from anynode.scheduler.plugins import MOST
from anynode.scheduler.pods import HOSTNAME, ZONE, AffinityTerm, PodFacts, SpreadConstraint
from anynode.scheduler.snapshot import Bools, Ints, Snapshot
from anynode.scheduler.topology import Opinions, PodCounts, SpreadRule, SpreadRules, domain_sums

SPREAD_WEIGHT, NEAR_WEIGHT = 2, 2

Floats = npt.NDArray[np.floating[Any]]


def default_spread(fellows: LabelSelector) -> tuple[SpreadConstraint, ...]:
    """How pods spread that belong together and do not say how."""
    return tuple(
        SpreadConstraint(
            topology_key=key,
            max_skew=skew,
            min_domains=1,
            selector=fellows,
            match_label_keys=(),
            honor_affinity=True,
            honor_taints=False,
        )
        for key, skew in ((HOSTNAME, 3), (ZONE, 5))
    )


class NearWishes:
    """Scores for pods like ``pod`` (same shape, namespace and labels)."""

    def __init__(self, snapshot: Snapshot, pod: PodFacts) -> None:
        self._snapshot = snapshot
        self._pod = pod
        if pod.fellows is None:
            self._spread = SpreadRules(snapshot, pod, pod.shape.wished_spread)
        else:
            self._spread = SpreadRules(snapshot, pod, default_spread(pod.fellows), all_keys=False)
        self._own = [
            (each.weight, each.term.topology_key, PodCounts(snapshot, self._matcher(each.term)))
            for each in pod.shape.wished_affinity
        ]
        self._others = Opinions(
            snapshot,
            pod,
            lambda: snapshot.opinionated_pods.values(),
            lambda shape: [(each.term, each.weight) for each in shape.opinions],
        )

    def scores(self, feasible: Bools) -> Ints:
        """The weighted score per row; ``feasible`` rows are what each is measured against."""
        total = np.zeros(self._snapshot.size, dtype=np.int64)
        if not feasible.any():
            return total
        if self._spread:
            total += SPREAD_WEIGHT * self._spreading(feasible)
        if self._own or self._snapshot.opinionated_pods:
            total += NEAR_WEIGHT * self._nearness(feasible)
        return total

    def _spreading(self, feasible: Bools) -> Ints:
        snapshot = self._snapshot
        counted = feasible & self._spread.has_keys()
        if not counted.any():
            return np.zeros(snapshot.size, dtype=np.int64)
        crowd: Floats = np.zeros(snapshot.size)
        for rule, those in self._spread.rules():
            crowd = crowd + self._crowd(rule, counted, those.rows)
        rounded = np.floor(crowd + 0.5).astype(np.int64)
        low, high = int(rounded[counted].min()), int(rounded[counted].max())
        if not high:
            return np.where(counted, MOST, 0)
        return np.where(counted, MOST * (high + low - rounded) // high, 0)

    def _crowd(self, rule: SpreadRule, counted: Bools, eligible: Bools) -> Floats:
        """How crowded each row's domain is, weighted by how many domains there are."""
        key, rows = rule.key, rule.counts.rows()
        if key == HOSTNAME:
            domains, crowd = int(counted.sum()), rows
        else:
            sums, codes = domain_sums(self._snapshot, key, np.where(eligible, rows, 0))
            domains, crowd = int(np.count_nonzero(np.bincount(codes[counted]))), sums[codes]
        weighted: Floats = crowd * math.log(domains + 2) + (rule.constraint.max_skew - 1)
        return np.where(self._snapshot.label(key).rows[: self._snapshot.size] > 0, weighted, 0.0)

    def _nearness(self, feasible: Bools) -> Ints:
        snapshot = self._snapshot
        total = np.zeros(snapshot.size, dtype=np.int64)
        by_key = [(key, rows) for key, rows in self._others.rows().items()]
        by_key += [(key, weight * counts.rows()) for weight, key, counts in self._own]
        for key, rows in by_key:
            sums, codes = domain_sums(snapshot, key, rows)
            total += np.where(codes > 0, sums[codes], 0)
        low, high = int(total[feasible].min()), int(total[feasible].max())
        if low == high:
            return np.zeros(snapshot.size, dtype=np.int64)
        scaled: Ints = (MOST * ((total - low) / (high - low))).astype(np.int64)
        return np.where(feasible, scaled, 0)

    def _matcher(self, term: AffinityTerm) -> Callable[[PodFacts], bool]:
        own, labels = self._pod.namespace, self._snapshot.namespace_labels
        return lambda other: term.matches(own, other, labels)
