"""Type parameters bound while an expression is checked, and which type may stand where.

Source: cel-go ``checker/{types,mapping,format}.go``, v0.26.
"""

from __future__ import annotations

from anynode.cel import types
from anynode.cel.types import Kind, Type

_NULLABLE = frozenset({Kind.OPAQUE, Kind.STRUCT, Kind.DURATION, Kind.TIMESTAMP})
_PARAMETRIC = frozenset({Kind.OPAQUE, Kind.LIST, Kind.MAP, Kind.TYPE})


class Substitution:
    """What type parameters stand for so far. ``assignable`` may leave half a trace where it answers no."""

    __slots__ = ("_bound",)

    def __init__(self) -> None:
        self._bound: dict[str, Type] = {}

    def copy(self) -> Substitution:
        made = Substitution()
        made._bound = self._bound.copy()
        return made

    def add(self, parameter: Type, stands_for: Type) -> None:
        self._bound[parameter.name] = stands_for

    def find(self, of: Type) -> Type | None:
        return self._bound.get(of.name) if of.kind == Kind.TYPE_PARAM else None

    def assignable(self, given: Type, wanted: Type) -> bool:
        """Whether a ``given`` may stand where a ``wanted`` must, binding parameters on the way."""
        kind, other = given.kind, wanted.kind
        if other == Kind.TYPE_PARAM:
            valid, bound = self._substitutes(given, wanted)
            if valid or bound:
                return valid
        if kind == Kind.TYPE_PARAM:
            return self._substitutes(wanted, given)[0]
        if kind in (Kind.DYN, Kind.ERROR) or other in (Kind.DYN, Kind.ERROR):
            return True
        if kind == Kind.NULL:
            return other in _NULLABLE or other == Kind.NULL
        if other == Kind.NULL:
            return kind in _NULLABLE
        if kind == Kind.TYPE:
            return other == Kind.TYPE
        if kind in _PARAMETRIC:
            return kind == other and given.name == wanted.name and self._all_assignable(given, wanted)
        return given == wanted

    def _all_assignable(self, given: Type, wanted: Type) -> bool:
        return len(given.parameters) == len(wanted.parameters) and all(
            map(self.assignable, given.parameters, wanted.parameters)
        )

    def _substitutes(self, of: Type, parameter: Type) -> tuple[bool, bool]:
        """Whether ``of`` fits what ``parameter`` stands for, and whether that was settled already."""
        if of.kind == Kind.TYPE_PARAM and of.name == parameter.name:
            return True, True
        bound = self._bound.get(parameter.name)
        if bound is not None:
            if of == bound:
                return True, True
            if not self.assignable(of, bound):
                return False, True
            general = of if is_less_specific(of, bound) else bound
            if not self._occurs(parameter, general):
                self._bound[parameter.name] = general
            return True, True
        if self._occurs(parameter, of):
            return False, False
        self._bound[parameter.name] = of
        return True, False

    def _occurs(self, parameter: Type, within: Type) -> bool:
        if within.kind == Kind.TYPE_PARAM:
            if within.name == parameter.name:
                return True
            bound = self._bound.get(within.name)
            return bound is not None and self._occurs(parameter, bound)
        return any(self._occurs(parameter, each) for each in within.parameters)


def is_less_specific(one: Type, other: Type) -> bool:
    """Whether ``one`` equals ``other`` or says less."""
    if one.kind in (Kind.DYN, Kind.TYPE_PARAM):
        return True
    if other.kind in (Kind.DYN, Kind.TYPE_PARAM) or one.kind != other.kind:
        return False
    if one.kind == Kind.TYPE:
        return True
    if one.kind in _PARAMETRIC:
        return (
            one.name == other.name
            and len(one.parameters) == len(other.parameters)
            and all(map(is_less_specific, one.parameters, other.parameters))
        )
    return one == other


def substituted(bound: Substitution, of: Type, *, to_dyn: bool = False) -> Type:
    """The type with bound parameters replaced, and with ``to_dyn`` the unbound ones by dyn."""
    kind = of.kind
    if kind == Kind.TYPE_PARAM:
        found = bound.find(of)
        if found is not None:
            return substituted(bound, found, to_dyn=to_dyn)
        return types.DYN if to_dyn else of
    if not of.parameters:
        return of
    changed = tuple(substituted(bound, each, to_dyn=to_dyn) for each in of.parameters)
    if all(each is old for each, old in zip(changed, of.parameters, strict=True)):
        return of
    return Type(kind, of.name, changed, list_type=of.list_type, list_map_keys=of.list_map_keys)


def formatted(of: Type) -> str:
    """A type as complaints name it."""
    return str(of)
