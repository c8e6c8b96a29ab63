"""What is remembered is what was made of that very value."""

from __future__ import annotations

import pytest

from anynode.schema.recent import Recent


def test_a_value_is_made_once_and_an_equal_one_anew() -> None:
    calls: list[dict[str, int]] = []

    def make(value: dict[str, int]) -> dict[str, int]:
        calls.append(value)
        return {**value, "made": 1}

    remembered = Recent(make)
    one, other = {"a": 1}, {"a": 1}
    assert remembered(one) is remembered(one)
    assert remembered(other) is not remembered(one)
    assert calls == [one, other]


def test_only_so_many_are_kept() -> None:
    calls: list[str] = []

    def make(value: list[str]) -> str:
        calls.append(value[0])
        return value[0]

    remembered = Recent(make, most=2)
    values = [["a"], ["b"], ["c"], ["a"]]
    assert [remembered(each) for each in values] == ["a", "b", "c", "a"]
    assert remembered(values[0]) == "a"
    assert calls == ["a", "b", "c", "a", "a"]


def test_an_error_is_not_remembered() -> None:
    calls: list[list[int]] = []

    def make(value: list[int]) -> int:
        calls.append(value)
        return value[0]

    remembered, value = Recent(make), list[int]()
    for _ in range(2):
        with pytest.raises(IndexError):
            remembered(value)
    assert len(calls) == 2
