"""Definitions of custom resources as clients handle them, and what is published of them.

Source: ``test/e2e/apimachinery/{custom_resource_definition,crd_watch,crd_publish_openapi}.go`` of kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from tests.component.api_client import CRDS, Client, definition, served, version

from anynode.api.objects import Object

FOOS = "/apis/example.com/v1/namespaces/default/foos"
BARS = {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}}
SCHEMA: Object = {
    "description": "Foo CRD for Testing",
    "type": "object",
    "properties": {
        "spec": {"type": "object", "description": "Specification of Foo", "properties": {"bars": BARS}},
        "status": {"type": "object", "properties": {"bars": BARS}},
    },
}
LOOSE: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
ADDED = {"apiVersion", "kind", "metadata"}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with served() as client:
        yield client


def foo(name: str = "a", **said: Any) -> Object:
    return {"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": name}, **said}


async def test_a_definition_comes_and_goes(client: Client) -> None:
    await client.define(definition(version(SCHEMA)))
    assert (await client.get(FOOS))["items"] == []
    await client.delete(f"{CRDS}/foos.example.com")
    await client.until(f"{CRDS}/foos.example.com", lambda crd: crd.get("code") == 404)
    assert (await client.ask("GET", FOOS)).status == 404


async def test_definitions_are_listed_and_deleted_by_label(client: Client) -> None:
    for number in range(3):
        crd = definition(version(SCHEMA), plural=f"foos{number}", kind=f"Foo{number}")
        await client.define({**crd, "metadata": {**crd["metadata"], "labels": {"test": "list"}}})
    await client.define(definition(version(SCHEMA), plural="others", kind="Other"))
    selected = f"{CRDS}?labelSelector=test%3Dlist"
    assert len((await client.get(selected))["items"]) == 3
    await client.delete(selected)
    await client.until(selected, lambda found: found["items"] == [])
    assert [each["metadata"]["name"] for each in (await client.get(CRDS))["items"]] == ["others.example.com"]


async def test_the_status_of_a_definition_is_read_updated_and_patched(client: Client) -> None:
    await client.define(definition(version(SCHEMA)))
    target = f"{CRDS}/foos.example.com/status"
    read = await client.get(target)
    added = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from an e2e test"}
    conditions = [*read["status"]["conditions"], added]
    updated = await client.put(target, {**read, "status": {**read["status"], "conditions": conditions}})
    assert updated["status"]["conditions"][-1]["message"] == "Set from an e2e test"
    answer = await client.done(
        "PATCH",
        target,
        [{"op": "add", "path": "/status/conditions/-", "value": {**added, "type": "StatusPatched"}}],
        content_type="application/json-patch+json",
    )
    assert "StatusPatched" in [each["type"] for each in answer["status"]["conditions"]]


async def test_definitions_stand_in_the_discovery_documents(client: Client) -> None:
    groups = {each["name"]: each for each in (await client.get("/apis"))["groups"]}
    assert groups["apiextensions.k8s.io"]["versions"][0]["version"] == "v1"
    assert (await client.get("/apis/apiextensions.k8s.io"))["preferredVersion"]["version"] == "v1"
    names = [each["name"] for each in (await client.get("/apis/apiextensions.k8s.io/v1"))["resources"]]
    assert "customresourcedefinitions" in names


async def test_defaults_are_set_in_requests_and_in_what_is_read(client: Client) -> None:
    def schema(**defaults: str) -> Object:
        fields: Object = {name: {"type": "string", "default": value} for name, value in defaults.items()}
        return {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}, **fields}}

    await client.define(definition(version(schema())))
    made = await client.post(FOOS, foo())
    assert "a" not in made
    change = {"spec": {"versions": [version(schema(a="A"))]}}
    await client.merge(f"{CRDS}/foos.example.com", change)
    read = await client.until(f"{FOOS}/a", lambda found: "a" in found)
    assert (read["a"], "b" in read) == ("A", False)
    changed = await client.merge(f"{CRDS}/foos.example.com", {"spec": {"versions": [version(schema(a="A", b="B"))]}})
    assert changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["b"]["default"] == "B"
    made = await client.post(FOOS, foo("new", a="own"))
    assert (made["a"], made["b"]) == ("own", "B")


async def test_custom_objects_are_watched_through_all_their_changes(client: Client) -> None:
    await client.define(definition(version(LOOSE)))
    async with client.watching("/apis/example.com/v1/foos") as sink:
        for name in ("a", "b"):
            await client.post(FOOS, foo(name, content={"key": "v"}))
        await client.merge(f"{FOOS}/a", {"content": {"key": "w"}})
        for name in ("a", "b"):
            await client.delete(f"{FOOS}/{name}")
        seen = await sink.reach(5)
    told = [(kind, each["metadata"]["name"]) for kind, each in seen]
    assert told == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "a"), ("DELETED", "b")]
    assert seen[2][1]["content"] == {"key": "w"}


# --- OpenAPI


async def definitions(client: Client, wanted: Callable[[Object], bool]) -> Object:
    document = await client.until("/openapi/v2", lambda found: wanted(found["definitions"]))
    found: Object = document["definitions"]
    return found


def own(schema: Object) -> Object:
    """What a definition says beside the fields and marks every kind has."""
    kept = {key: value for key, value in schema.items() if key != "x-kubernetes-group-version-kind"}
    fields = {name: each for name, each in (kept.pop("properties", None) or {}).items() if name not in ADDED}
    return {**kept, "properties": fields} if fields else kept


async def test_a_schema_is_published_as_it_is_written(client: Client) -> None:
    await client.define(definition(version(SCHEMA)))
    found = (await definitions(client, lambda found: "com.example.v1.Foo" in found))["com.example.v1.Foo"]
    assert own(found) == SCHEMA
    assert set(found["properties"]) >= ADDED
    assert found["x-kubernetes-group-version-kind"] == [{"group": "example.com", "kind": "Foo", "version": "v1"}]


@pytest.mark.parametrize("schema", [LOOSE, {**LOOSE, "properties": {"spec": {"type": "object"}}}])
async def test_a_schema_that_keeps_unknown_fields_says_nothing_but_that_it_is_an_object(
    client: Client, schema: Object
) -> None:
    await client.define(definition(version(schema)))
    found = (await definitions(client, lambda found: "com.example.v1.Foo" in found))["com.example.v1.Foo"]
    assert own(found) == {"type": "object"}
    assert "properties" not in found
    made = await client.done("POST", f"{FOOS}?fieldValidation=Strict", foo(a={"b": [{"c": "d"}]}))
    assert made["a"] == {"b": [{"c": "d"}]}


async def test_an_embedded_object_that_keeps_unknown_fields_has_no_type(client: Client) -> None:
    embedded = {**LOOSE, "description": "Specification of Waldo"}
    schema = {"description": "preserve-unknown-properties in nested field", "type": "object"}
    await client.define(definition(version({**schema, "properties": {"spec": embedded}})))
    found = (await definitions(client, lambda found: "com.example.v1.Foo" in found))["com.example.v1.Foo"]
    said = {"description": "Specification of Waldo", "x-kubernetes-preserve-unknown-fields": True}
    assert own(found) == {**schema, "properties": {"spec": said}}
    made = await client.done("POST", f"{FOOS}?fieldValidation=Strict", foo(spec={"a": {"b": [{"c": "d"}]}}))
    assert made["spec"] == {"a": {"b": [{"c": "d"}]}}


@pytest.mark.parametrize(
    ("made", "names"),
    [
        (
            [definition(version(SCHEMA)), definition(version(SCHEMA), plural="bars", kind="Bar", group="other.org")],
            {"com.example.v1.Foo", "org.other.v1.Bar"},
        ),
        (
            [definition(version(SCHEMA, "v3"), version(SCHEMA, "v2", storage=False))],
            {"com.example.v3.Foo", "com.example.v2.Foo"},
        ),
        (
            [definition(version(SCHEMA)), definition(version(SCHEMA), plural="bars", kind="Bar")],
            {"com.example.v1.Foo", "com.example.v1.Bar"},
        ),
    ],
    ids=["groups", "versions", "kinds"],
)
async def test_several_definitions_are_published_side_by_side(
    client: Client, made: list[Object], names: set[str]
) -> None:
    for crd in made:
        await client.define(crd)
    found = await definitions(client, lambda found: names <= set(found))
    assert all(own(found[name]) == SCHEMA for name in names)


async def test_a_renamed_version_is_published_under_its_new_name_alone(client: Client) -> None:
    await client.define(definition(version(SCHEMA, "v2"), version(SCHEMA, "v3", storage=False)))
    await definitions(client, lambda found: "com.example.v3.Foo" in found)
    renamed = [version(SCHEMA, "v2"), version(SCHEMA, "v4", storage=False)]
    await client.merge(f"{CRDS}/foos.example.com", {"spec": {"versions": renamed}})
    found = await definitions(client, lambda found: "com.example.v4.Foo" in found)
    assert "com.example.v3.Foo" not in found
    assert own(found["com.example.v4.Foo"]) == own(found["com.example.v2.Foo"]) == SCHEMA


async def test_a_version_that_is_not_served_any_more_is_not_published(client: Client) -> None:
    await client.define(definition(version(SCHEMA, "v5"), version(SCHEMA, "v6alpha1", storage=False)))
    await definitions(client, lambda found: "com.example.v6alpha1.Foo" in found)
    left = [version(SCHEMA, "v5"), {**version(SCHEMA, "v6alpha1", storage=False), "served": False}]
    await client.merge(f"{CRDS}/foos.example.com", {"spec": {"versions": left}})
    found = await definitions(client, lambda found: "com.example.v6alpha1.Foo" not in found)
    assert own(found["com.example.v5.Foo"]) == SCHEMA
