"""Arithmetic, order and conversions of values, with 64-bit overflow and upstream's error sentences.

Values come in; a value goes out or ``CelEvaluationError`` is raised. Source: cel-go ``common/types/{int,uint,double,
string,bytes,duration,timestamp,compare,overflow}.go``, v0.26.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from anynode.cel import types, values
from anynode.cel.errors import CelEvaluationError, NoSuchOverload
from anynode.cel.times import MAX_SECONDS, MIN_SECONDS, SECOND, Duration, Timestamp, parse_duration, parse_timestamp
from anynode.cel.types import Type
from anynode.cel.values import LISTS, ListView, Optional, Uint, kind_name, size_of

MIN_INT, MAX_INT, MAX_UINT = -(2**63), 2**63 - 1, 2**64 - 1
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_PLAIN_DIGITS = 6
"""From this power of ten on Go writes an exponent."""
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE
)


def no_overload() -> NoSuchOverload:
    return NoSuchOverload()


def refused(function: str, args: Sequence[Any]) -> CelEvaluationError:
    """The error of a function called on values it does not take."""
    if function in _PLAINLY:
        return CelEvaluationError("no such overload")
    taken = _TRAITS.get(function)
    if taken is not None:
        name = "" if kind_name(args[0]) in taken | _RECEIVERS else f": {function}"
        return CelEvaluationError(f"no such overload{name}")
    if function == "flatten":
        kind = kind_name(args[0])
        return CelEvaluationError(f"no such overload: {'map(dyn, dyn)' if kind == 'map' else kind}.flatten()")
    return CelEvaluationError(f"no such overload: {function}({', '.join(map(kind_name, args))})")


def _int(number: int) -> int:
    if MIN_INT <= number <= MAX_INT:
        return number
    raise CelEvaluationError("integer overflow")


def _uint(number: int) -> Uint:
    if 0 <= number <= MAX_UINT:
        return Uint(number)
    raise CelEvaluationError("unsigned integer overflow")


def _duration(nanos: int) -> Duration:
    if MIN_INT <= nanos <= MAX_INT:
        return Duration(nanos)
    raise CelEvaluationError("integer overflow")


def _timestamp(nanos: int, offset: int) -> Timestamp:
    if MIN_SECONDS <= nanos // SECOND <= MAX_SECONDS:
        return Timestamp(nanos, offset)
    raise CelEvaluationError("timestamp overflow")


def add(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is int and other is int:
        return _int(left + right)
    if kind is other:
        if kind is str or kind is float or kind is bytes:
            return left + right
        if kind is Uint:
            return _uint(left + right)
        if kind is Duration:
            return _duration(left.nanos + right.nanos)
    if kind is Duration and other is Timestamp:
        return _timestamp(left.nanos + right.nanos, right.offset_seconds)
    if kind is Timestamp and other is Duration:
        return _timestamp(left.nanos + right.nanos, left.offset_seconds)
    if kind in LISTS and other in LISTS:
        return _add_lists(left, right)
    raise no_overload()


def _add_lists(left: Any, right: Any) -> Any:
    if type(left) is not ListView:
        return [*left, *right]
    if type(right) is not ListView and left.adapt is not None:
        return [*left, *right]
    others = right.raw if type(right) is ListView else list(right)
    if not left.type.list_type or left.type.list_type == "atomic":
        return ListView([*left.raw, *others], left.type)
    merged = list(left.raw)
    places = {left.key_of(each): index for index, each in enumerate(merged)}
    for each in others:
        place = places.get(left.key_of(each))
        if place is None:
            places[left.key_of(each)] = len(merged)
            merged.append(each)
        elif left.type.list_type == "map":
            merged[place] = each
    return ListView(merged, left.type)


def subtract(left: Any, right: Any) -> Any:
    kind, other = type(left), type(right)
    if kind is other:
        if kind is int:
            return _int(left - right)
        if kind is float:
            return left - right
        if kind is Uint:
            return _uint(left - right)
        if kind is Duration or kind is Timestamp:
            return _duration(left.nanos - right.nanos)
    if kind is Timestamp and other is Duration:
        return _timestamp(left.nanos - right.nanos, left.offset_seconds)
    raise no_overload()


def multiply(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is int:
            return _int(left * right)
        if kind is float:
            return left * right
        if kind is Uint:
            return _uint(left * right)
    raise no_overload()


def divide(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right):
        if kind is float:
            return _divide_doubles(left, right)
        if kind is int or kind is Uint:
            if right == 0:
                raise CelEvaluationError("division by zero")
            quotient = abs(left) // abs(right)
            if kind is Uint:
                return Uint(quotient)
            return _int(-quotient if (left < 0) != (right < 0) else quotient)
    raise no_overload()


def _divide_doubles(left: float, right: float) -> float:
    if right != 0 or math.isnan(right):
        return left / right
    if left == 0 or math.isnan(left):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def modulo(left: Any, right: Any) -> Any:
    kind = type(left)
    if kind is type(right) and (kind is int or kind is Uint):
        if right == 0:
            raise CelEvaluationError("modulus by zero")
        if left == MIN_INT and right == -1:
            raise CelEvaluationError("integer overflow")
        rest = abs(left) % abs(right)
        return Uint(rest) if kind is Uint else (-rest if left < 0 else rest)
    raise no_overload()


def negate(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        return _int(-value)
    if kind is float:
        return -value
    if kind is Duration:
        return _duration(-value.nanos)
    raise no_overload()


def logical_not(value: Any) -> Any:
    if value is True:
        return False
    if value is False:
        return True
    raise no_overload()


_NUMBERS = frozenset({int, Uint, float})
_ORDERED = frozenset({str, bytes, bool, Timestamp, Duration})


def compare(left: Any, right: Any) -> int:
    """Below zero, zero or above, as the left is smaller, equal or greater."""
    kind, other = type(left), type(right)
    if kind in _NUMBERS and other in _NUMBERS:
        if kind is float or other is float:
            if math.isnan(left) or math.isnan(right):
                raise CelEvaluationError("NaN values cannot be ordered")
            return _compare_doubles(left, right)
        return -1 if left < right else 1 if left > right else 0
    if kind is other and kind in _ORDERED:
        return -1 if left < right else 1 if left > right else 0
    raise no_overload()


def _compare_doubles(left: Any, right: Any) -> int:
    if type(left) is not float:
        return -_compare_doubles(right, left)
    if type(right) is int and not -(2.0**63) <= left <= 2.0**63:
        return -1 if left < 0 else 1
    if type(right) is Uint and not 0 <= left <= 2.0**64:
        return -1 if left < 0 else 1
    right = float(right)
    return -1 if left < right else 1 if left > right else 0


def contains(element: Any, container: Any) -> bool:
    """``element in container``."""
    if type(container) in LISTS:
        if type(element) is str and type(container) is list:
            return element in container
        return any(values.equal(element, each) for each in container)
    if type(container) in values.MAPS:
        return values.find(container, element) is not values.MISSING
    raise no_overload()


# --- conversions -----------------------------------------------------------------------------------------------------


def _not_convertible(value: Any, to: str) -> CelEvaluationError:
    return CelEvaluationError(f"type conversion error from '{kind_name(value)}' to '{to}'")


def to_int(value: Any) -> Any:
    kind = type(value)
    if kind is int:
        return value
    if kind is Uint:
        return _int(int(value))
    if kind is float:
        if math.isnan(value) or math.isinf(value) or not -(2.0**63) < value < 2.0**63:
            raise CelEvaluationError("integer overflow")
        return int(value)
    if kind is str:
        if len(value) <= 40 and _INTEGER.fullmatch(value) and MIN_INT <= int(value) <= MAX_INT:
            return int(value)
    elif kind is Timestamp:
        return value.nanos // SECOND
    elif kind is Duration:
        return value.nanos
    else:
        raise no_overload()
    raise _not_convertible(value, "int")


def to_uint(value: Any) -> Any:
    kind = type(value)
    if kind is Uint:
        return value
    if kind is int:
        return _uint_from(value)
    if kind is float:
        if math.isnan(value) or not 0 <= value < 2.0**64:
            raise CelEvaluationError("unsigned integer overflow")
        return Uint(int(value))
    if kind is str:
        if len(value) <= 40 and value[:1] not in ("+", "-") and _INTEGER.fullmatch(value) and int(value) <= MAX_UINT:
            return Uint(int(value))
        raise _not_convertible(value, "uint")
    raise no_overload()


def _uint_from(value: int) -> Uint:
    if value < 0:
        raise CelEvaluationError("unsigned integer overflow")
    return Uint(value)


def to_double(value: Any) -> Any:
    kind = type(value)
    if kind is float:
        return value
    if kind is int or kind is Uint:
        return float(value)
    if kind is str:
        if _NUMBER.fullmatch(value):
            number = float(value)
            if not math.isinf(number) or "inf" in value.lower():
                return number
        raise _not_convertible(value, "double")
    raise no_overload()


def to_string(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value
    if kind is bool:
        return "true" if value else "false"
    if kind is int or kind is Uint:
        return str(int(value))
    if kind is float:
        return double_text(value)
    if kind is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CelEvaluationError("invalid UTF-8 in bytes, cannot convert to string") from None
    if kind is Timestamp or kind is Duration or getattr(value, "cel_text", False):
        return str(value)
    raise no_overload()


def double_text(value: float) -> str:
    """A double as Go's ``%g`` writes it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    digits = repr(abs(value)).lower()
    mantissa, _, exponent = digits.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    figures = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(figures))
    figures = figures.rstrip("0")
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if not figures:
        return f"{sign}0"
    power = point - 1
    if power < -4 or power >= _PLAIN_DIGITS:
        tail = f".{figures[1:]}" if len(figures) > 1 else ""
        return f"{sign}{figures[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{figures}"
    if len(figures) <= point:
        return f"{sign}{figures}{'0' * (point - len(figures))}"
    return f"{sign}{figures[:point]}.{figures[point:]}"


