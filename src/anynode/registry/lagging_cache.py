"""Custom resources in a version that only a webhook can convert to: a cache that follows what is stored a step behind.

In: the events of the cache of what is stored. Out: the same in this version, in the same order and under the same
revisions, converted in batches, each change once whoever watches. Nothing is converted before somebody asks for this
version. ``behind`` says how far it has come; readers who need the newest wait in ``reach`` or convert the one object
they want. When a conversion fails, the watches of this version end, as upstream's do, and the next reader begins anew.
Source: apiserver ``pkg/storage/cacher`` over ``pkg/storage/etcd3`` with a converting codec, 1.36.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from anynode.aio.clock import Clock
from anynode.api.errors import ApiError
from anynode.api.objects import Object
from anynode.registry.custom_versions import Codec, VersionedCache
from anynode.registry.encoding import canonical, encode
from anynode.registry.items import CacheEvent, Fields, Item
from anynode.registry.watch_cache import ResourceCache
from anynode.storage.types import Record, Revision

BATCH = 500
MOST_PENDING = 10_000
"""Changes waiting to be converted while nobody watches: with more, the next reader begins anew."""


class LaggingCache(VersionedCache):
    """The objects of a custom resource in one version, converted by waiting for somebody else."""

    def __init__(
        self, base: ResourceCache, clock: Clock, codec: Codec, *, read_fields: Fields, now: Callable[[], Revision]
    ) -> None:
        """``now``: the store's revision."""
        super().__init__(base.prefix, clock, read_fields=read_fields)
        self._base = base
        self._codec = codec
        self._now = now
        self._ready = False
        self._begun = 0
        self._reached = Revision(0)
        self._converting = asyncio.Lock()
        self._pending: list[CacheEvent] = []
        self._wake = asyncio.Event()
        self._detached = False
        base.listeners.append(self.follow)

    @property
    def behind(self) -> Revision | None:
        return self._reached

    # --- following

    def follow(self, events: Sequence[CacheEvent]) -> None:
        self._pending.extend(events)
        if self.watchers.watchers:
            self._wake.set()
        elif len(self._pending) > MOST_PENDING:
            self._begin_anew()

    async def run(self) -> None:
        """Convert for who watches, until detached."""
        while not self._detached:
            await self._wake.wait()
            self._wake.clear()
            if self.watchers.watchers:
                try:
                    await self.reach(self._now())
                except ApiError:
                    continue  # the watches have ended; who comes back is told

    def detach(self) -> None:
        self._detached = True
        self._wake.set()
        if self.follow in self._base.listeners:
            self._base.listeners.remove(self.follow)

    def _begin_anew(self) -> None:
        self._ready = False
        self._begun += 1
        self._pending.clear()
        self.items.clear()
        for watcher in tuple(self.watchers.watchers):
            self.watchers.close(watcher)

    # --- converting

    async def reach(self, revision: Revision) -> None:
        if self._ready and not self._pending:
            self._reached = self._now()
            return
        async with self._converting:
            try:
                while not self._ready or self._pending:
                    await (self._advance() if self._ready else self._fill())
            except ApiError:
                self._begin_anew()
                raise
            self._reached = self._now()

    async def _fill(self) -> None:
        self._pending.clear()
        since, began = self._now(), self._begun
        items = await self._converted(list(self._base.items.values()))
        if self._begun != began:
            return  # too much changed meanwhile
        self.items.clear()
        self.items.update((item.key, item) for item in items)
        self.begin(since)
        self._reached = since
        self._ready = True

    async def _advance(self) -> None:
        """Convert and tell the oldest of what is pending."""
        batch = self._pending[:BATCH]
        items = await self._converted([event.item for event in batch])
        if not self._ready:
            return
        del self._pending[: len(batch)]
        moment = self._clock.monotonic()
        events = [self._placed(event, item, moment) for event, item in zip(batch, items, strict=True)]
        self._reached = events[-1].revision
        self.take(events, moment)

    def _placed(self, event: CacheEvent, item: Item, moment: float) -> CacheEvent:
        previous = self.items.get(item.key)
        self.place(item, deleted=event.deleted)
        return CacheEvent(item, previous, deleted=event.deleted, moment=moment)

    async def _converted(self, sources: Sequence[Item]) -> Sequence[Item]:
        if not sources:
            return ()
        objects = await self._codec.converted([source.peek() for source in sources])
        return [self._item(source, obj) for source, obj in zip(sources, objects, strict=True)]

    def _item(self, source: Item, obj: Object) -> Item:
        stored = canonical(obj, self._codec.resource)
        return Item(source.key, encode(stored), source.revision, stored=stored)

    # --- reading

    async def shown(self, stored: Item) -> Item:
        found = self.items.get(stored.key) if self._ready else None
        if found is not None and found.revision == stored.revision:
            return found
        return (await self._converted([stored]))[0]

    async def items_of(self, records: Sequence[Record]) -> Sequence[Item]:
        return await self._converted(await super().items_of(records))
