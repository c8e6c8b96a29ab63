"""Which old value a new one is compared with."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.custom.correlation import Correlated, ItemIndex, alike
from anynode.schema.custom.structural import structural

KEYED = structural(
    {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k", "n"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}, "n": {"type": "integer"}, "v": {}}},
    }
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [(1, 1, True), (1, 1.0, False), (True, 1, False), ({"a": [1]}, {"a": [1]}, True), ({"a": [1]}, {"a": [1.0]}, False),
     ([1], [1, 2], False), (None, None, True), ({"a": None}, {}, False)],
)  # fmt: skip
def test_equality_is_go_s(one: Any, other: Any, same: bool) -> None:
    assert alike(one, other) is same


def test_items_are_found_by_all_their_keys() -> None:
    index = ItemIndex(KEYED, [{"k": "a", "n": 1, "v": "x"}, {"k": "a", "n": 2}, {"k": "b"}, "odd"])
    assert index.get({"k": "a", "n": 1}) == {"k": "a", "n": 1, "v": "x"}
    assert index.get({"k": "a", "n": 1.0}) is None
    assert index.get({"k": "b"}) is None
    assert ItemIndex(structural({"type": "array", "items": {}}), [{"k": "a"}]).get({"k": "a"}) is None


def test_a_list_by_keys_is_the_same_in_another_order() -> None:
    old = [{"k": "a", "n": 1}, {"k": "b", "n": 1}]
    assert Correlated(list(reversed(old)), old, KEYED).same()
    assert not Correlated([{"k": "a", "n": 1}, {"k": "c", "n": 1}], old, KEYED).same()
    plain = structural({"type": "array", "items": {"type": "object"}})
    assert not Correlated(list(reversed(old)), old, plain).same()
    assert Correlated(list(old), old, plain).same()


def test_members_the_schema_does_not_know_correlate_with_nothing() -> None:
    node = structural({"type": "object", "properties": {"a": {"type": "string"}}})
    whole = Correlated({"a": "x", "b": 1}, {"a": "x", "b": 1}, node)
    member = whole.key("a")
    assert member is not None
    assert member.same()
    assert whole.key("b") is None
    assert not whole.same()
