"""Parts of timestamps and durations: ``getHours()`` and its like.

Source: cel-go ``common/types/{timestamp,duration}.go``, ``cel/library.go``, v0.26.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from anynode.cel.operators import no_overload
from anynode.cel.times import SECOND, Duration, Timestamp

Part = Callable[[datetime.datetime], int]


def _of(part: Part, unit: int = 0) -> Callable[..., int]:
    """A part of the wall clock, or with ``unit`` whole units of a duration."""

    def read(value: Any, zone: Any = "") -> int:
        if type(value) is Timestamp and type(zone) is str:
            return part(value.local(zone))
        if unit and type(value) is Duration:
            whole = abs(value.nanos) // unit
            return -whole if value.nanos < 0 else whole
        raise no_overload()

    return read


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "getFullYear": _of(lambda at: at.year),
    "getMonth": _of(lambda at: at.month - 1),
    "getDayOfYear": _of(lambda at: at.timetuple().tm_yday - 1),
    "getDayOfMonth": _of(lambda at: at.day - 1),
    "getDate": _of(lambda at: at.day),
    "getDayOfWeek": _of(lambda at: at.isoweekday() % 7),
    "getHours": _of(lambda at: at.hour, 3600 * SECOND),
    "getMinutes": _of(lambda at: at.minute, 60 * SECOND),
    "getSeconds": _of(lambda at: at.second, SECOND),
    "getMilliseconds": _of(lambda at: at.microsecond // 1000, 10**6),
}
