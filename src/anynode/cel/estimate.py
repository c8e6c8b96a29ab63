"""What an expression can cost, known before it runs.

A checked tree and what is known of sizes go in; a range of cost goes out. Source: cel-go ``checker/cost.go``,
``ext/{lists,sets}.go`` v0.26; apiserver ``pkg/cel/library/cost.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from anynode.cel import call_estimates
from anynode.cel.call_estimates import Part, Path
from anynode.cel.cost import MOST, UNKNOWN, Cost, fixed
from anynode.cel.syntax import (
    ACCUMULATOR,
    Call,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    Struct,
)
from anynode.cel.types import Kind, Type, is_scalar

Sizer = Callable[[Sequence[str], Type], int | None]
_ZERO, _ONE = Cost(0, 0), Cost(1, 1)
_NOWHERE = Path([], 0)
_SELECTED = frozenset({Kind.MAP, Kind.STRUCT, Kind.TYPE_PARAM})


@dataclasses.dataclass(frozen=True, slots=True)
class Entries:
    """Sizes of keys and values of a container made by the expression; ``kind`` is LIST or MAP."""

    kind: Kind
    key: Cost
    value: Cost

    def union(self, other: Entries | None) -> Entries | None:
        return None if other is None else Entries(self.kind, self.key.union(other.key), self.value.union(other.value))


@dataclasses.dataclass(frozen=True, slots=True)
class _Local:
    path: Path
    size: Cost | None
    entries: Entries | None


class Estimator:
    """Prices one tree."""

    def __init__(self, sizer: Sizer | None, *, libraries: bool) -> None:
        self._sizer = sizer
        self._libraries = libraries
        self._paths: dict[int, Path] = {}
        self._sizes: dict[int, Cost] = {}
        self._entries: dict[int, Entries] = {}
        self._locals: dict[str, list[_Local]] = {}

    def cost(self, node: Node) -> Cost:
        """What the part costs, from least to most."""
        if isinstance(node, Literal):
            return _ZERO
        if isinstance(node, Ident):
            local = self._local(node.name)
            self._paths[id(node)] = Path.of(node.name) if local is None else local.path
            return _ONE
        if isinstance(node, Select):
            return self._select(node)
        if isinstance(node, Call):
            return self._call(node)
        if isinstance(node, ListNode):
            return self._list(node)
        if isinstance(node, MapNode):
            return self._map(node)
        if isinstance(node, Struct):
            total = fixed(40)
            for entry in node.entries:
                total = total.add(self.cost(entry.value))
            return total
        if isinstance(node, Comprehension):
            return self._bind(node) if node.is_bind else self._comprehension(node)
        return _ZERO

    # --- names and sizes -------------------------------------------------------------------------------------------

    def _local(self, name: str) -> _Local | None:
        stack = self._locals.get(name)
        return stack[-1] if stack else None

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _path(self, node: Node) -> Path:
        if isinstance(node, Ident):
            local = self._local(node.name)
            if local is not None:
                return local.path
        return self._paths.get(id(node), _NOWHERE)

    def _select(self, node: Select) -> Cost:
        if node.resolved:
            self._paths[id(node)] = Path.of(node.resolved)
            return _ONE
        total = self.cost(node.operand)
        if node.test:
            return total
        if node.operand.type.kind in _SELECTED:
            total = total.add(_ONE)
        self._paths[id(node)] = self._path(node.operand).then(node.field)
        return total

    def size(self, node: Node) -> Cost | None:
        """How many elements the value has, None where nothing is known."""
        found = self._sizes.get(id(node))
        if found is not None:
            return found
        found = _written_size(node)
        if found is not None:
            return found
        found = self.sized(self._path(node).read(), node.type)
        if found is not None:
            self._sizes[id(node)] = found
            return found
        if is_scalar(node.type):
            return _ONE
        if isinstance(node, Ident):
            local = self._local(node.name)
            if local is not None:
                return local.size
        return None

    def sized(self, path: tuple[str, ...], of: Type) -> Cost | None:
        """What the caller knows of a path."""
        if self._sizer is None or not path:
            return None
        most = self._sizer(path, of)
        return None if most is None else Cost(0, most)

    def known(self, node: Node) -> Cost:
        return self.size(node) or UNKNOWN

    def _entry_sizes(self, node: Node) -> Entries | None:
        found = self._entries.get(id(node))
        if found is None and isinstance(node, Ident):
            local = self._local(node.name)
            if local is not None:
                return local.entries
        return found

    def _set_entries(self, node: Node, found: Entries | None) -> None:
        if found is not None:
            self._entries[id(node)] = found

    def _set_size(self, node: Node, found: Cost | None) -> None:
        if found is not None:
            self._sizes[id(node)] = found

    # --- literals with parts ---------------------------------------------------------------------------------------

    def _list(self, node: ListNode) -> Cost:
        total = fixed(10)
        element = Cost(MOST if node.elements else 0, 0)
        for each in node.elements:
            total = total.add(self.cost(each))
            element = element.union(self.known(each))
        self._set_entries(node, Entries(Kind.LIST, _ONE, element))
        return total

    def _map(self, node: MapNode) -> Cost:
        total = fixed(30)
        least = MOST if node.entries else 0
        key, value = Cost(least, 0), Cost(least, 0)
        for entry in node.entries:
            assert entry.key is not None
            total = total.add(self.cost(entry.key)).add(self.cost(entry.value))
            key = key.union(self.known(entry.key))
            value = value.union(self.known(entry.value))
        self._set_entries(node, Entries(Kind.MAP, key, value))
        return total

    # --- calls -----------------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Cost:
        if node.function == "dyn":
            cost = self.cost(node.args[0])
            self._set_size(node, self.size(node.args[0]))
            self._set_entries(node, self._entry_sizes(node.args[0]))
            return cost.add(_ONE)
        costs = []
        args = []
        for each in node.args:
            costs.append(self.cost(each))
            args.append(self._part(each))
        if not node.overloads:
            return _ZERO
        total = _ZERO
        target = None
        if node.target is not None:
            total = self.cost(node.target)
            target = self._part(node.target)
        called = Cost(MOST, 0)
        result: Cost | None = None
        for overload in node.overloads:
            cost, size = self._overload(node, overload, target, args, costs)
            called = called.union(cost)
            if size is not None:
                result = size if result is None else result.union(size)
            if overload in ("index_list", "index_map") and args:
                entries = self._entry_sizes(node.args[0])
                result = None if entries is None else entries.value
                step = "@items" if overload == "index_list" else "@values"
                self._paths[id(node)] = self._path(node.args[0]).then(step)
            if result is None:
                result = self.size(node)
        self._set_size(node, result)
        return total.add(called)

    def _part(self, node: Node) -> Part:
        path = self._path(node)
        if path.read()[:1] in ((ACCUMULATOR,), ("__result__",)):
            path = _NOWHERE
        return Part(node, node.type, path, self.size(node))

    def _overload(
        self, node: Call, overload: str, target: Part | None, args: list[Part], costs: list[Cost]
    ) -> tuple[Cost, Cost | None]:
        summed = _ZERO
        for each in costs:
            summed = summed.add(each)
        found = call_estimates.extended(overload, target, args, self.sized)
        if found is None and self._libraries:
            found = call_estimates.library(node.function, overload, target, args, self.sized)
        if found is not None:
            return found[0].add(summed), found[1]
        if overload in ("logical_and", "logical_or"):
            return Cost(costs[0].min, costs[0].add(costs[1]).max), None
        if overload == "conditional":
            return self._conditional(node, args, costs)
        if overload == "add_list" or overload in ("add_string", "add_bytes"):
            return self._addition(node, overload, args, summed)
        cost, size = call_estimates.standard(overload, target, args)
        return cost.add(summed), size

    def _conditional(self, node: Call, args: list[Part], costs: list[Cost]) -> tuple[Cost, Cost | None]:
        size = (args[1].size or UNKNOWN).union(args[2].size or UNKNOWN)
        one = self._entry_sizes(node.args[1])
        self._set_entries(node, None if one is None else one.union(self._entry_sizes(node.args[2])))
        return costs[0].add(costs[1].union(costs[2])), size

    def _addition(self, node: Call, overload: str, args: list[Part], summed: Cost) -> tuple[Cost, Cost | None]:
        size = (args[0].size or UNKNOWN).add(args[1].size or UNKNOWN)
        one = self._entry_sizes(node.args[0])
        self._set_entries(node, None if one is None else one.union(self._entry_sizes(node.args[1])))
        if overload == "add_list":
            return summed.add(_ONE), size
        return size.by_factor(0.1).add(summed), size

    # --- folds -----------------------------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension) -> Cost:
        total = self.cost(node.range).add(self.cost(node.init))
        self._push(node.accumulator, _Local(self._path(node.init), self.size(node.init), self._entry_sizes(node.init)))
        self._push_variables(node)
        condition = self.cost(node.condition)
        step = self.cost(node.step)
        self._locals[node.variable].pop()
        if node.variable2:
            self._locals[node.variable2].pop()
        total = total.add(self.cost(node.result))
        self._locals[node.accumulator].pop()
        count = self.known(node.range)
        total = total.add(count.multiply(step.add(condition)))
        if isinstance(node.init, Literal):
            self._set_size(node, self.size(node.init))
        elif isinstance(node.init, ListNode | MapNode):
            self._set_size(node, count)
            self._set_entries(node, self._entry_sizes(node.step))
        return total

    def _push_variables(self, node: Comprehension) -> None:
        entries = self._entry_sizes(node.range)
        path = self._path(node.range)
        of_list = (entries.kind if entries is not None else node.range.type.kind) == Kind.LIST
        key = None if entries is None else entries.key
        value = None if entries is None else entries.value
        if node.variable2:
            self._push(node.variable, _Local(path.then("@indices" if of_list else "@keys"), key, None))
            self._push(node.variable2, _Local(path.then("@items" if of_list else "@values"), value, None))
        else:
            step = "@items" if of_list else "@keys"
            self._push(node.variable, _Local(path.then(step), value if of_list else key, None))

    def _bind(self, node: Comprehension) -> Cost:
        total = self.cost(node.range).add(self.cost(node.init))
        self._push(node.accumulator, _Local(self._path(node.init), self.size(node.init), self._entry_sizes(node.init)))
        total = total.add(self.cost(node.result))
        self._locals[node.accumulator].pop()
        self._set_size(node, self.size(node.result))
        self._set_entries(node, self._entry_sizes(node.result))
        return total


def _written_size(node: Node) -> Cost | None:
    if isinstance(node, Literal):
        value: Any = node.value
        return fixed(len(value) if isinstance(value, str | bytes) else 1)
    if isinstance(node, ListNode):
        return fixed(len(node.elements))
    if isinstance(node, MapNode):
        return fixed(len(node.entries))
    return None
