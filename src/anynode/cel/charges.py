"""What calls cost when they run: a number, or a function of arguments and result.

Source: cel-go ``interpreter/runtimecost.go``, ``ext/{lists,sets}.go`` v0.26; apiserver
``pkg/cel/library/cost.go``, 1.36.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from anynode.cel.authorizer import Authorizer, Decision, GroupCheck, PathCheck, ResourceCheck
from anynode.cel.named_formats import NamedFormat
from anynode.cel.networks import Cidr, Ip, Url
from anynode.cel.resource_values import QuantityValue, Semver
from anynode.cel.values import LISTS, MAPS, find, size_of

Charge = Callable[[Sequence[Any], Any], int]

TRAVERSAL = 0.1
REGEX = 0.25
CHECK = 350_000
_CHEAP_TO_COMPARE = (
    QuantityValue, Ip, Cidr, NamedFormat, Url, Semver, Authorizer, PathCheck, GroupCheck, ResourceCheck, Decision,
)  # fmt: skip
_ONE = frozenset(
    {
        "serviceAccount", "path", "group", "resource", "subresource", "namespace", "name", "allowed", "reason", "error",
        "errored", "masked", "prefixLength", "family", "isUnspecified", "isLoopback", "isLinkLocalMulticast",
        "isLinkLocalUnicast", "isGlobalUnicast", "format.named", "sign", "asInteger", "isInteger", "asApproximateFloat",
        "isGreaterThan", "isLessThan", "compareTo", "add", "sub", "major", "minor", "patch", "getScheme", "getHostname",
        "getHost", "getPort", "getEscapedPath", "getQuery",
    }
)  # fmt: skip
_TRAVERSED = frozenset(
    {
        "url", "lowerAscii", "upperAscii", "substring", "trim", "jsonpatch.escapeKey", "cidr", "isIP", "isCIDR",
        "quantity", "isQuantity", "semver", "isSemver",
    }
)  # fmt: skip
_ELEMENTWISE = frozenset({"isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"})


def traversed(size: float, factor: float = TRAVERSAL) -> int:
    """The price of going through ``size`` elements once."""
    return math.ceil(size * factor)


def of(function: str, overload: str) -> Charge | int:
    """What a call costs; ``overload`` is empty where the types leave several."""
    found = _OVERLOADED.get(overload)
    if found is not None:
        return found
    if function in _ONE:
        return 1
    if function == "check":
        return CHECK
    if function in _TRAVERSED:
        return _first
    if function in _ELEMENTWISE:
        return _elements
    if function == "ip":
        return 1 if overload == "cidr_ip" else _first
    found = _FUNCTIONS.get(function)
    if found is not None:
        return found
    return _STANDARD.get(overload, 1)


def _first(args: Sequence[Any], _result: Any) -> int:
    return traversed(size_of(args[0]))


def _first_twice(args: Sequence[Any], _result: Any) -> int:
    return traversed(size_of(args[0]), 2 * TRAVERSAL)


def _result_twice(_args: Sequence[Any], result: Any) -> int:
    return traversed(size_of(result), 2 * TRAVERSAL)


def _regex(args: Sequence[Any], _result: Any) -> int:
    return traversed(1.0 + size_of(args[0])) * traversed(size_of(args[1]), REGEX)


def _elements(args: Sequence[Any], _result: Any) -> int:
    return _tree(args[0])


def _tree(value: Any) -> int:
    kind = type(value)
    if kind is str:
        return int(len(value.encode("utf-8", "surrogatepass")) * TRAVERSAL)
    if kind is bytes:
        return int(len(value) * TRAVERSAL)
    if kind in LISTS:
        return sum(map(_tree, value))
    if kind in MAPS:
        return sum(_tree(key) + _tree(find(value, key)) for key in value)
    return 1


def _selector(args: Sequence[Any], _result: Any) -> int:
    length = size_of(args[1])
    return 10 + traversed(length) + traversed(traversed(length, 0.5), 50.0)


def _contains_ip(args: Sequence[Any], _result: Any) -> int:
    cost = traversed(2 * size_of(args[0]))
    return cost + traversed(size_of(args[1])) if type(args[1]) is str else cost


def _contains_cidr(args: Sequence[Any], _result: Any) -> int:
    cost = traversed(2 * size_of(args[0])) + traversed(size_of(args[0])) + 1
    return cost + traversed(size_of(args[1])) if type(args[1]) is str else cost


def _validate(args: Sequence[Any], _result: Any) -> int:
    return traversed(1.0 + size_of(args[1])) * traversed(args[0].max_regex_size, REGEX)


def _equality(args: Sequence[Any], _result: Any) -> int:
    if isinstance(args[0], _CHEAP_TO_COMPARE):
        return 1
    return _smaller(args, _result)


def _smaller(args: Sequence[Any], _result: Any) -> int:
    one, other = size_of(args[0]), size_of(args[1])
    return math.ceil((one if one < other else other) * TRAVERSAL)


def _second(args: Sequence[Any], _result: Any) -> int:
    return size_of(args[1])


def _both(args: Sequence[Any], _result: Any) -> int:
    return traversed(size_of(args[0]) + size_of(args[1]))


def _product(args: Sequence[Any], _result: Any) -> int:
    return traversed(size_of(args[0])) * traversed(size_of(args[1]))


def _made(_args: Sequence[Any], result: Any) -> int:
    return size_of(result) + 11


def _flattened(args: Sequence[Any], _result: Any) -> int:
    return int(size_of(args[0]) * (float(args[1]) if len(args) == 2 else 1.0)) + 11


def _sorted(index: int) -> Charge:
    def charge(args: Sequence[Any], _result: Any) -> int:
        elements = args[index]
        size = size_of(elements)
        factor = 2.0
        if size and type(elements[0]) in (str, bytes):
            factor += TRAVERSAL
        return int(size * size * factor) + 11

    return charge


def _sets(factor: float) -> Charge:
    return lambda args, _result: 1 + int(size_of(args[0]) * size_of(args[1]) * factor)


_SORTED_TYPES = (
    "int", "uint", "double", "bool", "google.protobuf.Duration", "google.protobuf.Timestamp", "string", "bytes",
)  # fmt: skip
_OVERLOADED: dict[str, Charge] = {
    "list_slice": _made, "lists_range": _made, "list_reverse": _made, "list_flatten": _flattened,
    "list_flatten_int": _flattened, "list_distinct": _sorted(0), "list_sets_contains_list": _sets(1),
    "list_sets_intersects_list": _sets(1), "list_sets_equivalent_list": _sets(2),
    **{f"list_{name}_sort": _sorted(0) for name in _SORTED_TYPES},
    **{f"list_{name}_sortByAssociatedKeys": _sorted(1) for name in _SORTED_TYPES},
}  # fmt: skip
_FUNCTIONS: dict[str, Charge] = {
    "fieldSelector": _selector, "labelSelector": _selector, "replace": _first_twice, "split": _first_twice,
    "join": _result_twice, "find": _regex, "findAll": _regex, "ip.isCanonical": _first_twice,
    "containsIP": _contains_ip, "containsCIDR": _contains_cidr, "validate": _validate, "_==_": _equality,
    "_!=_": _smaller,
}  # fmt: skip
_STANDARD: dict[str, Charge] = {
    "starts_with_string": _first, "ends_with_string": _first, "string_to_bytes": _first, "bytes_to_string": _first,
    "strings_quote": _first, "string_format": _first, "in_list": _second, "add_string": _both, "add_bytes": _both,
    "matches_string": _regex, "contains_string": _product,
    **{f"{word}_{kind}": _smaller for word in ("less", "less_equals", "greater", "greater_equals")
       for kind in ("string", "bytes")},
}  # fmt: skip
