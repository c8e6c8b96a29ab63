"""Metadata rules: names, labels, annotations, owners, finalizers, and what an update may not change."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath


def told(errors: list[FieldError]) -> list[str]:
    return [f"{each.field}: {each.message}" for each in errors]


def create(namespaced: bool = True, rule: metadata.NameRule | None = None, **given: Any) -> list[str]:
    full: dict[str, Any] = {"name": "n", **({"namespace": "d"} if namespaced else {}), **given}
    return told(metadata.validate_create({"metadata": full}, namespaced=namespaced, valid_name=rule))


def test_ordinary_metadata_is_good() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": True}
    assert create(
        labels={"a": "b", "example.com/c": ""}, annotations={"A/b": "anything \n at all"},
        finalizers=["example.com/f"], ownerReferences=[owner],
    ) == []  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": ""}, "metadata.name: Required value: name or generateName is required"),
        ({"name": "A"}, 'metadata.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist'),
        ({"name": "a" * 254}, "must be no more than 253 characters"),
        ({"namespace": ""}, "metadata.namespace: Required value"),
        ({"namespace": "a.b"}, 'metadata.namespace: Invalid value: "a.b": must not contain dots'),
        ({"generateName": "AB-"}, 'metadata.generateName: Invalid value: "AB-": a lowercase RFC 1123 subdomain'),
        ({"generation": -1}, "metadata.generation: Invalid value: -1: must be greater than or equal to 0"),
        ({"labels": {"a b": "c"}}, 'metadata.labels: Invalid value: "a b": name part must consist of'),
        ({"labels": {"a": "b!"}}, 'metadata.labels: Invalid value: "b!": a valid label must be an empty string or'),
        ({"labels": {"a": "b" * 64}}, "must be no more than 63"),
        ({"annotations": {"a b": ""}}, 'metadata.annotations: Invalid value: "a b": name part must consist of'),
        ({"annotations": {"a": "é" * 131073}}, "metadata.annotations: Too long: may not be more than 262144 bytes"),
        ({"finalizers": ["a b"]}, 'metadata.finalizers: Invalid value: "a b": name part must consist of'),
        ({"finalizers": ["orphan", "foregroundDeletion"]}, "orphan and foregroundDeletion cannot be both set"),
        ({"ownerReferences": [{"kind": "K", "name": "n", "uid": "u"}]}, "ownerReferences.apiVersion: Invalid value"),
        ({"managedFields": [{"operation": "Odd"}]}, "managedFields[0].operation: Invalid value: \"Odd\""),
        ({"managedFields": [{"operation": "Apply", "manager": "m" * 129}]}, "manager: Too long"),
    ],
)  # fmt: skip
def test_bad_metadata_is_named(given: dict[str, Any], expected: str) -> None:
    found = create(**given)
    assert len(found) == 1
    assert expected in found[0]


def test_a_generated_name_may_end_in_dashes() -> None:
    assert create(generateName="a--") == []


def test_two_controllers_are_one_too_many() -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": name, "controller": True} for name in ("a", "b")]
    [found] = create(ownerReferences=owners)
    assert found.endswith('Found "true" in references for Pod/a and Pod/b')


def test_cluster_scoped_objects_take_no_namespace() -> None:
    assert create(namespaced=False, namespace="d") == ["metadata.namespace: Forbidden: not allowed on this type"]


def test_kinds_bring_their_own_name_rules() -> None:
    assert create(name="a:b", rule=metadata.path_segment_name) == []
    assert create(name="a/b", rule=metadata.path_segment_name) == [
        "metadata.name: Invalid value: \"a/b\": may not contain '/'"
    ]
    assert create(name="a.b", rule=metadata.label_name) != []


OLD = {"name": "n", "namespace": "d", "uid": "u", "resourceVersion": "1", "creationTimestamp": "t", "generation": 2}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"labels": {"a": "b"}}, []),
        ({"uid": "x"}, ['metadata.uid: Invalid value: "x": field is immutable']),
        ({"name": "m"}, ['metadata.name: Invalid value: "m": field is immutable']),
        ({"generation": 1}, ["metadata.generation: Invalid value: 1: must not be decremented"]),
        ({"creationTimestamp": None}, ["metadata.creationTimestamp: Invalid value: null: field is immutable"]),
        ({"resourceVersion": ""}, ['metadata.resourceVersion: Invalid value: "": must be specified for an update']),
    ],
)
def test_an_update_keeps_what_the_server_owns(given: dict[str, Any], expected: list[str]) -> None:
    assert told(metadata.validate_update({"metadata": {**OLD, **given}}, {"metadata": OLD})) == expected


def test_a_dying_object_takes_no_new_finalizers() -> None:
    dying = {**OLD, "deletionTimestamp": "t", "finalizers": ["a.b/c"]}
    new = {**dying, "finalizers": ["a.b/c", "a.b/d"]}
    [found] = told(metadata.validate_update({"metadata": new}, {"metadata": dying}))
    assert found.endswith('found new finalizers []string{"a.b/d"}')
    assert metadata.validate_update({"metadata": {**dying, "finalizers": []}}, {"metadata": dying}) == []


def test_an_owner_needs_a_version_that_is_one() -> None:
    path = FieldPath("o")
    for version, good in (("v1", True), ("a/v1", True), ("", False), ("/", False), ("a/", False), ("a/b/c", False)):
        owner = {"apiVersion": version, "kind": "K", "name": "n", "uid": "u"}
        assert (metadata.validate_owner_references([owner], path) == []) is good
