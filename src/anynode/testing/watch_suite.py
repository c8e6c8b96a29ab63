"""Random walks over the watch cache on a storage engine: subclass nothing, call ``watch_machine``.

Beside the cache runs a model, a list of changes. After every step each running watch must have been told exactly what
the model says follows from its selection: every event once, in order, with its type, an object entering the selection
as ADDED and one leaving it as DELETED; bookmarks never ahead of events. Watches begin with the state, with what a list
showed or at any older revision; readers refuse events and are closed; time passes; history is compacted; the server
restarts, and, where the engine can be copied as a crash would leave it, crashes and loses what need not be durable.
Who comes back goes on without a gap or is told to list again (410)::

    TestMineWatched = watch_machine(lambda directory: MyStorage(directory / "state"), keeps=True)

Needs hypothesis.
"""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import shutil
import tempfile
import unittest
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anynode.api.errors import Expired
from anynode.api.resources import known
from anynode.api.wire import WatchEvent
from anynode.registry.encoding import canonical, encode
from anynode.registry.items import BOOKMARK, Item
from anynode.registry.watch_cache import ResourceCache, WatchCache
from anynode.registry.watchers import Selection, Watcher
from anynode.storage.types import KeyMismatch, Revision, Storage
from anynode.testing.clock import FakeClock
from anynode.testing.storage_suite import Opener

T = TypeVar("T")
Crash: TypeAlias = Callable[[pathlib.Path, pathlib.Path], None]
"""Copy an open store from one directory to another as a crash at this moment would leave it."""
PREFIX = "/registry/configmaps/"
RESOURCE = known("configmaps")
KEYS = st.sampled_from(["a/1", "a/2", "b/1", "b/2", "b/3"])
LABELS = st.sampled_from(["x", "y"])
SELECTIONS = (
    Selection(),
    Selection(key="a", namespace="a"),
    Selection(key="|l=x", labels=lambda labels: labels.get("l") == "x"),
    Selection(key="b|l=y", namespace="b", labels=lambda labels: labels.get("l") == "y"),
    Selection(key="b|1", namespace="b", name="1"),
)


class PlainForm:
    """Objects as they are."""

    key = ""
    special_first = False

    def item(self, item: Item) -> bytes:
        return item.encoded

    def first_event(self, item: Item) -> bytes:
        return item.encoded

    def bookmark(self, revision: Revision, *, initial_events_end: bool) -> bytes:
        return orjson.dumps({"metadata": {"resourceVersion": str(revision)}})


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One write of the model: the label before and after (None: not there)."""

    revision: Revision
    key: str
    before: str | None
    after: str | None


class Reader:
    """A watch's other end: writes down what it is told, and takes no more than ``most`` events."""

    def __init__(self, selection: Selection, after: Revision, most: int) -> None:
        self.selection = selection
        self.after = after
        self.most = most
        self.told: list[tuple[str, str, int]] = []
        self.last = after
        self.ended = False
        self.watcher: Watcher | None = None

    def deliver(self, events: Sequence[WatchEvent]) -> bool:
        assert not self.ended, "nothing is delivered after the end"
        for event in events:
            metadata = event.object["metadata"]
            revision = Revision(int(metadata["resourceVersion"]))
            if event.type == BOOKMARK:
                assert revision >= self.last
                self.last = revision
                continue
            if len(self.told) == self.most:
                return False
            self.told.append((event.type, f"{metadata['namespace']}/{metadata['name']}", revision))
            self.last = max(self.last, revision)
        return True

    def end(self) -> None:
        self.ended = True


def labelled(key: str, label: str, serial: int) -> bytes:
    namespace, _, name = key.partition("/")
    metadata = {"name": name, "namespace": namespace, "labels": {"l": label}}
    return encode(canonical({"metadata": metadata, "data": {"n": str(serial)}}, RESOURCE))


def selects(selection: Selection, key: str, label: str | None) -> bool:
    namespace, _, name = key.partition("/")
    return (
        label is not None
        and selection.namespace in ("", namespace)
        and selection.name in ("", name)
        and (selection.labels is None or selection.labels({"l": label}))
    )


