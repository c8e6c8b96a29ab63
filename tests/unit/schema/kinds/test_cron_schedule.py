"""Which cron schedules can be read."""

from __future__ import annotations

import pytest

from anynode.schema.kinds.cron_schedule import complaint, is_time_zone


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *", "*/5 0-6,8 1 jan-mar mon", "0 0 1 1 ?", "@daily", "@every 1h30m", "TZ=Europe/Berlin 0 1 * * *",
        "1-10/2 * * * *", "0 0 * * SUN",
    ],
)  # fmt: skip
def test_good_schedules(schedule: str) -> None:
    assert complaint(schedule) == ""


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("1/2/3 * * * *", "too many slashes: 1/2/3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("@hourlyish", "unrecognized descriptor: @hourlyish"),
        ("TZ=Nowhere/At_All * * * * *", "provided bad location Nowhere/At_All: unknown time zone Nowhere/At_All"),
    ],
)
def test_bad_schedules(schedule: str, expected: str) -> None:
    assert complaint(schedule) == expected


def test_time_zones() -> None:
    assert is_time_zone("UTC")
    assert is_time_zone("America/New_York")
    assert not is_time_zone("../etc/passwd")
    assert not is_time_zone("Mars/Olympus")
