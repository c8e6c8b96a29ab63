"""The reference engine: everything in memory, gone when the process ends.

What it does in the plainest way is what the other engines must do; ``testing.storage_suite`` checks both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from anynode.storage.committed import Committed
from anynode.storage.hub import Hub
from anynode.storage.types import (
    Change,
    ChangeListener,
    FutureRevision,
    KeyMismatch,
    Page,
    Record,
    Revision,
    StorageError,
    StorageUnavailable,
    Watch,
)

HISTORY_CHANGES = 50_000
HISTORY_BYTES = 128 * 1024 * 1024


class MemoryStorage:
    """``Storage`` in memory; old revisions are readable as far as the window of history goes."""

    def __init__(self, *, history_changes: int = HISTORY_CHANGES, history_bytes: int = HISTORY_BYTES) -> None:
        self._hub = Hub(history_changes=history_changes, history_bytes=history_bytes)
        self._committed = Committed(self._hub)
        self._closed = False

    def fill(self, records: Iterable[Record], revision: Revision) -> None:
        """Begin with ``records`` as the state at ``revision``; only before anything was written."""
        self._committed.begin(records, revision)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._hub.end(StorageUnavailable("the storage is closed"))

    @property
    def shared(self) -> bool:
        return False

    @property
    def trouble(self) -> str:
        return ""

    def is_stale(self, key: str) -> bool:
        return False

    async def catch_up(self) -> bool:
        return False

    @property
    def revision(self) -> Revision:
        return self._committed.revision

    @property
    def oldest_revision(self) -> Revision:
        return self._hub.history_start

    async def get(self, key: str, *, revision: Revision | None = None) -> Record | None:
        if revision is None:
            return self._committed.get(key)
        page = await self.list(key, revision=revision, limit=1)
        return page.records[0] if page.records and page.records[0].key == key else None

    async def list(self, prefix: str, *, revision: Revision | None = None, start: str = "", limit: int = 0) -> Page:
        if revision is None:
            return self._committed.page(prefix, start=start, limit=limit)
        self._committed.check_readable(revision, self.oldest_revision)
        overlay = self._committed.overlay(prefix, revision)
        self._committed.refresh(overlay)
        return self._committed.page_at(revision, overlay, start=start, limit=limit)

    async def put(
        self, key: str, value: bytes, *, expected: Revision | None = None, decoded: Any = None, durable: bool = True
    ) -> Record:
        previous = self._checked(key, expected)
        revision = Revision(self.revision + 1)
        created = revision if previous is None else previous.create_revision
        record = Record(key, value, created, revision, decoded)
        self._committed.apply((Change(revision, record, previous),))
        return record

    async def delete(self, key: str, *, expected: Revision | None = None) -> Record | None:
        previous = self._checked(key, expected)
        if previous is None:
            return None
        revision = Revision(self.revision + 1)
        record = Record(key, previous.value, previous.create_revision, revision)
        self._committed.apply((Change(revision, record, previous, deleted=True),))
        return record

    async def watch(
        self,
        prefix: str,
        listener: ChangeListener,
        *,
        after: Revision,
        ended: Callable[[StorageError], None],
        progress: Callable[[Revision], None] | None = None,
    ) -> Watch:
        self._check_open()
        self._committed.check_readable(after, self.oldest_revision)
        return self._hub.subscribe(prefix, listener, after=after, ended=ended, progress=progress)

    async def compact(self, revision: Revision) -> None:
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        self._committed.forget_before(revision)

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the storage is closed")

    def _checked(self, key: str, expected: Revision | None) -> Record | None:
        self._check_open()
        current = self._committed.get(key)
        if expected is not None and expected != (0 if current is None else current.mod_revision):
            raise KeyMismatch(key, current)
        return current
