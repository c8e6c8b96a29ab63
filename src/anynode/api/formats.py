"""The strings inside objects: quantities, times and durations, read and printed as Go's machinery does.

Text comes in, numbers or canonical text go out; a wrong text raises ``ValueError`` with upstream's sentence. Names are
judged in ``anynode.api.names``. Source: apimachinery ``pkg/api/resource``, ``pkg/apis/meta/v1/{time,micro_time}.go``,
``pkg/util/duration`` and Go's ``time`` package, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import re
from collections.abc import Sequence

from anynode.api.go_text import go_quoted
from anynode.api.remembering import remembered

_QUANTITY = re.compile(r"([+-]?)(0*+)([0-9]*+)(\.[0-9]*+)?+([eEinumkKMGTP]*+[-+]?[0-9]*+)")
"""Possessive: with ways back, a few thousand zeros before a wrong letter take minutes."""
_DECIMAL_SUFFIXES = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY_SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL_PRINTED = {exponent: suffix for suffix, exponent in _DECIMAL_SUFFIXES.items()}
_BINARY_PRINTED = {exponent // 10: suffix for suffix, exponent in _BINARY_SUFFIXES.items()} | {0: ""}
_NANO = 10**9
_MOST_BINARY = (2**63 - 1) * _NANO
_MOST_EXPONENT = 400  # upstream has no limit, and hangs on 1e999999999

WRONG_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
WRONG_SUFFIX = "unable to parse quantity's suffix"


@functools.total_ordering
@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Quantity:
    """An exact amount in units of 1e-9. ``form`` is ``decimal``, ``binary`` or ``exponent``: how it is printed.

    ``text`` is what was read, where upstream keeps that instead of printing anew.
    """

    nano: int
    form: str = "decimal"
    text: str = ""

    @classmethod
    def parse(cls, text: str | int | float) -> Quantity:
        """The quantity ``text`` means; raises ``ValueError`` with upstream's sentence."""
        return _parse_quantity(text if isinstance(text, str) else repr(text))

    def value(self) -> int:
        """The amount in whole units, rounded away from zero."""
        return _scaled(self.nano, _NANO)

    def milli_value(self) -> int:
        """The amount in thousandths, rounded away from zero."""
        return _scaled(self.nano, 10**6)

    def rounded_up(self, exponent: int) -> Quantity:
        """The amount rounded away from zero to a multiple of ``10**exponent`` (-9 to 0)."""
        unit = 10 ** (exponent + 9)
        return self if self.nano % unit == 0 else Quantity(_scaled(self.nano, unit) * unit, self.form)

    def __str__(self) -> str:
        return self.text or _print_quantity(self.nano, self.form)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self.nano == other.nano

    def __lt__(self, other: Quantity) -> bool:
        return self.nano < other.nano

    def __hash__(self) -> int:
        return hash(self.nano)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano + other.nano, other.form if self.nano == 0 else self.form)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity(self.nano - other.nano, other.form if self.nano == 0 else self.form)

    def __neg__(self) -> Quantity:
        return Quantity(-self.nano, self.form)

    def __bool__(self) -> bool:
        return self.nano != 0


