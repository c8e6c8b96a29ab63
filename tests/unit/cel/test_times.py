from __future__ import annotations

import pytest

from anynode.cel.errors import CelEvaluationError
from anynode.cel.times import (
    Duration,
    Timestamp,
    parse_date,
    parse_date_time,
    parse_duration,
    parse_timestamp,
    parse_worded_duration,
)


@pytest.mark.parametrize(
    "text",
    ["2024-02-29T12:34:56Z", "2024-02-29T12:34:56.000000001Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.5+01:30"],
)
def test_timestamps_are_printed_as_they_were_read(text: str) -> None:
    assert str(parse_timestamp(text)) == text


@pytest.mark.parametrize(
    "text", ["2024-02-30T00:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00", "x"]
)
def test_what_is_no_timestamp(text: str) -> None:
    with pytest.raises(ValueError):
        parse_timestamp(text)


def test_schemas_take_less_exact_texts() -> None:
    assert parse_date_time("2024-01-01T00:00:00") == parse_timestamp("2024-01-01T00:00:00Z")
    assert parse_date("2024-01-01") == parse_timestamp("2024-01-01T00:00:00Z")
    assert parse_worded_duration("3 days") == Duration(3 * 86400 * 10**9)
    with pytest.raises(ValueError, match="unable to parse soon as duration"):
        parse_worded_duration("soon")


@pytest.mark.parametrize(
    ("text", "shown"), [("1h1m1.5s", "3661.5s"), ("-90s", "-90s"), ("1ns", "0.000000001s"), ("0", "0s")]
)
def test_durations_are_seconds(text: str, shown: str) -> None:
    assert str(parse_duration(text)) == shown


def test_two_offsets_can_be_one_moment() -> None:
    one, other = parse_timestamp("2024-01-01T01:00:00+01:00"), parse_timestamp("2024-01-01T00:00:00Z")
    assert one == other
    assert str(one) != str(other)


def test_zones() -> None:
    moment = parse_timestamp("2024-07-01T12:00:00Z")
    assert moment.local("Europe/Berlin").hour == 14
    assert moment.local("-02:30").minute == 30
    assert moment.local("").hour == 12
    with pytest.raises(CelEvaluationError, match="unknown time zone Nowhere"):
        Timestamp(0).local("Nowhere")
