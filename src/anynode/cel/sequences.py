"""The list and set libraries, cel-go's and Kubernetes'.

Source: cel-go ``ext/{lists,sets}.go`` v0.26; apiserver ``pkg/cel/library/lists.go``, 1.36.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from anynode.cel.errors import CelEvaluationError
from anynode.cel.operators import add, compare, contains, no_overload
from anynode.cel.values import LISTS, NONE, Optional, equal, kind_name

_SUMMED = frozenset({"int", "uint", "double", "google.protobuf.Duration"})
_ORDERED = _SUMMED | {"bool", "bytes", "string", "google.protobuf.Timestamp"}
_LONGEST_RANGE = 1_000_000  # costs more than any limit allows


def _list(value: Any) -> Any:
    if type(value) not in LISTS:
        raise no_overload()
    return value


def _slice(elements: Any, start: Any, end: Any) -> list[Any]:
    if type(start) is not int or type(end) is not int:
        raise no_overload()
    if start < 0 or end < 0:
        raise CelEvaluationError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelEvaluationError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if len(_list(elements)) < end:
        raise CelEvaluationError(f"cannot slice({start}, {end}), list is length {len(elements)}")
    return [elements[index] for index in range(start, end)]


def _flatten(elements: Any, depth: Any = 1) -> list[Any]:
    if type(depth) is not int:
        raise no_overload()
    if depth < 0:
        raise CelEvaluationError("level must be non-negative")
    found: list[Any] = []
    for each in _list(elements):
        if depth > 0 and type(each) in LISTS:
            found.extend(_flatten(each, depth - 1))
        else:
            found.append(each)
    return found


def _distinct(elements: Any) -> list[Any]:
    found: list[Any] = []
    seen: set[Any] = set()
    for each in _list(elements):
        if type(each) is str:
            if each not in seen:
                seen.add(each)
                found.append(each)
        elif not any(equal(each, other) for other in found):
            found.append(each)
    return found


def _range(count: Any) -> list[int]:
    if type(count) is not int:
        raise no_overload()
    return list(range(min(count, _LONGEST_RANGE + 1)))


class _Key:
    """A value ordered as CEL orders it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Key) -> bool:
        return compare(self.value, other.value) < 0


def _sorted_by(elements: Any, keys: Any) -> Any:
    count = len(_list(elements))
    if count != len(_list(keys)):
        raise CelEvaluationError(
            "@sortByAssociatedKeys() expected a list of the same size as the associated keys list,"
            f" but got {count} and {len(keys)} elements respectively"
        )
    if count == 0:
        return elements
    found = list(keys)
    kind = kind_name(found[0])
    if kind in ("list", "map", "null_type", "type", "optional_type"):
        raise CelEvaluationError("list elements must be comparable")
    if any(kind_name(each) != kind for each in found):
        raise CelEvaluationError("list elements must have the same type")
    order = sorted(range(count), key=lambda index: _Key(found[index]))
    return [elements[index] for index in order]


def _is_sorted(elements: Any) -> bool:
    return all(compare(one, other) <= 0 for one, other in itertools.pairwise(_list(elements)))


def _sum(elements: Any) -> Any:
    total: Any = None
    for each in _list(elements):
        if kind_name(each) not in _SUMMED:
            raise no_overload()
        total = each if total is None else add(total, each)
    return 0 if total is None else total


def _extreme(name: str, sign: int) -> Callable[[Any], Any]:
    def run(elements: Any) -> Any:
        found = list(_list(elements))
        if any(kind_name(each) not in _ORDERED for each in found):
            raise no_overload()
        if not found:
            raise CelEvaluationError(f"{name} called on empty list")
        best = found[0]
        for each in found[1:]:
            if compare(each, best) * sign > 0:
                best = each
        return best

    return run


def index_of(elements: Sequence[Any], element: Any) -> int:
    for index, each in enumerate(elements):
        if equal(each, element):
            return index
    return -1


def last_index_of(elements: Sequence[Any], element: Any) -> int:
    for index in range(len(elements) - 1, -1, -1):
        if equal(elements[index], element):
            return index
    return -1


def _contains_all(elements: Any, others: Any) -> bool:
    return all(contains(each, _list(elements)) for each in _list(others))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "slice": _slice,
    "flatten": _flatten,
    "distinct": _distinct,
    "lists.range": _range,
    "sort": lambda elements: _sorted_by(elements, elements),
    "@sortByAssociatedKeys": _sorted_by,
    "first": lambda elements: Optional(elements[0]) if len(_list(elements)) else NONE,
    "last": lambda elements: Optional(elements[len(elements) - 1]) if len(_list(elements)) else NONE,
    "reverse": lambda elements: list(_list(elements))[::-1],
    "isSorted": _is_sorted,
    "sum": _sum,
    "min": _extreme("min", -1),
    "max": _extreme("max", 1),
    "sets.contains": _contains_all,
    "sets.intersects": lambda one, other: any(contains(each, _list(other)) for each in _list(one)),
    "sets.equivalent": lambda one, other: _contains_all(one, other) and _contains_all(other, one),
}
