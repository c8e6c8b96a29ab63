"""Events live an hour after their last write, then they go. Deletions are paced, oldest first.

Source: kube-apiserver ``--event-ttl``, 1.36.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence

from anynode.aio.clock import Clock
from anynode.api.errors import ApiError
from anynode.api.wire import User
from anynode.registry.deletion import DeleteOptions
from anynode.registry.items import CacheEvent
from anynode.registry.store import ResourceStore, Write
from anynode.storage.types import Revision

SWEEP_SECONDS = 10.0
MOST_PER_SWEEP = 2_000
_SELF = User(name="system:apiserver", groups=("system:masters",))


class EventExpiry:
    """Deletes events ``seconds`` after their last write; what was there at start counts from the start."""

    def __init__(
        self, store: ResourceStore, *, clock: Clock, seconds: float, is_keeper: Callable[[], bool] = lambda: True
    ) -> None:
        """``is_keeper``: whether this server deletes; where several share a store, one does."""
        self._store = store
        self._is_keeper = is_keeper
        self._clock = clock
        self._seconds = seconds
        self._written: collections.deque[tuple[float, str, Revision]] = collections.deque()
        now = clock.monotonic()
        for key, item in store.cache.items.items():
            self._written.append((now, key, item.revision))
        store.cache.listeners.append(self._changed)

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            if not event.deleted:
                self._written.append((event.moment, event.item.key, event.revision))

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Delete what is over now."""
        due = self._clock.monotonic() - self._seconds
        for _ in range(MOST_PER_SWEEP):
            if not self._written or self._written[0][0] > due:
                return
            _, key, revision = self._written[0]
            item = self._store.find(key)
            mine = item is not None and item.revision == revision
            if mine and not self._is_keeper():
                return
            self._written.popleft()
            if not mine:
                continue
            try:
                await self._store.delete(key, DeleteOptions(resource_version=str(revision)), Write(user=_SELF))
            except ApiError:
                continue  # written again or gone meanwhile
