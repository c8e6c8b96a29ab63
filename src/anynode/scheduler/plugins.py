"""The rules by which nodes are ruled out and ranked, each over all rows of a snapshot at once. Pure.

Filters return which rows pass; scores return integers as kube-scheduler's plugins give them before weighting. Where a
rule is also needed for a single row (after a placement) its ``_at`` twin does the same arithmetic on plain integers.
Weights and arithmetic are those of the default profile of kube-scheduler 1.36 (``framework/plugins``). Rules about
other pods are in ``topology`` and ``wishes``, those about volumes in ``volumes``; ImageLocality is not among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from anynode.api.objects import Object
from anynode.api.selectors import LabelSelector, Requirement
from anynode.scheduler.pods import NodeTerm, Shape
from anynode.scheduler.requests import CPU, MEMORY
from anynode.scheduler.snapshot import Bools, Ints, Snapshot

MOST = 100
TAINT_WEIGHT, AFFINITY_WEIGHT, FIT_WEIGHT, BALANCE_WEIGHT = 3, 2, 1, 1
UNSCHEDULABLE_TAINT = ("node.kubernetes.io/unschedulable", "", "NoSchedule")

Taint = tuple[str, str, str]


# Filters that depend on what nodes are, not on what runs there


def schedulable(snapshot: Snapshot, shape: Shape) -> Bools:
    """NodeUnschedulable: not cordoned, or cordoning is tolerated."""
    passes = ~snapshot.unschedulable[: snapshot.size]
    if tolerates(shape.tolerations, UNSCHEDULABLE_TAINT):
        passes[:] = True
    return passes


def taints_tolerated(snapshot: Snapshot, shape: Shape) -> Bools:
    """TaintToleration: no taint with effect NoSchedule or NoExecute that is not tolerated."""
    column = snapshot.taints
    return column.table(_all_tolerated(value, shape.tolerations) for value in column.values)[: snapshot.size]


def node_matches(snapshot: Snapshot, shape: Shape) -> Bools:
    """NodeAffinity: the node selector and one of the required terms."""
    passes = np.ones(snapshot.size, dtype=np.bool_)
    if shape.node_selector is not None:
        passes &= labels_match(snapshot, shape.node_selector)
    if shape.node_terms is not None:
        some = np.zeros(snapshot.size, dtype=np.bool_)
        for term in shape.node_terms:
            some |= term_matches(snapshot, term)
        passes &= some
    return passes


def term_matches(snapshot: Snapshot, term: NodeTerm) -> Bools:
    passes = labels_match(snapshot, term.labels)
    if term.names is not None:
        named = np.zeros(snapshot.size, dtype=np.bool_)
        named[[row for row in map(snapshot.row_of, term.names) if row is not None]] = True
        passes &= named
    for name in term.not_names:
        row = snapshot.row_of(name)
        if row is not None:
            passes[row] = False
    return passes


def labels_match(snapshot: Snapshot, selector: LabelSelector) -> Bools:
    """Rows whose labels match; each distinct value is looked at once."""
    passes = np.ones(snapshot.size, dtype=np.bool_)
    if not selector.requirements and not selector.matches({}):
        passes[:] = False  # the selector that matches nothing
    for requirement in selector.requirements:
        column = snapshot.label(requirement.key)
        single = _single(requirement)
        holds = (single.matches({} if value is None else {requirement.key: value}) for value in column.values)
        passes &= column.table(holds)[: snapshot.size]
    return passes


def _single(requirement: Requirement) -> LabelSelector:
    return LabelSelector((requirement,))


# Filters that depend on what runs there


def ports_free(snapshot: Snapshot, shape: Shape) -> Bools:
    """NodePorts: none of the pod's host ports is taken."""
    passes = np.ones(snapshot.size, dtype=np.bool_)
    for port in shape.ports:
        passes[list(snapshot.rows_with_port(port))] = False
    return passes


def ports_free_at(snapshot: Snapshot, shape: Shape, row: int) -> bool:
    return not any(row in snapshot.rows_with_port(port) for port in shape.ports)


def room_for_one_more(snapshot: Snapshot) -> Bools:
    """NodeResourcesFit, as to the number of pods."""
    size = snapshot.size
    passes: Bools = snapshot.pod_count[:size] < snapshot.pod_limit[:size]
    return passes


def room_for(snapshot: Snapshot, resource: str, amount: int) -> Bools:
    """NodeResourcesFit, as to one resource."""
    column, size = snapshot.column(resource), snapshot.size
    passes: Bools = snapshot.allocatable[column, :size] - snapshot.requested[column, :size] >= amount
    return passes


def fits(snapshot: Snapshot, shape: Shape) -> Bools:
    """NodeResourcesFit as a whole."""
    passes = room_for_one_more(snapshot)
    for resource, amount in shape.requests.amounts.items():
        passes &= room_for(snapshot, resource, amount)
    return passes


Needs = Sequence[tuple[int, int]]


def needs_of(snapshot: Snapshot, shape: Shape) -> Needs:
    """What a shape asks for as (column, amount)."""
    return [(snapshot.column(resource), amount) for resource, amount in shape.requests.amounts.items()]


def fits_at(snapshot: Snapshot, needs: Needs, row: int) -> bool:
    if snapshot.pod_count.item(row) >= snapshot.pod_limit.item(row):
        return False
    allocatable, requested = snapshot.allocatable.item, snapshot.requested.item
    for column, amount in needs:  # noqa: SIM110 - a generator would cost more than the whole check
        if allocatable(column, row) - requested(column, row) < amount:
            return False
    return True


# Scores


