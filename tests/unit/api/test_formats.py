"""Quantities, times and durations as Go reads and prints them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api import formats
from anynode.api.formats import Quantity


@pytest.mark.parametrize(
    ("text", "printed", "milli", "whole"),
    [
        ("0", "0", 0, 0),
        ("1", "1", 1000, 1),
        ("1000m", "1", 1000, 1),
        ("1500m", "1500m", 1500, 2),
        ("1.5", "1500m", 1500, 2),
        ("0.5", "500m", 500, 1),
        ("1.500", "1.500", 1500, 2),
        ("1Ki", "1Ki", 1024000, 1024),
        ("1024Ki", "1Mi", 1024 * 1024 * 1000, 1 << 20),
        ("1.5Gi", "1536Mi", 3 << 29, 3 << 29),
        ("512", "512", 512000, 512),
        ("1000", "1k", 10**6, 1000),
        ("1e3", "1e3", 10**6, 1000),
        ("1E", "1E", 10**21, 10**18),
        ("100e3", "100e3", 10**8, 10**5),
        ("+5", "+5", 5000, 5),
        ("-1", "-1", -1000, -1),
        ("0.0000000001", "1n", 1, 1),
        ("0.5Ki", "512", 512000, 512),
        ("100Ei", "9223372036854775807", 0, 2**63 - 1),
        ("0Mi", "0", 0, 0),
    ],
)
def test_a_quantity_is_read_and_printed_as_go_does(text: str, printed: str, milli: int, whole: int) -> None:
    quantity = Quantity.parse(text)
    assert str(quantity) == printed
    assert quantity.value() == whole
    if text not in ("1.5Gi", "100Ei"):
        assert quantity.milli_value() == milli


@pytest.mark.parametrize("text", ["", "a", "1 ", "1.2.3", "1mm5x", "--1", "1Kb"])
def test_what_is_no_quantity_is_refused_in_upstreams_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantities must match|unable to parse quantity's suffix"):
        Quantity.parse(text)


def test_a_huge_exponent_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="suffix"):
        Quantity.parse("1e999999999")


# From 1e21 on Go prints no suffix at all, so larger amounts do not survive there either.
@given(st.integers(-(10**11), 10**11), st.sampled_from(["", "m", "k", "M", "Ki", "Mi", "Gi", "u", "n", "e3", "E-3"]))
def test_printing_and_reading_again_keeps_the_amount(number: int, suffix: str) -> None:
    first = Quantity.parse(f"{number}{suffix}")
    again = Quantity.parse(str(first))
    assert again == first
    assert str(Quantity.parse(str(again))) == str(again)


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_arithmetic_is_exact(left: int, right: int) -> None:
    total = Quantity.parse(f"{left}m") + Quantity.parse(f"{right}m")
    assert total.milli_value() == left + right
    assert (total - Quantity.parse(f"{right}m")) == Quantity.parse(f"{left}m")


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_value_error(text: str) -> None:
    try:
        printed = formats.canonical_quantity(text)
    except ValueError:
        return
    assert formats.canonical_quantity(printed) == printed


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.123Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z"),
        ("2024-02-29T23:30:00-01:00", "2024-03-01T00:30:00Z"),
    ],
)
def test_times_are_printed_in_utc_with_whole_seconds(text: str, printed: str) -> None:
    assert formats.canonical_time(text) == printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'),
        ("2026-01-02", 'parsing time "2026-01-02" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T"'),
        ("2026-13-02T03:04:05Z", 'parsing time "2026-13-02T03:04:05Z": month out of range'),
        ("2026-02-30T03:04:05Z", 'parsing time "2026-02-30T03:04:05Z": day out of range'),
        ("2026-01-02T03:04:05Zx", 'parsing time "2026-01-02T03:04:05Zx": extra text: "x"'),
    ],
)
def test_a_wrong_time_is_refused_as_go_refuses_it(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        formats.canonical_time(text)
    assert str(caught.value) == message


def test_micro_times_need_six_decimals() -> None:
    assert formats.canonical_micro_time("2026-01-02T03:04:05.000006Z") == "2026-01-02T03:04:05.000006Z"
    with pytest.raises(ValueError, match=r"as \"\.000000\""):
        formats.canonical_micro_time("2026-01-02T03:04:05Z")


@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_a_time_printed_and_read_is_the_same_instant(moment: datetime.datetime) -> None:
    assert formats.parse_time(formats.format_micro_time(moment)) == moment
    assert formats.parse_time(formats.format_time(moment)) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    ("text", "nanoseconds", "printed"),
    [
        ("0", 0, "0s"),
        ("1h30m", 5400 * 10**9, "1h30m0s"),
        ("1.5s", 1500 * 10**6, "1.5s"),
        ("-100ms", -100 * 10**6, "-100ms"),
        ("90s", 90 * 10**9, "1m30s"),
        ("3us", 3000, "3\u00b5s"),
    ],
)
def test_durations(text: str, nanoseconds: int, printed: str) -> None:
    assert formats.parse_duration(text) == nanoseconds
    assert formats.format_duration(nanoseconds) == printed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'time: invalid duration ""'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("s", 'time: invalid duration "s"'),
    ],
)
def test_wrong_durations(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        formats.parse_duration(text)
    assert str(caught.value) == message


@given(st.integers(-(10**18), 10**18))
def test_a_duration_printed_and_read_is_the_same(nanoseconds: int) -> None:
    assert formats.parse_duration(formats.format_duration(nanoseconds)) == nanoseconds


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (-5, "<invalid>"), (-0.5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (660, "11m"),
        (3 * 3600, "3h"), (3 * 3600 + 60, "3h1m"), (47 * 3600, "47h"), (50 * 3600, "2d2h"), (9 * 86400, "9d"),
        (800 * 86400, "2y70d"), (3650 * 86400, "10y"),
    ],
)  # fmt: skip
def test_ages_as_kubectl_prints_them(seconds: float, printed: str) -> None:
    assert formats.human_duration(seconds) == printed


@pytest.mark.parametrize(
    "text", ["0" * 20_000 + "x", "0" * 9_000 + "1" * 9_000 + "x", "." + "1" * 20_000 + "E" * 20_000]
)
def test_a_wrong_quantity_is_refused_in_time_that_grows_with_its_length(text: str) -> None:
    with pytest.raises(ValueError, match="quantit"):
        formats.canonical_quantity(text)
