"""The string library, and ``format``.

Source: cel-go ``ext/{strings,formatting}.go``, ``common/types/string.go``, v0.26.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from anynode.api.go_text import go_quoted
from anynode.cel.errors import CelEvaluationError, CostExceeded
from anynode.cel.operators import double_text, no_overload, to_string
from anynode.cel.sequences import index_of, last_index_of
from anynode.cel.times import Duration, Timestamp
from anynode.cel.types import Type
from anynode.cel.values import LISTS, MAPS, Uint, find, kind_name

_LONGEST = 50_000_000
"""Code points of the longest text a function makes; upstream has no such limit, and no memory left."""
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_UPPER = {lower: lower - 32 for lower in range(ord("a"), ord("z") + 1)}
_SPACE = " \t\n\v\f\r\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_QUOTED = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", "\\": "\\\\",
    '"': '\\"',
}  # fmt: skip
_CLAUSE = re.compile(r"%(?:%|(?:\.([0-9]*))?(.)?)", re.DOTALL)


def _texts(*found: Any) -> None:
    for each in found:
        if type(each) is not str:
            raise no_overload()


def _ints(*found: Any) -> None:
    for each in found:
        if type(each) is not int:
            raise no_overload()


def _out_of_range(index: int) -> CelEvaluationError:
    return CelEvaluationError(f"index out of range: {index}")


def _char_at(text: Any, index: Any) -> str:
    _texts(text)
    _ints(index)
    if not 0 <= index <= len(text):
        raise _out_of_range(index)
    return str(text[index : index + 1])


def _index_of(text: Any, part: Any, offset: Any = None) -> int:
    if type(text) in LISTS:
        return index_of(text, part)
    _texts(text, part)
    start = 0 if offset is None else offset
    _ints(start)
    if part == "":
        if offset is None:
            return 0
        return int(start)
    if start < 0:
        raise _out_of_range(start)
    return int(text.find(part, start)) if start < len(text) else -1


def _last_index_of(text: Any, part: Any, offset: Any = None) -> int:
    if type(text) in LISTS:
        return last_index_of(text, part)
    _texts(text, part)
    if offset is None:
        if part == "":
            return len(text)
        return int(text.rfind(part))
    _ints(offset)
    if part == "":
        return int(offset)
    if offset < 0:
        raise _out_of_range(offset)
    if offset >= len(text):
        return -1
    return int(text.rfind(part, 0, offset + len(part)))


def _join(parts: Any, separator: Any = "") -> str:
    if type(parts) not in LISTS:
        raise no_overload()
    _texts(separator)
    found = list(parts)
    size = len(found) * len(separator)
    for each in found:
        if type(each) is not str:
            raise CelEvaluationError(f"join: invalid input: {each}")
        size += len(each)
    _bounded(size)
    return str(separator.join(found))


def _bounded(size: int) -> None:
    """Refuse to make a text nobody could ask for and pay."""
    if size > _LONGEST:
        raise CostExceeded


def _replace(text: Any, old: Any, new: Any, count: Any = -1) -> str:
    _texts(text, old, new)
    _ints(count)
    if len(new) > len(old):
        found = text.count(old) if count < 0 else min(count, text.count(old))
        _bounded(len(text) + found * (len(new) - len(old)))
    return str(text.replace(old, new, -1 if count < 0 else min(count, len(text) + 1)))


def _split(text: Any, separator: Any, count: Any = -1) -> list[str]:
    _texts(text, separator)
    _ints(count)
    if count == 0:
        return []
    if separator == "":
        letters = list(text)
        if 0 < count < len(letters):
            letters = [*letters[: count - 1], "".join(letters[count - 1 :])]
        return letters
    return list(text.split(separator, -1 if count < 0 else min(count - 1, len(text))))


def _substring(text: Any, start: Any, end: Any = None) -> str:
    _texts(text)
    stop = len(text) if end is None else end
    _ints(start, stop)
    if end is not None and start > stop:
        raise CelEvaluationError(f"invalid substring range. start: {start}, end: {stop}")
    for each in (start, stop):
        if not 0 <= each <= len(text):
            raise _out_of_range(each)
    return str(text[start:stop])


def _simple(change: Callable[[str], str]) -> Callable[[Any], str]:
    def run(text: Any) -> str:
        _texts(text)
        return change(text)

    return run


def _asked(judge: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def run(text: Any, part: Any) -> bool:
        _texts(text, part)
        return judge(text, part)

    return run


def quoted(text: str) -> str:
    """The text as a CEL string literal."""
    return '"' + "".join(_QUOTED.get(each, each) for each in text) + '"'


# --- format ----------------------------------------------------------------------------------------------------------


class FormatError(CelEvaluationError):
    """A format string and arguments that do not fit; ``index`` is the argument's, -1 if it is the string's fault."""

    def __init__(self, message: str, index: int = -1) -> None:
        super().__init__(message)
        self.index = index


Clause = tuple[str, int | None, int]
"""Letter, precision and position of the argument."""


def clauses(template: str, count: int) -> list[str | Clause]:
    """The pieces of a format string, taking ``count`` arguments; raises ``FormatError``."""
    pieces: list[str | Clause] = []
    at = used = 0
    for found in _CLAUSE.finditer(template):
        pieces.append(template[at : found.start()])
        at = found.end()
        if found[0] == "%%":
            pieces.append("%")
            continue
        if used >= count:
            raise FormatError(f"index {used} out of range")
        if found[0] == "%":
            raise FormatError("unexpected end of string")
        pieces.append((_letter(found), None if found[1] is None else _precision(found[1]), used))
        used += 1
    pieces.append(template[at:])
    return pieces


def _letter(found: re.Match[str]) -> str:
    prefix = "could not parse formatting clause: "
    if found[2] is None:
        raise FormatError(f"{prefix}error while parsing precision: could not find end of precision specifier")
    if found[2] not in "sdfebxXo":
        raise FormatError(f'{prefix}unrecognized formatting clause "{found[2]}"')
    return found[2]


def _precision(digits: str) -> int:
    if not digits or len(digits) > 9:
        trouble = "invalid syntax" if not digits else "value out of range"
        raise FormatError(
            "could not parse formatting clause: error while parsing precision: error while converting precision to"
            f" integer: strconv.Atoi: parsing {go_quoted(digits)}: {trouble}"
        )
    return min(int(digits), 1000)


_DEMANDS = {
    "d": "decimal clause can only be used on integers",
    "f": "fixed-point clause can only be used on doubles",
    "e": "scientific clause can only be used on doubles",
    "b": "only integers and bools can be formatted as binary",
    "x": "only integers, byte buffers, and strings can be formatted as hex",
    "X": "only integers, byte buffers, and strings can be formatted as hex",
    "o": "octal clause can only be used on integers",
    "s": "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations,"
    " and timestamps",
}


def demand(letter: str, kind: str, index: int) -> FormatError:
    """The complaint about an argument of a wrong type."""
    return FormatError(f"error during formatting: {_DEMANDS[letter]}, was given {kind}", index)


def _format(template: Any, args: Any) -> str:
    _texts(template)
    if type(args) not in LISTS:
        raise no_overload()
    parts = []
    size = 0
    for piece in clauses(template, len(args)):
        if not isinstance(piece, str):
            letter, precision, index = piece
            piece = _formatted(letter, precision, args[index], index)
        parts.append(piece)
        size += len(piece)
        _bounded(size)
    return "".join(parts)


def _formatted(letter: str, precision: int | None, value: Any, index: int) -> str:
    kind = type(value)
    integer = kind is int or kind is Uint
    if letter == "s":
        found = _string(value)
        if found is None:
            raise demand("s", kind_name(value), index)
        return found
    if letter == "d" and integer:
        return str(int(value))
    if letter in "fe" and (kind is float or value in ("NaN", "Infinity", "-Infinity")):
        return _decimal(letter, float(value), 6 if precision is None else precision)
    if letter == "b" and (integer or kind is bool):
        return f"{int(value):b}"
    if letter == "o" and integer:
        return f"{int(value):o}"
    if letter in "xX" and (integer or kind in (str, bytes)):
        written = f"{int(value):x}" if integer else (value.encode() if kind is str else value).hex()
        return written.upper() if letter == "X" else written
    raise demand(letter, kind_name(value), index)


def _decimal(letter: str, value: float, precision: int) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "-∞"
    if letter == "f":
        return f"{value:,.{precision}f}"
    mantissa, _, exponent = f"{value:.{precision}e}".partition("e")
    digits = str(abs(int(exponent))).rjust(2, "0")
    raised = digits.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}×10{'⁻' if exponent.startswith('-') else ''}{raised}"


def _string(value: Any) -> str | None:
    """What ``%s`` makes of a value, None if nothing."""
    if type(value) in LISTS or type(value) in MAPS:
        return _nested(value)
    if value is None:
        return "null"
    if isinstance(value, Type):
        return value.name
    if type(value) in (str, bool, int, Uint, float, bytes, Timestamp, Duration):
        return str(to_string(value))
    return None


def _nested(value: Any) -> str:
    if type(value) in LISTS:
        return f"[{', '.join(map(_inside, value))}]"
    if type(value) in MAPS:
        pairs = sorted((_inside(key), _inside(find(value, key))) for key in value)
        return "{" + ", ".join(f"{key}:{each}" for key, each in pairs) + "}"
    return _inside(value)


def _inside(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return go_quoted(value)
    if kind is bytes:
        return f"b{go_quoted(str(to_string(value)))}"
    if kind is float:
        plain = f"{value:.6f}" if value == value and abs(value) != float("inf") else double_text(value)
        return plain if plain[-1].isdigit() else go_quoted(plain)
    if kind is Timestamp:
        return f'timestamp("{value}")'
    if kind is Duration:
        return f'duration("{value}")'
    if kind in LISTS or kind in MAPS:
        return _nested(value)
    found = _string(value)
    if found is None:
        raise FormatError(f"error during formatting: no formatting function for {kind_name(value)}")
    return found


def _escape_key(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def arguments(found: Sequence[str | Clause]) -> int:
    """How many arguments the pieces take."""
    return sum(not isinstance(each, str) for each in found)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "startsWith": _asked(str.startswith),
    "endsWith": _asked(str.endswith),
    "contains": _asked(lambda text, part: part in text),
    "charAt": _char_at,
    "indexOf": _index_of,
    "lastIndexOf": _last_index_of,
    "join": _join,
    "replace": _replace,
    "split": _split,
    "substring": _substring,
    "trim": _simple(lambda text: text.strip(_SPACE)),
    "lowerAscii": _simple(lambda text: text.translate(_LOWER)),
    "upperAscii": _simple(lambda text: text.translate(_UPPER)),
    "strings.quote": _simple(quoted),
    "format": _format,
    "jsonpatch.escapeKey": _simple(_escape_key),
}
