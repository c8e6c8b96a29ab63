"""Lookup by key, namespace and index; detection of changed shared objects."""

from __future__ import annotations

import pytest

from anynode.api.objects import Object, key_of
from anynode.informers.store import ObjectMutated, Store


def obj(namespace: str, name: str, node: str = "") -> Object:
    return {"metadata": {"namespace": namespace, "name": name}, "spec": {"nodeName": node}}


def by_node(each: Object) -> list[str]:
    return [each["spec"]["nodeName"]]


def test_namespaces_and_indexes_follow_changes() -> None:
    store = Store()
    store.put(key_of(obj("a", "x")), obj("a", "x", "n1"))
    store.add_index("node", by_node)
    store.put(key_of(obj("b", "y")), obj("b", "y", "n1"))
    assert len(store) == 2
    assert [each["metadata"]["name"] for each in store.list("b")] == ["y"]
    assert len(store.by_index("node", "n1")) == 2
    store.put(key_of(obj("b", "y")), obj("b", "y", "n2"))
    assert [each["metadata"]["name"] for each in store.by_index("node", "n1")] == ["x"]
    store.remove(key_of(obj("b", "y")))
    assert store.by_index("node", "n2") == []
    assert store.list("b") == []
    assert store.remove(key_of(obj("b", "y"))) is None


def test_unknown_index_is_an_error() -> None:
    with pytest.raises(KeyError):
        Store().by_index("node", "n1")


def test_mutation_of_a_shared_object_is_found() -> None:
    store = Store(detect_mutation=True)
    shared = obj("a", "x")
    store.put(key_of(shared), shared)
    store.check_unchanged()
    shared["spec"]["nodeName"] = "n1"
    with pytest.raises(ObjectMutated, match="a/x"):
        store.check_unchanged()
    with pytest.raises(ObjectMutated):
        store.put(key_of(shared), obj("a", "x"))
