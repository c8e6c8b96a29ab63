"""Warnings in headers: all that fit, beginnings of those that do not."""

from __future__ import annotations

from anynode.apiserver.server import MOST_WARNED, MOST_WARNED_EACH, shortened


def test_warnings_that_fit_are_told_once_and_whole() -> None:
    assert shortened(["a", "", "b" * 1000, "a"]) == ["a", "b" * 1000]


def test_of_too_many_warnings_only_beginnings_are_told() -> None:
    found = shortened([f"{at:04} ".ljust(1000, "x") for at in range(100_000)])
    assert {len(text) for text in found} == {MOST_WARNED_EACH}
    assert len(found) == MOST_WARNED // MOST_WARNED_EACH


def test_short_warnings_are_all_replayed_up_to_the_one_too_many() -> None:
    assert len(shortened([f"{at:05}" for at in range(100_000)])) == MOST_WARNED // 5 + 1


def test_warnings_with_control_characters_are_in_no_header() -> None:
    assert shortened(["a\r\nx-evil: 1", "\x7f", "fine"]) == ["fine"]
