"""A schema as the checks of values see it, and a quick answer whether a value fits.

``ValueSchema`` holds the keywords; ``fits`` is compiled to closures and says yes or no without building a message.
Only where it says no does ``value_rules`` go over the value again for upstream's words. Source: kube-openapi
``pkg/validation/validate``, apiextensions-apiserver ``pkg/apiserver/validation/validation.go``, 1.36.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anynode.api import patterns
from anynode.api.objects import Object
from anynode.schema.custom import formats
from anynode.schema.custom.correlation import alike

Fits = Callable[[Any], bool]
_LARGEST_INT = 2**63


class ValueSchema:
    """The keywords of one schema. ``additional``: a schema, or whether further members may stand at all."""

    __slots__ = (
        "additional",
        "all_of",
        "any_of",
        "enum",
        "fits",
        "format",
        "items",
        "negated",
        "nullable",
        "one_of",
        "pattern",
        "properties",
        "raw",
        "required",
        "types",
    )

    def __init__(self, raw: Object, *, strip_formats: bool = True, int_or_string: bool = True) -> None:
        """``strip_formats``: formats nobody knows count for nothing; ``int_or_string``: that marker is a type."""

        def inner(each: Object) -> ValueSchema:
            return ValueSchema(each, strip_formats=strip_formats, int_or_string=int_or_string)

        self.raw = raw
        self.types: tuple[str, ...] = (raw["type"],) if raw.get("type") else ()
        if int_or_string and raw.get("x-kubernetes-int-or-string"):
            self.types = ("integer", "string")
        self.nullable = bool(raw.get("nullable"))
        self.format: str = raw.get("format") or ""
        if strip_formats and self.format and not formats.recognized(self.format, self.types):
            self.format = ""
        self.enum: Sequence[Any] = raw.get("enum") or ()
        self.pattern: str = raw.get("pattern") or ""
        self.all_of = tuple(inner(each) for each in raw.get("allOf") or ())
        self.any_of = tuple(inner(each) for each in raw.get("anyOf") or ())
        self.one_of = tuple(inner(each) for each in raw.get("oneOf") or ())
        self.negated = inner(raw["not"]) if raw.get("not") is not None else None
        items, additional = raw.get("items"), raw.get("additionalProperties")
        self.items = inner(items) if isinstance(items, dict) else None
        self.properties = {name: inner(each) for name, each in sorted((raw.get("properties") or {}).items())}
        self.additional: ValueSchema | bool = (
            inner(additional) if isinstance(additional, dict) else additional is not False
        )
        self.required: Sequence[str] = raw.get("required") or ()
        self.fits: Fits = _compiled(self)


def type_of(value: Any) -> str:
    """What the type keyword calls a value; empty for null."""
    kind = value.__class__
    if kind is str:
        return "string"
    if kind is bool:
        return "boolean"
    if kind is int:
        return "integer" if -_LARGEST_INT <= value < _LARGEST_INT else "number"
    if kind is float:
        return "number"
    return "object" if isinstance(value, dict) else "array" if isinstance(value, list) else ""


def is_whole(number: float) -> bool:
    """Whether a floating point number counts as an integer."""
    return float(number).is_integer() and abs(number) <= 2**53 - 1


def has_type(schema: ValueSchema, value: Any) -> bool:
    """Whether the type keyword, and the format of numbers, allow ``value``."""
    wanted = schema.types
    if value is None:
        return not wanted or "null" in wanted or schema.nullable
    if not wanted and not schema.format:
        return True
    found = type_of(value)
    whole = found == "number" and "integer" in wanted and is_whole(value)
    fits = found in wanted or whole or (found == "integer" and "number" in wanted)
    numeric = "number" in wanted or "integer" in wanted
    if found in ("string", "array"):
        return fits or (bool(schema.format) and not numeric)
    if schema.format and not fits and not _format_alone(schema.format, found):
        return False
    return fits


def _format_alone(format_: str, found: str) -> bool:
    return (found == "integer" and format_ == "int64") or (found == "number" and format_ == "float64")


def in_enum(schema: ValueSchema, value: Any) -> bool:
    for each in schema.enum:
        if each is None or value is None:
            continue
        if each.__class__ is value.__class__:
            if alike(each, value):
                return True
        elif _numbers_equal(each, value):
            return True
    return False


def _numbers_equal(wanted: Any, value: Any) -> bool:
    """As Go converts ``value`` to the type of ``wanted``."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return False
    if isinstance(wanted, int) and isinstance(value, float):
        return int(value) == wanted
    if isinstance(wanted, str) and isinstance(value, int):
        return 0 <= value < 0x110000 and chr(value) == wanted
    return isinstance(wanted, float) and isinstance(value, int) and float(value) == wanted


