"""The nodes and what runs on them, as arrays with one row per node; kept up to date row by row. Pure.

In: nodes, and pods placed on them (bound or only assumed). Out: arrays over ``size`` rows: allocatable and requested
per resource, pod counts, taints and labels as integer codes. A row whose node went away is empty (``present`` False)
and is used again. Invariant: ``requested`` and ``pod_count`` are the sums over the pods placed on each row's node.

Readers that cache follow two counters: ``layout`` changes when labels, taints or the set of nodes do, and
``usage_log`` names every row whose allocatable or requested amounts changed since. ``moves`` tells who came and went.
Source: kube-scheduler ``backend/cache``, 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from anynode.api.objects import Object, Uid, get_path, labels_of, name_of
from anynode.scheduler.pods import HostPort, PodFacts
from anynode.scheduler.requests import CPU, EPHEMERAL_STORAGE, MEMORY, amounts_of

T = TypeVar("T")
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FIRST_ROWS = 64
LOG_KEPT = 16384


class NodeChange(enum.IntFlag):
    """What about a node is new; the scheduler wakes pods that wait for such a thing."""

    NONE = 0
    ADDED = 1
    ALLOCATABLE = 2
    LABELS = 4
    TAINTS = 8


class Log(Generic[T]):
    """Entries with running numbers; the oldest are forgotten."""

    def __init__(self) -> None:
        self._entries: list[T] = []
        self._first = 0

    @property
    def end(self) -> int:
        """The number the next entry will have."""
        return self._first + len(self._entries)

    def add(self, entry: T) -> None:
        self._entries.append(entry)
        if len(self._entries) > 2 * LOG_KEPT:
            del self._entries[:LOG_KEPT]
            self._first += LOG_KEPT

    def since(self, number: int) -> Sequence[T] | None:
        """The entries from ``number`` on; None when some of them are forgotten."""
        return None if number < self._first else self._entries[number - self._first :]


class Codes:
    """Distinct values of one column as small integers, in order of appearance; 0 is "absent"."""

    def __init__(self, rows: int) -> None:
        self.rows: npt.NDArray[np.int32] = np.zeros(rows, dtype=np.int32)
        self.values: list[Any] = [None]
        self._codes: dict[Any, int] = {}

    def code(self, value: Any) -> int:
        found = self._codes.get(value)
        if found is None:
            found = self._codes[value] = len(self.values)
            self.values.append(value)
        return found

    def set(self, row: int, value: Any) -> None:
        self.rows[row] = 0 if value is None else self.code(value)

    def grow(self, rows: int) -> None:
        self.rows = np.concatenate([self.rows, np.zeros(rows - len(self.rows), dtype=np.int32)])

    def table(self, holds: Iterable[bool]) -> Bools:
        """Per row, what ``holds`` says of its value; one entry per distinct value, the absent one first."""
        looked_up: Bools = np.fromiter(holds, dtype=np.bool_, count=len(self.values))[self.rows]
        return looked_up


@dataclasses.dataclass(slots=True)
class _Placed:
    facts: PodFacts
    node: str


@dataclasses.dataclass(frozen=True, slots=True)
class Move:
    """A pod came to (``by`` 1) or left (-1) a row."""

    facts: PodFacts
    row: int
    by: int


class Snapshot:
    """Nodes and pods as arrays."""

    def __init__(self) -> None:
        self.size = 0
        self.layout = 0
        self.usage_log: Log[int] = Log()
        self.moves: Log[Move] = Log()
        self.anti_affinity_pods: dict[Uid, PodFacts] = {}
        self.opinionated_pods: dict[Uid, PodFacts] = {}
        """Placed pods that wish for, or need, certain pods nearby."""
        self.namespace_labels: dict[str, Mapping[str, str]] = {}
        self.names: list[str] = []
        self.resources: dict[str, int] = {CPU: 0, MEMORY: 1, EPHEMERAL_STORAGE: 2}
        self.allocatable: Ints = np.zeros((3, FIRST_ROWS), dtype=np.int64)
        self.requested: Ints = np.zeros((3, FIRST_ROWS), dtype=np.int64)
        self.scored: Ints = np.zeros((2, FIRST_ROWS), dtype=np.int64)
        """cpu and memory requested, with something assumed for containers that ask for nothing."""
        self.pod_limit: Ints = np.zeros(FIRST_ROWS, dtype=np.int64)
        self.pod_count: Ints = np.zeros(FIRST_ROWS, dtype=np.int64)
        self.present: Bools = np.zeros(FIRST_ROWS, dtype=np.bool_)
        self.unschedulable: Bools = np.zeros(FIRST_ROWS, dtype=np.bool_)
        self.taints = Codes(FIRST_ROWS)
        """Each value is a tuple of (key, value, effect)."""
        self._labels: dict[str, Codes] = {}
        self._nodes: dict[str, Object] = {}
        self._rows: dict[str, int] = {}
        self._free: list[int] = []
        self._placed: dict[Uid, _Placed] = {}
        self._by_node: dict[str, dict[Uid, PodFacts]] = {}
        self._priorities: collections.Counter[int] = collections.Counter()
        self._ports: dict[tuple[str, int], dict[int, list[HostPort]]] = {}

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self._rows)

    def row_of(self, node: str) -> int | None:
        return self._rows.get(node)

    def node_of(self, uid: Uid) -> str | None:
        """Where the pod is placed."""
        placed = self._placed.get(uid)
        return None if placed is None else placed.node

    def lowest_priority(self) -> int:
        """The lowest priority of a placed pod; very high when there is none."""
        return min(self._priorities, default=2**62)

    def pods_on(self, row: int) -> Iterable[PodFacts]:
        return self._by_node.get(self.names[row], {}).values()

    def placements(self) -> Iterable[tuple[PodFacts, int]]:
        """Every pod on a node that is there, with its row."""
        for placed in self._placed.values():
            row = self._rows.get(placed.node)
            if row is not None:
                yield placed.facts, row

    def set_node(self, node: Object) -> NodeChange:
        """Add or update a node; what about it changed."""
        name = name_of(node)
        old = self._nodes.get(name)
        self._nodes[name] = node
        row = self._rows.get(name)
        if old is None or row is None:
            self._add_node(name, node)
            return NodeChange.ADDED
        change = _compare(old, node)
        if change & NodeChange.ALLOCATABLE:
            self._set_allocatable(row, node)
        if change & (NodeChange.LABELS | NodeChange.TAINTS):
            self._set_layout(row, node)
        return change

    def remove_node(self, name: str) -> None:
        """Forget a node; pods placed on it count again should it come back."""
        row = self._rows.pop(name, None)
        if row is None:
            return
        del self._nodes[name]
        for facts in self._by_node.get(name, {}).values():
            self._count(facts, row, -1)
        self.present[row] = False
        self.names[row] = ""
        self._free.append(row)
        self.layout += 1

    def place(self, facts: PodFacts, node: str) -> bool:
        """The pod is (or is assumed to be) on ``node``; whether that is news."""
        placed = self._placed.get(facts.uid)
        if placed is not None:
            known = placed.facts
            same = placed.node == node and known.shape is facts.shape and known.deleting == facts.deleting
            if same and known.labels == facts.labels:
                return False
            self.remove(facts.uid)
        self._placed[facts.uid] = _Placed(facts, node)
        self._priorities[facts.priority] += 1
        self._by_node.setdefault(node, {})[facts.uid] = facts
        if facts.shape.anti_affinity:
            self.anti_affinity_pods[facts.uid] = facts
        if facts.shape.wished_affinity or facts.shape.affinity:
            self.opinionated_pods[facts.uid] = facts
        row = self._rows.get(node)
        if row is not None:
            self._count(facts, row, 1)
        return True

    def remove(self, uid: Uid) -> bool:
        """The pod takes no room any more; whether it did."""
        placed = self._placed.pop(uid, None)
        if placed is None:
            return False
        there = self._by_node[placed.node]
        del there[uid]
        if not there:
            del self._by_node[placed.node]
        self._priorities[placed.facts.priority] -= 1
        if not self._priorities[placed.facts.priority]:
            del self._priorities[placed.facts.priority]
        self.anti_affinity_pods.pop(uid, None)
        self.opinionated_pods.pop(uid, None)
        row = self._rows.get(placed.node)
        if row is not None:
            self._count(placed.facts, row, -1)
        return True

    def label(self, key: str) -> Codes:
        """The column of one label."""
        column = self._labels.get(key)
        if column is None:
            column = self._labels[key] = Codes(len(self.present))
            for name, row in self._rows.items():
                column.set(row, labels_of(self._nodes[name]).get(key))
        return column

    def rows(self) -> Iterable[int]:
        return self._rows.values()

    def rows_with_port(self, wanted: HostPort) -> Iterable[int]:
        """Rows where ``wanted`` is taken."""
        for row, held in self._ports.get((wanted.protocol, wanted.port), {}).items():
            if any(wanted.conflicts(each) for each in held):
                yield row

    # rows

    def _add_node(self, name: str, node: Object) -> None:
        if self._free:
            row = self._free.pop()
            self.names[row] = name
        else:
            row = self.size
            self.size += 1
            self.names.append(name)
            if self.size > len(self.present):
                self._grow(2 * len(self.present))
        self._rows[name] = row
        self.present[row] = True
        self.requested[:, row] = 0
        self.scored[:, row] = 0
        self.pod_count[row] = 0
        self._set_allocatable(row, node)
        self._set_layout(row, node)
        for facts in self._by_node.get(name, {}).values():
            self._count(facts, row, 1)

    def _grow(self, rows: int) -> None:
        more = rows - len(self.present)
        self.allocatable = np.pad(self.allocatable, ((0, 0), (0, more)))
        self.requested = np.pad(self.requested, ((0, 0), (0, more)))
        self.scored = np.pad(self.scored, ((0, 0), (0, more)))
        self.pod_limit = np.pad(self.pod_limit, (0, more))
        self.pod_count = np.pad(self.pod_count, (0, more))
        self.present = np.pad(self.present, (0, more))
        self.unschedulable = np.pad(self.unschedulable, (0, more))
        self.taints.grow(rows)
        for column in self._labels.values():
            column.grow(rows)

    def _set_allocatable(self, row: int, node: Object) -> None:
        self.allocatable[:, row] = 0
        for resource, amount in amounts_of(get_path(node, "status", "allocatable")).items():
            if resource == "pods":
                self.pod_limit[row] = amount
            else:
                column = self.column(resource)  # may replace the arrays
                self.allocatable[column, row] = amount
        self.usage_log.add(row)

    def _set_layout(self, row: int, node: Object) -> None:
        spec = node.get("spec") or {}
        self.unschedulable[row] = bool(spec.get("unschedulable"))
        taints = tuple(
            (each.get("key") or "", each.get("value") or "", each.get("effect") or "")
            for each in spec.get("taints") or ()
        )
        self.taints.set(row, taints or None)
        labels = labels_of(node)
        for key, column in self._labels.items():
            column.set(row, labels.get(key))
        self.layout += 1

    def column(self, resource: str) -> int:
        """The index of a resource in ``allocatable`` and ``requested``; it never changes once given."""
        found = self.resources.get(resource)
        if found is None:
            found = self.resources[resource] = len(self.resources)
            self.allocatable = np.pad(self.allocatable, ((0, 1), (0, 0)))
            self.requested = np.pad(self.requested, ((0, 1), (0, 0)))
        return found

    def _count(self, facts: PodFacts, row: int, by: int) -> None:
        requests = facts.shape.requests
        for resource, amount in requests.amounts.items():
            column = self.resources.get(resource)
            if column is None:
                column = self.column(resource)
            self.requested[column, row] += by * amount
        self.scored[0, row] += by * requests.scored_cpu
        self.scored[1, row] += by * requests.scored_memory
        self.pod_count[row] += by
        for port in facts.shape.ports:
            rows = self._ports.setdefault((port.protocol, port.port), {})
            if by > 0:
                rows.setdefault(row, []).append(port)
            else:
                rows[row].remove(port)
                if not rows[row]:
                    del rows[row]
        self.usage_log.add(row)
        self.moves.add(Move(facts, row, by))


def _compare(old: Object, new: Object) -> NodeChange:
    change = NodeChange.NONE
    if get_path(old, "status", "allocatable") != get_path(new, "status", "allocatable"):
        change |= NodeChange.ALLOCATABLE
    if labels_of(old) != labels_of(new):
        change |= NodeChange.LABELS
    before, after = old.get("spec") or {}, new.get("spec") or {}
    if before.get("taints") != after.get("taints") or before.get("unschedulable") != after.get("unschedulable"):
        change |= NodeChange.TAINTS
    return change
