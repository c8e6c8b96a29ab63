"""Macros: calls the parser replaces by a fold or a presence test.

A macro gets the offset it is reported at, its target and arguments; the expression it stands for comes back, None if it
does not apply, or ``MacroError`` is raised. Source: cel-go ``parser/macro.go``,
``ext/{comprehensions,lists,bindings}.go``, ``cel/library.go``, v0.26.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from anynode.cel.syntax import (
    ACCUMULATOR,
    UNUSED,
    Call,
    Comprehension,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    copied,
)

Macro = Callable[[int, Node | None, list[Node]], Node | None]
MacroKey = tuple[str, int, bool]
"""Name, number of arguments, whether it is called on a target."""


class MacroError(ValueError):
    """Arguments a macro cannot use; ``offset`` says where."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def _has(at: int, _target: Node | None, args: list[Node]) -> Node:
    argument = args[0]
    if not isinstance(argument, Select):
        raise MacroError(argument.offset, "invalid argument to has() macro")
    return Select(at, argument.operand, argument.field, test=True)


def _variable(argument: Node, complaint: str) -> str:
    if not isinstance(argument, Ident):
        raise MacroError(argument.offset, complaint)
    if argument.name in (ACCUMULATOR, "__result__"):
        raise MacroError(argument.offset, "iteration variable overwrites accumulator variable")
    return argument.name


def _variables(args: list[Node]) -> tuple[str, str]:
    for argument in args[:2]:
        if not isinstance(argument, Ident):
            raise MacroError(argument.offset, "argument must be a simple name")
    first, second = args[0], args[1]
    if isinstance(first, Ident) and isinstance(second, Ident) and first.name == second.name:
        raise MacroError(second.offset, f"duplicate variable name: {first.name}")
    return _variable(first, ""), _variable(second, "")


def _result(at: int) -> Ident:
    return Ident(at, ACCUMULATOR)


def _names(args: list[Node], width: int) -> tuple[str, str]:
    return (_variable(args[0], "argument must be a simple name"), "") if width == 1 else _variables(args)


def _all(width: int) -> Macro:
    def expand(at: int, target: Node | None, args: list[Node]) -> Node:
        first, second = _names(args, width)
        condition = Call(at, "@not_strictly_false", [_result(at)])
        step = Call(at, "_&&_", [_result(at), args[width]])
        return _fold(at, target, first, second, Literal(at, True), condition, step, _result(at))

    return expand


def _exists(width: int) -> Macro:
    def expand(at: int, target: Node | None, args: list[Node]) -> Node:
        first, second = _names(args, width)
        condition = Call(at, "@not_strictly_false", [Call(at, "!_", [_result(at)])])
        step = Call(at, "_||_", [_result(at), args[width]])
        return _fold(at, target, first, second, Literal(at, False), condition, step, _result(at))

    return expand


def _exists_one(width: int) -> Macro:
    def expand(at: int, target: Node | None, args: list[Node]) -> Node:
        first, second = _names(args, width)
        counted = Call(at, "_+_", [_result(at), Literal(at, 1)])
        step = Call(at, "_?_:_", [args[width], counted, _result(at)])
        result = Call(at, "_==_", [_result(at), Literal(at, 1)])
        return _fold(at, target, first, second, Literal(at, 0), Literal(at, True), step, result)

    return expand


def _fold(
    at: int, target: Node | None, first: str, second: str, init: Node, condition: Node, step: Node, result: Node
) -> Node:
    assert target is not None  # macros of this kind are found by a call with a target only
    return Comprehension(at, target, first, second, ACCUMULATOR, init, condition, step, result)


def _appending(at: int, element: Node, condition: Node | None) -> Node:
    step: Node = Call(at, "_+_", [_result(at), ListNode(at, [element])])
    return step if condition is None else Call(at, "_?_:_", [condition, step, _result(at)])


def _map(at: int, target: Node | None, args: list[Node]) -> Node:
    name = _variable(args[0], "argument is not an identifier")
    step = _appending(at, args[-1], args[1] if len(args) == 3 else None)
    return _fold(at, target, name, "", ListNode(at, []), Literal(at, True), step, _result(at))


