"""Sets of paths in their wire form obey the laws of sets."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from anynode.schema import field_sets
from anynode.schema.field_sets import LEAF, difference, intersection, union

Paths = frozenset[tuple[str, ...]]
NAMES = st.sampled_from(["f:a", "f:b", 'k:{"name":"c"}', 'v:"d"'])
PATHS = st.frozensets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=6)


def node_of(paths: Paths) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path in sorted(paths):
        here = root
        for step in path:
            here = here.setdefault(step, {})
        here["."] = LEAF
    return plain(root)


def plain(node: dict[str, Any]) -> dict[str, Any]:
    """A leaf is written without its own mark."""
    return {key: (LEAF if set(below) == {"."} else plain(below)) if key != "." else LEAF for key, below in node.items()}


def paths_of(node: dict[str, Any], prefix: tuple[str, ...] = ()) -> Paths:
    found: set[tuple[str, ...]] = set()
    for key, below in node.items():
        if key == ".":
            continue
        if field_sets.is_member(below):
            found.add((*prefix, key))
        found |= paths_of(below, (*prefix, key))
    return frozenset(found)


@given(PATHS)
def test_a_set_is_what_went_into_it(paths: Paths) -> None:
    assert paths_of(node_of(paths)) == paths


@given(PATHS, PATHS)
def test_union_difference_and_intersection(left: Paths, right: Paths) -> None:
    one, other = node_of(left), node_of(right)
    assert paths_of(union(one, other)) == left | right
    assert paths_of(difference(one, other)) == left - right
    assert paths_of(intersection(one, other)) == left & right
    assert difference(one, other) == node_of(left - right)
    assert intersection(one, other) == node_of(left & right)
    assert (one, other) == (node_of(left), node_of(right))


@given(PATHS, PATHS)
def test_what_did_not_change_is_the_same_dict(left: Paths, right: Paths) -> None:
    one = node_of(left)
    if not left & right:
        assert difference(one, node_of(right)) is one
    if right <= left:
        assert union(one, node_of(right)) is one


def test_paths_below_a_reset_field_go_too() -> None:
    node = {"f:spec": {"f:a": {}}, "f:status": {".": {}, "f:b": {}}, "f:metadata": {"f:labels": {"f:x": {}}}}
    assert field_sets.without_paths(node, [("status",), ("metadata", "labels")]) == {"f:spec": {"f:a": {}}}
    same = {"f:spec": {"f:a": {}}}
    assert field_sets.without_paths(same, [("status",)]) is same


def test_paths_are_shown_as_upstream_shows_them() -> None:
    node = {"f:a": {".": {}, 'k:{"name":"c","port":80}': {"f:b": {}}}, "f:d": {'v:"x"': {}}, "f:e": {"i:0": {}}}
    assert list(field_sets.paths(node)) == [".a", '.a[name="c",port=80].b', '.d[="x"]', ".e[0]"]
