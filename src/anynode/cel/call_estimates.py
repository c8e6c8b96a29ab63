"""What single calls can cost, and how large their results can be.

Each function gives (cost, size of the result or None), or None where it has nothing to say. Source: cel-go
``checker/cost.go``, ``ext/{lists,sets}.go`` v0.26; apiserver ``pkg/cel/library/cost.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from anynode.cel import types
from anynode.cel.cost import MOST, UNKNOWN, Cost, fixed
from anynode.cel.syntax import Literal, Node
from anynode.cel.types import Kind, Type

Sized = Callable[[tuple[str, ...], Type], Cost | None]
Found = tuple[Cost, Cost | None]
_ONE = Cost(1, 1)
_TRAVERSAL = 0.1
_REGEX = 0.25
_ADDRESS = Cost(4, 16)
_NOMINAL = frozenset(
    {
        "serviceAccount", "path", "group", "resource", "subresource", "namespace", "name", "allowed", "reason", "error",
        "errored", "masked", "prefixLength", "family", "isUnspecified", "isLoopback", "isLinkLocalMulticast",
        "isLinkLocalUnicast", "isGlobalUnicast", "format.named", "sign", "asInteger", "isInteger", "asApproximateFloat",
        "isGreaterThan", "isLessThan", "compareTo", "add", "sub", "major", "minor", "patch", "getScheme", "getHostname",
        "getHost", "getPort", "getEscapedPath", "getQuery",
    }
)  # fmt: skip
_CHEAP_TO_COMPARE = frozenset(
    {
        types.IP.name, types.CIDR.name, types.QUANTITY.name, types.SEMVER.name, types.AUTHORIZER.name,
        types.PATH_CHECK.name, types.GROUP_CHECK.name, types.RESOURCE_CHECK.name, types.DECISION.name,
    }
)  # fmt: skip


class Path:
    """Where a value comes from: a variable, then fields and ``@items``, ``@keys``, ``@values``.

    Two paths grown from one share their memory as Go's slices do, so a later one can change what an earlier one says:
    upstream's estimates, by which definitions are refused, depend on it.
    """

    __slots__ = ("_length", "_steps")

    def __init__(self, steps: list[str], length: int) -> None:
        self._steps = steps
        self._length = length

    @staticmethod
    def of(name: str) -> Path:
        return Path([name], 1)

    def read(self) -> tuple[str, ...]:
        return tuple(self._steps[: self._length])

    def then(self, step: str) -> Path:
        """The path one step further; the step is written behind this one's while there is room."""
        length = self._length
        steps = self._steps
        if length == len(steps):
            steps = [*steps, *([""] * max(length, 1))]
        steps[length] = step
        return Path(steps, length + 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A target or argument; ``path`` is empty where it comes from no variable."""

    node: Node
    type: Type
    path: Path
    size: Cost | None


def _known(part: Part) -> Cost:
    return part.size or UNKNOWN


def _integer(part: Part, otherwise: int) -> int:
    if isinstance(part.node, Literal) and type(part.node.value) is int:
        return max(part.node.value, 0)
    return otherwise


def _allocating(factor: float, size: Cost) -> Found:
    return size.by_factor(factor).add(fixed(11)), size


def extended(overload: str, target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    """The list and set libraries of cel-go."""
    if overload.startswith("list_sets_"):
        factor = 2.0 if overload == "list_sets_equivalent_list" else 1.0
        product = _or_sized(args[0], sized).multiply(_or_sized(args[1], sized))
        return product.by_factor(factor).add(_ONE), None
    if overload == "lists_range":
        return _allocating(1, fixed(_integer(args[0], MOST)))
    if target is None:
        return None
    size = _or_sized(target, sized)
    if overload == "list_slice":
        return _allocating(1, fixed((_integer(args[1], size.max) - _integer(args[0], 0)) % 2**64))
    if overload == "list_reverse":
        return _allocating(1, size)
    if overload in ("list_flatten", "list_flatten_int"):
        return _allocating(float(_integer(args[0], MOST) if args else 1), size)
    if overload == "list_distinct":
        return _allocating(2.0, size.multiply(size))
    if overload.endswith("_sort") and overload.startswith("list_"):
        return _sorted(overload, size)
    if overload.endswith("_sortByAssociatedKeys"):
        return _sorted(overload, _or_sized(args[0], sized))
    return None


def _sorted(overload: str, size: Cost) -> Found:
    factor = 2.0 + _TRAVERSAL if overload.startswith(("list_string_", "list_bytes_")) else 2.0
    return _allocating(factor, size.multiply(size))


def _or_sized(part: Part, sized: Sized) -> Cost:
    return part.size or sized(part.path.read(), part.type) or UNKNOWN


def library(function: str, overload: str, target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    """Kubernetes' libraries and the strings of cel-go."""
    if function in _NOMINAL:
        return _ONE, None
    if function == "check":
        return fixed(350_000), None
    found = _LIBRARY.get(function)
    return None if found is None else found(overload, target, args, sized)


def _selector(_overload: str, _target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    if len(args) != 1:
        return None
    length = _or_sized(args[0], sized)
    requirements = length.by_factor(0.5).by_factor(50.0)
    return fixed(10).add(length.by_factor(_TRAVERSAL)).add(requirements), None


def _elements(_overload: str, target: Part | None, _args: Sequence[Part], sized: Sized) -> Found | None:
    if target is None:
        return None
    size = _or_sized(target, sized)
    if not target.type.parameters:
        return size.by_factor(_TRAVERSAL), None
    element = target.type.parameters[0]
    each = _ONE
    if element.kind in (Kind.STRING, Kind.BYTES):
        each = each.add(_element_size(target, element, sized).by_factor(_TRAVERSAL))
    return size.multiply(each), None


def _element_size(target: Part, element: Type, sized: Sized) -> Cost:
    path = target.path.read()
    return (sized((*path, "@items"), element) if path else None) or UNKNOWN


def _first(*, factor: float = _TRAVERSAL, result: bool = False) -> Callable[..., Found | None]:
    def estimate(overload: str, _target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
        if overload == "cidr_ip":
            return _ONE, None
        if not args:
            return None
        size = _or_sized(args[0], sized)
        return size.by_factor(factor), size if result else None

    return estimate


def _target(_overload: str, target: Part | None, _args: Sequence[Part], sized: Sized) -> Found | None:
    if target is None:
        return None
    size = _or_sized(target, sized)
    return size.by_factor(_TRAVERSAL), size


def _replace(_overload: str, target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    if target is None or len(args) < 2:
        return None
    size, old, new = (_or_sized(each, sized) for each in (target, args[0], args[1]))
    count_max = kept_max = count_min = kept_min = 0
    if old.min == 0:
        count_max = min(size.max + 1, MOST)
        kept_max = size.max
    elif new.max <= old.min:
        kept_max = size.max
    else:
        count_max = min(math.ceil(float(size.max) / float(old.min)), MOST)
    if old.max == 0:
        count_min = min(size.min + 1, MOST)
        kept_min = size.min
    elif old.max <= new.min:
        kept_min = size.min
    else:
        count_min = math.ceil(float(size.min) / float(old.max))
    result = Cost(count_min, count_max).multiply(new).add(Cost(kept_min, kept_max))
    return size.by_factor(2 * _TRAVERSAL), result


def _split(_overload: str, target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    if target is None:
        return None
    size = _or_sized(target, sized)
    most = size.max
    if len(args) > 1 and isinstance(args[1].node, Literal) and type(args[1].node.value) is int:
        most = args[1].node.value % 2**64
    return size.by_factor(2 * _TRAVERSAL), Cost(0, most)


def _join(_overload: str, target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    if target is None:
        return None
    count = _or_sized(target, sized)
    size = Cost(0, 0)
    if target.type.parameters:
        size = count.multiply(_element_size(target, target.type.parameters[0], sized))
    if args:
        separators = Cost(max(count.min - 1, 0), max(count.max - 1, 0))
        size = size.add(_or_sized(args[0], sized).multiply(separators))
    return size.by_factor(_TRAVERSAL), size


def _find(_overload: str, target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    if target is None or not args:
        return None
    size = _or_sized(target, sized)
    pattern = _or_sized(args[0], sized).by_factor(_REGEX)
    return size.add(_ONE).by_factor(_TRAVERSAL).multiply(pattern), Cost(0, size.max)


def _contained(overload: str, _target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    if not args:
        return None
    cost = _ADDRESS.add(_ADDRESS).by_factor(_TRAVERSAL)
    if "contains_cidr" in overload:
        cost = cost.add(_ADDRESS.by_factor(_TRAVERSAL)).add(_ONE)
    if overload.endswith("_string"):
        cost = cost.add(_or_sized(args[0], sized).by_factor(_TRAVERSAL))
    return cost, None


def _validate(_overload: str, _target: Part | None, args: Sequence[Part], sized: Sized) -> Found | None:
    return (_or_sized(args[0], sized).by_factor(_TRAVERSAL).by_factor(128 * _REGEX), None) if args else None


def _equals(_overload: str, _target: Part | None, args: Sequence[Part], _sized: Sized) -> Found | None:
    if len(args) != 2 or args[0].type != args[1].type:
        return None
    name = args[0].type.name
    if name in _CHEAP_TO_COMPARE:
        return _ONE, None
    if name == types.FORMAT.name:
        return Cost(1, 64).by_factor(_TRAVERSAL), None
    if name == types.URL.name:
        most = 1 if args[1].size is None else args[1].size.max
        return Cost(1, most).by_factor(_TRAVERSAL), None
    return None


_LIBRARY: dict[str, Callable[[str, Part | None, Sequence[Part], Sized], Found | None]] = {
    "fieldSelector": _selector,
    "labelSelector": _selector,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _elements),
    **dict.fromkeys(("url", "jsonpatch.escapeKey"), _first(result=True)),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _target),
    "replace": _replace,
    "split": _split,
    "join": _join,
    "find": _find,
    "findAll": _find,
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "ip", "quantity", "isQuantity", "semver", "isSemver"), _first()),
    "ip.isCanonical": _first(factor=2 * _TRAVERSAL),
    "containsIP": _contained,
    "containsCIDR": _contained,
    "validate": _validate,
    "_==_": _equals,
}


def standard(overload: str, target: Part | None, args: Sequence[Part]) -> Found:
    """The functions of the language itself; one where nothing else is known."""
    first = args[0] if args else None
    if overload == "string_format" and target is not None:
        return _known(target).by_factor(_TRAVERSAL), None
    if first is not None and overload in ("string_to_bytes", "bytes_to_string", "strings_quote"):
        return _converted(overload, _known(first))
    if first is not None and overload in ("starts_with_string", "ends_with_string"):
        return _known(first).by_factor(_TRAVERSAL), None
    if overload == "in_list":
        return _known(args[1]), None
    if first is not None and target is not None and overload == "matches_string":
        text = _known(target).add(_ONE).by_factor(_TRAVERSAL)
        return text.multiply(_known(first).by_factor(_REGEX)), None
    if first is not None and target is not None and overload == "contains_string":
        return _known(target).by_factor(_TRAVERSAL).multiply(_known(first).by_factor(_TRAVERSAL)), None
    if overload in _COMPARED:
        smaller = min(_known(args[0]).max, _known(args[1]).max)
        return Cost(1 if smaller else 0, smaller).by_factor(_TRAVERSAL), None
    return _ONE, None


def _converted(overload: str, size: Cost) -> Found:
    cost = size.by_factor(_TRAVERSAL)
    if overload == "string_to_bytes":
        return cost, Cost(size.min, size.max * 4 % 2**64)
    if overload == "bytes_to_string":
        return cost, Cost(size.min // 4, size.max)
    return cost, Cost(size.min + 2, (size.max * 2 + 2) % 2**64)


_COMPARED = frozenset(
    {"equals", "not_equals"}
    | {
        f"{word}_{kind}"
        for word in ("less", "less_equals", "greater", "greater_equals")
        for kind in ("string", "bytes")
    }
)
