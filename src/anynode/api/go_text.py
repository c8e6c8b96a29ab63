"""JSON values as Go prints them, which is how clients know Kubernetes' messages.

Values in, text out. Source: Go's ``fmt`` (``%v``, ``%q``, ``%T``) and ``encoding/json``.
"""

from __future__ import annotations

import json
import math
from typing import Any

_TYPES = {type(None): "<nil>", bool: "bool", int: "int64", float: "float64", str: "string", list: "[]interface {}"}


def go_value(value: Any) -> str:
    """As ``%v`` prints it: ``map[a:1 b:[x y]]``, ``<nil>``."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{go_value(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(go_value(each) for each in value)}]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return go_float(value) if isinstance(value, float) else str(value)


def go_type(value: Any) -> str:
    """The name of its type, as ``%T`` prints it."""
    return _TYPES.get(value.__class__, "map[string]interface {}")


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
