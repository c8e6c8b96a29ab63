"""A cache that follows what is stored a step behind: order, batches, failures, and too much to follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from anynode.api.errors import ApiError
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.api.wire import WatchEvent
from anynode.apiserver.custom_forms import CustomForm
from anynode.registry import lagging_cache
from anynode.registry.encoding import canonical, encode, head_of
from anynode.registry.lagging_cache import LaggingCache
from anynode.registry.watch_cache import ResourceCache, WatchCache
from anynode.registry.watchers import Selection, no_fields
from anynode.storage.memory import MemoryStorage
from anynode.storage.types import Revision
from anynode.testing.clock import FakeClock

STORED = Resource(group="example.com", version="v1", plural="widgets", kind="Widget")
SERVED = Resource(group="example.com", version="v2", plural="widgets", kind="Widget")
PREFIX = "/registry/example.com/widgets/"


class Converter:
    """A codec whose conversions can be held up, counted and failed."""

    resource = SERVED
    storage_head = head_of(STORED)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.failure: ApiError | None = None
        self.open = asyncio.Event()
        self.open.set()

    def read(self, stored: Object) -> Object:
        return {**stored, "apiVersion": SERVED.api_version}

    async def converted(self, stored: Sequence[Object]) -> Sequence[Object]:
        self.batches.append(len(stored))
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return [self.read(each) for each in stored]

    async def to_storage(self, obj: Object) -> Object:
        return {**obj, "apiVersion": STORED.api_version}


class Sink:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []
        self.ended = False

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        self.told += [(event.type, event.object["metadata"]["name"], event.object["apiVersion"]) for event in events]
        return True

    def end(self) -> None:
        self.ended = True


class World:
    """A store, the cache of what is stored, and the one that lags."""

    def __init__(self, storage: MemoryStorage, clock: FakeClock) -> None:
        self.storage = storage
        self.watches = WatchCache(storage, clock)
        self.converter = Converter()
        self.base: ResourceCache
        self.lagging: LaggingCache
        self.clock = clock

    async def begin(self) -> None:
        await self.watches.open()
        self.base = self.watches.at(PREFIX)
        self.lagging = LaggingCache(
            self.base, self.clock, self.converter, read_fields=no_fields, now=lambda: self.watches.revision
        )
        self.watches.join(self.lagging)

    async def put(self, name: str, **spec: object) -> Revision:
        stored = canonical({"metadata": {"name": name}, "spec": spec}, STORED)
        return (await self.storage.put(f"{PREFIX}n/{name}", encode(stored))).mod_revision

    def watch(self, after: Revision | None = None) -> Sink:
        sink = Sink()
        self.watches.start(
            self.lagging, Selection(), CustomForm(SERVED), sink, after=after, initial=after is None, timeout_seconds=60
        )
        return sink


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with MemoryStorage() as storage:
        made = World(storage, FakeClock())
        await made.begin()
        yield made
        made.watches.close()


async def test_nothing_is_converted_before_somebody_asks_and_then_all_at_once(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.put(name)
    assert world.converter.batches == []
    await world.lagging.reach(world.watches.revision)
    assert world.converter.batches == [3]
    assert [item.peek()["apiVersion"] for item in world.lagging.scan()] == ["example.com/v2"] * 3
    await world.lagging.reach(world.watches.revision)
    assert world.converter.batches == [3]
    assert world.watches.revision_of(world.lagging) == world.watches.revision


async def test_watchers_are_told_in_order_each_change_converted_once(world: World) -> None:
    await world.put("a")
    await world.lagging.reach(world.watches.revision)
    first, second = world.watch(), world.watch()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(world.lagging.run())
        world.converter.open.clear()
        await world.put("b")
        await world.put("a", size=2)
        await world.storage.delete(f"{PREFIX}n/b")
        assert world.watches.revision_of(world.lagging) < world.watches.revision
        world.converter.open.set()
        await world.lagging.reach(world.watches.revision)
        world.lagging.detach()
        await running
    expected = [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
    assert [each[:2] for each in first.told] == expected
    assert first.told == second.told
    assert {each[2] for each in first.told} == {"example.com/v2"}
    assert sum(world.converter.batches) == 4


async def test_one_object_is_converted_alone_while_the_rest_waits(world: World) -> None:
    await world.put("a")
    stored = world.base.items["n/a"]
    shown = await world.lagging.shown(stored)
    assert (shown.peek()["apiVersion"], shown.revision) == ("example.com/v2", stored.revision)
    await world.lagging.reach(world.watches.revision)
    assert await world.lagging.shown(stored) is world.lagging.items["n/a"]


async def test_a_failure_ends_the_watches_and_the_next_reader_begins_anew(world: World) -> None:
    await world.put("a")
    await world.lagging.reach(world.watches.revision)
    sink = world.watch()
    world.converter.failure = ApiError("no", reason="")
    await world.put("b")
    with pytest.raises(ApiError, match="no"):
        await world.lagging.reach(world.watches.revision)
    assert sink.ended
    world.converter.failure = None
    await world.lagging.reach(world.watches.revision)
    assert sorted(world.lagging.items) == ["n/a", "n/b"]


async def test_what_nobody_watches_is_not_remembered_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lagging_cache, "MOST_PENDING", 5)
    await world.lagging.reach(world.watches.revision)
    for number in range(7):
        await world.put(f"w{number}")
    assert world.converter.batches == []
    await world.lagging.reach(world.watches.revision)
    assert len(world.lagging.items) == 7


async def test_changes_that_come_while_it_fills_are_not_lost(world: World) -> None:
    await world.put("a")
    world.converter.open.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(world.lagging.reach(world.watches.revision))
        while not world.converter.batches:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await world.put("b")
        world.converter.open.set()
    assert sorted(world.lagging.items) == ["n/a", "n/b"]
