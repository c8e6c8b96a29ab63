"""When a cron schedule strikes next. Pure.

In: five fields (or ``@hourly`` and the like, or ``@every 1h30m``) and a time zone. Out: instants. If both the day of
the month and the day of the week are given, either will do. Source: robfig/cron v3 (``ParseStandard``), which
Kubernetes uses; https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping

from anynode.api.formats import parse_duration

_MINUTE = datetime.timedelta(minutes=1)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_NAMED: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_YEARS_SEARCHED = 5


class ScheduleError(ValueError):
    """A schedule that cannot be read."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Strikes at every minute of ``zone`` whose parts are all in these sets, or every ``every_seconds``."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    any_day: bool = False
    any_weekday: bool = False
    every_seconds: float = 0.0
    zone: datetime.tzinfo = datetime.UTC

    def next(self, after: datetime.datetime) -> datetime.datetime | None:
        """The first strike later than ``after``; None when there is none within five years (30 February)."""
        if self.every_seconds:
            return after.replace(microsecond=0) + datetime.timedelta(seconds=self.every_seconds)
        moment = (after + _MINUTE).astimezone(datetime.UTC).replace(second=0, microsecond=0)
        last = moment + datetime.timedelta(days=366 * _YEARS_SEARCHED)
        while moment < last:
            local = moment.astimezone(self.zone)
            if local.month not in self.months:
                moment = _midnight(local.replace(day=1) + datetime.timedelta(days=32), first=True)
            elif not self._is_day(local):
                moment = _midnight(local + datetime.timedelta(days=1))
            elif local.hour not in self.hours:
                moment += datetime.timedelta(minutes=60 - local.minute)
            elif local.minute not in self.minutes:
                moment += _MINUTE
            else:
                return moment
        return None

    def _is_day(self, local: datetime.datetime) -> bool:
        day, weekday = local.day in self.days, local.isoweekday() % 7 in self.weekdays
        return day and weekday if self.any_day or self.any_weekday else day or weekday


def _midnight(local: datetime.datetime, *, first: bool = False) -> datetime.datetime:
    """The beginning of that day (or month) in its zone, in UTC."""
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (day.replace(day=1) if first else day).astimezone(datetime.UTC)


def parse(text: str, zone: datetime.tzinfo = datetime.UTC) -> Schedule:
    """The schedule ``text`` means in ``zone``; raises ``ScheduleError``."""
    if text.startswith("@every "):
        try:
            seconds = parse_duration(text.removeprefix("@every ")) / 1e9
        except ValueError as error:
            raise ScheduleError(f"failed to parse duration {text}: {error}") from error
        return Schedule(every_seconds=max(1.0, float(int(seconds))), zone=zone)
    if text.startswith("@") and text not in _NAMED:
        raise ScheduleError(f"unrecognized descriptor: {text}")
    fields = _NAMED.get(text, text).split()
    if len(fields) != 5:
        raise ScheduleError(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    minutes, _ = _field(fields[0], 0, 59)
    hours, _ = _field(fields[1], 0, 23)
    days, any_day = _field(fields[2], 1, 31)
    months, _ = _field(fields[3], 1, 12, _MONTHS, 1)
    weekdays, any_weekday = _field(fields[4], 0, 6, _DAYS)
    return Schedule(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=weekdays,
        any_day=any_day,
        any_weekday=any_weekday,
        zone=zone,
    )


def _field(
    text: str, low: int, high: int, names: tuple[str, ...] = (), first_name: int = 0
) -> tuple[frozenset[int], bool]:
    """The numbers a field allows, and whether it says "any"."""
    allowed: set[int] = set()
    is_any = False
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        start_text, dash, end_text = span.partition("-")
        step = _number(step_text) if slash else 1
        if step < 1:
            raise ScheduleError(f"step of range should be a positive number: {part}")
        if start_text in ("*", "?"):
            start, end = low, high
            is_any = is_any or step == 1
        else:
            start = _number(start_text, names, first_name)
            end = _number(end_text, names, first_name) if dash else (high if slash else start)
        if start < low:
            raise ScheduleError(f"beginning of range ({start}) below minimum ({low}): {part}")
        if end > high:
            raise ScheduleError(f"end of range ({end}) above maximum ({high}): {part}")
        if start > end:
            raise ScheduleError(f"beginning of range ({start}) beyond end of range ({end}): {part}")
        allowed.update(range(start, end + 1, step))
    return frozenset(allowed), is_any


def _number(text: str, names: tuple[str, ...] = (), first_name: int = 0) -> int:
    if text.lower() in names:
        return names.index(text.lower()) + first_name
    if not text.isdecimal():
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)
