"""Random walks: whatever happens, a watcher's picture and the past as the cache tells it are what was."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import pytest

from anynode.api.objects import Object
from anynode.api.resources import known
from anynode.api.wire import WatchEvent
from anynode.apiserver.forms import WholeForm
from anynode.registry.deletion import DeleteOptions
from anynode.registry.store import ResourceStore, Write
from anynode.registry.watch_cache import WatchCache
from anynode.registry.watchers import Selection
from anynode.storage.types import Revision

FORM = WholeForm(known("configmaps"))
Picture = dict[str, str]
"""name -> resource version"""


class Mirror:
    """What a client makes of its watch; a wrong order or kind of event fails the walk."""

    def __init__(self, picture: Picture) -> None:
        self.picture = dict(picture)
        self.ended = False

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        for event in events:
            metadata = event.object["metadata"]
            name, version = metadata["name"], metadata["resourceVersion"]
            if event.type == "DELETED":
                assert self.picture.pop(name, None) is not None, f"{name} left without having been there"
            else:
                assert (name in self.picture) == (event.type == "MODIFIED"), f"{event.type} {name}"
                self.picture[name] = version
        return True

    def end(self) -> None:
        self.ended = True


def picture(store: ResourceStore, selection: Selection, at: Revision | None = None) -> Picture:
    items = store.cache.scan() if at is None else store.cache.scan_at(at)
    return {item.name: str(item.revision) for item in items if selection.matches(item)}


def selections() -> list[Selection]:
    def marked(labels: Mapping[str, str]) -> bool:
        return labels.get("t") == "x"

    return [
        Selection(),
        Selection(key="one", namespace="one"),
        Selection(key="x", labels=marked),
        Selection(key="one|x", namespace="one", labels=marked),
        Selection(key="a", namespace="one", name="a"),
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_a_walk(make_store: Callable[..., ResourceStore], cache: WatchCache, write: Write, seed: int) -> None:
    chance = random.Random(seed)
    store = make_store("configmaps")
    await cache.open()
    past: dict[Revision, Picture] = {}
    mirrors: list[tuple[Selection, Mirror]] = []
    for _ in range(150):
        await step(store, write, chance)
        past[cache.revision] = picture(store, Selection())
        if chance.random() < 0.1:
            join(store, cache, chance, past, mirrors)
    assert len(mirrors) > 5
    for selection, mirror in mirrors:
        assert not mirror.ended
        assert mirror.picture == picture(store, selection)
    for revision, was in past.items():
        assert picture(store, Selection(), revision) == was


async def step(store: ResourceStore, write: Write, chance: random.Random) -> None:
    namespace, name = chance.choice(("one", "two")), chance.choice("abcd")
    # Names are unique over namespaces, so that a picture needs no more than them.
    key = f"{namespace}/{name}" if namespace == "one" else f"{namespace}/{name}2"
    labels = {"t": chance.choice("xy"), "n": str(chance.randrange(3))}
    item = store.find(key)

    def relabelled(old: Object | None) -> Object:
        assert old is not None
        return {**old, "metadata": {**old["metadata"], "labels": labels}}

    if item is None:
        own = {"name": key.partition("/")[2], "namespace": namespace, "labels": labels}
        await store.create({"metadata": own}, write)
    elif chance.random() < 0.3:
        await store.delete(key, DeleteOptions(), write)
    else:
        await store.update(key, relabelled, write)


def join(
    store: ResourceStore,
    cache: WatchCache,
    chance: random.Random,
    past: Mapping[Revision, Picture],
    mirrors: list[tuple[Selection, Mirror]],
) -> None:
    """One more watcher: from now on, or from a list of some while ago."""
    selection = chance.choice(selections())
    if chance.random() < 0.4:
        mirror = Mirror({})
        cache.start(store.cache, selection, FORM, mirror, after=None, initial=True, timeout_seconds=60)
    else:
        since = chance.choice(list(past))
        mirror = Mirror(picture(store, selection, since))
        cache.start(store.cache, selection, FORM, mirror, after=since, timeout_seconds=60)
    mirrors.append((selection, mirror))
