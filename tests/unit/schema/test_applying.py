"""Comparing, merging and taking out: the laws server-side apply rests on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.schema import applying, types
from anynode.schema.comparison import compare
from anynode.schema.field_sets import LEAF, is_member
from anynode.schema.shapes import field_set, grown, shapes

TYPES = types.builtin()
SHAPES = shapes(TYPES)
SPEC = SHAPES.of("io.k8s.api.core.v1.PodSpec")
SERVICE = SHAPES.of("io.k8s.api.core.v1.ServiceSpec")
META = SHAPES.of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")

WORDS = st.sampled_from(["a", "b", "c"])
ENV = st.lists(WORDS, unique=True, max_size=3).map(lambda found: [{"name": each, "value": each * 2} for each in found])
CONTAINER = st.fixed_dictionaries(
    {"name": WORDS}, optional={"image": WORDS, "args": st.lists(WORDS, max_size=2), "env": ENV}
)
CONTAINERS = st.lists(CONTAINER, unique_by=lambda each: each["name"], max_size=3)
SPECS: Any = st.fixed_dictionaries(
    {},
    optional={
        "containers": CONTAINERS,
        "hostname": WORDS,
        "nodeSelector": st.dictionaries(WORDS, WORDS, max_size=2),
        "securityContext": st.dictionaries(st.sampled_from(["runAsUser", "fsGroup"]), st.integers(1, 3), max_size=2),
    },
)


def members(node: Any, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key, below in (node or {}).items():
        if key != ".":
            if is_member(below):
                found.add((*prefix, key))
            found |= members(below, (*prefix, key))
    return found


@given(SPECS, SPECS)
def test_a_change_is_what_one_has_and_the_other_has_not(left: Any, right: Any) -> None:
    change = compare(SPEC, left, right)
    old, new = members(grown(SPEC, left)), members(grown(SPEC, right))
    assert members(change.added) == new - old
    assert members(change.removed) == old - new
    assert members(change.modified) <= old & new
    assert (change == (None, None, None)) == (normal(left) == normal(right))


def normal(value: Any) -> Any:
    """Lists by key hold the same whatever their order."""
    if isinstance(value, dict):
        return {key: normal(each) for key, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {each["name"]: normal(each) for each in value}
    return value


@given(SPECS, SPECS)
def test_a_merge_holds_the_config_and_what_the_live_object_had_besides(live: Any, config: Any) -> None:
    before = json.dumps([live, config])
    merged = applying.merge(SPEC, live, config)
    assert json.dumps([live, config]) == before
    assert members(grown(SPEC, merged)) >= members(grown(SPEC, live)) | members(field_set(SPEC, config))
    assert normal(applying.merge(SPEC, merged, config)) == normal(merged)


@given(SPECS)
def test_taking_out_all_leaves_takes_out_all(spec: Any) -> None:
    node = field_set(SPEC, spec)
    rest = applying.remove(SPEC, spec, applying.with_named_fields(SPEC, node))
    assert members(field_set(SPEC, rest)) & members(node) == set()
    assert applying.remove(SPEC, spec, LEAF) == spec


@pytest.mark.parametrize(
    ("live", "config", "merged"),
    [
        ("abc", "b", "abc"),
        ("abc", "cb", "acb"),
        ("abc", "d", "abcd"),
        ("ab", "xb", "axb"),
        ("", "ba", "ba"),
    ],
)
def test_the_order_of_merged_lists(live: str, config: str, merged: str) -> None:
    result = applying.merge(META, {"finalizers": list(live)}, {"finalizers": list(config)})
    assert "".join(result["finalizers"]) == merged


def test_keys_left_out_take_their_default() -> None:
    ports = {"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}
    assert list(field_set(SERVICE, ports)["f:ports"]) == [
        'k:{"port":80,"protocol":"TCP"}',
        'k:{"port":80,"protocol":"UDP"}',
    ]
    assert field_set(SERVICE, {"selector": {"a": "b"}}) == {"f:selector": {}}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"replicas": "x"}, ".replicas: expected numeric (int or float), got string"),
        ({"paused": 1}, ".paused: expected boolean, got &{1}"),
        ({"template": {"spec": {"containers": {}}}}, ".template.spec.containers: expected list, got &{map[]}"),
        ({"template": {"spec": {"containers": ["x"]}}},
         ".template.spec.containers: element 0: associative list with keys may not have non-map elements"),
        ({"template": {"spec": {"containers": [{"name": "a", "x": 1}]}}},
         '.template.spec.containers[name="a"].x: field not declared in schema'),
        ({"selector": {"matchLabels": {"a": 1}}},
         ".selector.matchLabels.a: expected string, got &value.valueUnstructured{Value:1}"),
    ],
)  # fmt: skip
def test_what_a_config_may_not_say(value: Any, complaint: str) -> None:
    assert applying.validate(SHAPES.of("io.k8s.api.apps.v1.DeploymentSpec"), value) == [complaint]