def _filter(at: int, target: Node | None, args: list[Node]) -> Node:
    name = _variable(args[0], "argument is not an identifier")
    step = _appending(at, args[0], args[1])
    return _fold(at, target, name, "", ListNode(at, []), Literal(at, True), step, _result(at))


def _transform_list(at: int, target: Node | None, args: list[Node]) -> Node:
    first, second = _variables(args)
    step = _appending(at, args[-1], args[2] if len(args) == 4 else None)
    return _fold(at, target, first, second, ListNode(at, []), Literal(at, True), step, _result(at))


def _transform_map(at: int, target: Node | None, args: list[Node]) -> Node:
    first, second = _variables(args)
    return _inserting(at, target, first, second, [Ident(at, first), args[-1]], args[2] if len(args) == 4 else None)


def _transform_map_entry(at: int, target: Node | None, args: list[Node]) -> Node:
    first, second = _variables(args)
    return _inserting(at, target, first, second, [args[-1]], args[2] if len(args) == 4 else None)


def _inserting(
    at: int, target: Node | None, first: str, second: str, inserted: list[Node], condition: Node | None
) -> Node:
    step: Node = Call(at, "cel.@mapInsert", [_result(at), *inserted])
    if condition is not None:
        step = Call(at, "_?_:_", [condition, step, _result(at)])
    return _fold(at, target, first, second, MapNode(at, []), Literal(at, True), step, _result(at))


def _bound(at: int, name: str, init: Node, result: Node) -> Node:
    return Comprehension(at, ListNode(at, []), UNUSED, "", name, init, Literal(at, False), Ident(at, name), result)


def _bind(at: int, target: Node | None, args: list[Node]) -> Node | None:
    if not isinstance(target, Ident) or target.name != "cel":
        return None
    if not isinstance(args[0], Ident):
        raise MacroError(args[0].offset, "cel.bind() variable names must be simple identifiers")
    return _bound(at, args[0].name, args[1], args[2])


def _optional_map(flat: bool) -> Macro:
    name = "optFlatMap" if flat else "optMap"

    def expand(at: int, target: Node | None, args: list[Node]) -> Node:
        assert target is not None
        if not isinstance(args[0], Ident):
            raise MacroError(args[0].offset, f"{name}() variable name must be a simple identifier")
        mapped = _bound(at, args[0].name, Call(at, "value", [], copied(target)), args[1])
        present = mapped if flat else Call(at, "optional.of", [mapped])
        return Call(at, "_?_:_", [Call(at, "hasValue", [], target), present, Call(at, "optional.none", [])])

    return expand


def _sort_by(at: int, target: Node | None, args: list[Node]) -> Node:
    if target is None or not isinstance(target, ListNode | Select | Ident | Comprehension | Call):
        raise MacroError(
            at if target is None else target.offset,
            "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
        )
    name = "@__sortBy_input__"
    keys = _map(at, Ident(at, name), args)
    return _bound(at, name, target, Call(at, "@sortByAssociatedKeys", [keys], Ident(at, name)))


KUBERNETES: Mapping[MacroKey, Macro] = {
    ("has", 1, False): _has,
    ("all", 2, True): _all(1),
    ("exists", 2, True): _exists(1),
    ("exists_one", 2, True): _exists_one(1),
    ("map", 2, True): _map,
    ("map", 3, True): _map,
    ("filter", 2, True): _filter,
    ("optMap", 2, True): _optional_map(False),
    ("optFlatMap", 2, True): _optional_map(True),
    ("all", 3, True): _all(2),
    ("exists", 3, True): _exists(2),
    ("existsOne", 3, True): _exists_one(2),
    ("exists_one", 3, True): _exists_one(2),
    ("transformList", 3, True): _transform_list,
    ("transformList", 4, True): _transform_list,
    ("transformMap", 3, True): _transform_map,
    ("transformMap", 4, True): _transform_map,
    ("transformMapEntry", 3, True): _transform_map_entry,
    ("transformMapEntry", 4, True): _transform_map_entry,
    ("sortBy", 2, True): _sort_by,
}
BINDINGS: Mapping[MacroKey, Macro] = {("bind", 3, True): _bind}
