"""What is wrong with the literals of a well typed expression: durations, timestamps, patterns, mixed lists, formats.

A checked tree comes in; offsets and sentences go out. Source: cel-go ``cel/validator.go``, ``ext/formatting.go``,
v0.26.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from anynode.cel import operators, regexes
from anynode.cel.errors import CelEvaluationError
from anynode.cel.strings import FormatError, arguments, clauses, demand
from anynode.cel.syntax import Call, ListNode, Literal, MapNode, Node, children
from anynode.cel.types import Kind, Type
from anynode.cel.unification import formatted

Complaint = tuple[int, str]
_CHECKED: dict[str, Callable[[object], object]] = {
    "duration": operators.to_duration,
    "timestamp": operators.to_timestamp,
}
_TAKEN = {
    "d": {Kind.INT, Kind.UINT},
    "f": {Kind.DOUBLE, Kind.STRING},
    "e": {Kind.DOUBLE, Kind.STRING},
    "b": {Kind.INT, Kind.UINT, Kind.BOOL},
    "x": {Kind.INT, Kind.UINT, Kind.STRING, Kind.BYTES},
    "X": {Kind.INT, Kind.UINT, Kind.STRING, Kind.BYTES},
    "o": {Kind.INT, Kind.UINT},
    "s": {
        Kind.LIST, Kind.MAP, Kind.INT, Kind.UINT, Kind.DOUBLE, Kind.BOOL, Kind.STRING, Kind.TIMESTAMP, Kind.BYTES,
        Kind.DURATION, Kind.TYPE, Kind.NULL,
    },
}  # fmt: skip


def literal_complaints(tree: Node) -> list[Complaint]:
    """Everything wrong with literals anywhere in the tree."""
    found: list[Complaint] = []
    for node, exempt in _walk(tree, exempt=False):
        if isinstance(node, Call):
            found.extend(_call(node))
        elif exempt:
            continue
        elif isinstance(node, ListNode):
            found.extend(_list(node))
        elif isinstance(node, MapNode):
            found.extend(_map(node))
    return found


def _walk(node: Node, *, exempt: bool) -> Iterator[tuple[Node, bool]]:
    yield node, exempt
    exempt = exempt or (isinstance(node, Call) and node.function == "format")
    for each in children(node):
        yield from _walk(each, exempt=exempt)


def _call(node: Call) -> Iterator[Complaint]:
    if node.function == "format" and node.target is not None:
        yield from _format(node)
        return
    if not node.args or not isinstance(node.args[0], Literal):
        return
    value = node.args[0].value
    check = _CHECKED.get(node.function)
    if check is not None:
        try:
            check(value)
        except CelEvaluationError:
            yield node.args[0].offset, f"invalid {node.function} argument"
    elif node.function == "matches" and isinstance(value, str):
        try:
            regexes.compiled(value)
        except regexes.RegexError:
            yield node.args[0].offset, "invalid matches argument"


def _unwrapped(of: Type, *, optional: bool) -> Type:
    return of.parameters[0] if optional and of.parameters else of


def _mismatch(node: Node, expected: Type, actual: Type) -> Complaint:
    return node.offset, f"expected type '{formatted(expected)}' but found '{formatted(actual)}'"


def _list(node: ListNode) -> Iterator[Complaint]:
    expected: Type | None = None
    for index, each in enumerate(node.elements):
        of = _unwrapped(each.type, optional=index in node.optionals)
        if expected is None:
            expected = of
        elif expected != of:
            yield _mismatch(each, expected, of)
            return


def _map(node: MapNode) -> Iterator[Complaint]:
    key: Type | None = None
    value: Type | None = None
    for entry in node.entries:
        assert entry.key is not None
        of = _unwrapped(entry.value.type, optional=entry.optional)
        if key is None or value is None:
            key, value = entry.key.type, of
            continue
        if key != entry.key.type:
            yield _mismatch(entry.key, key, entry.key.type)
        if value != of:
            yield _mismatch(entry.value, value, of)


def _format(node: Call) -> Iterator[Complaint]:
    target, args = node.target, node.args
    if not isinstance(target, Literal) or not isinstance(target.value, str):
        return
    if len(args) != 1 or not isinstance(args[0], ListNode):
        return
    elements = args[0].elements
    try:
        pieces = clauses(target.value, len(elements))
        for piece in pieces:
            if isinstance(piece, str):
                continue
            letter, _, index = piece
            wrong = _wrong(letter, elements[index])
            if wrong is not None:
                yield wrong.offset, str(demand(letter, _type_name(wrong.type), index))
                return
    except FormatError as error:
        yield node.offset, str(error)
        return
    taken = arguments(pieces)
    if len(elements) > taken:
        yield (
            node.offset,
            f"too many arguments supplied to string.format (expected {taken}, got {len(elements)})",
        )


def _type_name(of: Type) -> str:
    return {
        Kind.NULL: "null_type",
        Kind.TIMESTAMP: "google.protobuf.Timestamp",
        Kind.DURATION: "google.protobuf.Duration",
    }.get(of.kind, of.name)


def _wrong(letter: str, node: Node) -> Node | None:
    """The part a clause cannot print."""
    if node.type.kind != Kind.DYN and node.type.kind not in _TAKEN[letter]:
        return node
    if letter == "s" and isinstance(node, ListNode | MapNode):
        for each in children(node):
            found = _wrong(letter, each)
            if found is not None:
                return found
    return None
