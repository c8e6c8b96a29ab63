"""The durable engine: truth in memory on the event loop, one writing thread, group commit.

``put`` and ``delete`` check and number a write on the loop, against what is pending, and queue it. The writing thread
commits what is queued, one transaction at a time; back on the loop the batch becomes visible, listeners are told, and
only then the writers hear of it. While one batch is being committed the next one gathers.

A failed commit fails its batch and all that queued behind it: their revisions are never used again, and readers never
saw them. Writes that need not be durable (``durable=False``) count at once, unless an older write is still pending:
order by revision comes first. They are committed in the same queue, so a later deletion can never be overtaken; the
file's limit above every revision handed out keeps a crash from handing one out twice.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import pathlib
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.storage import log
from anynode.storage.committed import Committed
from anynode.storage.hub import Hub
from anynode.storage.state import Overlay, prefix_end
from anynode.storage.types import (
    Change,
    ChangeListener,
    Compacted,
    FutureRevision,
    KeyMismatch,
    Page,
    Record,
    Revision,
    StorageDamaged,
    StorageError,
    StorageUnavailable,
    Watch,
)

logger = logging.getLogger(__name__)
T = TypeVar("T")

BATCH_BYTES = 8 * 1024 * 1024
"""A batch takes no further write once it has this much."""
RESERVED_REVISIONS = 20_000
"""How far the limit in the file is kept ahead of the counter."""
LAZY_SECONDS = 1.0
"""A write that need not be durable waits at most this long for company."""
CHECKPOINT_BYTES = 4 * 1024 * 1024
WAL_BYTES = 32 * 1024 * 1024
"""A write-ahead file that grew beyond this holds writing up until it can begin at its start again."""
STEP_REVISIONS = 500
"""Revisions compacted in one transaction: a few milliseconds between two batches."""
STEP_PAGES = 256
READ_CHANGES = 1_000
HANDOVER_SECONDS = 0.0002
"""After this the writing thread is given the interpreter, however busy the event loop is. With Python's 5 ms a busy
loop, which lets go of the interpreter for a moment at each turn, starves it: commits take 100 ms instead of 2."""
RESTART = Backoff(first_seconds=1.0, most_seconds=30.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How much history stays readable: at least this long and this many revisions."""

    keep_seconds: float = 300.0
    keep_revisions: int = 1_000
    every_seconds: float = 10.0
    """How often the engine looks."""


@dataclasses.dataclass(slots=True, eq=False)
class Write:
    """One accepted write on its way to the file; ``future`` is None once nobody needs to be told."""

    change: Change
    durable: bool
    future: asyncio.Future[None] | None = None
    visible: bool = False