def _scaled(amount: int, unit: int) -> int:
    return -(-amount // unit) if amount >= 0 else amount // unit


def _exponent_of(suffix: str) -> tuple[str, int, int]:
    """``suffix -> (form, base, exponent)``."""
    if suffix in _DECIMAL_SUFFIXES:
        return "decimal", 10, _DECIMAL_SUFFIXES[suffix]
    if suffix in _BINARY_SUFFIXES:
        return "binary", 2, _BINARY_SUFFIXES[suffix]
    if suffix[:1] in ("e", "E"):
        try:
            exponent = int(suffix[1:])
        except ValueError:
            raise ValueError(WRONG_SUFFIX) from None
        if abs(exponent) <= _MOST_EXPONENT:
            return "exponent", 10, exponent
    raise ValueError(WRONG_SUFFIX)


@remembered(4096)
def _parse_quantity(text: str) -> Quantity:
    match = _QUANTITY.fullmatch(text) if text else None
    if match is None:
        raise ValueError(WRONG_QUANTITY)
    if text == "0":
        return Quantity(0, "decimal", "0")
    sign, _zeros, digits, fraction, suffix = match.groups()
    form, base, exponent = _exponent_of(suffix)
    digits, fraction = digits or "0", (fraction or "")[1:]
    shifted = digits + fraction
    unscaled, scale = int(shifted), -len(fraction)
    if base == 2:
        unscaled <<= exponent
    else:
        scale += exponent
    places = scale + 9
    nano = unscaled * 10**places if places >= 0 else -(-unscaled // 10**-places)
    kept = places >= 0 and _kept_as_read(form, exponent, shifted, fraction, scale)
    if form == "binary":
        nano = min(nano, _MOST_BINARY)
        if not kept and 0 < nano < _NANO:
            form = "decimal"
    return Quantity(-nano if sign == "-" else nano, form, text if kept else "")


def _kept_as_read(form: str, exponent: int, shifted: str, fraction: str, scale: int) -> bool:
    """Whether upstream takes the text for canonical; its test is a cheap one, so ``1.500`` stays ``1.500``."""
    if form == "binary":
        precise = not fraction and 15 - len(shifted) - exponent * 3 // 10 - 1 >= 0
        return precise and int(shifted) & 7 != 0
    return len(shifted) <= 18 and scale % 3 == 0 and not shifted.endswith("000") and shifted[0] != "0"


def _print_quantity(nano: int, form: str) -> str:
    if nano == 0:
        return "0"
    if form == "binary" and (abs(nano) < 1024 * _NANO or nano % _NANO):
        form = "decimal"
    if form == "binary":
        amount, thousands = nano // _NANO, 0
        while amount % 1024 == 0:
            amount, thousands = amount // 1024, thousands + 1
        return f"{amount}{_BINARY_PRINTED.get(thousands, '')}"
    amount, exponent = nano, -9
    while amount % 1000 == 0:
        amount, exponent = amount // 1000, exponent + 3
    if form == "exponent":
        return f"{amount}e{exponent}" if exponent else str(amount)
    return f"{amount}{_DECIMAL_PRINTED.get(exponent, '')}"


@remembered(4096)
def canonical_quantity(text: str | int | float) -> str:
    """``text`` as it looks after Go read and printed it: ``"1000m"`` -> ``"1"``; raises ``ValueError``."""
    return str(Quantity.parse(text.strip() if isinstance(text, str) else text))


@remembered(4096)
def milli_value(text: str | int | float) -> int:
    """A quantity in thousandths, rounded up: ``"1.5"`` -> 1500; raises ``ValueError``."""
    return Quantity.parse(text).milli_value()


@remembered(4096)
def whole_value(text: str | int | float) -> int:
    """A quantity in whole units, rounded up: ``"1Ki"`` -> 1024; raises ``ValueError``."""
    return Quantity.parse(text).value()


# Times


_CANONICAL_TIME = re.compile(
    r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"
)
_TIME_PARTS = (
    ("2006", r"[0-9]{4}"), ("-", "-"), ("01", r"[0-9]{2}"), ("-", "-"), ("02", r"[0-9]{2}"), ("T", "T"),
    ("15", r"[0-9]{2}"), (":", ":"), ("04", r"[0-9]{2}"), (":", ":"), ("05", r"[0-9]{2}(?:[.,][0-9]+)?"),
)  # fmt: skip
_MICRO_PARTS = (*_TIME_PARTS[:-1], ("05", r"[0-9]{2}"), (".000000", r"[.,][0-9]{6}"))
_ZONE = ("Z07:00", r"Z|[+-][0-9]{2}:[0-9]{2}")
_RFC3339 = "2006-01-02T15:04:05Z07:00"
_RFC3339_MICRO = "2006-01-02T15:04:05.000000Z07:00"


def _read_time(text: str, layout: str, parts: Sequence[tuple[str, str]]) -> datetime.datetime:
    """The instant, in UTC; raises ``ValueError`` with the message of Go's ``time.Parse``."""
    shown = go_quoted(text)
    found: dict[str, str] = {}
    position = 0
    for name, pattern in (*parts, _ZONE):
        match = re.compile(pattern).match(text, position)
        if match is None:
            rest = go_quoted(text[position:])
            raise ValueError(f'parsing time {shown} as "{layout}": cannot parse {rest} as "{name}"')
        found[name] = match.group()
        position = match.end()
    if position < len(text):
        raise ValueError(f"parsing time {shown}: extra text: {go_quoted(text[position:])}")
    numbers = {name: int(found[name][:4]) for name in ("2006", "01", "02", "15", "04")}
    second = int(found["05"][:2])
    fraction = (found["05"][2:] or found.get(".000000", ""))[1:7].ljust(6, "0")
    for name, low, high in (("month", 1, 12), ("hour", 0, 23), ("minute", 0, 59)):
        number = numbers[{"month": "01", "hour": "15", "minute": "04"}[name]]
        if not low <= number <= high:
            raise ValueError(f"parsing time {shown}: {name} out of range")
    if second > 59:
        raise ValueError(f"parsing time {shown}: second out of range")
    try:
        local = datetime.datetime(
            max(numbers["2006"], 1), numbers["01"], numbers["02"], numbers["15"], numbers["04"], second, int(fraction),
            tzinfo=datetime.UTC,
        )  # fmt: skip
    except ValueError:
        raise ValueError(f"parsing time {shown}: day out of range") from None
    zone = found["Z07:00"]
    if zone == "Z":
        return local
    offset = datetime.timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))
    try:
        return local - offset if zone[0] == "+" else local + offset
    except OverflowError:
        raise ValueError(f"parsing time {shown}: year out of range") from None


