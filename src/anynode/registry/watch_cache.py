"""The newest state of everything, by resource, fed by one watch of the store: where every read is answered.

In: committed changes, in revision order, before their writers are told. Out: items by key, sorted scans, states of a
recent past, and events to watchers. Invariant: ``revision`` is the newest committed revision, so a read from here is
as good as one from storage. A resource keeps its events for ``HISTORY_SECONDS`` and never more than ``MOST_EVENTS`` or
``MOST_EVENT_BYTES``; who asks for older ones gets 410. Source: apiserver ``pkg/storage/cacher``, 1.36.
"""

from __future__ import annotations

import bisect
import collections
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from anynode.aio.clock import Clock
from anynode.api.errors import Expired
from anynode.api.wire import WatchSink
from anynode.registry.items import CacheEvent, Fields, Form, Item
from anynode.registry.watchers import Selection, Watcher, WatcherIndex, bookmark, no_fields
from anynode.storage.types import Change, Compacted, Record, Revision, Storage, StorageError, Watch

logger = logging.getLogger(__name__)

ROOT = "/registry/"
HISTORY_SECONDS = 75.0
LEAST_EVENTS = 1_000
MOST_EVENTS = 100_000
MOST_EVENT_BYTES = 64 * 1024 * 1024
"""What the events of one resource may hold; under heavy writes of large objects history is shorter than its time."""
EVENT_BYTES = 700
"""What an event weighs beside its object's bytes."""
RESUME_REVISIONS = 2_000
"""How much of the store's history is read again at start, so that clients resume over a restart."""
SLICE_KEYS = 512
MOST_DECODED = 1_000
"""Events of one resource whose objects are kept decoded beside their bytes: the last ones."""
DECODED_SECONDS = 15.0
"""How long they are: a resource that was busy once weighs no more for it."""
BOOKMARK_SECONDS = 60.0
BOOKMARK_BEFORE_END_SECONDS = 2.0
TICK_SECONDS = 0.5


