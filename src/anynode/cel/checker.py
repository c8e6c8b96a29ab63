"""The type checker: every node gets its type, every call the overloads that may apply.

A tree and the names of an environment go in; the tree is annotated, complaints come out. Source: cel-go
``checker/{checker,types,env,errors,format}.go``, ``cel/validator.go``, v0.26.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from anynode.cel import types
from anynode.cel.declarations import Functions, Overload
from anynode.cel.syntax import (
    Call,
    Comprehension,
    Entry,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    Struct,
    qualified_name,
)
from anynode.cel.times import Duration, Timestamp
from anynode.cel.types import Kind, ObjectType, Type
from anynode.cel.unification import Substitution, formatted, is_less_specific, substituted
from anynode.cel.values import Uint

_LITERALS: dict[type, Type] = {
    bool: types.BOOL, int: types.INT, Uint: types.UINT, float: types.DOUBLE, str: types.STRING, bytes: types.BYTES,
    type(None): types.NULL, Timestamp: types.TIMESTAMP, Duration: types.DURATION,
}  # fmt: skip
_SCALARS = frozenset({"bool", "bytes", "double", "int", "null_type", "string", "uint", "list", "map"})
_WELL_KNOWN = frozenset({Kind.TIMESTAMP, Kind.DURATION, Kind.DYN, Kind.NULL})


class Checker:
    """Checks one tree. ``complaints`` are offsets and sentences."""

    def __init__(
        self, variables: Mapping[str, Type], type_idents: Mapping[str, Type], functions: Functions, *, open_types: bool
    ) -> None:
        self.complaints: list[tuple[int, str]] = []
        self.used: set[str] = set()
        self._variables = variables
        self._type_idents = type_idents
        self._functions = functions
        self._open_types = open_types
        self._scopes: list[dict[str, Type]] = []
        self._bound = Substitution()
        self._counter = itertools.count()
        self._nodes: list[Node] = []

    def run(self, tree: Node) -> None:
        """Check the tree and settle the types that were open."""
        self._check(tree)
        for node in self._nodes:
            node.type = substituted(self._bound, node.type, to_dyn=True)

    def _complain(self, offset: int, message: str) -> None:
        self.complaints.append((offset, message))

    def _check(self, node: Node) -> None:
        self._nodes.append(node)
        if isinstance(node, Call):
            self._call(node)
        elif isinstance(node, Ident):
            self._ident(node)
        elif isinstance(node, Select):
            self._select(node)
        elif isinstance(node, Literal):
            node.type = _LITERALS[type(node.value)]
        elif isinstance(node, Comprehension):
            self._comprehension(node)
        elif isinstance(node, ListNode):
            self._list(node)
        elif isinstance(node, MapNode):
            self._map(node)
        elif isinstance(node, Struct):
            self._struct(node)

    # --- names -----------------------------------------------------------------------------------------------------

    def _lookup(self, name: str) -> tuple[str, Type] | None:
        """The declared name and type of an identifier."""
        name = name.removeprefix(".")
        for scope in reversed(self._scopes):
            if name in scope:
                return name, scope[name]
        found = self._variables.get(name)
        if found is not None:
            self.used.add(name)
            return name, found
        found = self._type_idents.get(name)
        if found is not None:
            return name, found
        if self._open_types and (name == "Object" or name.startswith("Object.")):
            return name, types.type_of(ObjectType(name, lambda _field: types.DYN, open_fields=True))
        return None

    def _ident(self, node: Ident) -> None:
        found = self._lookup(node.name)
        if found is None:
            self._complain(node.offset, f"undeclared reference to '{node.name}' (in container '')")
            node.type = types.ERROR
            return
        node.name, node.type = found
        if node.type.kind == Kind.TYPE and node.type.parameters and not self._is_local(node.name):
            node.constant = node.type.parameters[0]

    def _is_local(self, name: str) -> bool:
        return any(name in scope for scope in self._scopes) or name in self._variables

    def _select(self, node: Select) -> None:
        name = qualified_name(node)
        if name is not None:
            found = self._lookup(name)
            if found is not None:
                node.resolved, node.type = found
                if node.type.kind == Kind.TYPE and node.type.parameters:
                    node.constant = node.type.parameters[0]
                return
        result = self._field(node, node.operand, node.field, optional=False)
        node.type = substituted(self._bound, types.BOOL if node.test else result)

    def _field(self, node: Node, operand: Node, field: str, *, optional: bool) -> Type:
        self._check(operand)
        target = substituted(self._bound, operand.type)
        unwrapped = types.is_optional(target)
        if unwrapped:
            target = target.parameters[0]
        result = types.ERROR
        kind = target.kind
        if kind == Kind.MAP:
            result = target.parameters[1]
        elif kind == Kind.STRUCT:
            result = self._field_type(node.offset, target, field) or types.ERROR
        elif kind == Kind.TYPE_PARAM:
            self._assignable(types.DYN, target)
            result = types.DYN
        else:
            if kind not in (Kind.DYN, Kind.ERROR):
                self._complain(node.offset, f"type '{formatted(target)}' does not support field selection")
            result = types.DYN
        return types.optional_of(result) if unwrapped or optional else result

    def _field_type(self, offset: int, of: Type, field: str) -> Type | None:
        if not isinstance(of, ObjectType):
            self._complain(offset, f"unexpected failed resolution of '{of.name}'")
            return None
        found = of.field(field)
        if found is None:
            self._complain(offset, f"undefined field '{field}'")
        return found

    # --- calls -----------------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> None:
        if node.function == "_?._":
            operand, field = node.args
            assert isinstance(field, Literal)
            result = self._field(node, operand, field.value, optional=True)
            field.type = types.STRING
            node.type = substituted(self._bound, result)
            node.overloads = ("select_optional_field",)
            return
        for each in node.args:
            self._check(each)
        target = node.target
        if target is not None:
            prefix = qualified_name(target)
            if prefix is not None:
                name = f"{prefix}.{node.function}".removeprefix(".")
                if name in self._functions:
                    node.function = name
                    node.target = target = None
        if target is not None:
            self._check(target)
        overloads = self._functions.get(node.function.removeprefix(".") if target is None else node.function)
        if overloads is None:
            self._complain(node.offset, f"undeclared reference to '{node.function}' (in container '')")
            node.type = types.ERROR
            return
        node.function = node.function.removeprefix(".")
        self._resolve(node, overloads)

    def _resolve(self, node: Call, overloads: object) -> None:
        if node.function in ("_&&_", "_||_"):
            self._logic(node)
            return
        assert isinstance(overloads, list)
        args = [each.type for each in node.args]
        member = node.target is not None
        if node.target is not None:
            args.insert(0, node.target.type)
        result: Type | None = None
        ids: list[str] = []
        for overload in overloads:
            if overload.member is not member or len(overload.args) != len(args):
                continue
            given = self._fits(overload, args)
            if given is None:
                continue
            ids.append(overload.id)
            if result is None:
                result = given
            elif result.kind != Kind.DYN and given != result:
                result = types.DYN
        if result is None:
            shown = [formatted(substituted(self._bound, each, to_dyn=True)) for each in args]
            signature = f"{shown[0]}.({', '.join(shown[1:])})" if member else f"({', '.join(shown)})"
            self._complain(node.offset, f"found no matching overload for '{node.function}' applied to '{signature}'")
            node.type = types.ERROR
            return
        node.type = result
        node.overloads = tuple(ids)

    def _logic(self, node: Call) -> None:
        wrong = False
        for each in node.args:
            if not self._assignable(each.type, types.BOOL):
                self._complain(each.offset, f"expected type 'bool' but found '{formatted(each.type)}'")
                wrong = True
        node.type = types.ERROR if wrong else types.BOOL
        node.overloads = ("logical_and" if node.function == "_&&_" else "logical_or",)

    def _fits(self, overload: Overload, args: list[Type]) -> Type | None:
        """The result if the arguments can be given to the overload."""
        wanted, result = overload.args, overload.result
        if overload.parameters:
            fresh = Substitution()
            for parameter in overload.parameters:
                fresh.add(types.type_param(parameter), self._type_variable())
            wanted = tuple(substituted(fresh, each) for each in wanted)
            result = substituted(fresh, result)
        before = self._bound
        tried = before.copy()
        if not all(tried.assignable(given, want) for given, want in zip(args, wanted, strict=True)):
            return None
        self._bound = tried
        return substituted(tried, result)

    def _type_variable(self) -> Type:
        return types.type_param(f"_var{next(self._counter)}")

    def _assignable(self, given: Type, wanted: Type) -> bool:
        tried = self._bound.copy()
        if not tried.assignable(given, wanted):
            return False
        self._bound = tried
        return True

    # --- literals with parts ---------------------------------------------------------------------------------------

    def _list(self, node: ListNode) -> None:
        joined: Type | None = None
        for index, each in enumerate(node.elements):
            self._check(each)
            of = self._unwrapped(each, optional=index in node.optionals)
            joined = self._joined(each, joined, of)
        node.type = types.list_of(self._type_variable() if joined is None else joined)

    def _unwrapped(self, node: Node, *, optional: bool) -> Type:
        of = node.type
        if not optional:
            return of
        if types.is_optional(of):
            return of.parameters[0]
        if of.kind != Kind.DYN:
            wanted = formatted(types.optional_of(of))
            self._complain(node.offset, f"expected type '{wanted}' but found '{formatted(of)}'")
        return of

    def _joined(self, node: Node, previous: Type | None, current: Type) -> Type:
        if previous is None:
            return current
        if self._assignable(previous, current):
            return previous if is_less_specific(previous, current) else current
        return types.DYN  # told apart afterwards, by ``literal_checks``

    def _map(self, node: MapNode) -> None:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            assert entry.key is not None
            self._check(entry.key)
            key = self._joined(entry.key, key, entry.key.type)
            self._check(entry.value)
            value = self._joined(entry.value, value, self._unwrapped(entry.value, optional=entry.optional))
        if key is None or value is None:
            key, value = self._type_variable(), self._type_variable()
        node.type = types.map_of(key, value)

    def _struct(self, node: Struct) -> None:
        found = self._lookup(node.name)
        if found is None:
            self._complain(node.offset, f"undeclared reference to '{node.name}' (in container '')")
            node.type = types.ERROR
            return
        node.name, of = found
        result = types.ERROR
        if of.kind != Kind.TYPE:
            if of.kind != Kind.ERROR:
                self._complain(node.offset, f"'{of.name}' is not a type")
        elif of.parameters and (of.parameters[0].kind == Kind.STRUCT or of.parameters[0].kind in _WELL_KNOWN):
            result = of.parameters[0]
        else:
            self._complain(node.offset, f"'{of.parameters[0].name if of.parameters else 'type'}' is not a message type")
        node.type = result
        for entry in node.entries:
            self._struct_entry(entry, result, node.name)

    def _struct_entry(self, entry: Entry, of: Type, name: str) -> None:
        self._check(entry.value)
        wanted = types.ERROR
        if of.kind == Kind.ERROR and name in _SCALARS:
            self._complain(entry.offset, f"undefined field '{entry.field}'")
        elif of.kind == Kind.ERROR:
            self._complain(entry.offset, f"unexpected failed resolution of '{name}'")
        else:
            wanted = self._field_type(entry.offset, of, entry.field) or types.ERROR
        given = self._unwrapped(entry.value, optional=entry.optional)
        if not self._assignable(wanted, given):
            self._complain(
                entry.offset,
                f"expected type of field '{entry.field}' is '{formatted(wanted)}'"
                f" but provided type is '{formatted(given)}'",
            )

    # --- folds -----------------------------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension) -> None:
        self._check(node.range)
        self._check(node.init)
        ranged = substituted(self._bound, node.range.type)
        accumulated = node.init.type
        self._scopes.append({node.accumulator: accumulated})
        first, second = self._iterated(node, ranged)
        scope = {node.variable: first}
        if node.variable2:
            scope[node.variable2] = second
        self._scopes.append(scope)
        self._check(node.condition)
        self._require(node.condition, types.BOOL)
        self._check(node.step)
        self._require(node.step, accumulated)
        self._scopes.pop()
        self._check(node.result)
        self._scopes.pop()
        node.type = substituted(self._bound, node.result.type)

    def _iterated(self, node: Comprehension, ranged: Type) -> tuple[Type, Type]:
        if ranged.kind == Kind.LIST:
            element = ranged.parameters[0]
            return (types.INT, element) if node.variable2 else (element, element)
        if ranged.kind == Kind.MAP:
            return ranged.parameters[0], ranged.parameters[1]
        if ranged.kind in (Kind.DYN, Kind.ERROR, Kind.TYPE_PARAM):
            self._assignable(types.DYN, ranged)
            return types.DYN, types.DYN
        self._complain(
            node.range.offset,
            f"expression of type '{formatted(ranged)}' cannot be range of a comprehension"
            " (must be list, map, or dynamic)",
        )
        return types.ERROR, types.ERROR

    def _require(self, node: Node, wanted: Type) -> None:
        if not self._assignable(wanted, node.type):
            self._complain(node.offset, f"expected type '{formatted(wanted)}' but found '{formatted(node.type)}'")