class WatchMachine(RuleBasedStateMachine):
    """The cache beside the model."""

    opener: ClassVar[Opener]
    keeps: ClassVar[bool] = True
    crash_copy: ClassVar[Crash | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="anynode-watch-"))
        self.directory = self.root / "0"
        self.directory.mkdir()
        self.clock = FakeClock()
        self.changes: list[Change] = []
        self.state: dict[str, str] = {}
        self.revisions: dict[str, Revision] = {}
        self.durable = Revision(0)
        self.serial = 0
        self.readers: list[Reader] = []
        self.run(self.open())
        self.begin = Revision(self.cache.revision)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def open(self) -> None:
        self.context = type(self).opener(self.directory)
        self.storage: Storage = await self.context.__aenter__()
        self.cache = WatchCache(self.storage, self.clock)
        self.items = self.cache.add(ResourceCache(PREFIX, self.clock))
        await self.cache.open()

    async def close(self) -> None:
        self.cache.close()
        await self.context.__aexit__(None, None, None)
        assert all(reader.ended for reader in self.readers), "a server that ends says so to every watch"

    def teardown(self) -> None:
        self.run(self.close())
        self.loop.close()
        shutil.rmtree(self.root)

    # -- writing ----------------------------------------------------------------------------------------------------

    def wrote(self, revision: Revision, key: str, label: str | None) -> None:
        self.changes.append(Change(revision, key, self.state.get(key), label))
        if label is None:
            del self.state[key], self.revisions[key]
        else:
            self.state[key], self.revisions[key] = label, revision

    @rule(key=KEYS, label=LABELS, durable=st.booleans())
    def put(self, key: str, label: str, durable: bool) -> None:
        self.serial += 1
        value = labelled(key, label, self.serial)
        record = self.run(self.storage.put(PREFIX + key, value, decoded=orjson.loads(value), durable=durable))
        self.wrote(record.mod_revision, key, label)
        if durable:
            self.durable = record.mod_revision

    @rule(keys=st.lists(st.tuples(KEYS, LABELS), min_size=2, max_size=8, unique_by=lambda each: each[0]))
    def put_at_once(self, keys: list[tuple[str, str]]) -> None:
        async def all_at_once() -> list[Revision]:
            async with asyncio.TaskGroup() as tasks:
                started = [
                    tasks.create_task(self.storage.put(PREFIX + key, labelled(key, label, 0))) for key, label in keys
                ]
            return [task.result().mod_revision for task in started]

        for revision, (key, label) in sorted(zip(self.run(all_at_once()), keys, strict=True)):
            self.wrote(revision, key, label)
            self.durable = max(self.durable, revision)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        gone = self.run(self.storage.delete(PREFIX + key))
        assert (gone is None) == (key not in self.state)
        if gone is not None:
            self.wrote(gone.mod_revision, key, None)
            self.durable = gone.mod_revision

    @rule(key=KEYS)
    def lose_a_race(self, key: str) -> None:
        wrong = Revision(self.revisions.get(key, 0) + 1)
        try:
            self.run(self.storage.put(PREFIX + key, b"{}", expected=wrong))
        except KeyMismatch:
            return
        raise AssertionError("a write against a state that is not there")

    # -- watching ---------------------------------------------------------------------------------------------------

    def start(self, reader: Reader, *, initial: bool) -> None:
        """Begin the watch; one told to list again ends at once."""
        try:
            reader.watcher = self.cache.start(
                self.items, reader.selection, PlainForm(), reader,
                after=None if initial else reader.after, initial=initial, mark_initial_end=initial, bookmarks=True,
                timeout_seconds=600.0,
            )  # fmt: skip
        except Expired:
            reader.ended = True
            return
        self.readers.append(reader)

    @rule(selection=st.sampled_from(SELECTIONS), most=st.sampled_from([3, 10_000, 10_000]))
    def watch_the_state(self, selection: Selection, most: int) -> None:
        there = {key: revision for key, revision in self.revisions.items() if selects(selection, key, self.state[key])}
        reader = Reader(selection, Revision(0), 10_000)
        self.start(reader, initial=True)
        assert reader.told == [("ADDED", key, there[key]) for key in sorted(there)]
        assert reader.last == self.cache.revision
        reader.told, reader.after, reader.most = [], self.cache.revision, most

    @rule(data=st.data(), selection=st.sampled_from(SELECTIONS), most=st.sampled_from([2, 10_000, 10_000]))
    def watch_after(self, data: st.DataObject, selection: Selection, most: int) -> None:
        known_revisions = [self.begin, *(change.revision for change in self.changes)]
        after = data.draw(st.sampled_from(known_revisions))
        self.start(Reader(selection, after, most), initial=False)

    @rule(seconds=st.sampled_from([1.0, 70.0, 700.0]))
    def pass_time(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))
        self.cache.tick()

    # -- what happens to servers ------------------------------------------------------------------------------------

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        known_revisions = [self.begin, *(change.revision for change in self.changes)]
        self.run(self.storage.compact(data.draw(st.sampled_from(known_revisions))))

    @precondition(lambda self: self.keeps)
    @rule()
    def restart(self) -> None:
        self.run(self.close())
        self.run(self.open())
        self.come_back()

    @precondition(lambda self: self.crash_copy is not None)
    @rule()
    def crash(self) -> None:
        crash_copy = type(self).crash_copy
        assert crash_copy is not None
        left = self.root / str(int(self.directory.name) + 1)
        left.mkdir()
        crash_copy(self.directory, left)
        self.run(self.close())
        self.directory = left
        self.run(self.open())
        self.forget_what_was_lost()
        self.come_back()

    def forget_what_was_lost(self) -> None:
        """The store kept a beginning of what was written, at least to the last durable write."""
        found = {key: item.revision for key, item in self.items.items.items()}
        lost = Revision(0)
        while self.state_at_end() != found:
            assert self.changes, "the store holds what was never written"
            assert self.changes[-1].revision > self.durable, "a durable write is lost"
            lost = self.changes.pop().revision
        for reader in self.readers:
            if lost and reader.last >= lost:
                reader.after = Revision(-1)  # has seen what is lost: must list again
        changes, self.changes, self.state, self.revisions = self.changes, [], {}, {}
        for change in changes:
            self.wrote(change.revision, change.key, change.after)

    def state_at_end(self) -> Mapping[str, Revision]:
        state: dict[str, Revision] = {}
        for change in self.changes:
            state.pop(change.key, None)
            if change.after is not None:
                state[change.key] = change.revision
        return state

    def come_back(self) -> None:
        """Every reader watches on from what it heard last."""
        readers, self.readers = self.readers, []
        for reader in readers:
            again = Reader(reader.selection, reader.last, reader.most)
            self.start(again, initial=False)
            assert reader.after >= 0 or again.ended, "who saw what is lost is told to list again"

    # -- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def the_cache_shows_the_model(self) -> None:
        assert {key: item.revision for key, item in self.items.items.items()} == self.revisions
        assert [item.key for item in self.items.scan()] == sorted(self.state)
        assert [item.key for item in self.items.scan("b/")] == sorted(key for key in self.state if key[0] == "b")

    @invariant()
    def the_cache_remembers_the_past(self) -> None:
        if not self.changes:
            return
        change = self.changes[len(self.changes) // 2]
        if self.items.knows(change.revision):
            past = {item.key: item.revision for item in self.items.scan_at(change.revision)}
            expected: dict[str, Revision] = {}
            for each in self.changes[: len(self.changes) // 2 + 1]:
                expected.pop(each.key, None)
                if each.after is not None:
                    expected[each.key] = each.revision
            assert past == expected

    @invariant()
    def every_reader_was_told_everything_once(self) -> None:
        for reader in self.readers:
            expected = [event for change in self.changes if (event := self.event_of(reader, change)) is not None]
            if reader.ended:
                assert reader.told == expected[: len(reader.told)], "what came before the end has no gap"
                assert len(reader.told) <= reader.most
            else:
                assert reader.told == expected

    def event_of(self, reader: Reader, change: Change) -> tuple[str, str, int] | None:
        if change.revision <= reader.after:
            return None
        before, after = (selects(reader.selection, change.key, label) for label in (change.before, change.after))
        if not before and not after:
            return None
        kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
        return kind, change.key, change.revision


def watch_machine(
    opener: Opener, *, keeps: bool = True, crash: Crash | None = None, examples: int = 40, steps: int = 40
) -> type[unittest.TestCase]:
    """A test case of random walks over the watch cache on the engine ``opener`` opens."""
    own = {"opener": staticmethod(opener), "keeps": keeps, "crash_copy": None if crash is None else staticmethod(crash)}
    machine: Any = type("Machine", (WatchMachine,), own)
    case: Any = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    found: type[unittest.TestCase] = case
    return found