# The quick answer


def _compiled(schema: ValueSchema) -> Fits:
    checks: list[Fits] = [lambda value: has_type(schema, value)] if schema.types or schema.format else []
    checks.extend(_junctors(schema))
    checks.extend(_by_class(schema))
    if schema.enum:
        checks.append(lambda value: in_enum(schema, value))
    plain = _plain_type(schema)
    if plain is not None and len(checks) == 1 and schema.types:
        return lambda value: value.__class__ is plain or has_type(schema, value)
    if not checks:
        return lambda value: True
    if len(checks) == 1:
        return checks[0]
    first, *others = checks
    if plain is not None and schema.types:

        def typed_first(value: Any) -> bool:
            if value.__class__ is not plain and not has_type(schema, value):
                return False
            for check in others:  # noqa: SIM110 - a generator costs more
                if not check(value):
                    return False
            return True

        return typed_first

    def every(value: Any) -> bool:
        for check in (first, *others):  # noqa: SIM110
            if not check(value):
                return False
        return True

    return every


_CLASSES: Mapping[str, type] = {"string": str, "boolean": bool, "object": dict, "array": list}


def _plain_type(schema: ValueSchema) -> type | None:
    return _CLASSES.get(schema.types[0]) if len(schema.types) == 1 else None


def _junctors(schema: ValueSchema) -> list[Fits]:
    found: list[Fits] = []
    every, some, one, negated = (
        tuple(each.fits for each in schema.all_of),
        tuple(each.fits for each in schema.any_of),
        tuple(each.fits for each in schema.one_of),
        schema.negated,
    )
    if every:
        found.append(lambda value: value is None or all(fits(value) for fits in every))
    if some:
        found.append(lambda value: value is None or any(fits(value) for fits in some))
    if one:
        found.append(lambda value: value is None or sum(1 for fits in one if fits(value)) == 1)
    if negated is not None:
        denied = negated.fits
        found.append(lambda value: value is None or not denied(value))
    return found


def _by_class(schema: ValueSchema) -> list[Fits]:
    """The checks that hold for values of one class alone."""
    text, number, array, members = _text(schema), _number(schema), _array(schema), _members(schema)
    found: list[Fits] = []
    if text is not None:
        check_text = text
        found.append(lambda value: value.__class__ is not str or check_text(value))
    if number is not None:
        check_number = number
        found.append(lambda value: value.__class__ not in _NUMBERS or check_number(value))
    if array is not None:
        check_array = array
        found.append(lambda value: value.__class__ is not list or check_array(value))
    if members is not None:
        check_members = members
        found.append(lambda value: value.__class__ is not dict or check_members(value))
    return found


_NUMBERS = frozenset({int, float})


def _text(schema: ValueSchema) -> Fits | None:
    raw, most, least = schema.raw, schema.raw.get("maxLength"), schema.raw.get("minLength")
    judged = formats.check(schema.format) if schema.format else None
    found = patterns.searcher(schema.pattern) if schema.pattern else None
    if most is None and least is None and judged is None and found is None:
        return None
    low, high = (raw.get("minLength") or 0), (2**63 if most is None else most)

    def check(value: Any) -> bool:
        return low <= len(value) <= high and (found is None or found(value)) and (judged is None or judged(value))

    return check


def _number(schema: ValueSchema) -> Fits | None:
    raw = schema.raw
    bounded = any(raw.get(each) is not None for each in ("minimum", "maximum", "multipleOf"))
    if not bounded and not schema.format and "integer" not in schema.types:
        return None
    return lambda value: not number_complaints(schema, value)


