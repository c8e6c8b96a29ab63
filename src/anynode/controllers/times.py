"""Wall time as seconds since 1970 while controllers count, as RFC 3339 text in objects."""

from __future__ import annotations

import datetime

from anynode.api.formats import format_time, parse_time


def seconds_of(text: str) -> float:
    return parse_time(text).timestamp()


def timestamp(now: float) -> str:
    """``now`` in whole seconds, as objects carry it."""
    return format_time(datetime.datetime.fromtimestamp(now, datetime.UTC))
