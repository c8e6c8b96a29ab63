"""Selections at run time: fields, keys and indices, one after the other.

Closures over a frame are made here (see ``planner``). Objects of a known type are read straight from their dicts, and
only a failure is looked at again step by step. Source: cel-go ``interpreter/attributes.go``, v0.26.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynode.cel import values
from anynode.cel.errors import CelEvaluationError
from anynode.cel.types import ObjectType, Type
from anynode.cel.values import LISTS, MAPS, MISSING, NONE, Adapter, ObjectView, Optional, StructValue, Uint

Frame = list[Any]
Run = Callable[[Frame], Any]


class Qualifier:
    """One selection: by a known ``key``, or by what ``run`` gives. ``optional``: absence is none, not an error."""

    __slots__ = ("key", "optional", "run")

    def __init__(self, key: Any, run: Run | None, *, optional: bool) -> None:
        self.key = key
        self.run = run
        self.optional = optional


def slot(index: int, cost: int) -> Run:
    """What is in a slot."""
    if cost == 0:
        return lambda frame: frame[index]

    def run(frame: Frame) -> Any:
        frame[0] += 1
        return frame[index]

    return run


def variable(index: int, name: str, adapt: Adapter | None, cost: int) -> Run:
    """A bound variable, adapted."""

    def run(frame: Frame) -> Any:
        frame[0] += cost
        value = frame[index]
        if value is MISSING:
            raise CelEvaluationError(f"no such attribute(s): {name}")
        return value if adapt is None or value is None else adapt(value)

    return run


def object_path(
    index: int,
    qualifiers: Sequence[Qualifier],
    types_on_path: Sequence[Type],
    base: int,
    *,
    test: bool,
    viewed: bool,
) -> Run | None:
    """Fields of typed objects read directly, or None if the path is of another sort."""
    readers: list[tuple[str, Adapter | None]] = []
    for qualifier, of in zip(qualifiers, types_on_path, strict=True):
        if not isinstance(of, ObjectType) or of.open_fields or qualifier.optional or type(qualifier.key) is not str:
            return None
        reader = values.reader_of(of, qualifier.key)
        if reader is None:
            return None
        readers.append(reader)
    names = [written for written, _ in readers]
    adapt = readers[-1][1]
    cost = base + len(names)
    root = types_on_path[0]
    again = qualified(_viewed(index, root, viewed=viewed), qualifiers, base=base, test=test)
    if test:
        return _test_path(index, names, cost, again, viewed=viewed)
    if len(names) == 1 and not viewed:
        return _one_field(index, names[0], adapt, cost, again)

    def run(frame: Frame) -> Any:
        try:
            value = frame[index]
            if viewed:
                value = value.raw
            for name in names:
                value = value[name]
        except (KeyError, TypeError, AttributeError, IndexError):
            return again(frame)
        if value is None:
            return again(frame)
        frame[0] += cost
        return value if adapt is None else adapt(value)

    return run


def _one_field(index: int, name: str, adapt: Adapter | None, cost: int, again: Run) -> Run:
    def run(frame: Frame) -> Any:
        try:
            value = frame[index][name]
        except (KeyError, TypeError, IndexError):
            return again(frame)
        if value is None:
            return again(frame)
        frame[0] += cost
        return value if adapt is None else adapt(value)

    return run


def _test_path(index: int, names: list[str], cost: int, again: Run, *, viewed: bool) -> Run:
    *before, last = names

    def run(frame: Frame) -> Any:
        try:
            value = frame[index]
            if viewed:
                value = value.raw
            for name in before:
                value = value[name]
            found = value.get(last)
        except (KeyError, TypeError, AttributeError, IndexError):
            return again(frame)
        frame[0] += cost
        return found is not None

    return run


def _viewed(index: int, of: Type, *, viewed: bool) -> Run:
    if viewed:
        return lambda frame: frame[index]
    adapt = values.adapter_of(of)
    return variable(index, "", adapt, 0)


def qualified(root: Run, qualifiers: Sequence[Qualifier], *, base: int, test: bool) -> Run:
    """An operand with selections applied; with ``test`` the last one only asked for."""
    if not qualifiers:
        return _priced(root, base)
    last = len(qualifiers) - 1

    def run(frame: Frame) -> Any:
        value = root(frame)
        frame[0] += base
        maybe = False
        if type(value) is Optional:
            if value.value is MISSING:
                return False if test else value
            value = value.value
            maybe = True
        for position, qualifier in enumerate(qualifiers):
            maybe = maybe or qualifier.optional
            key = qualifier.key if qualifier.run is None else qualifier.run(frame)
            if test and position == last:
                present = find(value, key) is not MISSING
                if present or not maybe:
                    frame[0] += 1
                return present
            if maybe:
                value = find(value, key)
                if value is MISSING:
                    return False if test else NONE
                frame[0] += 1
            else:
                frame[0] += 1
                value = get(value, key)
        return Optional(value) if maybe else value

    return run


def _priced(root: Run, cost: int) -> Run:
    def run(frame: Frame) -> Any:
        frame[0] += cost
        return root(frame)

    return run


def find(container: Any, key: Any) -> Any:
    """What is at a key or index, ``MISSING`` if nothing; raises ``CelEvaluationError`` for a key of a wrong kind."""
    kind = type(container)
    if kind is dict and type(key) is str:
        return container.get(key, MISSING)
    if kind in MAPS:
        return values.find(container, key)
    if kind in LISTS:
        index = index_of(key)
        return container[index] if 0 <= index < len(container) else MISSING
    if kind is StructValue:
        return values.find(container, key)
    return MISSING


def get(container: Any, key: Any) -> Any:
    """What is at a key or index; raises ``CelEvaluationError`` if nothing is."""
    kind = type(container)
    if kind is dict and type(key) is str:
        value = container.get(key, MISSING)
    elif kind is ObjectView and type(key) is str:
        value = container.find(key)
    else:
        value = find(container, key)
        if value is MISSING and kind in LISTS:
            raise CelEvaluationError(f"index out of bounds: {shown_key(key)}")
    if value is MISSING:
        raise CelEvaluationError(f"no such key: {shown_key(key)}")
    return value


def shown_key(key: Any) -> str:
    """A key as error texts print it."""
    if type(key) is bool:
        return "true" if key else "false"
    if type(key) is float:
        return repr(key).removesuffix(".0")
    return str(key)


def index_of(key: Any) -> int:
    """The position a list index means; raises ``CelEvaluationError``."""
    if type(key) is int:
        return key
    if type(key) is Uint and key < 2**63:
        return int(key)
    if type(key) is float and key.is_integer() and abs(key) < 2.0**63:
        return int(key)
    if type(key) in (Uint, float):
        raise CelEvaluationError(f"unsupported index value {shown_key(key)} in list")
    raise CelEvaluationError(f"unsupported index type '{values.kind_name(key)}' in list")
