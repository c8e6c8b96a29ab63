"""JSON Patch and JSON Merge Patch: results, refusals, and that documents stay as they were."""

# ruff: noqa: E501

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api import patches
from anynode.api.patches import PatchError, json_patch, merge_patch

DOCUMENT: dict[str, Any] = {"a": {"b": [1, 2, {"c": "d"}]}, "e": "f"}


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/a/x", "value": 1}], {"a": {"b": [1, 2, {"c": "d"}], "x": 1}, "e": "f"}),
        ([{"op": "add", "path": "/a/b/-", "value": 3}], {"a": {"b": [1, 2, {"c": "d"}, 3]}, "e": "f"}),
        ([{"op": "add", "path": "/a/b/1", "value": 9}], {"a": {"b": [1, 9, 2, {"c": "d"}]}, "e": "f"}),
        ([{"op": "remove", "path": "/a/b/0"}], {"a": {"b": [2, {"c": "d"}]}, "e": "f"}),
        ([{"op": "replace", "path": "/a/b/2/c", "value": None}], {"a": {"b": [1, 2, {"c": None}]}, "e": "f"}),
        ([{"op": "replace", "path": "/new", "value": 1}], {**DOCUMENT, "new": 1}),
        ([{"op": "move", "from": "/a/b/0", "path": "/g"}], {"a": {"b": [2, {"c": "d"}]}, "e": "f", "g": 1}),
        ([{"op": "copy", "from": "/a", "path": "/g"}, {"op": "remove", "path": "/g/b"}], {**DOCUMENT, "g": {}}),
        ([{"op": "add", "path": "/x~1y~0z", "value": 1}], {**DOCUMENT, "x/y~z": 1}),
        ([{"op": "test", "path": "/a/b/2/c", "value": "d"}], DOCUMENT),
        ([{"op": "test", "path": "/nope", "value": None}], DOCUMENT),
        ([{"op": "replace", "path": "", "value": {"q": 1}}], {"q": 1}),
    ],
)
def test_operations(operations: list[dict[str, Any]], result: Any) -> None:
    before = json.dumps(DOCUMENT)
    assert json_patch(DOCUMENT, operations) == result
    assert json.dumps(DOCUMENT) == before


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "odd", "path": "/a"}, "Unexpected kind: odd"),
        ({"path": "/a"}, "Unexpected kind: unknown"),
        ({"op": "add", "path": "/x/y"}, 'add operation does not apply: doc is missing path: "/x/y": missing value'),
        ({"op": "remove", "path": "/x"}, "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value"),
        ({"op": "test", "path": "/e", "value": "g"}, "testing value /e failed: test failed"),
        ({"op": "test", "path": "/a/b/0", "value": True}, "testing value /a/b/0 failed: test failed"),
        ({"op": "replace", "path": "/x/y"}, "replace operation does not apply: doc is missing path: /x/y: missing value"),
        ({"op": "remove", "path": "/a/b/7"}, "error in remove for path: '/a/b/7': Unable to access invalid index: 7: invalid index referenced"),
        ({"op": "add", "path": "/a/b/x"}, "error in add for path: '/a/b/x': value was not a proper array index: 'x': strconv.Atoi: parsing \"x\": invalid syntax"),
        ({"op": "move", "path": "/x"}, "move operation failed to decode from: operation, missing from field: missing value"),
        ({"op": "add"}, "add operation failed to decode path: missing value"),
    ],
)  # fmt: skip
def test_refusals(operation: dict[str, Any], message: str) -> None:
    with pytest.raises(PatchError) as caught:
        json_patch(DOCUMENT, [operation])
    assert str(caught.value) == message


def test_limits() -> None:
    with pytest.raises(patches.TooManyOperations, match="is 10000, got 10001"):
        json_patch({}, [{"op": "test", "path": ""}] * 10_001)
    doubling = [{"op": "copy", "from": "/a", "path": f"/a/{index}"} for index in range(40)]
    with pytest.raises(PatchError, match="exceeding the limit 3145728"):
        json_patch({"a": {"x": "y" * 1000}}, doubling)


def test_merge_patch() -> None:
    assert merge_patch(DOCUMENT, {"a": None, "e": {"x": None, "y": 1}, "l": [None]}) == {"e": {"y": 1}, "l": [None]}
    with pytest.raises(patches.BadPatch):
        merge_patch(DOCUMENT, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text("ab", max_size=2), JSON, max_size=3)


@given(OBJECTS, OBJECTS)
def test_a_merge_patch_comes_to_rest_and_leaves_the_document(document: dict[str, Any], patch: dict[str, Any]) -> None:
    before = json.dumps(document)
    once = merge_patch(document, patch)
    assert json.dumps(document) == before
    twice = merge_patch(once, patch)  # a list that replaced a map keeps its nulls the first time, as upstream
    assert merge_patch(twice, patch) == twice
    assert twice.keys() == once.keys()


@given(OBJECTS, st.lists(st.tuples(st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
                                   st.sampled_from(["", "/a", "/b/a", "/a/0", "/a/-", "/ab/b/a"]),
                                   st.sampled_from(["/a", "/b", "/a/0", "/b/a"]), JSON), max_size=4))  # fmt: skip
def test_any_patch_applies_or_is_refused_and_never_touches_the_document(
    document: dict[str, Any], steps: list[tuple[str, str, str, Any]]
) -> None:
    before = json.dumps(document)
    operations = [{"op": op, "path": path, "from": source, "value": value} for op, path, source, value in steps]
    with contextlib.suppress(PatchError):
        json_patch(document, operations)
    assert json.dumps(document) == before
