"""Stored objects as one version shows them: from the stored bytes where nothing is to be read, else by the schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.registry.custom_codecs import PlainCodec, WebhookCodec
from anynode.registry.custom_versions import VersionCache, VersionItem, field_reader
from anynode.registry.encoding import canonical, encode
from anynode.registry.watch_cache import WatchCache
from anynode.registry.watchers import no_fields
from anynode.storage.memory import MemoryStorage
from anynode.testing.clock import FakeClock

PREFIX = "/registry/example.com/widgets/"


class Schema:
    """One version: knows some fields of ``spec`` and fills in one."""

    def __init__(self, version: str, known: Sequence[str], **defaults: object) -> None:
        self.resource = Resource(group="example.com", version=version, plural="widgets", kind="Widget")
        self.known = known
        self.defaults = defaults
        self.read = 0

    def checked(self, obj: Object) -> tuple[Object, Sequence[str]]:
        return {**obj, "spec": {name: value for name, value in obj["spec"].items() if name in self.known}}, ()

    def restored(self, obj: Object) -> Object:
        self.read += 1
        checked = self.checked(obj)[0]
        return {**checked, "spec": {**self.defaults, **checked["spec"]}}


@pytest.fixture
def schemas() -> dict[str, Schema]:
    return {"v1": Schema("v1", ("a", "n"), n=1), "v2": Schema("v2", ("a",))}


def widget(schema: Schema, **spec: object) -> Object:
    return canonical({"metadata": {"name": "w", "uid": "u"}, "spec": spec}, schema.resource)


def test_reading_defaults_by_the_version_written_and_prunes_by_the_one_asked_for(schemas: dict[str, Schema]) -> None:
    stored = widget(schemas["v1"], a="x", odd=1)
    assert PlainCodec("v1", "v1", schemas).read(stored)["spec"] == {"a": "x", "n": 1}
    second = PlainCodec("v2", "v1", schemas).read(stored)
    assert (second["apiVersion"], second["spec"]) == ("example.com/v2", {"a": "x"})


async def test_what_is_stored_is_in_the_storage_version_and_whole(schemas: dict[str, Schema]) -> None:
    codec = PlainCodec("v2", "v1", schemas)
    stored = await codec.to_storage(widget(schemas["v2"], a="x"))
    assert stored["apiVersion"] == "example.com/v1"
    assert stored["spec"] == {"n": 1, "a": "x"}
    assert encode(stored).startswith(codec.storage_head)


async def test_a_webhook_is_asked_only_for_what_is_foreign(schemas: dict[str, Schema]) -> None:
    asked: list[tuple[int, str, str]] = []

    async def convert(objects: Sequence[Object], wanted: str, said: str) -> Sequence[Object]:
        asked.append((len(objects), wanted, said))
        return [{**each, "apiVersion": wanted} for each in objects]

    codec = WebhookCodec("v2", "v1", schemas, convert)
    found = await codec.converted([widget(schemas["v2"], a="1"), widget(schemas["v1"], a="2"), widget(schemas["v2"])])
    assert [each["spec"] for each in found] == [{"a": "1"}, {"a": "2"}, {}]
    assert asked == [(1, "example.com/v2", "example.com/v1, Kind=Widget")]
    await WebhookCodec("v1", "v1", schemas, convert).to_storage(widget(schemas["v1"]))
    assert len(asked) == 1


class World:
    def __init__(self, storage: MemoryStorage) -> None:
        self.storage = storage
        self.watches = WatchCache(storage, FakeClock())

    async def put(self, stored: Object) -> None:
        await self.storage.put(f"{PREFIX}n/w", encode(stored))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with MemoryStorage() as storage:
        made = World(storage)
        await made.watches.open()
        yield made
        made.watches.close()


def versioned(world: World, codec: PlainCodec) -> VersionCache:
    return VersionCache(
        world.watches.at(PREFIX), FakeClock(), codec, read_fields=no_fields, revision=world.watches.revision
    )


async def test_objects_written_since_are_shown_from_the_stored_bytes(world: World, schemas: dict[str, Schema]) -> None:
    await world.put(widget(schemas["v1"], a="old"))
    cache = versioned(world, PlainCodec("v1", "v1", schemas))
    older = cache.items["n/w"]
    assert isinstance(older, VersionItem)
    assert schemas["v1"].read == 0
    assert older.object["spec"] == {"n": 1, "a": "old"}
    assert older.object["metadata"]["resourceVersion"] == str(older.revision)
    await world.put(widget(schemas["v1"], a="new"))
    assert cache.items["n/w"] is world.watches.at(PREFIX).items["n/w"]
    assert schemas["v1"].read == 1


async def test_a_detached_cache_follows_no_longer(world: World, schemas: dict[str, Schema]) -> None:
    cache = versioned(world, PlainCodec("v2", "v1", schemas))
    await world.put(widget(schemas["v1"], a="x"))
    assert cache.items["n/w"].object["apiVersion"] == "example.com/v2"
    cache.detach()
    cache.detach()
    await world.storage.delete(f"{PREFIX}n/w")
    assert "n/w" in cache.items


def test_selectable_fields_are_read_as_selectors_compare_them() -> None:
    read = field_reader({"spec.a": ("spec", "a"), "spec.b": ("spec", "b"), "spec.c.d": ("spec", "c", "d")})
    assert read({"spec": {"a": 3, "b": True, "c": "x"}}) == {"spec.a": "3", "spec.b": "true", "spec.c.d": ""}
