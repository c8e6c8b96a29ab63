"""Timestamps and durations with nanoseconds, read and printed as Go's ``time`` package does.

Text comes in, values go out; ``ValueError`` where the text is no time. Source: Go ``time``; kube-openapi
``pkg/validation/strfmt/{time,duration}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import zoneinfo

from anynode.api import formats
from anynode.cel.errors import CelEvaluationError

SECOND = 10**9
MIN_SECONDS = -62135596800
MAX_SECONDS = 253402300799
_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII)
_UNITS = {
    "ns": 1, "nano": 1, "nanosecond": 1, "nanoseconds": 1, "us": 10**3, "µs": 10**3, "micro": 10**3, "micros": 10**3,
    "microsecond": 10**3, "microseconds": 10**3, "ms": 10**6, "milli": 10**6, "millis": 10**6, "millisecond": 10**6,
    "milliseconds": 10**6, "s": SECOND, "sec": SECOND, "secs": SECOND, "second": SECOND, "seconds": SECOND,
    "m": 60 * SECOND, "min": 60 * SECOND, "mins": 60 * SECOND, "minute": 60 * SECOND, "minutes": 60 * SECOND,
    "h": 3600 * SECOND, "hr": 3600 * SECOND, "hrs": 3600 * SECOND, "hour": 3600 * SECOND, "hours": 3600 * SECOND,
    "d": 86400 * SECOND, "day": 86400 * SECOND, "days": 86400 * SECOND, "w": 604800 * SECOND, "wk": 604800 * SECOND,
    "wks": 604800 * SECOND, "week": 604800 * SECOND, "weeks": 604800 * SECOND,
}  # fmt: skip
_WORDED = re.compile(r"(\d+)\s*([A-Za-zµ]+)")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A moment: nanoseconds since 1970, and the offset it was written with, which only its text shows."""

    nanos: int
    offset_seconds: int = dataclasses.field(default=0, compare=False)

    def __str__(self) -> str:
        """RFC 3339 with as many digits of the second as there are."""
        seconds, nanos = divmod(self.nanos, SECOND)
        days, rest = divmod(seconds + self.offset_seconds, 86400)
        date = datetime.date.fromordinal(days + _EPOCH_DAY)
        fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
        zone = "Z"
        if self.offset_seconds:
            minutes = abs(self.offset_seconds) // 60
            zone = f"{'-' if self.offset_seconds < 0 else '+'}{minutes // 60:02d}:{minutes % 60:02d}"
        clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
        return f"{date.year:04d}-{date.month:02d}-{date.day:02d}T{clock}{fraction}{zone}"

    def local(self, zone: str) -> datetime.datetime:
        """The wall clock in a zone: a name of the tz database or ``+01:00``; raises ``CelEvaluationError``."""
        moment = datetime.datetime.fromordinal(1) + (
            datetime.timedelta(days=_EPOCH_DAY - 1, microseconds=self.nanos // 1000)
        )
        if ":" in zone:
            return moment + datetime.timedelta(minutes=_zone_minutes(zone))
        if zone in ("", "UTC"):
            return moment
        try:
            found = zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise CelEvaluationError(f"unknown time zone {zone}") from None
        return moment.replace(tzinfo=datetime.UTC).astimezone(found)


def _zone_minutes(zone: str) -> int:
    hours, _, minutes = zone.partition(":")
    numbers = []
    for each in (hours, minutes):
        if not re.fullmatch(r"[+-]?\d+", each, re.ASCII):
            raise CelEvaluationError(f'strconv.Atoi: parsing "{each}": invalid syntax')
        numbers.append(int(each))
    hour, minute = numbers
    return hour * 60 + (minute if hour >= 0 and not hours.startswith("-") else -minute)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A span of nanoseconds in 64 bits."""

    nanos: int

    def __str__(self) -> str:
        """Seconds as a decimal number with an ``s``."""
        seconds = float(self.nanos // SECOND) + (self.nanos % SECOND) / 1e9 if self.nanos >= 0 else self.nanos / 1e9
        text = repr(seconds)
        if "e" in text:
            text = f"{seconds:.18f}".rstrip("0").rstrip(".")
        return f"{text.removesuffix('.0')}s"


def parse_timestamp(text: str) -> Timestamp:
    """The moment an RFC 3339 text means; raises ``ValueError``."""
    found = _RFC3339.fullmatch(text)
    if found is None or found[8] is None:
        raise ValueError(text)
    return _timestamp(found)


def parse_date_time(text: str) -> Timestamp:
    """The moment a ``date-time`` of a schema means, an offset being optional; raises ``ValueError``."""
    if not text:
        return Timestamp(0)
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(f"Invalid date-time formatted string {text}")
    return _timestamp(found)


def parse_date(text: str) -> Timestamp:
    """Midnight of a ``date``; raises ``ValueError``."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise ValueError(f"Invalid date formatted string {text}")
    return Timestamp((datetime.date.fromisoformat(text).toordinal() - _EPOCH_DAY) * 86400 * SECOND)


def _timestamp(found: re.Match[str]) -> Timestamp:
    year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
    days = datetime.date(year, month, day).toordinal() - _EPOCH_DAY
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError(found[0])
    nanos = int((found[7] or "")[:9].ljust(9, "0"))
    offset = 0
    zone = found[8] or "Z"
    if zone != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:])
        if hours > 24 or minutes > 59:
            raise ValueError(found[0])
        offset = (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
    seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset
    return Timestamp(seconds * SECOND + nanos, offset)


def parse_duration(text: str) -> Duration:
    """The span Go's ``time.ParseDuration`` reads; raises ``ValueError``."""
    return Duration(formats.parse_duration(text))


def parse_worded_duration(text: str) -> Duration:
    """The span a ``duration`` of a schema means: Go's, or words as in ``3 days``; raises ``ValueError``."""
    try:
        return parse_duration(text)
    except ValueError:
        nanos = 0
        known = False
        for number, word in _WORDED.findall(text):
            unit = _UNITS.get(word.lower())
            if unit is not None:
                known = True
                nanos += int(number) * unit
        if not known:
            raise ValueError(f"unable to parse {text} as duration") from None
        return Duration((nanos + 2**63) % 2**64 - 2**63)
