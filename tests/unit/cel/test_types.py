from __future__ import annotations

from anynode.cel import types
from anynode.cel.cost import MOST, UNKNOWN, Cost, fixed
from anynode.cel.environment import sizes_of
from anynode.cel.types import ObjectType


def test_sizes_are_no_part_of_a_types_identity() -> None:
    assert types.STRING.sized(5) == types.STRING
    assert types.list_of(types.INT, 3) == types.list_of(types.INT)
    assert types.list_of(types.INT) != types.list_of(types.STRING)
    assert str(types.map_of(types.STRING, types.optional_of(types.INT))) == "map(string, optional_type(int))"


def test_a_reserved_word_finds_its_escaped_field() -> None:
    of = ObjectType("T", {"__namespace__": types.STRING})
    assert of.field("namespace") is types.STRING
    assert of.field("other") is None


def test_sizes_are_found_by_path() -> None:
    item = ObjectType("T.@idx", {"name": types.STRING.sized(9)})
    root = ObjectType(
        "T", {"items": types.list_of(item, 4), "labels": types.map_of(types.STRING.sized(7), types.INT, 2)}
    )
    size = sizes_of(root)
    found = [
        size(path, types.DYN)
        for path in (
            ("self", "items"),
            ("oldSelf", "items", "@items", "name"),
            ("self", "labels"),
            ("self", "labels", "@keys"),
            ("self", "labels", "@values"),
            ("self", "nope"),
            ("self", "items", "nope"),
        )
    ]
    assert found == [4, 9, 2, 7, 0, None, None]


def test_costs_never_overflow() -> None:
    assert UNKNOWN.add(fixed(1)) == UNKNOWN.add(fixed(0)).union(Cost(1, MOST)).union(UNKNOWN).add(fixed(1))
    assert Cost(2, MOST).multiply(Cost(2, 2)) == Cost(4, MOST)
    assert Cost(1, MOST).by_factor(2.0) == Cost(2, MOST)
    assert Cost(11, 19).by_factor(0.1) == Cost(2, 2)
