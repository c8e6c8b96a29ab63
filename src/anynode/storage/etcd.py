"""The engine for several API servers: real etcd, 3.4 or later, behind the ``Storage`` protocol.

Truth is etcd's; this process keeps a mirror of its prefix, loaded at start and fed by one watch of the whole store, so
that every revision etcd hands out is heard of and reads of the present need no round trip. A write is one transaction
(compare ``mod_revision``, then put or delete); it returns when the mirror has come to its revision, by the answer
itself or by the watch, so the writer's own watchers were told. Writes of different keys run side by side, those of one
key one after the other.

A lost connection is opened again and the watch resumed after the last revision heard: nothing is missed or repeated.
Writes under way then raise ``StorageUnavailable``; whether they happened is not known. Only where etcd compacted what
was not heard yet do watches end with ``Compacted``, and the mirror is loaded anew.

Source: https://etcd.io/docs/v3.4/learning/api_guarantees/; apiserver ``pkg/storage/etcd3/{store,watcher,compact}.go``.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import heapq
import logging
import ssl
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.storage import etcd_messages as messages
from anynode.storage.committed import Committed
from anynode.storage.grpc_channel import Call, GrpcChannel, GrpcError
from anynode.storage.hub import Hub
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

logger = logging.getLogger(__name__)

ROOT = "/registry"
COMPACT_KEY = b"compact_rev_key"
"""Where every API server on an etcd, upstream's too, notes how far it is compacted."""
FIRST_REVISION = 1
"""What an empty etcd says; the first write makes 2."""
PROTOBUF = b"k8s\x00"
"""What upstream's values of built-in kinds begin with."""
PAGE = 1_000
START_SECONDS = 10.0
OUTAGE_SECONDS = 5.0
"""How long requests wait for a lost connection to come back."""
REQUEST_SECONDS = 15.0
PING_SECONDS = 5.0
RECONNECT = Backoff(first_seconds=0.05, most_seconds=2.0)
_OUT_OF_RANGE = 11


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EtcdSettings:
    """Which etcd: ``servers`` as URLs; ``prefix`` is what ``/registry`` is called there."""

    servers: Sequence[str] = ("http://127.0.0.1:2379",)
    prefix: str = ROOT
    root: str = ROOT
    """What keys of ours begin with; replaced by ``prefix``."""
    tls: ssl.SSLContext | None = None
    start_seconds: float = START_SECONDS
    """How long opening may look for a server that answers."""


class BadAddress(ValueError):
    """What was given is no address of an etcd."""


