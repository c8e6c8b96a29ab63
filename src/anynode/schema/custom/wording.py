"""Complaints about custom objects and definitions, with values printed as Go prints them.

Paths are plain text (``spec.a[0]``); the empty one is the object itself. Source: apimachinery
``pkg/util/validation/field/errors.go``, Go's ``encoding/json`` and ``fmt``, 1.36.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from anynode.schema.fields import FieldError

NOWHERE = "<nil>"
"""How upstream prints the path of the object itself."""


class Omitted:
    """Stands for a value that is left out of its complaint."""


OMITTED = Omitted()


def child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def go_float(number: float) -> str:
    """As ``%v`` prints it."""
    return _float(number, small=-4, large=6, two_digits=True)


def _float(number: float, *, small: int, large: int, two_digits: bool) -> str:
    if number == 0 or not math.isfinite(number):
        return "0" if number == 0 else {math.inf: "+Inf", -math.inf: "-Inf"}.get(number, "NaN")
    mantissa, _, exponent = repr(number).partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0") or "0"
    power = point - 1
    if power < small or power >= large:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        width = "02" if two_digits else ("02" if power >= 0 or power <= -10 else "")
        shown = f"{abs(power):{width}}" if width else str(abs(power))
        return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{shown}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return f"{sign}{digits}{'0' * (point - len(digits))}"
    return f"{sign}{digits[:point]}.{digits[point:]}"


def go_json(value: Any) -> str:
    """As ``json.Marshal`` prints it: keys of dicts in order, ``<``, ``>`` and ``&`` escaped."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float(value, small=-6, large=21, two_digits=False)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
        for char, escape in (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e"), ("\u2028", "\\u2028")):
            text = text.replace(char, escape)
        return text.replace("\u2029", "\\u2029").replace("\\u007f", "\x7f")
    if isinstance(value, list | tuple):
        return f"[{','.join(map(go_json, value))}]"
    keys = list(value) if isinstance(value, Ordered) else sorted(value)
    return f"{{{','.join(f'{go_json(key)}:{go_json(value[key])}' for key in keys)}}}"


class Ordered(dict[str, Any]):
    """A struct: printed in the order of its fields."""


def go_quoted(text: str) -> str:
    """As ``%q`` prints it."""
    shown = []
    for char in text:
        code = ord(char)
        if char in '"\\':
            shown.append(f"\\{char}")
        elif char in _ESCAPES:
            shown.append(_ESCAPES[char])
        elif char.isprintable():
            shown.append(char)
        elif code < 0x80:
            shown.append(f"\\x{code:02x}")
        else:
            shown.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return f'"{"".join(shown)}"'


_ESCAPES = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


class Pointer(str):
    """A text behind a pointer: printed as JSON prints it."""

    __slots__ = ()


def shown(value: Any) -> str:
    if isinstance(value, Pointer):
        return go_json(value)
    if isinstance(value, str):
        return go_quoted(value)
    if isinstance(value, float):
        return go_float(value)
    return go_json(value)


def _error(reason: str, head: str, path: str, value: Any, detail: str) -> FieldError:
    printed = "" if isinstance(value, Omitted) else f": {shown(value)}"
    return FieldError(reason, path or NOWHERE, f"{head}{printed}{f': {detail}' if detail else ''}")


def invalid(path: str, value: Any, detail: str) -> FieldError:
    return _error("FieldValueInvalid", "Invalid value", path, value, detail)


def type_invalid(path: str, value: Any, detail: str) -> FieldError:
    return _error("FieldValueTypeInvalid", "Invalid value", path, value, detail)


def duplicate(path: str, value: Any) -> FieldError:
    return _error("FieldValueDuplicate", "Duplicate value", path, value, "")


def required(path: str, detail: str = "") -> FieldError:
    return _error("FieldValueRequired", "Required value", path, OMITTED, detail)


def forbidden(path: str, detail: str) -> FieldError:
    return _error("FieldValueForbidden", "Forbidden", path, OMITTED, detail)


def not_supported(path: str, value: Any, supported: Iterable[str]) -> FieldError:
    listed = ", ".join(go_quoted(each) for each in supported)
    detail = f"supported values: {listed}" if listed else ""
    return _error("FieldValueNotSupported", "Unsupported value", path, value, detail)


def too_long(path: str, most: int) -> FieldError:
    text = f"may not be more than {most} {'byte' if most == 1 else 'bytes'}" if most >= 0 else "value is too long"
    return _error("FieldValueTooLong", "Too long", path, OMITTED, text)


def too_many(path: str, actual: int, most: int) -> FieldError:
    text = f"must have at most {most} {'item' if most == 1 else 'items'}" if most >= 0 else "has too many items"
    head = "Too many"
    return _error("FieldValueTooMany", head, path, actual if actual >= 0 else OMITTED, text)


def internal(path: str, detail: str) -> FieldError:
    return _error("InternalError", "Internal error", path, OMITTED, detail)
