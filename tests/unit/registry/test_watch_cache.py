from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from anynode.api.errors import Expired
from anynode.api.objects import Object
from anynode.api.resources import known
from anynode.api.wire import WatchEvent
from anynode.apiserver.forms import WholeForm
from anynode.registry import watch_cache
from anynode.registry.deletion import DeleteOptions
from anynode.registry.store import ResourceStore, Write
from anynode.registry.watch_cache import WatchCache
from anynode.registry.watchers import Selection
from anynode.storage.memory import MemoryStorage
from anynode.storage.types import Revision
from anynode.testing.clock import FakeClock

Stores = Callable[..., ResourceStore]


FORM = WholeForm(known("configmaps"))
PODS = WholeForm(known("pods"))


class Sink:
    """A reader that takes what it is given until told not to."""

    def __init__(self) -> None:
        self.events: list[WatchEvent] = []
        self.ended = False
        self.willing = True

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        if self.willing:
            self.events.extend(events)
        return self.willing

    def end(self) -> None:
        self.ended = True

    def told(self) -> list[str]:
        return [f"{event.type} {event.object['metadata'].get('name', '')}" for event in self.events]


def config_map(name: str, namespace: str = "ns", **labels: str) -> Object:
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}}


@pytest.fixture
async def store(make_store: Stores, cache: WatchCache) -> ResourceStore:
    store = make_store("configmaps")
    await cache.open()
    return store


def labelled(key: str, value: str) -> Selection:
    return Selection(key=f"{key}={value}", labels=lambda labels: labels.get(key) == value)


async def test_a_watch_shows_what_is_there_and_then_what_happens(
    store: ResourceStore, cache: WatchCache, write: Write
) -> None:
    await store.create(config_map("b"), write)
    await store.create(config_map("a"), write)
    sink = Sink()
    cache.start(store.cache, Selection(), FORM, sink, after=None, initial=True, timeout_seconds=60)
    await store.create(config_map("c"), write)
    await store.update("ns/c", lambda old: {**(old or {}), "data": {"k": "v"}}, write)
    assert sink.told() == ["ADDED a", "ADDED b", "ADDED c", "MODIFIED c"]