def to_bytes(value: Any) -> Any:
    if type(value) is bytes:
        return value
    if type(value) is str:
        return value.encode("utf-8", "surrogatepass")
    raise no_overload()


def to_bool(value: Any) -> Any:
    if type(value) is bool:
        return value
    if type(value) is str:
        if value in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if value in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        raise _not_convertible(value, "bool")
    raise no_overload()


def to_timestamp(value: Any) -> Any:
    if type(value) is Timestamp:
        return value
    if type(value) is int:
        if not MIN_SECONDS <= value <= MAX_SECONDS:
            raise CelEvaluationError("timestamp overflow")
        return Timestamp(value * SECOND)
    if type(value) is str:
        try:
            found = parse_timestamp(value)
        except ValueError:
            raise _not_convertible(value, "google.protobuf.Timestamp") from None
        return _timestamp(found.nanos, found.offset_seconds)
    raise no_overload()


def to_duration(value: Any) -> Any:
    if type(value) is Duration:
        return value
    if type(value) is int:
        raise _not_convertible(value, "google.protobuf.Duration")
    if type(value) is str:
        try:
            return parse_duration(value)
        except ValueError:
            raise _not_convertible(value, "google.protobuf.Duration") from None
    raise no_overload()


def type_of(value: Any) -> Type:
    """What ``type(value)`` gives."""
    if isinstance(value, Type):
        return types.TYPE
    return _TYPES.get(kind_name(value)) or types.message(kind_name(value))