class ResourceCache:
    """The objects of one stored resource. ``prefix`` ends with a slash; keys are relative to it."""

    def __init__(self, prefix: str, clock: Clock, *, read_fields: Fields = no_fields, indexed_field: str = "") -> None:
        self.prefix = prefix
        self.items: dict[str, Item] = {}
        self.damaged: dict[str, str] = {}
        """Objects nobody can read, and why: reading them fails, and so does listing the resource."""
        self.read_fields = read_fields
        self.watchers = WatcherIndex(read_fields, indexed_field)
        self.listeners: list[Callable[[Sequence[CacheEvent]], None]] = []
        self._clock = clock
        self._keys: list[str] = []
        self._events: collections.deque[CacheEvent] = collections.deque()
        self._event_bytes = 0
        self._complete_after = Revision(0)
        self._decoded: collections.deque[CacheEvent] = collections.deque()

    @property
    def behind(self) -> Revision | None:
        """The revision this cache has come to, where it may lag behind the store; None: it never does."""
        return None

    async def reach(self, revision: Revision) -> None:
        """Wait until the cache, which may lag, shows ``revision``. Raises ``ApiError`` when it cannot."""

    # --- feeding

    def fill(self, record: Record) -> None:
        """Take a record of the first listing; ``begin`` follows."""
        key = record.key[len(self.prefix) :]
        if record.damage:
            self.damaged[key] = record.damage
            return
        self.items[key] = Item.of_record(key, record)

    def begin(self, revision: Revision) -> None:
        """The first listing is complete at ``revision``; history is known from there on."""
        self._keys = sorted(self.items)
        self._events.clear()
        self._event_bytes = 0
        self._complete_after = revision

    def apply(self, changes: Sequence[Change]) -> None:
        """Take committed changes of this resource and tell its watchers."""
        moment = self._clock.monotonic()
        if self.damaged or any(change.record.damage for change in changes):
            changes = self._readable(changes)
        self.take([self._applied(change, moment) for change in changes], moment)
        for key in self.damaged:
            if key in self.items:  # it was readable before
                self.place(self.items[key], deleted=True)

    def _readable(self, changes: Sequence[Change]) -> Sequence[Change]:
        """``changes`` without those nobody can read: watches end there, as a list would fail."""
        found: list[Change] = []
        for change in changes:
            key = change.record.key[len(self.prefix) :]
            known = self.damaged.pop(key, "")
            if change.record.damage and not change.deleted:
                self.damaged[key] = change.record.damage
                if key in self.items:
                    self.place(self.items[key], deleted=True)
                for watcher in tuple(self.watchers.watchers):
                    self.watchers.close(watcher)
            elif not (change.deleted and known):
                found.append(change)
        return found

    def take(self, events: Sequence[CacheEvent], moment: float) -> None:
        """Remember events whose items are in place, and tell everybody."""
        self._events.extend(events)
        self._event_bytes += sum(map(self.weight, events))
        self.forget(moment)
        for listener in self.listeners:
            listener(events)
        if self.watchers.watchers:
            self.watchers.dispatch(events)
        self._release(events)

    def _release(self, events: Sequence[CacheEvent]) -> None:
        """Keep decoded only what was written last, or is held by a reader of this process and still current."""
        decoded = self._decoded
        decoded.extend(events)
        while len(decoded) > MOST_DECODED:
            decoded.popleft().settle()

    def tidy(self, now: float) -> None:
        """Let go of history that is over, and of decoded objects nobody is about to ask for."""
        self.forget(now)
        decoded = self._decoded
        while decoded and decoded[0].moment < now - DECODED_SECONDS:
            decoded.popleft().settle()

    def _applied(self, change: Change, moment: float) -> CacheEvent:
        record = change.record
        key = record.key[len(self.prefix) :]
        previous = self.items.get(key)
        if previous is None and change.previous is not None:
            previous = Item.of_record(key, change.previous)
        item = Item.of_record(key, record)
        self.place(item, deleted=change.deleted)
        return CacheEvent(item, previous, deleted=change.deleted, moment=moment)

    def place(self, item: Item, *, deleted: bool) -> None:
        """Put the newest state of an object in its place, or take the object out."""
        key = item.key
        if deleted:
            if self.items.pop(key, None) is not None:
                del self._keys[bisect.bisect_left(self._keys, key)]
            return
        if key not in self.items:
            bisect.insort(self._keys, key)
        self.items[key] = item

    def replace(self, records: Mapping[str, Record], revision: Revision) -> None:
        """Show ``records``, complete at ``revision``, and tell listeners what differs; history begins anew."""
        moment = self._clock.monotonic()
        self.damaged.clear()
        events: list[CacheEvent] = []
        for key in [key for key in self.items if key not in records]:
            item = self.items[key]
            events.append(CacheEvent(item.at(revision), item, deleted=True, moment=moment))
            self.place(item, deleted=True)
        for key, record in records.items():
            previous = self.items.get(key)
            if record.damage:
                self.damaged[key] = record.damage
            elif previous is None or previous.revision != record.mod_revision:
                item = Item.of_record(key, record)
                self.place(item, deleted=False)
                events.append(CacheEvent(item, previous, deleted=False, moment=moment))
        self.begin(revision)
        if events:
            for listener in self.listeners:
                listener(events)

    def forget(self, now: float) -> None:
        """Let go of history that is over."""
        events = self._events
        while len(events) > LEAST_EVENTS and (
            events[0].moment < now - HISTORY_SECONDS
            or len(events) > MOST_EVENTS
            or self._event_bytes > MOST_EVENT_BYTES
        ):
            event = events.popleft()
            self._event_bytes -= self.weight(event)
            self._complete_after = event.revision

    def weight(self, event: CacheEvent) -> int:
        """What an event holds, in bytes: the same whenever it is asked."""
        return len(event.item.value) + EVENT_BYTES

    async def items_of(self, records: Sequence[Record]) -> Sequence[Item]:
        """Records of the past as this cache's readers see them."""
        return [Item.of_record(record.key[len(self.prefix) :], record) for record in records]

    # --- reading

    def scan(self, scope: str = "", start: str = "") -> Iterator[Item]:
        """Items whose key begins with ``scope``, in key order, from ``start`` on; read without waiting in between.

        Goes by slices: a page of a long list costs what is on it.
        """
        items, keys = self.items, self._keys
        first = bisect.bisect_left(keys, max(scope, start))
        end = bisect.bisect_left(keys, scope + "\U0010ffff") if scope else len(keys)
        for begin in range(first, end, SLICE_KEYS):
            for key in keys[begin : min(begin + SLICE_KEYS, end)]:
                yield items[key]

    def _range(self, keys: list[str], scope: str, start: str) -> list[str]:
        first = bisect.bisect_left(keys, max(scope, start))
        if not scope:
            return keys[first:] if first else keys.copy()
        return keys[first : bisect.bisect_left(keys, scope + "\U0010ffff")]

    def count(self, scope: str, start: str) -> int:
        """How many items ``scan`` would give."""
        first = bisect.bisect_left(self._keys, max(scope, start))
        last = bisect.bisect_left(self._keys, scope + "\U0010ffff") if scope else len(self._keys)
        return max(0, last - first)

    def knows(self, revision: Revision) -> bool:
        """Whether the state at ``revision`` can be told from here."""
        return revision >= self._complete_after

    def scan_at(self, revision: Revision, scope: str = "", start: str = "") -> Iterator[Item]:
        """``scan`` as it was at ``revision``, which ``knows`` said yes to."""
        was: dict[str, Item | None] = {}
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            was[event.item.key] = event.previous
        if not was:
            yield from self.scan(scope, start)
            return
        keys = sorted({*(key for key in self._keys if key not in was), *(k for k, item in was.items() if item)})
        for key in self._range(keys, scope, start):
            past = was.get(key)
            yield past if past is not None else self.items[key]

    def events_after(self, revision: Revision) -> list[CacheEvent]:
        """History after ``revision``; raises ``Expired`` when it is no longer complete."""
        if revision < self._complete_after:
            raise Expired(f"too old resource version: {revision} ({self._complete_after + 1})")
        found: list[CacheEvent] = []
        for event in reversed(self._events):
            if event.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found