async def test_a_watch_resumes_after_its_version(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    first = await store.create(config_map("a"), write)
    await store.create(config_map("b"), write)
    sink = Sink()
    cache.start(store.cache, Selection(), FORM, sink, after=first.revision, timeout_seconds=60)
    assert sink.told() == ["ADDED b"]
    with pytest.raises(Expired, match=r"too old resource version: -1 \(1\)"):
        cache.start(store.cache, Selection(), FORM, Sink(), after=Revision(-1), timeout_seconds=60)


async def test_entering_and_leaving_a_selector(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    sink = Sink()
    cache.start(store.cache, labelled("t", "x"), FORM, sink, after=None, timeout_seconds=60)
    await store.create(config_map("a", t="y"), write)

    for value in ("x", "z"):
        await store.update(
            "ns/a", lambda old, value=value: {**old, "metadata": {**old["metadata"], "labels": {"t": value}}}, write
        )
    assert sink.told() == ["ADDED a", "DELETED a"]
    left = sink.events[1].object
    assert left["metadata"]["labels"] == {"t": "x"}
    assert left["metadata"]["resourceVersion"] == str(cache.revision)


async def test_watchers_that_ask_alike_share_their_events(
    store: ResourceStore, cache: WatchCache, write: Write
) -> None:
    sinks = [Sink(), Sink()]
    for sink in sinks:
        cache.start(store.cache, Selection(), FORM, sink, after=None, timeout_seconds=60)
    await store.create(config_map("a"), write)
    assert sinks[0].events[0] is sinks[1].events[0]


async def test_a_slow_watcher_is_closed_and_the_others_go_on(
    store: ResourceStore, cache: WatchCache, write: Write
) -> None:
    slow, quick = Sink(), Sink()
    for sink in (slow, quick):
        cache.start(store.cache, Selection(), FORM, sink, after=None, timeout_seconds=60)
    slow.willing = False
    await store.create(config_map("a"), write)
    await store.create(config_map("b"), write)
    assert slow.ended
    assert quick.told() == ["ADDED a", "ADDED b"]
    assert len(store.cache.watchers.watchers) == 1


async def test_only_the_audiences_a_change_concerns_are_looked_at(
    make_store: Stores, cache: WatchCache, write: Write
) -> None:
    pods = make_store("pods")
    await cache.open()
    nodes = {}
    for name in ("n1", "n2"):
        nodes[name] = Sink()
        selection = Selection(
            key=name,
            fields=lambda fields, name=name: fields.get("spec.nodeName") == name,
            read_fields=pods.kind.read_fields,
            pinned={"spec.nodeName": name},
        )
        cache.start(pods.cache, selection, PODS, nodes[name], after=None, timeout_seconds=60)
    named = Sink()
    cache.start(pods.cache, Selection(key="p", namespace="ns", name="p"), PODS, named, after=None, timeout_seconds=60)
    pod = {
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
    }
    await pods.create(pods.kind.rules.default(pod), write)
    event = pods.cache.events_after(Revision(0))[-1]
    assert len(list(pods.cache.watchers.concerned(event))) == 2
    assert nodes["n1"].told() == named.told() == ["ADDED p"]
    assert nodes["n2"].told() == []


async def test_bookmarks_come_by_the_minute_and_before_the_end(
    store: ResourceStore, cache: WatchCache, clock: FakeClock, write: Write
) -> None:
    sink = Sink()
    cache.start(store.cache, Selection(), FORM, sink, after=None, bookmarks=True, timeout_seconds=100)
    item = await store.create(config_map("a"), write)
    for seconds in (61, 38, 2):
        await clock.advance(seconds)
        cache.tick()
    assert [event.type for event in sink.events] == ["ADDED", "BOOKMARK", "BOOKMARK"]
    assert sink.events[1].object["metadata"] == {"resourceVersion": str(item.revision)}
    assert sink.ended


async def test_a_streaming_list_marks_its_end(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    await store.create(config_map("a"), write)
    sink = Sink()
    cache.start(
        store.cache, Selection(), FORM, sink, after=None, initial=True, mark_initial_end=True, timeout_seconds=60
    )
    assert [event.type for event in sink.events] == ["ADDED", "BOOKMARK"]
    assert sink.events[1].object["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_watch_of_a_version_to_come_begins_there(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    sink = Sink()
    cache.start(store.cache, Selection(), FORM, sink, after=Revision(cache.revision + 1), timeout_seconds=60)
    await store.create(config_map("a"), write)
    await store.create(config_map("b"), write)
    assert sink.told() == ["ADDED b"]


async def test_an_earlier_state_is_told_from_history(store: ResourceStore, cache: WatchCache, write: Write) -> None:
    await store.create(config_map("a"), write)
    then = cache.revision
    await store.create(config_map("b"), write)
    await store.update("ns/a", lambda old: {**(old or {}), "data": {"k": "v"}}, write)
    assert store.cache.knows(then)
    past = list(store.cache.scan_at(then, "ns/"))
    assert [item.name for item in past] == ["a"]
    assert "data" not in past[0].object
    assert [item.name for item in store.cache.scan_at(cache.revision)] == ["a", "b"]


async def test_history_is_bounded(
    store: ResourceStore, cache: WatchCache, clock: FakeClock, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_cache, "LEAST_EVENTS", 2)
    first = await store.create(config_map("a"), write)
    await clock.advance(watch_cache.HISTORY_SECONDS + 1)
    for name in "bcd":
        await store.create(config_map(name), write)
    with pytest.raises(Expired):
        store.cache.events_after(Revision(first.revision - 1))
    assert len(store.cache.events_after(first.revision)) == 3


async def test_history_is_bounded_in_bytes(store: ResourceStore, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_cache, "LEAST_EVENTS", 2)
    monkeypatch.setattr(watch_cache, "MOST_EVENT_BYTES", 2_500)
    first = await store.create({**config_map("a"), "data": {"k": "v" * 1_000}}, write)
    await store.update("ns/a", lambda old: {**(old or {}), "data": {"k": "w" * 1_000}}, write)
    assert len(store.cache.events_after(Revision(first.revision - 1))) == 2
    await store.update("ns/a", lambda old: {**(old or {}), "data": {"k": "x" * 1_000}}, write)
    with pytest.raises(Expired):
        store.cache.events_after(Revision(first.revision - 1))


async def test_a_restart_keeps_recent_history_and_every_object(
    store: ResourceStore, storage: MemoryStorage, clock: FakeClock, make_store: Stores, write: Write
) -> None:
    first = await store.create(config_map("a"), write)
    await store.create(config_map("b"), write)
    again = WatchCache(storage, clock)
    own = again.add(watch_cache.ResourceCache(store.kind.prefix, clock))
    await again.open()
    assert [item.key for item in own.scan()] == ["ns/a", "ns/b"]
    assert [event.item.name for event in own.events_after(first.revision)] == ["b"]


async def test_closing_ends_every_watch(store: ResourceStore, cache: WatchCache) -> None:
    sink = Sink()
    cache.start(store.cache, Selection(), FORM, sink, after=None, timeout_seconds=60)
    cache.close()
    assert sink.ended


async def test_a_quiet_resource_keeps_no_decoded_objects(
    store: ResourceStore, cache: WatchCache, write: Write, clock: FakeClock
) -> None:
    for index in range(5):
        await store.create(config_map(f"c-{index}"), write)
        await store.update(f"ns/c-{index}", lambda old: {**(old or {}), "data": {"k": "v"}}, write)
    await store.delete("ns/c-0", DeleteOptions(), write)
    items = [*store.cache.items.values(), *(event.item for event in store.cache.events_after(Revision(0)))]

    def decoded() -> int:
        return sum(item._obj is not None or item._stored is not None for item in items)

    assert decoded() > 5
    await clock.advance(watch_cache.DECODED_SECONDS + 1)
    cache.tick()
    assert decoded() == 0


async def test_only_empty_caches_of_custom_resources_are_dropped(
    store: ResourceStore, cache: WatchCache, storage: MemoryStorage
) -> None:
    custom = cache.at("/registry/example.com/widgets/")
    sink = Sink()
    cache.start(custom, Selection(), FORM, sink, after=None, timeout_seconds=60)
    await storage.put("/registry/example.com/widgets/ns/a", b'{"metadata":{"name":"a"}}')
    cache.drop(custom.prefix)
    assert cache.at(custom.prefix) is custom
    await storage.delete("/registry/example.com/widgets/ns/a")
    cache.drop(custom.prefix)
    assert sink.ended
    assert cache.at(custom.prefix) is not custom
    cache.drop(store.cache.prefix)
    assert cache.at(store.cache.prefix) is store.cache