_TYPES: dict[str, Type] = {
    "bool": types.BOOL, "int": types.INT, "uint": types.UINT, "double": types.DOUBLE, "string": types.STRING,
    "bytes": types.BYTES, "null_type": types.NULL, "google.protobuf.Timestamp": types.TIMESTAMP,
    "google.protobuf.Duration": types.DURATION, "list": types.list_of(types.DYN),
    "map": types.map_of(types.DYN, types.DYN), "type": types.TYPE, "optional_type": types.optional_of(types.DYN),
}  # fmt: skip


def size(value: Any) -> int:
    if type(value) in (str, bytes) or type(value) in LISTS or type(value) in values.MAPS:
        return size_of(value)
    raise no_overload()


# --- optionals -------------------------------------------------------------------------------------------------------


def _of_non_zero(value: Any) -> Optional:
    return values.NONE if values.is_zero(value) else Optional(value)


def _value(optional: Any) -> Any:
    if type(optional) is not Optional:
        raise no_overload()
    if optional.value is values.MISSING:
        raise CelEvaluationError("optional.none() dereference")
    return optional.value


def _has_value(optional: Any) -> bool:
    if type(optional) is not Optional:
        raise no_overload()
    return optional.value is not values.MISSING


def _unwrap(elements: Any) -> list[Any]:
    if type(elements) not in LISTS:
        raise no_overload()
    found = []
    for each in elements:
        if type(each) is not Optional:
            raise no_overload()
        if each.value is not values.MISSING:
            found.append(each.value)
    return found


