from __future__ import annotations

from collections.abc import Callable

from anynode.api.objects import Object
from anynode.registry.expiry import EventExpiry
from anynode.registry.store import ResourceStore, Write
from anynode.registry.watch_cache import WatchCache
from anynode.testing.clock import FakeClock


def event(name: str) -> Object:
    about = {"kind": "Pod", "namespace": "ns", "name": "p"}
    return {"metadata": {"name": name, "namespace": "ns"}, "involvedObject": about, "reason": "R", "type": "Normal"}


async def test_events_go_an_hour_after_their_last_write(
    make_store: Callable[..., ResourceStore], cache: WatchCache, clock: FakeClock, write: Write
) -> None:
    store = make_store("events")
    await cache.open()
    expiry = EventExpiry(store, clock=clock, seconds=3600)
    await store.create(event("old"), write)
    await store.create(event("renewed"), write)
    await clock.advance(3000)
    await store.update("ns/renewed", lambda old: {**(old or {}), "count": 2}, write)
    await expiry.sweep()
    assert len(store.cache.items) == 2
    await clock.advance(601)
    await expiry.sweep()
    assert list(store.cache.items) == ["ns/renewed"]
    await clock.advance(3000)
    await expiry.sweep()
    assert not store.cache.items
