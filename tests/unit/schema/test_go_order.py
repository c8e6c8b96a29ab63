"""Objects in messages have their fields in the order Go writes them."""

from __future__ import annotations

from anynode.schema import types
from anynode.schema.go_order import in_go_order

TYPES = types.builtin()


def test_fields_stand_as_they_are_declared_and_map_keys_sorted() -> None:
    pod = {
        "spec": {
            "containers": [{"image": "i", "name": "c"}],
            "initContainers": [],
            "volumes": [{"secret": {}, "name": "v"}],
        },
        "metadata": {
            "labels": {"b": "1", "a": "2"},
            "name": "p",
            "managedFields": [{"apiVersion": "v1", "manager": "m"}],
        },
        "kind": "Pod",
        "apiVersion": "v1",
    }
    ordered = in_go_order(pod, TYPES.of_kind("v1", "Pod"), TYPES)
    assert ordered == pod
    assert list(ordered) == ["kind", "apiVersion", "metadata", "spec"]
    assert list(ordered["spec"]) == ["volumes", "initContainers", "containers"]
    assert list(ordered["spec"]["containers"][0]) == ["name", "image"]
    assert list(ordered["spec"]["volumes"][0]) == ["name", "secret"]
    assert list(ordered["metadata"]["labels"]) == ["a", "b"]
    assert list(ordered["metadata"]["managedFields"][0]) == ["manager", "apiVersion"]