@remembered(4096)
def canonical_time(text: str) -> str:
    """An RFC 3339 time as ``metav1.Time`` prints it (UTC, whole seconds); raises ``ValueError`` in Go's words."""
    if _CANONICAL_TIME.fullmatch(text):
        return text
    return format_time(_read_time(text, _RFC3339, _TIME_PARTS))


@remembered(4096)
def canonical_micro_time(text: str) -> str:
    """A time with six decimals as ``metav1.MicroTime`` prints it; raises ``ValueError`` in Go's words."""
    return format_micro_time(_read_time(text, _RFC3339_MICRO, _MICRO_PARTS))


@remembered(4096)
def parse_time(text: str) -> datetime.datetime:
    """The instant, in UTC, of an RFC 3339 time with or without decimals; raises ``ValueError`` in Go's words."""
    return _read_time(text, _RFC3339, _TIME_PARTS)


def format_time(moment: datetime.datetime) -> str:
    """``moment`` (aware) as ``2026-01-02T03:04:05Z``; decimals are cut off."""
    utc = moment.astimezone(datetime.UTC)
    return f"{utc.year:04}-{utc.month:02}-{utc.day:02}T{utc.hour:02}:{utc.minute:02}:{utc.second:02}Z"


def format_micro_time(moment: datetime.datetime) -> str:
    """``moment`` (aware) as ``2026-01-02T03:04:05.000000Z``."""
    return f"{format_time(moment)[:-1]}.{moment.microsecond:06}Z"


# Durations


_UNITS = {
    "ns": 1, "us": 1000, "\u00b5s": 1000, "\u03bcs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_DURATION_PART = re.compile(r"([0-9]*)(\.?)([0-9]*)([^0-9.]*)")


def parse_duration(text: str) -> int:
    """Nanoseconds of a Go duration such as ``1h30m`` or ``-1.5s``; raises ``ValueError`` in Go's words."""
    shown = go_quoted(text)
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f"time: invalid duration {shown}")
    total = 0
    while rest:
        match = _DURATION_PART.match(rest)
        if match is None or not (match.group(1) or match.group(3)):
            raise ValueError(f"time: invalid duration {shown}")
        whole, _, fraction, unit = match.groups()
        if not unit:
            raise ValueError(f"time: missing unit in duration {shown}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {go_quoted(unit)} in duration {shown}")
        total += int(whole or "0") * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
        rest = rest[match.end() :]
    if total > 2**63 - (sign == 1):
        raise ValueError(f"time: invalid duration {shown}")
    return sign * total


def format_duration(nanoseconds: int) -> str:
    """Nanoseconds as Go prints a duration: ``1h30m0s``, ``1.5s``, ``100ms``."""
    if nanoseconds == 0:
        return "0s"
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if rest < 10**9:
        unit, size = ("ns", 1) if rest < 1000 else ("\u00b5s", 1000) if rest < 10**6 else ("ms", 10**6)
        return f"{sign}{_decimal(rest, size)}{unit}"
    minutes, seconds = divmod(rest, 60 * 10**9)
    text = f"{_decimal(seconds, 10**9)}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def _decimal(amount: int, unit: int) -> str:
    whole, fraction = divmod(amount, unit)
    tail = str(fraction + unit)[1:].rstrip("0") if fraction else ""
    return f"{whole}.{tail}" if tail else str(whole)


def human_duration(seconds: float) -> str:
    """An age as kubectl prints it: ``5s``, ``3m20s``, ``47h``, ``2d3h``, ``1y20d``."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 120:
        return f"{max(whole, 0)}s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"