class WatchCache:
    """All resource caches, behind one watch of the store. ``open`` fills them, ``run`` keeps the watchers' time."""

    def __init__(self, storage: Storage, clock: Clock) -> None:
        self._storage = storage
        self._clock = clock
        self._caches: dict[str, ResourceCache] = {}
        self._lasting: set[str] = set()
        """The prefixes of caches that stay for good."""
        self._mirrors: dict[ResourceCache, None] = {}
        self._waiting: list[tuple[Revision, Callable[[], None]]] = []
        self._watch: Watch | None = None
        self._closed = False
        self._gap = False
        """The store lost sight of changes: everything is to be read anew."""
        self.shared = storage.shared
        """Whether other servers write too, so that reads that must be current wait in ``catch_up``."""
        self.revision = Revision(0)
        self.failure: StorageError | None = None

    def add(self, cache: ResourceCache) -> ResourceCache:
        """Serve a resource; before ``open``."""
        self._caches[cache.prefix] = cache
        self._lasting.add(cache.prefix)
        return cache

    def at(self, prefix: str) -> ResourceCache:
        """The cache of what lies under ``prefix``, a custom resource's: made when first asked for or first filled."""
        cache = self._caches.get(prefix)
        if cache is None:
            cache = self._caches[prefix] = ResourceCache(prefix, self._clock)
            cache.begin(self.revision)
        return cache

    def drop(self, prefix: str) -> None:
        """Forget the cache of a resource that is no more, and its history; not while there still are objects."""
        cache = self._caches.get(prefix)
        if cache is not None and prefix not in self._lasting and not cache.items and not cache.damaged:
            del self._caches[prefix]
            for watcher in tuple(cache.watchers.watchers):
                cache.watchers.close(watcher)

    def join(self, mirror: ResourceCache) -> None:
        """Keep the time of a cache that is fed by another one."""
        self._mirrors[mirror] = None

    def leave(self, mirror: ResourceCache) -> None:
        """End the watches of a mirror and forget it; safe to call again."""
        self._mirrors.pop(mirror, None)
        for watcher in tuple(mirror.watchers.watchers):
            mirror.watchers.close(watcher)

    def revision_of(self, cache: ResourceCache) -> Revision:
        """The newest revision ``cache`` shows."""
        return self.revision if cache.behind is None else cache.behind

    async def open(self) -> None:
        """Fill every cache and follow the store; the caches are current when this returns.

        They begin with an earlier state and hear of what followed, so that watches go on over a restart.
        """
        try:
            await self._open_at(Revision(max(self._storage.oldest_revision, self._storage.revision - RESUME_REVISIONS)))
        except Compacted:
            await self._open_at(self._storage.revision)
        self.revision = max(self.revision, self._storage.revision)

    async def _open_at(self, since: Revision) -> None:
        records = (await self._storage.list(ROOT, revision=since)).records if since > 0 else ()
        for record in records:
            cache = self._cache_of(record.key)
            if cache is not None:
                cache.fill(record)
        for cache in self._caches.values():
            cache.begin(since)
        self.revision = since
        await self._follow(since)

    async def _follow(self, after: Revision) -> None:
        self._watch = await self._storage.watch(
            ROOT, self._listen, after=after, ended=self._ended, progress=self._come_to
        )

    def forget_history(self) -> None:
        """Let a new cluster's history begin now: nobody watched while it was furnished."""
        for cache in self._caches.values():
            cache.begin(self.revision)

    @property
    def watching(self) -> int:
        """How many watches there are."""
        return sum(len(cache.watchers.watchers) for cache in self._caches.values())

    def _cache_of(self, key: str) -> ResourceCache | None:
        """The cache of ``/registry/pods/...``, ``/registry/apps/deployments/...`` or a custom resource's: whose
        group has a dot. Their objects are followed before anybody says what they are."""
        end = key.find("/", len(ROOT))
        cache = self._caches.get(key[: end + 1])
        if cache is None and end > 0:
            group = end
            end = key.find("/", end + 1)
            cache = self._caches.get(key[: end + 1])
            if cache is None and end > 0 and "." in key[len(ROOT) : group]:
                cache = self.at(key[: end + 1])
        return cache

    def _listen(self, changes: Sequence[Change]) -> None:
        if len(changes) == 1:
            cache = self._cache_of(changes[0].record.key)
            self.revision = changes[0].revision
            if cache is not None:
                cache.apply(changes)
        else:
            sorted_out: dict[ResourceCache, list[Change]] = {}
            for change in changes:
                cache = self._cache_of(change.record.key)
                if cache is not None:
                    sorted_out.setdefault(cache, []).append(change)
            self.revision = changes[-1].revision
            for cache, own in sorted_out.items():
                cache.apply(own)
        if self._waiting:
            self._wake()

    def _come_to(self, revision: Revision) -> None:
        """The store moved on without a change to anything cached."""
        self.revision = max(self.revision, revision)
        if self._waiting:
            self._wake()

    async def catch_up(self) -> None:
        """Return when the caches show all that any server acknowledged before this call.

        Raises ``StorageUnavailable``.
        """
        await self._storage.catch_up()
        while self._gap and not self._closed:
            await self._clock.sleep(TICK_SECONDS / 10)

    def _wake(self) -> None:
        due = [wake for revision, wake in self._waiting if revision <= self.revision]
        self._waiting = [entry for entry in self._waiting if entry[0] > self.revision]
        for wake in due:
            wake()

    def when_reached(self, revision: Revision, wake: Callable[[], None]) -> None:
        """Call ``wake`` once the store has come to ``revision``."""
        self._waiting.append((revision, wake))

    def forget_waiting(self, wake: Callable[[], None]) -> None:
        self._waiting = [entry for entry in self._waiting if entry[1] is not wake]

    def _ended(self, error: StorageError) -> None:
        if isinstance(error, Compacted) and not self._closed:
            logger.error("the store's history has a gap: watches end and everything is read anew")
            self._gap = True
            self._close_watchers()
            return
        self.failure = error
        logger.error("the store ended its watch", exc_info=error)
        self.close()

    # --- watches

    def start(
        self,
        cache: ResourceCache,
        selection: Selection,
        form: Form,
        sink: WatchSink,
        *,
        after: Revision | None,
        initial: bool = False,
        mark_initial_end: bool = False,
        bookmarks: bool = False,
        timeout_seconds: float,
    ) -> Watcher | None:
        """Begin a watch: with the state now (``initial``), else with history after ``after`` (None: from now on).

        None when the reader did not take the first events. Raises ``Expired``.
        """
        now = self._clock.monotonic()
        revision = self.revision_of(cache)
        watcher = Watcher(
            sink,
            floor=after if after is not None and after > revision else Revision(0),
            deadline=now + timeout_seconds,
            bookmark_due=_bookmark_due(now, now + timeout_seconds) if bookmarks else None,
            first=form.special_first,
        )
        if initial:
            scope = f"{selection.namespace}/" if selection.namespace else ""
            found = [item for item in cache.scan(scope) if selection.unfiltered or selection.matches(item)]
            taken = cache.watchers.deliver_initial(watcher, found, form)
            if taken and mark_initial_end:
                taken = sink.deliver([bookmark(form, revision, initial_events_end=True)])
            cache.watchers.add(watcher, selection, form)
        else:
            history = cache.events_after(after) if after is not None else []
            cache.watchers.add(watcher, selection, form)
            taken = cache.watchers.replay(watcher, history)
        if not taken:
            cache.watchers.close(watcher)
            return None
        return watcher

    async def run(self) -> None:
        """Send bookmarks, end watches and forget history whose time is over, for ever."""
        while not self._closed:
            await self._clock.sleep(TICK_SECONDS)
            if self._gap:
                await self._refill()
            self.tick()

    async def _refill(self) -> None:
        """Read everything anew after a gap; who watched lists again, who listens in this process hears what differs."""
        page = await self._storage.list(ROOT)
        found: dict[ResourceCache, dict[str, Record]] = {cache: {} for cache in self._caches.values()}
        for record in page.records:
            cache = self._cache_of(record.key)
            if cache is not None:
                found.setdefault(cache, {})[record.key[len(cache.prefix) :]] = record
        self.revision = max(self.revision, page.revision)
        for cache, records in found.items():
            cache.replace(records, page.revision)
        self._close_watchers()
        self._gap = False
        await self._follow(page.revision)

    def tick(self) -> None:
        now = self._clock.monotonic()
        for cache in (*self._caches.values(), *self._mirrors):
            cache.tidy(now)
            for watcher in tuple(cache.watchers.watchers):
                if watcher.bookmark_due is not None and now >= watcher.bookmark_due:
                    self._bookmark(cache, watcher, now)
                if now >= watcher.deadline:
                    cache.watchers.close(watcher)

    def _bookmark(self, cache: ResourceCache, watcher: Watcher, now: float) -> None:
        audience = watcher.audience
        assert audience is not None
        watcher.bookmark_due = _bookmark_due(now, watcher.deadline)
        revision = self.revision_of(cache)
        if not watcher.floor and not watcher.sink.deliver([bookmark(audience.form, revision)]):
            cache.watchers.close(watcher)

    def close(self) -> None:
        """End every watch and stop following the store; safe to call again."""
        self._closed = True
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        self._close_watchers()

    def _close_watchers(self) -> None:
        for cache in (*self._caches.values(), *self._mirrors):
            for watcher in tuple(cache.watchers.watchers):
                cache.watchers.close(watcher)


def _bookmark_due(now: float, deadline: float) -> float | None:
    """The next bookmark: in a minute, or shortly before the end; None when neither lies ahead."""
    before_end = deadline - BOOKMARK_BEFORE_END_SECONDS
    if now + BOOKMARK_SECONDS < before_end:
        return now + BOOKMARK_SECONDS
    return before_end if before_end > now else None
