"""Results are kept, but not of what fills the memory."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from anynode.api import formats, wire
from anynode.api.remembering import MOST_CHARACTERS, is_short, remembered
from anynode.schema import field_sets


def test_short_values_are_worked_out_once_and_long_ones_each_time() -> None:
    worked: list[object] = []

    @remembered(2)
    def length(value: str | int) -> int:
        worked.append(value)
        return len(str(value))

    for _ in range(2):
        assert length("a") == 1
        assert length(12) == 2
    assert worked == ["a", 12]
    long = "x" * (MOST_CHARACTERS + 1)
    assert [length(long), length(long)] == [len(long)] * 2
    assert worked == ["a", 12, long, long]


def test_failures_come_every_time() -> None:
    @remembered(2)
    def refuse(value: str) -> str:
        raise ValueError(value)

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            refuse("no")


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(wire.parse_query, id="query"),
        pytest.param(formats.canonical_quantity, id="quantity"),
        pytest.param(lambda text: field_sets.key_element("name", text), id="list key"),
        pytest.param(field_sets.value_element, id="set element"),
    ],
)
def test_what_clients_make_long_is_let_go(work: Callable[[str], object]) -> None:
    text = "1" * (MOST_CHARACTERS + 1)
    before = sys.getrefcount(text)
    work(text)
    assert sys.getrefcount(text) == before


def test_what_may_be_kept() -> None:
    assert is_short("a")
    assert is_short(5)
    assert not is_short("a" * (MOST_CHARACTERS + 1))