def equals(left: Any, right: Any) -> bool:
    """``==``: values of the libraries cannot even be asked whether they equal one of another type."""
    if values.equal(left, right):
        return True
    if type(left) is not type(right) and right is not None and hasattr(left, "type_name"):
        raise no_overload()
    return False


_PLAINLY = frozenset({"_==_", "_!=_", "@in", "!_", "startsWith", "endsWith", "contains", "matches", "find", "findAll"})
_NUMERIC = frozenset({"int", "uint", "double"})
_ORDERED_KINDS = _NUMERIC | {"bool", "bytes", "string", "google.protobuf.Duration", "google.protobuf.Timestamp"}
_TIMES = frozenset({"google.protobuf.Duration", "google.protobuf.Timestamp"})
_RECEIVERS = _TIMES | {"string"}
_TRAITS: dict[str, frozenset[str]] = {
    "size": _TIMES | {"bytes", "list", "map", "string"}, "sort": _TIMES | {"list", "string"},
    "_+_": _NUMERIC | _TIMES | {"bytes", "list", "string"}, "_-_": _NUMERIC | _TIMES, "_*_": _NUMERIC, "_/_": _NUMERIC,
    "_%_": frozenset({"int", "uint"}), "-_": _TIMES | {"bool", "double", "int", "string"},
    "_<_": _ORDERED_KINDS, "_<=_": _ORDERED_KINDS, "_>_": _ORDERED_KINDS, "_>=_": _ORDERED_KINDS,
}  # fmt: skip
"""What kinds an operator is at all defined on, by its first operand."""

Function = Callable[..., Any]
FUNCTIONS: dict[str, Function] = {
    "_+_": add, "_-_": subtract, "_*_": multiply, "_/_": divide, "_%_": modulo, "-_": negate, "!_": logical_not,
    "_<_": lambda left, right: compare(left, right) < 0, "_<=_": lambda left, right: compare(left, right) <= 0,
    "_>_": lambda left, right: compare(left, right) > 0, "_>=_": lambda left, right: compare(left, right) >= 0,
    "_==_": equals, "_!=_": lambda left, right: not values.equal(left, right), "@in": contains,
    "int": to_int, "uint": to_uint, "double": to_double, "string": to_string, "bytes": to_bytes, "bool": to_bool,
    "timestamp": to_timestamp, "duration": to_duration, "dyn": lambda value: value, "type": type_of, "size": size,
    "optional.of": Optional, "optional.ofNonZeroValue": _of_non_zero, "optional.none": lambda: values.NONE,
    "value": _value, "hasValue": _has_value, "optional.unwrap": _unwrap, "unwrapOpt": _unwrap,
    "@not_strictly_false": lambda value: value is not False,
}  # fmt: skip
CONVERSIONS = frozenset({"bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"})
"""Functions whose call on a constant is one itself."""