class EtcdStorage:
    """``Storage`` on etcd. Entering raises ``StorageUnavailable`` when no server answers."""

    def __init__(
        self,
        settings: EtcdSettings,
        *,
        clock: Clock,
        history_changes: int = 10_000,
        history_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._first = f"{settings.prefix}/".encode() if settings.root else settings.prefix.encode()
        self._end = messages.prefix_range_end(self._first)
        self._renamed = settings.prefix != settings.root
        self._hub = Hub(history_changes=history_changes, history_bytes=history_bytes)
        self._committed = Committed(self._hub)
        self._oldest = Revision(0)
        self._cluster = 0
        self._channel: GrpcChannel | None = None
        self._connected = asyncio.Event()
        self._trouble = "not connected yet"
        self._failing_since: float | None = None
        self._watching: Call | None = None
        self._watch_ended = asyncio.Event()
        self._compacted_away = False
        self._parts: list[messages.Event] = []
        self._waiting: list[tuple[Revision, int, asyncio.Future[None]]] = []
        self._waits = 0
        self._writing: dict[str, asyncio.Future[None]] = {}
        self._acknowledged: dict[Revision, Change] = {}
        """Writes of our own that etcd answered and that are not shown yet, because others lie before them."""
        self._decoded: dict[str, tuple[bytes, Any]] = {}
        self._asked: asyncio.Future[Revision] | None = None
        self._next_asked: asyncio.Future[Revision] | None = None
        self._open = False
        self._exit = contextlib.AsyncExitStack()

    # -- open and close ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(Supervisor("etcd", clock=self._clock))
            self._tasks = tasks
            stack.callback(self._close)
            tasks.start("connection", self._stay_connected)
            try:
                async with asyncio.timeout(self._settings.start_seconds):
                    await self._connected.wait()
            except TimeoutError as error:
                raise self._unavailable() from error
            self._open = True
            self._exit = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    def _close(self) -> None:
        self._open = False
        self._connected.clear()
        closed = StorageUnavailable("the storage is closed")
        self._fail_waiting(closed)
        self._hub.end(closed)
        if self._channel is not None:
            self._channel.close()

    # -- the connection ---------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        """Connect, mirror, follow; from the start when the connection is lost, trying the servers in turn, for ever."""
        tries = failures = 0
        while True:
            server = self._settings.servers[tries % len(self._settings.servers)]
            tries += 1
            try:
                channel = await self._connect(server)
                try:
                    await self._follow(channel)
                    failures = 0
                    await self._until_lost(channel)
                    self._trouble = channel.reason or "the watch ended"
                finally:
                    self._channel = None
                    self._connected.clear()
                    channel.close("the connection is opened anew")
            except (OSError, GrpcError, ValueError) as error:
                self._trouble = str(error) or type(error).__name__
            now = self._clock.monotonic()
            if self._failing_since is None or not failures:
                self._failing_since = now
            failures += 1
            logger.warning("etcd is not reachable and will be tried again", extra={"server": server})
            if now - self._failing_since >= OUTAGE_SECONDS:
                self._fail_waiting(self._unavailable())
            await self._clock.sleep(RECONNECT.delay_seconds(failures))

    async def _connect(self, server: str) -> GrpcChannel:
        host, port = address_of(server)
        async with asyncio.timeout(START_SECONDS):
            return await GrpcChannel.connect(
                host, port, tls=self._settings.tls if server.startswith("https:") else None
            )

    async def _follow(self, channel: GrpcChannel) -> None:
        """Mirror what is there, or resume; returns when the watch runs. Raises ``GrpcError``."""
        now = messages.range_answer(await channel.unary(messages.RANGE, messages.range_request(COMPACT_KEY)))
        if now.kvs:
            self._heard_compaction(now.kvs[0].value)
        fresh = not self._cluster
        moved = now.cluster != self._cluster or now.revision < self.revision
        if fresh or moved or self._compacted_away:
            await self._load(channel, now.cluster)
        self._parts = []
        self._watch_ended = asyncio.Event()
        self._watching = channel.stream(messages.WATCH, self._hear, self._watch_lost)
        if self._watching is not None:
            self._watching.send(messages.watch_request(messages.ALL, messages.ALL, self.revision + 1))
        self._channel = channel
        self._failing_since = None
        self._connected.set()

    async def _load(self, channel: GrpcChannel, cluster: int) -> None:
        """Take the whole prefix at one revision. Who watched cannot be told what lies between, and is ended."""
        records: list[Record] = []
        start, revision = self._first, 0
        while True:
            request = messages.range_request(start, self._end, limit=PAGE, revision=revision)
            answer = messages.range_answer(await channel.unary(messages.RANGE, request))
            revision = revision or answer.revision
            records += [self._record(kv) for kv in answer.kvs]
            if answer.count <= len(answer.kvs):
                break
            start = answer.kvs[-1].key + b"\0"
        again, self._cluster = bool(self._cluster), cluster
        self._compacted_away = False
        self._acknowledged.clear()
        before = self.revision
        self._committed.begin(records, Revision(revision))
        if again:
            logger.error("etcd's history has a gap: everything is read anew", extra={"revision": revision})
            self._hub.end(Compacted(before, Revision(revision)))
        self._arrived()

    async def _until_lost(self, channel: GrpcChannel) -> None:
        """Return when the connection or the watch ended; a server that answers no ping counts as lost."""
        async with Supervisor("etcd-connection", clock=self._clock) as tasks:
            ended = asyncio.Event()

            async def tell(event: asyncio.Event) -> None:
                await event.wait()
                ended.set()

            async def ping() -> None:
                with contextlib.suppress(GrpcError):
                    while True:
                        await self._clock.sleep(PING_SECONDS)
                        try:
                            async with asyncio.timeout(PING_SECONDS):
                                await channel.ping()
                        except TimeoutError:
                            channel.close(f"no answer within {PING_SECONDS:g} s")

            tasks.start("closed", lambda: tell(channel.closed))
            tasks.start("watch", lambda: tell(self._watch_ended))
            tasks.start("ping", ping)
            await ended.wait()

    def _watch_lost(self, error: GrpcError | None) -> None:
        if error is not None:
            self._trouble = error.message
        self._watch_ended.set()

    # -- hearing ----------------------------------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        """One message of the watch."""
        answer = messages.watch_answer(data)
        if answer.canceled:
            self._compacted_away = self._compacted_away or bool(answer.compact_revision)
            if answer.compact_revision:
                self._oldest = max(self._oldest, Revision(answer.compact_revision))
            self._trouble = answer.reason or "etcd ended the watch"
            self._watch_ended.set()
            return
        if answer.more:
            self._parts += answer.events
            return
        events, self._parts = self._parts + answer.events if self._parts else answer.events, []
        if not events:
            return
        changes: list[Change] = []
        latest: dict[str, Record] = {}
        for event in events:
            self._acknowledged.pop(Revision(event.kv.mod_revision), None)
            change = self._heard(event, latest)
            if change is not None:
                changes.append(change)
                latest[change.record.key] = change.record
        newest = Revision(events[-1].kv.mod_revision)
        if changes:
            self._committed.apply(changes)
        if newest > self._committed.revision:
            self._committed.revision = newest
            self._hub.progress(newest)
        self._show_acknowledged()

    def _heard(self, event: messages.Event, latest: Mapping[str, Record]) -> Change | None:
        """The change an event is for the mirror; None for other people's keys and for what is known.

        ``latest``: the states earlier events of the same message made, which the mirror does not have yet.
        """
        kv = event.kv
        if not kv.key.startswith(self._first):
            if kv.key == COMPACT_KEY and not event.deleted:
                self._heard_compaction(kv.value)
            return None
        if kv.mod_revision <= self._committed.revision:
            return None
        key = self._name(kv.key)
        revision = Revision(kv.mod_revision)
        if event.deleted:
            gone = latest.get(key) or self._committed.get(key)
            if gone is None:
                return None
            return Change(revision, Record(key, gone.value, gone.create_revision, revision), None, deleted=True)
        record = self._record(kv)
        own = self._decoded.get(key)
        if own is not None and own[0] == kv.value:
            record.value, record.decoded = own
        return Change(revision, record, None)

    def _heard_compaction(self, value: bytes) -> None:
        if value.isdigit():
            self._oldest = max(self._oldest, Revision(int(value)))
            self._committed.forget_before(Revision(min(self._oldest, self.revision)))

    def _arrived(self) -> None:
        """Wake those who waited for a revision that is here now."""
        waiting, revision = self._waiting, self.revision
        while waiting and waiting[0][0] <= revision:
            future = heapq.heappop(waiting)[2]
            if not future.done():
                future.set_result(None)

    async def _until(self, revision: Revision) -> None:
        """Wait until the mirror has come to ``revision``; raises ``StorageUnavailable``."""
        if revision <= self.revision:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waits += 1
        heapq.heappush(self._waiting, (revision, self._waits, future))
        await future

    def _fail_waiting(self, error: StorageUnavailable) -> None:
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            if not future.done():
                future.set_exception(error)

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def shared(self) -> bool:
        return True

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
        if revision is None or revision == self.revision:
            return self._committed.page(prefix, start=start, limit=limit)
        self._committed.check_readable(revision, self._oldest)
        if revision >= self._hub.history_start:
            overlay = self._committed.overlay(prefix, revision)
            if overlay.through >= self._hub.history_start:
                self._committed.refresh(overlay)
                return self._committed.page_at(revision, overlay, start=start, limit=limit)
        first = self._key(prefix) if prefix else self._first
        end = messages.prefix_range_end(first)
        begin = max(first, self._key(start)) if start else first
        request = messages.range_request(begin, end, limit=limit, revision=revision)
        answer = messages.range_answer(await self._call(messages.RANGE, request, revision))
        records = [self._record(kv) for kv in answer.kvs]
        return Page(records=records, revision=revision, remaining=max(0, answer.count - len(records)))

    @property
    def trouble(self) -> str:
        channel = self._channel
        if channel is not None and not channel.closed.is_set():
            return ""
        return str(self._unavailable("" if channel is None else channel.reason))

    def is_stale(self, key: str) -> bool:
        return False

    async def catch_up(self) -> bool:
        """Wait until the mirror shows all that was acknowledged before this call; whether it had moved.

        One question to etcd serves all who ask before it is sent. Raises ``StorageUnavailable``.
        """
        before = self.revision
        if self._asked is None:
            asked = self._asked = self._ask_revision()
        else:
            if self._next_asked is None:
                self._next_asked = asyncio.get_running_loop().create_future()
            asked = self._next_asked
        await asyncio.wait((asked,))  # not awaited itself: who is cancelled must not cancel what others wait for
        revision = asked.result()
        await self._until(revision)
        return revision > before

    def _ask_revision(self, asked: asyncio.Future[Revision] | None = None) -> asyncio.Future[Revision]:
        """Ask etcd for its newest revision, in a task of its own; those who come meanwhile share the next question."""
        future = asked or asyncio.get_running_loop().create_future()

        async def ask() -> None:
            try:
                request = messages.range_request(COMPACT_KEY, count_only=True)
                answer = messages.range_answer(await self._call(messages.RANGE, request))
            except StorageError as error:
                future.set_exception(error)
                future.exception()  # perhaps nobody waits any more
            else:
                future.set_result(Revision(answer.revision))
            finally:
                if not future.done():
                    future.cancel()
                following, self._next_asked = self._next_asked, None
                self._asked = None if following is None else self._ask_revision(following)

        self._tasks.start("revision", ask)
        return future

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
        self._committed.check_readable(after, self._oldest)
        while after < self._hub.history_start:
            through = self._hub.history_start
            changes = await self._read_changes(prefix, after, through)
            self._committed.check_readable(after, self._oldest)
            after = through
            if changes:
                listener(changes)
        self._check_open()
        return self._hub.subscribe(prefix, listener, after=after, ended=ended, progress=progress)

    async def _read_changes(self, prefix: str, after: Revision, through: Revision) -> Sequence[Change]:
        """Changes of ``prefix`` in (after, through] from etcd: a watch with previous states, ended when it is there."""
        if through <= FIRST_REVISION:
            return ()
        channel = await self._channel_now()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        changes: list[Change] = []

        def hear(data: bytes) -> None:
            answer = messages.watch_answer(data)
            if done.done():
                return
            if answer.canceled:
                error = Compacted(after, Revision(answer.compact_revision))
                done.set_exception(error if answer.compact_revision else self._unavailable(answer.reason))
                return
            for event in answer.events:
                if event.kv.mod_revision <= through:
                    change = self._past(event, prefix)
                    if change is not None:
                        changes.append(change)
            if answer.events and not answer.more and answer.events[-1].kv.mod_revision >= through:
                done.set_result(None)

        def lost(error: GrpcError | None) -> None:
            if not done.done():
                done.set_exception(self._unavailable(error.message if error else "the watch ended"))

        call = channel.stream(messages.WATCH, hear, lost)
        try:
            if call is not None:
                call.send(messages.watch_request(messages.ALL, messages.ALL, after + 1, previous=True))
            async with asyncio.timeout(REQUEST_SECONDS):
                await done
        except TimeoutError as error:
            raise self._unavailable("history did not come") from error
        finally:
            if call is not None:
                call.cancel()
        return changes

    def _past(self, event: messages.Event, prefix: str) -> Change | None:
        kv = event.kv
        if not kv.key.startswith(self._first) or not self._name(kv.key).startswith(prefix):
            return None
        key, revision = self._name(kv.key), Revision(kv.mod_revision)
        previous = None if event.previous is None else self._record(event.previous)
        if not event.deleted:
            return Change(revision, Record(key, kv.value, Revision(kv.create_revision), revision), previous)
        if previous is None:
            return None
        return Change(revision, Record(key, previous.value, previous.create_revision, revision), previous, deleted=True)

    # -- writing ----------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, value: bytes, *, expected: Revision | None = None, decoded: Any = None, durable: bool = True
    ) -> Record:
        await self._turn(key)
        try:
            if decoded is not None:
                self._decoded[key] = (value, decoded)
            name = self._key(key)
            if expected is None:
                request = messages.put_request(name, value)
                revision = Revision(messages.put_answer(await self._call(messages.PUT, request)).revision)
            else:
                request = messages.swap_request(name, expected, value)
                answer = messages.swap_answer(await self._call(messages.TXN, request))
                if not answer.succeeded:
                    raise await self._mismatch(key, answer)
                revision = Revision(answer.revision)
            await self._until_shown(Record(key, value, revision, revision, decoded), deleted=False)
        finally:
            self._decoded.pop(key, None)
            self._writing.pop(key).set_result(None)
        found = self._committed.get(key)
        if found is not None and found.mod_revision == revision:
            return found
        created = revision if expected == 0 else self._created_at(key, revision)
        return Record(key, value, created, revision)

    async def delete(self, key: str, *, expected: Revision | None = None) -> Record | None:
        await self._turn(key)
        try:
            name = self._key(key)
            if expected is None:
                answer = messages.delete_answer(await self._call(messages.DELETE, messages.delete_request(name)))
            else:
                request = messages.swap_request(name, expected, None)
                answer = messages.swap_answer(await self._call(messages.TXN, request))
                if not answer.succeeded:
                    raise await self._mismatch(key, answer)
            if not answer.kvs:
                await self._until(Revision(answer.revision))
                return None
            gone = self._record(answer.kvs[0])
            gone.mod_revision = Revision(answer.revision)
            await self._until_shown(gone, deleted=True)
        finally:
            self._writing.pop(key).set_result(None)
        return gone

    async def _until_shown(self, record: Record, *, deleted: bool) -> None:
        """Show a write etcd acknowledged. Where nothing else lies before it that is done at once; the watch, which
        etcd lets fall behind by up to 100 ms under load, then says nothing new."""
        revision = record.mod_revision
        if revision > self.revision:
            self._acknowledged[revision] = Change(revision, record, None, deleted)
            self._show_acknowledged()
            await self._until(revision)

    def _show_acknowledged(self) -> None:
        """Apply the writes of our own that come next."""
        while (change := self._acknowledged.pop(Revision(self.revision + 1), None)) is not None:
            record = change.record
            before = self._committed.get(record.key)
            if before is not None:
                record.create_revision = before.create_revision
            self._committed.apply((change,))
        self._arrived()

    async def _turn(self, key: str) -> None:
        """Writes of one key go one after the other; the caller takes ``key`` out of ``_writing`` again."""
        while True:
            self._check_open()
            busy = self._writing.get(key)
            if busy is None:
                break
            await asyncio.wait((busy,))
        self._writing[key] = asyncio.get_running_loop().create_future()

    def _created_at(self, key: str, revision: Revision) -> Revision:
        """The creation's revision of the state ``key`` had at ``revision``, if it is remembered."""
        for change in self._hub.changes_after(Revision(revision - 1)):
            if change.record.key == key:
                return change.record.create_revision
        return revision

    async def _mismatch(self, key: str, answer: messages.Answer) -> KeyMismatch:
        """What is there instead, shown to all readers before the loser hears of it."""
        await self._until(Revision(answer.revision))
        return KeyMismatch(key, self._record(answer.kvs[0]) if answer.kvs else None)

    async def compact(self, revision: Revision) -> None:
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        if revision <= self._oldest:
            return
        with contextlib.suppress(Compacted):  # somebody else was faster
            await self._call(messages.COMPACT, messages.compact_request(revision))
        noted = messages.put_request(COMPACT_KEY, str(revision).encode())
        answer = messages.put_answer(await self._call(messages.PUT, noted))
        await self._until(Revision(answer.revision))
        self._heard_compaction(str(revision).encode())

    # -- calls ------------------------------------------------------------------------------------------------------

    async def _call(self, path: str, request: bytes, revision: int = 0) -> bytes:
        """The answer; etcd's refusals in our words."""
        channel = self._channel
        if channel is None or channel.closed.is_set():
            channel = await self._channel_now()
        try:
            return await channel.unary(path, request)
        except GrpcError as error:
            if error.code == _OUT_OF_RANGE and "compacted" in error.message:
                self._oldest = max(self._oldest, Revision(revision + 1))
                raise Compacted(Revision(revision), self._oldest) from error
            if error.code == _OUT_OF_RANGE:
                raise FutureRevision(Revision(revision), self.revision) from error
            raise self._unavailable(error.message) from error

    async def _channel_now(self) -> GrpcChannel:
        """The connection, waiting a while for a lost one to come back."""
        if self._channel is not None and self._channel.closed.is_set():
            self._channel = None
            self._connected.clear()
        try:
            async with asyncio.timeout(OUTAGE_SECONDS):
                while self._channel is None:
                    self._check_open()
                    await self._connected.wait()
        except TimeoutError as error:
            raise self._unavailable() from error
        return self._channel

    def _unavailable(self, why: str = "") -> StorageUnavailable:
        return StorageUnavailable(f"etcd {','.join(self._settings.servers)}: {why or self._trouble}")

    def _check_open(self) -> None:
        if not self._open:
            raise StorageUnavailable("the storage is closed")

    # -- names ------------------------------------------------------------------------------------------------------

    def _key(self, key: str) -> bytes:
        return (self._settings.prefix + key.removeprefix(self._settings.root) if self._renamed else key).encode()

    def _name(self, key: bytes) -> str:
        name = key.decode()
        return self._settings.root + name[len(self._settings.prefix) :] if self._renamed else name

    def _record(self, kv: messages.KeyValue) -> Record:
        record = Record(self._name(kv.key), kv.value, Revision(kv.create_revision), Revision(kv.mod_revision))
        if kv.value.startswith(PROTOBUF) and self._settings.root:
            record.value, record.damage = b"", "the value is protobuf, written by another API server; only JSON is read"
        return record


def address_of(server: str) -> tuple[str, int]:
    """Host and port of ``http://host:2379``; raises ``BadAddress``."""
    parts = urllib.parse.urlsplit(server if "//" in server else f"http://{server}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise BadAddress(f"{server!r} is no address of etcd: it looks like http://127.0.0.1:2379")
    return parts.hostname, port or 2379
