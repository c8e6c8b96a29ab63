"""Strategic merge: directives, orders and refusals as a kube-apiserver 1.36 shows them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.schema import types
from anynode.schema.strategic import StrategicError, merge

TYPES = types.builtin()
SPEC = "io.k8s.api.core.v1.PodSpec"


def spec(*names: str) -> dict[str, Any]:
    return {"containers": [{"name": name, "image": f"i-{name}"} for name in names]}


def patched(original: dict[str, Any], patch: dict[str, Any], kind: str = SPEC) -> Any:
    before = json.dumps([original, patch])
    result = merge(original, patch, kind, TYPES)
    assert json.dumps([original, patch]) == before
    return result


def names(result: dict[str, Any]) -> list[str]:
    return [each["name"] for each in result["containers"]]


def test_lists_of_maps_merge_by_their_key() -> None:
    result = patched(spec("a", "b"), {"containers": [{"name": "b", "image": "new"}, {"name": "c", "image": "c"}]})
    assert result == {
        "containers": [
            {"name": "a", "image": "i-a"},
            {"name": "b", "image": "new"},
            {"name": "c", "image": "c"},
        ]
    }


def test_ports_merge_by_container_port() -> None:
    original = {"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "x"}, {"containerPort": 81}]}]}
    patch = {"containers": [{"name": "a", "ports": [{"containerPort": 81, "$patch": "delete"}]}]}
    assert patched(original, patch)["containers"][0]["ports"] == [{"containerPort": 80, "name": "x"}]


def test_lists_without_a_strategy_are_replaced() -> None:
    original = {"containers": [{"name": "a", "args": ["x"]}], "tolerations": [{"key": "k"}]}
    result = patched(original, {"containers": [{"name": "a", "args": ["y"]}], "tolerations": [{"key": "l"}]})
    assert result == {"containers": [{"name": "a", "args": ["y"]}], "tolerations": [{"key": "l"}]}


def test_lists_of_plain_values_merge_where_the_type_says_so() -> None:
    meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    result = patched({"finalizers": ["a", "b"]}, {"finalizers": ["c", "a"]}, meta)
    assert sorted(result["finalizers"]) == ["a", "b", "c"]
    assert patched({"finalizers": ["a", "b"]}, {"$deleteFromPrimitiveList/finalizers": ["a"]}, meta) == {
        "finalizers": ["b"]
    }


def test_replace_and_delete_directives() -> None:
    assert patched(spec("a"), {"containers": [{"$patch": "replace"}, {"name": "z"}]}) == {"containers": [{"name": "z"}]}
    assert patched(spec("a"), {"$patch": "replace", "hostname": "h"}) == {"hostname": "h"}
    assert patched({"nodeSelector": {"a": "b"}}, {"nodeSelector": {"$patch": "delete"}}) == {"nodeSelector": {}}


def test_null_removes_and_nulls_inside_new_values_are_dropped() -> None:
    result = patched({"hostname": "h", "nodeName": "n"}, {"hostname": None, "securityContext": {"runAsUser": None}})
    assert result == {"nodeName": "n", "securityContext": {}}


def test_set_element_order() -> None:
    patch = {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}],
        "containers": [{"name": "c", "image": "new"}],
    }
    assert names(patched(spec("a", "b"), patch)) == ["c", "a", "b"]
    assert names(patched(spec("a", "b"), {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]})) == ["b", "a"]


def test_retain_keys() -> None:
    original = {"volumes": [{"name": "v", "emptyDir": {}}]}
    patch = {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}
    assert patched(original, patch) == {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        ({"$retainKeys": "x"}, 400, "invalid patch format of retainKeys"),
        ({"$deleteFromPrimitiveList": ["x"]}, 400, "invalid patch format of primitive list"),
        ({"containers": [{"image": "x"}]}, 500, "map: map[image:x] does not contain declared merge key: name"),
        ({"containers": ["x"]}, 500, "list element types are not identical: [[map[image:i-a name:a]] [x]]"),
        (
            {"containers": [{"name": "a", "$patch": "odd"}]},
            500,
            "unknown patch type: odd in map: map[$patch:odd name:a]",
        ),
        (
            {"$setElementOrder/containers": [{"name": "c1"}], "containers": [{"name": "c2"}]},
            500,
            "The order in patch list:\n[map[name:c2]]\n doesn't match $setElementOrder list:\n[map[name:c1]]\n",
        ),
    ],
)
def test_refusals(patch: dict[str, Any], code: int, message: str) -> None:
    with pytest.raises(StrategicError) as caught:
        patched(spec("a"), patch)
    assert str(caught.value) == message
    assert caught.value.code == code


CONTAINERS = st.lists(st.sampled_from("abc"), unique=True, max_size=3).map(
    lambda found: [{"name": name, "image": name} for name in found]
)


@given(CONTAINERS, CONTAINERS)
def test_every_container_of_either_side_is_there_once(left: list[Any], right: list[Any]) -> None:
    result = patched({"containers": left}, {"containers": right})
    assert sorted(names(result)) == sorted({each["name"] for each in [*left, *right]})
    again = patched(result, {"containers": right})
    assert sorted(names(again)) == sorted(names(result))


def test_many_items_are_found_by_their_key_at_once() -> None:
    count = 20_000
    original = {"containers": [{"name": f"c{n}", "image": "a"} for n in range(count)]}
    change: list[dict[str, Any]] = [{"name": f"c{n}", "image": "b"} for n in range(1, count)]
    change += [{"$patch": "delete", "name": "c0"}, {"name": "new", "image": "a"}, {"name": "new", "image": "b"}]
    result = merge(original, {"containers": change}, SPEC, TYPES)
    assert len(result["containers"]) == count
    assert {each["image"] for each in result["containers"]} == {"b"}
    assert names(result)[-1] == "new"
