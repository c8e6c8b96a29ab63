"""The reference engine: everything in memory, gone when the process ends.

What it does in the plainest way is what the other engines must do; ``testing.storage_suite`` checks both alike.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from anynode.storage import hub, state
from anynode.storage.types import (
    Change,
    ChangeListener,
    Compacted,
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
OVERLAYS_KEPT = 4


class MemoryStorage:
    """``Storage`` in memory; old revisions are readable as far as the window of history goes."""

    def __init__(self, *, history_changes: int = HISTORY_CHANGES, history_bytes: int = HISTORY_BYTES) -> None:
        self._hub = hub.Hub(history_changes=history_changes, history_bytes=history_bytes)
        self._state = state.CurrentState()
        self._revision = Revision(0)
        self._overlays: dict[Revision, state.Overlay] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._hub.end(StorageUnavailable("the storage is closed"))

    @property
    def revision(self) -> Revision:
        return self._revision

    @property
    def oldest_revision(self) -> Revision:
        return self._hub.history_start

    async def get(self, key: str, *, revision: Revision | None = None) -> Record | None:
        if revision is None or revision == self._revision:
            return self._state.get(key)
        before = self._overlay(revision).before
        return before[key] if key in before else self._state.get(key)

    async def list(self, prefix: str, *, revision: Revision | None = None, start: str = "", limit: int = 0) -> Page:
        if revision is None or revision == self._revision:
            return self._state.page(prefix, start=start, limit=limit, revision=self._revision)
        overlay = self._overlay(revision)
        return self._state.page(prefix, start=start, limit=limit, revision=revision, overlay=overlay.before)

    async def put(
        self, key: str, value: bytes, *, expected: Revision | None = None, decoded: Any = None, durable: bool = True
    ) -> Record:
        self._check_open()
        previous = self._checked(key, expected)
        revision = Revision(self._revision + 1)
        created = revision if previous is None else previous.create_revision
        record = Record(key, value, created, revision, decoded)
        self._commit(Change(revision, record, previous))
        return record

    async def delete(self, key: str, *, expected: Revision | None = None) -> Record | None:
        self._check_open()
        previous = self._checked(key, expected)
        if previous is None:
            return None
        revision = Revision(self._revision + 1)
        record = Record(key, previous.value, previous.create_revision, revision)
        self._commit(Change(revision, record, previous, deleted=True))
        return record

    async def watch(
        self,
        prefix: str,
        listener: ChangeListener,
        *,
        after: Revision,
        ended: Callable[[StorageError], None],
    ) -> Watch:
        self._check_open()
        if after < self.oldest_revision:
            raise Compacted(after, self.oldest_revision)
        if after > self._revision:
            raise FutureRevision(after, self._revision)
        return self._hub.subscribe(prefix, listener, after=after, ended=ended)

    async def compact(self, revision: Revision) -> None:
        if revision > self._revision:
            raise FutureRevision(revision, self._revision)
        self._hub.forget_before(revision)
        self._forget_overlays()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable("the storage is closed")

    def _checked(self, key: str, expected: Revision | None) -> Record | None:
        current = self._state.get(key)
        if expected is not None and expected != (0 if current is None else current.mod_revision):
            raise KeyMismatch(key, current)
        return current

    def _commit(self, change: Change) -> None:
        self._revision = change.revision
        record = change.record
        kept = change
        if change.deleted:
            self._state.remove(record.key)
        elif record.decoded is not None:  # the decoded form is for the listeners, not to be kept
            stored = Record(record.key, record.value, record.create_revision, record.mod_revision)
            self._state.put(stored)
            kept = Change(change.revision, stored, change.previous)
        else:
            self._state.put(record)
        self._hub.remember(kept)
        self._hub.publish((change,))

    def _overlay(self, revision: Revision) -> state.Overlay:
        """The state at ``revision``; raises ``Compacted`` or ``FutureRevision``."""
        if revision > self._revision:
            raise FutureRevision(revision, self._revision)
        if revision < self.oldest_revision:
            self._forget_overlays()
            raise Compacted(revision, self.oldest_revision)
        overlay = self._overlays.get(revision)
        if overlay is None:
            if len(self._overlays) >= OVERLAYS_KEPT:
                self._overlays.pop(next(iter(self._overlays)))
            overlay = self._overlays[revision] = state.Overlay(revision)
        overlay.absorb(self._hub.changes_after(overlay.through))
        return overlay

    def _forget_overlays(self) -> None:
        for revision in [each for each in self._overlays if each < self.oldest_revision]:
            del self._overlays[revision]
