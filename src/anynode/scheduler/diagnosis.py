"""Why a pod fits nowhere, in kube-scheduler's words. Pure.

In: a snapshot and a pod no node was found for. Out: the message of the FailedScheduling event and of the PodScheduled
condition, and which plugins refused, which decides what may help. Each node counts for the first plugin that refuses
it; resources are all named. Source: kube-scheduler ``framework/types.go`` (FitError) and the plugins' reasons, 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from anynode.scheduler import plugins
from anynode.scheduler.pods import PodFacts
from anynode.scheduler.snapshot import Bools, Snapshot
from anynode.scheduler.topology import NearRules

NO_NODES = "no nodes available to schedule pods"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"


@dataclasses.dataclass(frozen=True, slots=True)
class FitError:
    """No node for a pod: the words and the plugins."""

    message: str
    plugins: frozenset[str]


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    plugin: str
    refused: Bools
    reason: str
    for_good: bool
    """Whether removing pods from the node could never help."""


def explain(snapshot: Snapshot, pod: PodFacts, near: NearRules, *, may_preempt: bool = True) -> FitError:
    """Why no node takes ``pod`` as things are."""
    count = len(snapshot)
    if not count:
        return FitError(NO_NODES, frozenset())
    left = snapshot.present[: snapshot.size].copy()
    reasons: collections.Counter[str] = collections.Counter()
    hopeless = np.zeros(snapshot.size, dtype=np.bool_)
    names: set[str] = set()
    conflict = pod.shape.wanted_names
    if conflict is not None and not conflict:
        message = f"0/{count} nodes are available: pod affinity terms conflict."
        return FitError(
            _with_preemption(message, count, {NOT_HELPFUL: count}, may_preempt), frozenset({"NodeAffinity"})
        )
    for stage in _stages(snapshot, pod, near):
        gone = np.zeros(snapshot.size, dtype=np.bool_)
        for refusal in stage:
            refused = refusal.refused & left
            number = int(refused.sum())
            if number:
                reasons[refusal.reason] += number
                names.add(refusal.plugin)
                gone |= refused
                if refusal.for_good:
                    hopeless |= refused
        left &= ~gone
    message = f"0/{count} nodes are available: {_listed(reasons)}."
    lost = int(hopeless.sum())
    helpful = {NOT_HELPFUL: lost, NO_VICTIMS: count - lost}
    return FitError(_with_preemption(message, count, helpful, may_preempt), frozenset(names))


def _stages(snapshot: Snapshot, pod: PodFacts, near: NearRules) -> Iterator[list[_Refusal]]:
    """The plugins in their order; a node refused in one stage is not looked at by the next."""
    shape = pod.shape
    wanted = shape.wanted_names
    if wanted is not None:
        elsewhere = np.ones(snapshot.size, dtype=np.bool_)
        elsewhere[[row for row in map(snapshot.row_of, wanted) if row is not None]] = False
        yield [_Refusal("NodeAffinity", elsewhere, "node(s) didn't satisfy plugin(s) [NodeAffinity]", True)]
    yield [_Refusal("NodeUnschedulable", ~plugins.schedulable(snapshot, shape), "node(s) were unschedulable", True)]
    tolerated = plugins.taints_tolerated(snapshot, shape)
    yield [_Refusal("TaintToleration", ~tolerated, "node(s) had untolerated taint(s)", True)]
    matching = plugins.node_matches(snapshot, shape)
    yield [_Refusal("NodeAffinity", ~matching, "node(s) didn't match Pod's node affinity/selector", True)]
    ports = "node(s) didn't have free ports for the requested pod ports"
    yield [_Refusal("NodePorts", ~plugins.ports_free(snapshot, shape), ports, False)]
    yield [*_resources(snapshot, pod)]
    has, keeps = near.spread()
    skewed = "node(s) didn't match pod topology spread constraints"
    yield [_Refusal("PodTopologySpread", ~has, f"{skewed} (missing required label)", True)]
    yield [_Refusal("PodTopologySpread", ~keeps, skewed, False)]
    yield [_Refusal("InterPodAffinity", ~near.affinity(), "node(s) didn't match pod affinity rules", True)]
    anti = "node(s) didn't match pod anti-affinity rules"
    yield [_Refusal("InterPodAffinity", ~near.anti_affinity(), anti, False)]
    others = "node(s) didn't satisfy existing pods anti-affinity rules"
    yield [_Refusal("InterPodAffinity", ~near.tolerated_by_others(), others, False)]


def _resources(snapshot: Snapshot, pod: PodFacts) -> Iterator[_Refusal]:
    yield _Refusal("NodeResourcesFit", ~plugins.room_for_one_more(snapshot), "Too many pods", False)
    for resource, amount in pod.shape.requests.amounts.items():
        lacking = ~plugins.room_for(snapshot, resource, amount)
        too_small = snapshot.allocatable[snapshot.column(resource), : snapshot.size] < amount
        reason = f"Insufficient {resource}"
        yield _Refusal("NodeResourcesFit", lacking & too_small, reason, True)
        yield _Refusal("NodeResourcesFit", lacking & ~too_small, reason, False)


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items() if number))


def _with_preemption(message: str, count: int, helpful: Mapping[str, int], may_preempt: bool) -> str:
    if not may_preempt:
        return f"{message} preemption: not eligible due to preemptionPolicy=Never."
    return f"{message} preemption: 0/{count} nodes are available: {_listed(helpful)}."
