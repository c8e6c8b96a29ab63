"""A store of each kind a test asks for, over real storage in memory and virtual time."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from anynode.api import resources
from anynode.api.wire import User
from anynode.registry.kinds import kind_of
from anynode.registry.store import ResourceStore, Write
from anynode.registry.watch_cache import ResourceCache, WatchCache
from anynode.schema.kinds.catalogue import rules_of
from anynode.storage.memory import MemoryStorage
from anynode.testing.clock import FakeClock

ANN = User(name="ann")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def storage() -> AsyncIterator[MemoryStorage]:
    async with MemoryStorage() as storage:
        yield storage


@pytest.fixture
def cache(storage: MemoryStorage, clock: FakeClock) -> Iterator[WatchCache]:
    cache = WatchCache(storage, clock)
    yield cache
    cache.close()


Stores = Callable[..., ResourceStore]


@pytest.fixture
def make_store(cache: WatchCache, storage: MemoryStorage, clock: FakeClock) -> Stores:
    """``make_store("pods")``; open the cache afterwards."""

    def make(plural: str, group: str = "", build: type[ResourceStore] = ResourceStore, **more: object) -> ResourceStore:
        resource = resources.known(plural, group)
        kind = kind_of(resource, rules_of(group, resource.kind))
        own = cache.add(
            ResourceCache(kind.prefix, clock, read_fields=kind.read_fields, indexed_field=kind.indexed_field)
        )
        return build(kind, own, storage, clock=clock, random=random.Random(7), **more)

    return make


@pytest.fixture
def write() -> Write:
    return Write(user=ANN, manager="test")
