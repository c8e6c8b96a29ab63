"""The tree of an expression: what the parser builds, the checker types, and estimate and planner walk.

Nodes are changed only while they are compiled: the checker writes ``type``, ``overloads`` and resolved names on them.
``offset`` is the code point the node is reported at. Source: cel-go ``common/ast/expr.go``, v0.26.
"""

from __future__ import annotations

from typing import Any

from anynode.cel.types import ERROR, Type

ACCUMULATOR = "@result"
"""The accumulator of macros; no source can name it."""
UNUSED = "#unused"


class Node:
    """Any expression."""

    __slots__ = ("offset", "type")

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.type: Type = ERROR


class Literal(Node):
    """A constant; ``value`` is a value of this package."""

    __slots__ = ("value",)

    def __init__(self, offset: int, value: Any) -> None:
        super().__init__(offset)
        self.value = value


class Ident(Node):
    """A name. ``constant`` is set when it names a type."""

    __slots__ = ("constant", "name")

    def __init__(self, offset: int, name: str) -> None:
        super().__init__(offset)
        self.name = name
        self.constant: Type | None = None


class Select(Node):
    """``operand.field``, or with ``test`` what ``has()`` makes of it. ``resolved``: the chain names a variable."""

    __slots__ = ("constant", "field", "operand", "resolved", "test")

    def __init__(self, offset: int, operand: Node, field: str, *, test: bool = False) -> None:
        super().__init__(offset)
        self.operand = operand
        self.field = field
        self.test = test
        self.resolved = ""
        self.constant: Type | None = None


class Call(Node):
    """A function or operator; ``target`` is the receiver. ``overloads`` are the ids that may apply."""

    __slots__ = ("args", "function", "overloads", "target")

    def __init__(self, offset: int, function: str, args: list[Node], target: Node | None = None) -> None:
        super().__init__(offset)
        self.function = function
        self.args = args
        self.target = target
        self.overloads: tuple[str, ...] = ()


class ListNode(Node):
    """``[a, ?b]``; ``optionals`` holds the indices with a question mark."""

    __slots__ = ("elements", "optionals")

    def __init__(self, offset: int, elements: list[Node], optionals: frozenset[int] = frozenset()) -> None:
        super().__init__(offset)
        self.elements = elements
        self.optionals = optionals


class Entry:
    """One ``key: value`` of a map or ``field: value`` of an object."""

    __slots__ = ("field", "key", "offset", "optional", "value")

    def __init__(self, offset: int, key: Node | None, field: str, value: Node, *, optional: bool) -> None:
        self.offset = offset
        self.key = key
        self.field = field
        self.value = value
        self.optional = optional


class MapNode(Node):
    __slots__ = ("entries",)

    def __init__(self, offset: int, entries: list[Entry]) -> None:
        super().__init__(offset)
        self.entries = entries


class Struct(Node):
    """``Name{field: value}``."""

    __slots__ = ("entries", "name")

    def __init__(self, offset: int, name: str, entries: list[Entry]) -> None:
        super().__init__(offset)
        self.name = name
        self.entries = entries


class Comprehension(Node):
    """A fold over ``range``; ``variable2`` is empty when there is one iteration variable."""

    __slots__ = ("accumulator", "condition", "init", "range", "result", "step", "variable", "variable2")

    def __init__(
        self,
        offset: int,
        range_: Node,
        variable: str,
        variable2: str,
        accumulator: str,
        init: Node,
        condition: Node,
        step: Node,
        result: Node,
    ) -> None:
        super().__init__(offset)
        self.range = range_
        self.variable = variable
        self.variable2 = variable2
        self.accumulator = accumulator
        self.init = init
        self.condition = condition
        self.step = step
        self.result = result

    @property
    def is_bind(self) -> bool:
        """Whether nothing is folded: the accumulator is a name for ``init`` inside ``result``."""
        return (
            isinstance(self.range, ListNode)
            and not self.range.elements
            and isinstance(self.condition, Literal)
            and self.condition.value is False
        )


def children(node: Node) -> list[Node]:
    """The direct parts of a node, in the order they are written by the parser."""
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Call):
        return ([node.target] if node.target is not None else []) + node.args
    if isinstance(node, ListNode):
        return node.elements
    if isinstance(node, MapNode | Struct):
        found: list[Node] = []
        for entry in node.entries:
            if entry.key is not None:
                found.append(entry.key)
            found.append(entry.value)
        return found
    if isinstance(node, Comprehension):
        return [node.range, node.init, node.condition, node.step, node.result]
    return []


def copied(node: Node) -> Node:
    """A tree of its own, as a macro needs that writes an argument twice."""
    if isinstance(node, Literal):
        return Literal(node.offset, node.value)
    if isinstance(node, Ident):
        return Ident(node.offset, node.name)
    if isinstance(node, Select):
        return Select(node.offset, copied(node.operand), node.field, test=node.test)
    if isinstance(node, Call):
        target = None if node.target is None else copied(node.target)
        return Call(node.offset, node.function, [copied(each) for each in node.args], target)
    if isinstance(node, ListNode):
        return ListNode(node.offset, [copied(each) for each in node.elements], node.optionals)
    if isinstance(node, MapNode):
        return MapNode(node.offset, _copied_entries(node.entries))
    if isinstance(node, Struct):
        return Struct(node.offset, node.name, _copied_entries(node.entries))
    if isinstance(node, Comprehension):
        return Comprehension(
            node.offset,
            copied(node.range),
            node.variable,
            node.variable2,
            node.accumulator,
            copied(node.init),
            copied(node.condition),
            copied(node.step),
            copied(node.result),
        )
    return Node(node.offset)


def _copied_entries(entries: list[Entry]) -> list[Entry]:
    return [
        Entry(
            each.offset,
            None if each.key is None else copied(each.key),
            each.field,
            copied(each.value),
            optional=each.optional,
        )
        for each in entries
    ]


def qualified_name(node: Node) -> str | None:
    """``a.b.c`` if the node is a chain of plain selections on a name."""
    fields: list[str] = []
    while isinstance(node, Select):
        if node.test:
            return None
        fields.append(node.field)
        node = node.operand
    if not isinstance(node, Ident):
        return None
    return ".".join([node.name, *reversed(fields)])
