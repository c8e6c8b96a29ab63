"""Owners of replicas, told of an object and of its Scale."""

from __future__ import annotations

from typing import Any

from anynode.schema import scale_ownership

NOW = "2026-01-02T03:04:05Z"


def entry(
    manager: str, version: str, fields: dict[str, Any], operation: str = "Update", sub: str = ""
) -> dict[str, Any]:
    found = {"manager": manager, "operation": operation, "apiVersion": version, "time": NOW, "fieldsType": "FieldsV1"}
    return {**found, "fieldsV1": fields, **({"subresource": sub} if sub else {})}


REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
OBJECT = [
    entry("m1", "apps/v1", {"f:spec": {".": {}, "f:paused": {}, "f:replicas": {}}}),
    entry("m2", "apps/v1", {"f:metadata": {"f:labels": {"f:a": {}}}}),
]


def test_only_owners_of_replicas_own_the_scale() -> None:
    assert scale_ownership.of_scale(OBJECT, "apps/v1") == [entry("m1", "autoscaling/v1", REPLICAS)]
    assert scale_ownership.of_scale(OBJECT, "apps/v2") == []


def test_whoever_took_the_replicas_has_them_and_nobody_else() -> None:
    taken = [entry("m3", "autoscaling/v1", REPLICAS, "Apply", "scale")]
    found = scale_ownership.of_object(OBJECT, taken, "apps/v1")
    assert found == [
        entry("m1", "apps/v1", {"f:spec": {".": {}, "f:paused": {}}}),
        OBJECT[1],
        {key: value for key, value in {**taken[0], "apiVersion": "apps/v1"}.items() if key != "time"},
    ]


def test_owners_that_kept_the_replicas_keep_their_entry() -> None:
    found = scale_ownership.of_object(OBJECT, scale_ownership.of_scale(OBJECT, "apps/v1"), "apps/v1")
    assert found == OBJECT
