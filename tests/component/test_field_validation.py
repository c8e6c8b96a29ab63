"""Unknown and duplicate fields with ``fieldValidation=Strict``: built-in kinds, custom resources, merges and applies.

Source: ``test/e2e/apimachinery/field_validation.go`` of kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from tests.component.api_client import MERGE, Client, definition, served, version

from anynode.api.objects import Object

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
FOOS = "/apis/example.com/v1/namespaces/default/foos"
APPLY = "application/apply-patch+yaml"
STRICT = "fieldManager=m&fieldValidation=Strict"
PORT = {"containerPort": {"type": "integer"}, "name": {"type": "string"}, "protocol": {"type": "string"}}
SPEC: Object = {
    "foo": {"type": "string"},
    "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
    "ports": {
        "type": "array",
        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
        "x-kubernetes-list-type": "map",
        "items": {"type": "object", "properties": PORT, "required": ["containerPort", "protocol"]},
    },
}
TYPED: Object = {"type": "object", "properties": {"spec": {"type": "object", "properties": SPEC}}}
EMBEDDED: Object = {
    "type": "object",
    "x-kubernetes-embedded-resource": True,
    "properties": {
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
        "spec": {"type": "object"},
    },
}
LOOSE_SPEC: Object = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {**SPEC, "template": EMBEDDED},
        }
    },
}
GOOD: Object = {
    "foo": "foo1",
    "cronSpec": "* * * * */5",
    "ports": [{"name": "x", "containerPort": 80, "protocol": "TCP"}],
}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with served() as client:
        yield client


def deployment() -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d"},
        "spec": {
            "selector": {"matchLabels": {"app": "nginx"}},
            "template": {
                "metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx:latest"}]},
            },
        },
    }


def foo(spec: Any, **metadata: Any) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a", **metadata}, "spec": spec}


def applied(body: Object) -> bytes:
    return yaml.safe_dump(body).encode()


async def test_a_typed_object_with_unknown_and_duplicate_fields(client: Client) -> None:
    body = b"""{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "unknownField": "foo", "replicas": 2, "replicas": 3, "selector": {"matchLabels": {"app": "nginx"}},
        "template": {"metadata": {"labels": {"app": "nginx"}},
                     "spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}}}"""
    said = 'strict decoding error: unknown field "spec.unknownField", duplicate field "spec.replicas"'
    assert said in await client.refused(400, "POST", f"{DEPLOYMENTS}?{STRICT}", body)
    await client.post(DEPLOYMENTS, deployment())
    change = b'{"spec": {"unknownField": "foo", "replicas": 2, "replicas": 3}}'
    told = await client.refused(422, "PATCH", f"{DEPLOYMENTS}/d?{STRICT}", change, content_type=MERGE)
    assert 'unknown field "spec.unknownField"' in told
    assert 'duplicate field "spec.replicas"' in told


async def test_a_typed_object_with_unknown_metadata(client: Client) -> None:
    body = deployment()
    body = {**body, "metadata": {**body["metadata"], "unknownMeta": "foo"}}
    said = await client.refused(400, "POST", f"{DEPLOYMENTS}?{STRICT}", body)
    assert 'strict decoding error: unknown field "metadata.unknownMeta"' in said


async def test_a_valid_custom_object_is_created_and_applied(client: Client) -> None:
    await client.define(definition(version(TYPED)))
    made = await client.done("PATCH", f"{FOOS}/a?{STRICT}", applied(foo(GOOD)), content_type=APPLY)
    assert made["spec"] == GOOD
    again = await client.done("PATCH", f"{FOOS}/a?{STRICT}", applied(foo(GOOD)), content_type=APPLY)
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_custom_objects_without_a_schema_may_say_anything(client: Client) -> None:
    await client.define(definition(version({"type": "object", "x-kubernetes-preserve-unknown-fields": True})))
    body = applied(foo({**GOOD, "unknown": "uk1"}))
    made = await client.done("PATCH", f"{FOOS}/a?{STRICT}", body, content_type=APPLY)
    assert made["spec"]["unknown"] == "uk1"


async def test_a_field_beside_the_schema_of_a_custom_object(client: Client) -> None:
    await client.define(definition(version(TYPED)))
    body = applied({**foo(GOOD), "unknownField": "unknown"})
    said = await client.refused(500, "PATCH", f"{FOOS}/a?{STRICT}", body, content_type=APPLY)
    assert ".unknownField: field not declared in schema" in said
    told = await client.refused(400, "POST", f"{FOOS}?{STRICT}", {**foo(GOOD), "unknownField": "unknown"})
    assert 'strict decoding error: unknown field "unknownField"' in told


async def test_unknown_metadata_of_a_custom_object_and_of_one_inside_it(client: Client) -> None:
    await client.define(definition(version(LOOSE_SPEC)))
    inner = {"apiVersion": "foo/v1", "kind": "Sub", "metadata": {"name": "sub", "unknownSubMeta": "unknown"}}
    body = foo({**GOOD, "template": inner}, unknownMeta="unknown")
    said = await client.refused(500, "PATCH", f"{FOOS}/a?{STRICT}", applied(body), content_type=APPLY)
    assert ".metadata.unknownMeta: field not declared in schema" in said or "unknownSubMeta" in said
    told = await client.refused(400, "POST", f"{FOOS}?{STRICT}", body)
    assert 'unknown field "metadata.unknownMeta"' in told
    assert 'unknown field "spec.template.metadata.unknownSubMeta"' in told


async def test_duplicates_in_a_custom_object_that_keeps_unknown_fields(client: Client) -> None:
    await client.define(definition(version(LOOSE_SPEC)))
    body = b"""
apiVersion: example.com/v1
kind: Foo
metadata:
  name: a
spec:
  unknown: uk1
  unknown: uk2
  foo: foo1
"""
    said = await client.refused(400, "POST", f"{FOOS}?{STRICT}", body, content_type="application/yaml")
    assert 'line 8: key "unknown" already set in map' in said
    as_json = b'{"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"u": 1, "u": 2}}'
    assert 'duplicate field "spec.u"' in await client.refused(400, "POST", f"{FOOS}?{STRICT}", as_json)