def intolerable_preferences(snapshot: Snapshot, shape: Shape) -> Ints:
    """TaintToleration: how many PreferNoSchedule taints are not tolerated."""
    column = snapshot.taints
    tolerations = [each for each in shape.tolerations if each.get("effect") in (None, "", "PreferNoSchedule")]
    counts = np.array([_intolerable(value, tolerations) for value in column.values], dtype=np.int64)
    counted: Ints = counts[column.rows[: snapshot.size]]
    return counted


def preference_weights(snapshot: Snapshot, shape: Shape) -> Ints:
    """NodeAffinity: the weights of the preferred terms that match, added up."""
    total = np.zeros(snapshot.size, dtype=np.int64)
    for preference in shape.preferences:
        total += preference.weight * term_matches(snapshot, preference.term)
    return total


def normalized(raw: Ints, highest: int, *, reverse: bool) -> Ints:
    """``raw`` on a scale to 100, ``highest`` being the most any feasible row has."""
    if not highest:
        return np.full_like(raw, MOST if reverse else 0)
    scaled: Ints = MOST * raw // highest
    return MOST - scaled if reverse else scaled


def least_allocated(snapshot: Snapshot, shape: Shape) -> Ints:
    """NodeResourcesFit with LeastAllocated: what would be left of cpu and memory, in percent."""
    total, parts = np.zeros(snapshot.size, dtype=np.int64), np.zeros(snapshot.size, dtype=np.int64)
    asked = (shape.requests.scored_cpu, shape.requests.scored_memory)
    for column, amount in enumerate(asked):
        capacity = snapshot.allocatable[column, : snapshot.size]
        wanted = snapshot.scored[column, : snapshot.size] + amount
        left = np.where(wanted > capacity, 0, capacity - wanted)
        total += np.where(capacity > 0, left * MOST // np.maximum(capacity, 1), 0)
        parts += capacity > 0
    return total // np.maximum(parts, 1)


def least_allocated_at(snapshot: Snapshot, shape: Shape, row: int) -> int:
    total = parts = 0
    allocatable, scored, requests = snapshot.allocatable, snapshot.scored, shape.requests
    capacity = allocatable.item(0, row)
    if capacity > 0:
        wanted = scored.item(0, row) + requests.scored_cpu
        parts = 1
        if wanted <= capacity:
            total = (capacity - wanted) * MOST // capacity
    capacity = allocatable.item(1, row)
    if capacity > 0:
        wanted = scored.item(1, row) + requests.scored_memory
        parts += 1
        if wanted <= capacity:
            total += (capacity - wanted) * MOST // capacity
    return total // parts if parts else 0


def balanced(snapshot: Snapshot, shape: Shape) -> Ints:
    """NodeResourcesBalancedAllocation: whether the pod brings cpu and memory use closer together."""
    amounts = shape.requests.amounts
    asked = (amounts.get(CPU, 0), amounts.get(MEMORY, 0))
    if not any(asked):
        return np.zeros(snapshot.size, dtype=np.int64)
    capacity = snapshot.allocatable[:2, : snapshot.size]
    used = snapshot.requested[:2, : snapshot.size]
    before = _evenness(used, capacity)
    after = _evenness(used + np.array(asked, dtype=np.int64)[:, None], capacity)
    score: Ints = MOST // 2 + (MOST // 2 + after - before) // 2
    return score


def balanced_at(snapshot: Snapshot, shape: Shape, row: int) -> int:
    amounts = shape.requests.amounts
    cpu, memory = amounts.get(CPU, 0), amounts.get(MEMORY, 0)
    if not cpu and not memory:
        return 0
    allocatable, requested = snapshot.allocatable, snapshot.requested
    cpu_capacity, memory_capacity = allocatable.item(0, row), allocatable.item(1, row)
    if not cpu_capacity or not memory_capacity:
        return MOST // 2 + MOST // 4
    cpu_used, memory_used = requested.item(0, row), requested.item(1, row)
    before = abs(min(cpu_used / cpu_capacity, 1.0) - min(memory_used / memory_capacity, 1.0)) / 2
    cpu_used, memory_used = cpu_used + cpu, memory_used + memory
    after = abs(min(cpu_used / cpu_capacity, 1.0) - min(memory_used / memory_capacity, 1.0)) / 2
    return MOST // 2 + (MOST // 2 + int((1 - after) * MOST) - int((1 - before) * MOST)) // 2


def _evenness(used: Ints, capacity: Ints) -> Ints:
    shares = np.minimum(used / np.maximum(capacity, 1), 1.0)
    apart = np.abs(shares[0] - shares[1]) / 2
    apart = np.where((capacity > 0).all(axis=0), apart, 0.0)
    even: Ints = ((1 - apart) * MOST).astype(np.int64)
    return even


# Taints


def tolerates(tolerations: Iterable[Object], taint: Taint) -> bool:
    """Whether one of the tolerations matches the taint."""
    key, value, effect = taint
    for each in tolerations:
        if (each.get("effect") or effect) != effect or (each.get("key") or key) != key:
            continue
        operator = each.get("operator") or "Equal"
        if operator == "Exists" or (operator == "Equal" and (each.get("value") or "") == value):
            return True
    return False


def _all_tolerated(taints: Sequence[Taint] | None, tolerations: Sequence[Object]) -> bool:
    return all(taint[2] not in ("NoSchedule", "NoExecute") or tolerates(tolerations, taint) for taint in taints or ())


def _intolerable(taints: Sequence[Taint] | None, tolerations: Sequence[Object]) -> int:
    return sum(taint[2] == "PreferNoSchedule" and not tolerates(tolerations, taint) for taint in taints or ())
