"""Why a pod fits nowhere, in kube-scheduler's words. Pure.

In: a snapshot and a pod no node was found for. Out: the message of the FailedScheduling event and of the PodScheduled
condition, and which plugins refused, which decides what may help. Each node counts for the first plugin that refuses
it; resources are all named. Source: kube-scheduler ``framework/types.go`` (FitError) and the plugins' reasons, 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from anynode.scheduler import plugins
from anynode.scheduler.pods import PodFacts
from anynode.scheduler.snapshot import Bools, Snapshot
from anynode.scheduler.topology import NearRules

NO_NODES = "no nodes available to schedule pods"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"
NEVER = "not eligible due to preemptionPolicy=Never."
VICTIMS_LEAVING = "not eligible due to a terminating pod on the nominated node."


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class FitError:
    """No node of ``count`` for a pod: why, in words; the plugins that refused; where removing pods may help."""

    why: str
    plugins: frozenset[str]
    count: int
    helpable: Bools

    @property
    def message(self) -> str:
        """What is told when there was nobody to remove."""
        if not self.count:
            return self.why
        helped = int(self.helpable.sum())
        listed = _listed({NOT_HELPFUL: self.count - helped, NO_VICTIMS: helped})
        return f"{self.why} preemption: 0/{self.count} nodes are available: {listed}."

    def without_preemption(self, reason: str) -> str:
        """What is told when the pod may not preempt."""
        return f"{self.why} preemption: {reason}" if self.count else self.why


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    plugin: str
    refused: Bools
    reason: str
    for_good: bool
    """Whether removing pods from the node could never help."""


def explain(snapshot: Snapshot, pod: PodFacts, near: NearRules, volumes: Sequence[tuple[Bools, str]] = ()) -> FitError:
    """Why no node takes ``pod`` as things are; ``volumes``: which rows its claims refuse, and why."""
    count = len(snapshot)
    left = snapshot.present[: snapshot.size].copy()
    if not count:
        return FitError(NO_NODES, frozenset(), 0, left)
    wanted = pod.shape.wanted_names
    if wanted is not None and not wanted:
        why = f"0/{count} nodes are available: pod affinity terms conflict."
        return FitError(why, frozenset({"NodeAffinity"}), count, np.zeros_like(left))
    helpable = left.copy()
    reasons: collections.Counter[str] = collections.Counter()
    names: set[str] = set()
    for stage in _stages(snapshot, pod, near, volumes):
        gone = np.zeros_like(left)
        for refusal in stage:
            refused = refusal.refused & left
            number = int(refused.sum())
            if number:
                reasons[refusal.reason] += number
                names.add(refusal.plugin)
                gone |= refused
                if refusal.for_good:
                    helpable &= ~refused
        left &= ~gone
    return FitError(f"0/{count} nodes are available: {_listed(reasons)}.", frozenset(names), count, helpable)


def _stages(
    snapshot: Snapshot, pod: PodFacts, near: NearRules, volumes: Sequence[tuple[Bools, str]]
) -> Iterator[list[_Refusal]]:
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
    yield [_Refusal("VolumeBinding", refused, why, True) for refused, why in volumes]
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


def refused_by_claims(snapshot: Snapshot, problem: str) -> FitError:
    """No node will do, whatever its state, because of the pod's volume claims."""
    count = len(snapshot)
    nowhere = np.zeros(snapshot.size, dtype=np.bool_)
    why = f"0/{count} nodes are available: {problem}." if count else NO_NODES
    return FitError(why, frozenset({"VolumeBinding"}), count, nowhere)


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(sorted(f"{number} {reason}" for reason, number in reasons.items() if number))