def _array(schema: ValueSchema) -> Fits | None:
    raw = schema.raw
    most, least, unique = raw.get("maxItems"), raw.get("minItems") or 0, bool(raw.get("uniqueItems"))
    items = None if schema.items is None else schema.items.fits
    if most is None and not least and not unique and items is None:
        return None

    def check(value: Any) -> bool:
        if len(value) < least or (most is not None and len(value) > most):
            return False
        if items is not None:
            for each in value:
                if not items(each):
                    return False
        return not (unique and has_duplicates(value))

    return check


def has_duplicates(items: Sequence[Any]) -> bool:
    seen: list[Any] = []
    for each in items:
        if any(each.__class__ is one.__class__ and each == one for one in seen):
            return True
        seen.append(each)
    return False


def _members(schema: ValueSchema) -> Fits | None:
    raw, additional = schema.raw, schema.additional
    most, least = raw.get("maxProperties"), raw.get("minProperties") or 0
    required = tuple(schema.required)
    inner = {name: each.fits for name, each in schema.properties.items()}
    other = additional.fits if isinstance(additional, ValueSchema) else None
    closed = additional is False
    if most is None and not least and not required and not inner and other is None and not closed:
        return None

    def check(value: Any) -> bool:
        if len(value) < least or (most is not None and len(value) > most):
            return False
        for name in required:
            if name not in value:
                return False
        for name, item in value.items():
            fits = inner.get(name, other)
            if fits is None:
                if closed:
                    return False
            elif not fits(item):
                return False
        return True

    return check


def number_complaints(schema: ValueSchema, value: float) -> list[tuple[str, str]]:
    """What is wrong with a number: ``(keyword, "maximum")`` or ``("range", what)``, in upstream's order."""
    kind = schema.types[0] if len(schema.types) == 1 and schema.types[0] in ("integer", "number") else ""
    found: list[tuple[str, str]] = []
    if not in_range(value, kind, schema.format):
        found.append(("range", "Checked"))
    raw, whole = schema.raw, type_of(value) == "integer"
    for keyword, said, wrong in (
        ("multipleOf", "MultipleOf", _is_no_multiple),
        ("minimum", "Minimum boundary", _is_below),
        ("maximum", "Maximum boundary", _is_above),
    ):
        bound = raw.get(keyword)
        if bound is None:
            continue
        fits = in_range(float(bound), kind, schema.format)
        if not fits:
            found.append(("range", said))
        exclusive = bool(raw.get(f"exclusive{keyword.capitalize()}"))
        if wrong(value, bound, exclusive, whole and fits):
            found.append((keyword, "whole" if whole and fits else "float"))
    return found


def in_range(value: float, kind: str, format_: str) -> bool:
    """Whether a number can be one of its type and format."""
    if kind == "integer":
        if value != int(value):
            return False
        limit = 2**31 if format_ == "int32" else 2**63
        return -limit <= value < limit
    narrow = kind == "number" and format_ == "float"
    return not narrow or abs(value) <= 3.4028235677973366e38


def _is_below(value: float, bound: float, exclusive: bool, whole: bool) -> bool:
    limit = int(bound) if whole else bound
    return value <= limit if exclusive else value < limit


def _is_above(value: float, bound: float, exclusive: bool, whole: bool) -> bool:
    limit = int(bound) if whole else bound
    return value >= limit if exclusive else value > limit


def _is_no_multiple(value: float, factor: float, _: bool, whole: bool) -> bool:
    if whole:
        return int(factor) <= 0 or int(value) % int(factor) != 0
    if factor <= 0:
        return True
    share = 1 / factor * value if factor < 1 else value / factor
    return not nearly_whole(share)


def nearly_whole(number: float) -> bool:
    """Whether upstream takes a quotient for an integer."""
    if not math.isfinite(number) or abs(number) > 2**53 - 1:
        return False
    whole = math.trunc(number)
    if number == whole:
        return True
    return whole > 0 and abs(number - whole) / (abs(number) + abs(whole)) < 1e-9