class SqliteStorage:
    """``Storage`` in one SQLite file. Use as ``async with SqliteStorage(path, clock=clock) as storage``.

    Entering raises ``StorageUnavailable`` (in use, not writable) or ``StorageDamaged`` and then changed nothing.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        *,
        clock: Clock,
        retention: Retention | None = None,
        limit_bytes: int = 0,
        history_changes: int = 10_000,
        history_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._path = pathlib.Path(path)
        self._clock = clock
        self._retention = retention or Retention()
        self._limit_bytes = limit_bytes
        self._hub = Hub(history_changes=history_changes, history_bytes=history_bytes)
        self._committed = Committed(self._hub)
        self._oldest = Revision(0)
        self._compacted = Revision(0)
        """How far the file is compacted; behind ``_oldest`` while a compaction runs."""
        self._lost = (Revision(0), Revision(0))
        """Revisions strictly between these may have been handed out and lost in a crash."""
        self._last = Revision(0)
        """The last revision handed out, visible or not."""
        self._limit = Revision(0)
        self._pending: dict[str, Write] = {}
        self._queue: list[Write] = []
        self._writing: list[Write] = []
        self._unseen = 0
        self._settled: list[asyncio.Future[BaseException | None]] = []
        self._flush_due = False
        self._lazy_due = False
        self._open = False
        self._wal_bytes = 0
        self._wal_grown = asyncio.Event()
        self._lazy_waiting = asyncio.Event()
        self._compacting = asyncio.Lock()
        self._exit = contextlib.AsyncExitStack()

    # -- open and close ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_quick_handover())
            self._writer = stack.enter_context(_thread("storage-writer"))
            self._reader = stack.enter_context(_thread("storage-reader"))
            lock = log.FileLock(self._path)
            stack.callback(lock.release)
            await self._on(self._writer, functools.partial(log.prepare, self._path))
            loaded = await self._on(self._writer, functools.partial(log.load, self._path))
            self._file = await self._open_log(stack, self._writer)
            self._history = await self._open_log(stack, self._reader)
            self._begin(loaded)
            stack.push_async_callback(self._close)
            tasks = await stack.enter_async_context(Supervisor("storage", clock=self._clock))
            tasks.start("lazy-writes", self._write_lazy, restart=RESTART)
            tasks.start("checkpoint", self._checkpoint, restart=RESTART)
            tasks.start("compaction", self._compact_old, restart=RESTART)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    async def _open_log(
        self, stack: contextlib.AsyncExitStack, thread: concurrent.futures.ThreadPoolExecutor
    ) -> log.RevisionLog:
        opening = functools.partial(log.RevisionLog, self._path, limit_bytes=self._limit_bytes)
        opened = await self._on(thread, opening)
        stack.push_async_callback(self._on, thread, opened.close)
        return opened

    def _begin(self, loaded: log.Loaded) -> None:
        self._committed.begin(loaded.records, loaded.limit)
        self._oldest = self._compacted = loaded.oldest
        self._last = self._limit = loaded.limit
        self._lost = (max(loaded.newest, loaded.oldest), loaded.limit)
        self._wal_grown.set()  # by what a crash left: else it grows from one to the next
        self._open = True

    async def _close(self) -> None:
        """Write what is queued, then let nobody in. Waiting writers are answered before this returns."""
        self._open = False
        while self._writing or self._queue:
            before = len(self._writing) + len(self._queue)
            self._flush()
            await self._until_settled()
            if len(self._writing) + len(self._queue) >= before:
                logger.error("writes that need not be durable are lost", extra={"count": before})
                break
        with contextlib.suppress(sqlite3.Error):  # the old limit is as right, only higher
            await self._on(self._writer, functools.partial(self._file.set_limit, self._last))
        self._hub.end(StorageUnavailable("the storage is closed"))

    # -- reading ----------------------------------------------------------------------------------------------------

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
        return self._oldest

    async def get(self, key: str, *, revision: Revision | None = None) -> Record | None:
        if revision is None:
            return self._committed.get(key)
        page = await self.list(key, revision=revision, limit=1)
        return page.records[0] if page.records and page.records[0].key == key else None

    async def list(self, prefix: str, *, revision: Revision | None = None, start: str = "", limit: int = 0) -> Page:
        if revision is None or revision == self._committed.revision:
            return self._committed.page(prefix, start=start, limit=limit)
        self._check_readable(revision)
        overlay = self._committed.overlay(prefix, revision)
        await self._extend(overlay)
        self._check_readable(revision)
        self._committed.refresh(overlay)
        return self._committed.page_at(revision, overlay, start=start, limit=limit)

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
        self._check_readable(after)
        while after < self._hub.history_start:
            changes, after = await self._read_changes(prefix, after)
            self._check_readable(after)
            if changes:
                listener(changes)
        self._check_open()
        return self._hub.subscribe(prefix, listener, after=after, ended=ended, progress=progress)

    def _check_readable(self, revision: Revision) -> None:
        self._committed.check_readable(revision, self._oldest)
        if self._lost[0] < revision < self._lost[1]:
            raise Compacted(revision, self._lost[1])

    async def _extend(self, overlay: Overlay) -> None:
        """Read from the file what the window no longer has."""
        while overlay.through < self._hub.history_start:
            changes, through = await self._read_changes(overlay.prefix, overlay.through)
            overlay.absorb(changes, through)

    async def _read_changes(self, prefix: str, after: Revision) -> tuple[Sequence[Change], Revision]:
        """Changes of ``prefix`` after ``after`` from the file, and the revision up to which these are all."""
        through, end = self._hub.history_start, prefix_end(prefix)
        await self._until_written(through)
        try:
            found = await self._on(
                self._reader,
                functools.partial(self._history.changes, after, through, prefix, end, READ_CHANGES),
            )
        except sqlite3.OperationalError as error:
            raise StorageUnavailable(f"cannot read {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self._check_readable(after)  # compacted meanwhile: states are missing because they may be
            raise StorageDamaged(f"{self._path} is damaged ({error}): restore it from a copy") from error
        self._check_readable(after)
        return found

    # -- writing ----------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, value: bytes, *, expected: Revision | None = None, decoded: Any = None, durable: bool = True
    ) -> Record:
        while not self._may_write(key, expected):
            await self._until_settled()
        previous = self._newest(key)
        revision = Revision(self._last + 1)
        created = revision if previous is None else previous.create_revision
        record = Record(key, value, created, revision, decoded)
        waiting = self._accept(Change(revision, record, previous), durable)
        if waiting is not None:
            await waiting
        return record

    async def delete(self, key: str, *, expected: Revision | None = None) -> Record | None:
        while True:
            allowed, write = self._may_write(key, expected), self._pending.get(key)
            previous = self._newest(key)
            if allowed and previous is not None:
                break
            if allowed and write is None:
                return None
            await self._until_settled()
            if allowed and write is not None and write.visible:
                return None  # that deletion is the one we would have made
        record = Record(key, previous.value, previous.create_revision, Revision(self._last + 1))
        waiting = self._accept(Change(record.mod_revision, record, previous, deleted=True), True)
        if waiting is not None:
            await waiting
        return record

    def _newest(self, key: str) -> Record | None:
        write = self._pending.get(key)
        if write is None:
            return self._committed.get(key)
        return None if write.change.deleted else write.change.record

    def _may_write(self, key: str, expected: Revision | None) -> bool:
        """False when a write that is still pending decides it; raises ``KeyMismatch`` or ``StorageUnavailable``."""
        self._check_open()
        if expected is None:
            return True
        current = self._newest(key)
        if expected == (0 if current is None else current.mod_revision):
            return True
        if key in self._pending:
            return False
        raise KeyMismatch(key, current)

    def _accept(self, change: Change, durable: bool) -> asyncio.Future[None] | None:
        """Queue ``change``; what to wait for, None when it counts already."""
        self._last = change.revision
        write = Write(change, durable)
        self._queue.append(write)
        if not durable:
            self._lazy_waiting.set()
            if self._unseen == 0 and change.revision <= self._limit:
                write.visible = True
                self._committed.apply((change,))
                return None
            if change.revision > self._limit:
                write.durable = True
        self._pending[change.record.key] = write
        self._unseen += 1
        if write.durable and not self._flush_due and not self._writing:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        write.future = self._loop.create_future()
        return write.future

    def _flush(self) -> None:
        """Hand the queue to the writing thread unless that is busy: it comes back for the rest."""
        self._flush_due = False
        if self._writing or not self._queue:
            return
        batch, self._queue = _split(self._queue)
        self._writing, self._lazy_due = batch, bool(self._queue)
        last = batch[-1].change.revision
        limit = None
        if last + RESERVED_REVISIONS // 2 > self._limit:
            limit = Revision(last + RESERVED_REVISIONS)
        changes = [write.change for write in batch]
        done = self._writer.submit(self._file.append, changes, limit)
        done.add_done_callback(functools.partial(self._report, limit))

    def _report(self, limit: Revision | None, done: concurrent.futures.Future[None]) -> None:
        self._loop.call_soon_threadsafe(self._written, limit, done)

    def _written(self, limit: Revision | None, done: concurrent.futures.Future[None]) -> None:
        batch, self._writing = self._writing, []
        error = done.exception()
        try:
            if error is not None:
                self._fail(batch, error)
                return
            if limit is not None:
                self._limit = limit
            if self._lazy_due or any(write.durable for write in self._queue):
                self._flush()
            self._make_visible(batch)
        finally:  # even if a listener raises: those who wait must not wait for ever
            settled, self._settled = self._settled, []
            for future in settled:
                if not future.done():
                    future.set_result(error)

    def _make_visible(self, batch: Sequence[Write]) -> None:
        """Show a committed batch, and the writes behind it that need not wait for theirs."""
        due = [write for write in batch if not write.visible]
        self._wal_bytes += sum(len(write.change.record.value) for write in batch)
        if self._wal_bytes > CHECKPOINT_BYTES:
            self._wal_grown.set()
        for write in (*self._writing, *self._queue):
            if write.visible:
                continue
            if write.durable:
                break
            due.append(write)
        if not due:
            return
        pending = self._pending
        for write in due:
            write.visible = True
            key = write.change.record.key
            if pending.get(key) is write:
                del pending[key]
        self._unseen -= len(due)
        try:
            self._committed.apply([write.change for write in due])
        finally:
            for write in due:
                if write.future is not None and not write.future.done():
                    write.future.set_result(None)
                write.future = None

    def _fail(self, batch: Sequence[Write], error: BaseException) -> None:
        """Forget all that is not visible; what is visible stays queued and is tried again."""
        lost = [write for write in (*batch, *self._queue) if not write.visible]
        self._queue = [write for write in (*batch, *self._queue) if write.visible]
        self._pending.clear()
        self._unseen = 0
        if self._queue:
            count = len(self._queue)
            logger.warning("cannot write yet what is already acknowledged", extra={"count": count}, exc_info=error)
            self._lazy_waiting.set()
        for write in lost:
            if write.future is not None and not write.future.done():
                refusal = StorageUnavailable(f"cannot write {self._path}: {error}")
                refusal.__cause__ = error
                write.future.set_exception(refusal)

    async def _until_settled(self) -> BaseException | None:
        """Why the batch now being written failed, or None once it is committed."""
        future: asyncio.Future[BaseException | None] = self._loop.create_future()
        self._settled.append(future)
        return await future

    async def _until_written(self, revision: Revision) -> None:
        """Return when all visible writes up to ``revision`` are in the file; raises ``StorageUnavailable``."""
        while any(write.change.revision <= revision for write in (*self._writing, *self._queue[:1])):
            self._flush()
            error = await self._until_settled()
            if error is not None:
                raise StorageUnavailable(f"cannot write {self._path}: {error}") from error

    def _check_open(self) -> None:
        if not self._open:
            raise StorageUnavailable("the storage is closed")

    # -- upkeep -----------------------------------------------------------------------------------------------------

    async def compact(self, revision: Revision) -> None:
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        async with self._compacting:
            self._oldest = max(self._oldest, revision)
            self._committed.forget_before(revision)
            await self._until_written(revision)
            while self._compacted < revision:
                self._check_open()
                await self._compact_step(Revision(min(revision, self._compacted + STEP_REVISIONS)))

    async def _compact_step(self, through: Revision) -> None:
        try:
            await self._on(self._writer, functools.partial(self._file.compact, self._compacted, through))
            self._compacted = through
            await self._on(self._writer, functools.partial(self._file.shrink, STEP_PAGES))
        except sqlite3.Error as error:
            raise StorageUnavailable(f"cannot compact {self._path}: {error}") from error

    async def _compact_old(self) -> None:
        """Keep history as ``retention`` says, for ever."""
        keep = self._retention
        marks = [(self._clock.monotonic(), self.revision)]
        while True:
            await self._clock.sleep(keep.every_seconds)
            now = self._clock.monotonic()
            marks.append((now, self.revision))
            old = [mark for mark in marks if mark[0] <= now - keep.keep_seconds]
            if not old:
                continue
            marks = [old[-1], *marks[len(old) :]]
            target = Revision(min(old[-1][1], self.revision - keep.keep_revisions))
            if target > self._oldest:
                await self.compact(target)

    async def _checkpoint(self) -> None:
        """Move committed writes from the write-ahead file to the main file, for ever."""
        while True:
            await self._wal_grown.wait()
            self._wal_grown.clear()
            self._wal_bytes = 0
            size = await self._on(self._reader, self._history.checkpoint)
            if size > WAL_BYTES:
                await self._on(self._writer, functools.partial(self._file.checkpoint, restart=True))

    async def _write_lazy(self) -> None:
        """See that writes that need not be durable are written all the same, for ever."""
        while True:
            await self._lazy_waiting.wait()
            self._lazy_waiting.clear()
            await self._clock.sleep(LAZY_SECONDS)
            self._lazy_due = True  # if a batch is being written now, these go with the next
            self._flush()

    async def _on(self, thread: concurrent.futures.ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(thread, work)


def _split(queue: list[Write]) -> tuple[list[Write], list[Write]]:
    """The next batch and the rest; the batch has at least one write."""
    size = 0
    for count, write in enumerate(queue):
        if count == log.BATCH_SIZES[-1] or size > BATCH_BYTES:
            return queue[:count], queue[count:]
        size += len(write.change.record.value)
    return queue, []


@contextlib.contextmanager
def _quick_handover() -> Iterator[None]:
    """Threads of this process wait for the interpreter no longer than ``HANDOVER_SECONDS`` at a time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, HANDOVER_SECONDS))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextlib.contextmanager
def _thread(name: str) -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """One named thread; leaving waits for its last work."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix=name) as executor:
        yield executor
