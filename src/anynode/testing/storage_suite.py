"""What every ``Storage`` engine must do, as tests: subclass ``StorageSuite`` and ``storage_machine``.

An engine is handed in as ``Opener``: a function that opens the store of a directory and, called again after the first
was closed, finds what was there (an engine that keeps nothing says so with ``keeps = False``)::

    class TestMine(StorageSuite):
        @pytest.fixture
        def opener(self): return lambda directory: MyStorage(directory / "state")

    TestMineWalks = storage_machine(lambda directory: MyStorage(directory / "state"), keeps=True)

Needs pytest, pytest-asyncio and hypothesis.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import shutil
import tempfile
import unittest
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeAlias, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from anynode.storage.types import (
    Change,
    Compacted,
    FutureRevision,
    KeyMismatch,
    Record,
    Revision,
    Storage,
    StorageError,
    StorageUnavailable,
)

T = TypeVar("T")
Opener: TypeAlias = Callable[[pathlib.Path], contextlib.AbstractAsyncContextManager[Storage]]


class Listener:
    """A watcher that writes down what it hears."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.calls: list[int] = []
        self.ends: list[StorageError] = []

    def __call__(self, changes: Sequence[Change]) -> None:
        self.changes.extend(changes)
        self.calls.append(len(changes))

    def ended(self, error: StorageError) -> None:
        self.ends.append(error)

    @property
    def heard(self) -> list[tuple[Revision, str, bytes, bool]]:
        return [(each.revision, each.record.key, each.record.value, each.deleted) for each in self.changes]


def now(storage: Storage) -> Revision:
    """The store's revision at this moment."""
    return Revision(storage.revision)


async def put_many(storage: Storage, *keys: str) -> list[Record]:
    return [await storage.put(key, f"{key}@{index}".encode()) for index, key in enumerate(keys)]


class StorageSuite:
    """The invariants of ``storage.types``, one test each."""

    keeps: ClassVar[bool] = True

    @pytest.fixture
    def opener(self) -> Opener:
        raise NotImplementedError("give a fixture named opener")

    @pytest.fixture
    async def storage(self, opener: Opener, tmp_path: pathlib.Path) -> AsyncIterator[Storage]:
        async with opener(tmp_path) as opened:
            yield opened

    # -- one key ----------------------------------------------------------------------------------------------------

    async def test_a_put_is_read_back_exactly(self, storage: Storage) -> None:
        value = b'{"x":\xff\x00}'
        written = await storage.put("/registry/a/1", value)
        assert written.value == value
        assert written.create_revision == written.mod_revision == storage.revision
        found = await storage.get("/registry/a/1")
        assert found is not None
        assert (found.key, found.value, found.mod_revision) == ("/registry/a/1", value, written.mod_revision)
        assert await storage.get("/registry/a/2") is None
        assert await storage.get("/registry/a/") is None

    async def test_an_empty_value_is_a_value(self, storage: Storage) -> None:
        await storage.put("/a", b"")
        found = await storage.get("/a")
        assert found is not None
        assert found.value == b""

    async def test_every_write_takes_the_next_revision(self, storage: Storage) -> None:
        before = storage.revision
        records = await put_many(storage, "/a", "/b", "/a")
        assert [record.mod_revision for record in records] == [before + 1, before + 2, before + 3]
        assert records[2].create_revision == records[0].create_revision
        gone = await storage.delete("/a")
        assert gone is not None
        assert gone.mod_revision == before + 4 == storage.revision
        assert gone.value == records[2].value
        again = await storage.put("/a", b"new")
        assert again.create_revision == again.mod_revision == before + 5

    async def test_deleting_nothing_writes_nothing(self, storage: Storage) -> None:
        before = storage.revision
        assert await storage.delete("/nothing") is None
        assert storage.revision == before

    async def test_compare_and_swap(self, storage: Storage) -> None:
        first = await storage.put("/a", b"1", expected=Revision(0))
        with pytest.raises(KeyMismatch) as exists:
            await storage.put("/a", b"2", expected=Revision(0))
        assert exists.value.current is not None
        assert exists.value.current.value == b"1"
        second = await storage.put("/a", b"2", expected=first.mod_revision)
        with pytest.raises(KeyMismatch):
            await storage.put("/a", b"3", expected=first.mod_revision)
        with pytest.raises(KeyMismatch):
            await storage.delete("/a", expected=first.mod_revision)
        with pytest.raises(KeyMismatch) as missing:
            await storage.put("/b", b"1", expected=second.mod_revision)
        assert missing.value.current is None
        assert storage.revision == second.mod_revision
        assert await storage.delete("/a", expected=second.mod_revision) is not None
        with pytest.raises(KeyMismatch):
            await storage.delete("/a", expected=second.mod_revision)

    async def test_one_of_many_concurrent_swaps_wins(self, storage: Storage) -> None:
        first = await storage.put("/a", b"0")
        won: list[bytes] = []
        lost: list[Record | None] = []

        async def swap(value: bytes) -> None:
            try:
                await storage.put("/a", value, expected=first.mod_revision)
                won.append(value)
            except KeyMismatch as error:
                lost.append(error.current)
                found = await storage.get("/a")
                assert found is not None
                assert found.mod_revision > first.mod_revision, "the winner is visible to the losers"

        async with asyncio.TaskGroup() as tasks:
            for count in range(20):
                tasks.create_task(swap(str(count).encode()))
        assert len(won) == 1
        assert {record.value for record in lost if record is not None} == set(won)
        found = await storage.get("/a")
        assert found is not None
        assert found.value == won[0]

    async def test_writes_of_one_moment_build_on_each_other(self, storage: Storage) -> None:
        async with asyncio.TaskGroup() as tasks:
            created = tasks.create_task(storage.put("/a", b"1"))
            deleted = tasks.create_task(storage.delete("/a"))
            nothing = tasks.create_task(storage.delete("/a"))
            again = tasks.create_task(storage.put("/a", b"2", expected=Revision(0)))
            changed = tasks.create_task(storage.put("/a", b"3"))
        gone = deleted.result()
        assert gone is not None
        assert gone.mod_revision == created.result().mod_revision + 1
        assert changed.result().create_revision == again.result().mod_revision > gone.mod_revision
        assert nothing.result() is None
        found = await storage.get("/a")
        assert found is not None
        assert found.value == b"3"

    async def test_a_cancelled_put_leaves_a_whole_write_or_none(self, storage: Storage) -> None:
        writer = asyncio.get_running_loop().create_task(storage.put("/a", b"1"))
        await asyncio.sleep(0)
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        await storage.put("/b", b"2")
        found = await storage.get("/a")
        assert found is None or found.value == b"1"

    # -- lists ------------------------------------------------------------------------------------------------------

    async def test_lists_are_in_key_order_and_paged(self, storage: Storage) -> None:
        await put_many(storage, "/p/c", "/p/a", "/q/z", "/p/b", "/o/y", "/p/d")
        page = await storage.list("/p/")
        assert [record.key for record in page.records] == ["/p/a", "/p/b", "/p/c", "/p/d"]
        assert (page.remaining, page.revision) == (0, storage.revision)
        page = await storage.list("/p/", limit=2)
        assert [record.key for record in page.records] == ["/p/a", "/p/b"]
        assert page.remaining == 2
        page = await storage.list("/p/", start="/p/b\0", limit=2)
        assert [record.key for record in page.records] == ["/p/c", "/p/d"]
        assert page.remaining == 0
        assert len((await storage.list("")).records) == 6
        assert not (await storage.list("/nothing/")).records

    async def test_reading_at_an_old_revision(self, storage: Storage) -> None:
        await put_many(storage, "/p/a", "/p/b", "/p/c")
        then = now(storage)
        await storage.put("/p/a", b"new")
        await storage.delete("/p/b")
        await storage.put("/p/bb", b"between")
        assert [record.key for record in (await storage.list("/p/")).records] == ["/p/a", "/p/bb", "/p/c"]
        page = await storage.list("/p/", revision=then)
        assert [record.value for record in page.records] == [b"/p/a@0", b"/p/b@1", b"/p/c@2"]
        assert page.revision == then
        page = await storage.list("/p/", revision=then, limit=1)
        assert (len(page.records), page.remaining) == (1, 2)
        page = await storage.list("/p/", revision=then, limit=1, start="/p/a\0")
        assert [record.key for record in page.records] == ["/p/b"]
        assert page.remaining == 1
        old = await storage.get("/p/a", revision=then)
        assert old is not None
        assert old.value == b"/p/a@0"
        assert await storage.get("/p/bb", revision=then) is None
        assert await storage.get("/p/b", revision=now(storage)) is None
        with pytest.raises(FutureRevision):
            await storage.list("/p/", revision=Revision(storage.revision + 1))
        with pytest.raises(FutureRevision):
            await storage.get("/p/a", revision=Revision(storage.revision + 1))

    async def test_pages_of_one_list_stay_at_their_revision(self, storage: Storage) -> None:
        await put_many(storage, *(f"/p/{count:03}" for count in range(30)))
        then, keys, start = now(storage), [], ""
        while True:
            page = await storage.list("/p/", revision=then, start=start, limit=7)
            keys += [record.key for record in page.records]
            assert page.remaining == 30 - len(keys)
            if not page.remaining:
                break
            start = keys[-1] + "\0"
            await storage.delete(keys[-1])
            await storage.put(f"/p/{len(keys):03}.5", b"in between")
        assert keys == [f"/p/{count:03}" for count in range(30)]

    # -- watches ----------------------------------------------------------------------------------------------------

    async def test_a_watch_hears_before_the_writer_does(self, storage: Storage) -> None:
        listener = Listener()
        await storage.watch("/p/", listener, after=now(storage), ended=listener.ended)
        record = await storage.put("/p/a", b"1")
        assert listener.heard == [(record.mod_revision, "/p/a", b"1", False)]
        await storage.put("/q/a", b"other")
        gone = await storage.delete("/p/a")
        assert gone is not None
        assert listener.heard[1:] == [(gone.mod_revision, "/p/a", b"1", True)]
        first, last = listener.changes
        assert first.previous is None
        assert last.previous is not None
        assert last.previous.mod_revision == record.mod_revision

    async def test_history_comes_first(self, storage: Storage) -> None:
        start = now(storage)
        await put_many(storage, "/p/a", "/q/a", "/p/b")
        middle = now(storage)
        await storage.put("/p/a", b"2")
        await storage.delete("/p/b")
        early, late = Listener(), Listener()
        await storage.watch("/p/", early, after=start, ended=early.ended)
        await storage.watch("/p/", late, after=middle, ended=late.ended)
        assert [(key, deleted) for _, key, _, deleted in early.heard] == [
            ("/p/a", False), ("/p/b", False), ("/p/a", False), ("/p/b", True),
        ]  # fmt: skip
        assert late.heard == early.heard[2:]
        previous = [change.previous and change.previous.value for change in early.changes]
        assert previous == [None, None, b"/p/a@0", b"/p/b@2"]
        await storage.put("/p/c", b"3")
        assert early.heard[-1] == late.heard[-1] == (storage.revision, "/p/c", b"3", False)

    async def test_prefixes_choose(self, storage: Storage) -> None:
        prefixes = ["", "/", "/p/", "/p/x/", "/p/x", "/p/x/a", "/p/xy", "/q/", "p"]
        listeners = {prefix: Listener() for prefix in prefixes}
        for prefix, listener in listeners.items():
            await storage.watch(prefix, listener, after=now(storage), ended=listener.ended)
        keys = ["/p/x/a", "/p/xy/b", "/p/x/ab", "/q/c", "/p/x", "plain"]
        await put_many(storage, *keys)
        for prefix, listener in listeners.items():
            assert [key for _, key, _, _ in listener.heard] == [key for key in keys if key.startswith(prefix)], prefix

    async def test_a_stopped_watch_hears_nothing(self, storage: Storage) -> None:
        listener, other = Listener(), Listener()
        watch = await storage.watch("/p/", listener, after=now(storage), ended=listener.ended)
        await storage.watch("/p/", other, after=now(storage), ended=other.ended)
        watch.stop()
        watch.stop()
        await storage.put("/p/a", b"1")
        assert (listener.heard, len(other.heard), listener.ends) == ([], 1, [])

    async def test_concurrent_writes_are_heard_in_order(self, storage: Storage) -> None:
        listener = Listener()
        await storage.watch("/", listener, after=now(storage), ended=listener.ended)
        start = now(storage)
        async with asyncio.TaskGroup() as tasks:
            for count in range(100):
                tasks.create_task(storage.put(f"/{count % 3}/{count % 10}", b"", durable=count % 4 != 0))
        assert [change.revision for change in listener.changes] == list(range(start + 1, start + 101))

    async def test_the_decoded_form_reaches_listeners_and_is_not_kept(self, storage: Storage) -> None:
        listener, decoded = Listener(), {"kind": "Pod"}
        await storage.watch("/", listener, after=now(storage), ended=listener.ended)
        start = now(storage)
        await storage.put("/a", b"{}", decoded=decoded)
        assert listener.changes[0].record.decoded is decoded
        found = await storage.get("/a")
        assert found is not None
        assert found.decoded is None
        late = Listener()
        await storage.watch("/", late, after=start, ended=late.ended)
        assert late.changes[0].record.decoded is None

    async def test_a_watch_from_the_future_is_refused(self, storage: Storage) -> None:
        with pytest.raises(FutureRevision):
            await storage.watch("/", Listener(), after=Revision(storage.revision + 1), ended=Listener().ended)

    # -- compaction -------------------------------------------------------------------------------------------------

    async def test_compaction_forgets_history_and_keeps_state(self, storage: Storage) -> None:
        start = now(storage)
        await put_many(storage, "/a", "/b", "/a")
        await storage.delete("/b")
        middle = now(storage)
        await storage.put("/a", b"last")
        await storage.compact(middle)
        assert storage.oldest_revision == middle
        with pytest.raises(Compacted) as compacted:
            await storage.list("/", revision=start)
        assert compacted.value.oldest == middle
        with pytest.raises(Compacted):
            await storage.get("/a", revision=Revision(middle - 1))
        with pytest.raises(Compacted):
            await storage.watch("/", Listener(), after=Revision(middle - 1), ended=Listener().ended)
        page = await storage.list("/", revision=middle)
        assert [(record.key, record.value) for record in page.records] == [("/a", b"/a@2")]
        listener = Listener()
        await storage.watch("/", listener, after=middle, ended=listener.ended)
        assert [value for _, _, value, _ in listener.heard] == [b"last"]
        await storage.compact(middle)
        await storage.compact(Revision(middle - 1))
        assert storage.oldest_revision == middle
        with pytest.raises(FutureRevision):
            await storage.compact(Revision(storage.revision + 1))
        await storage.compact(now(storage))
        found = await storage.get("/a")
        assert found is not None
        assert found.value == b"last"

    # -- open and close ---------------------------------------------------------------------------------------------

    async def test_closing_ends_watches_and_refuses(self, opener: Opener, tmp_path: pathlib.Path) -> None:
        listener = Listener()
        async with opener(tmp_path) as storage:
            await storage.watch("/", listener, after=now(storage), ended=listener.ended)
            await storage.put("/a", b"1")
        assert [type(error) for error in listener.ends] == [StorageUnavailable]
        with pytest.raises(StorageUnavailable):
            await storage.put("/a", b"2")
        with pytest.raises(StorageUnavailable):
            await storage.delete("/a")
        assert len(listener.heard) == 1

    async def test_everything_is_there_when_opened_again(self, opener: Opener, tmp_path: pathlib.Path) -> None:
        if not self.keeps:
            pytest.skip("this engine keeps nothing")
        async with opener(tmp_path) as storage:
            start = now(storage)
            await put_many(storage, "/a", "/b", "/a", "/c")
            await storage.delete("/c")
            await storage.put("/lease", b"renewed", durable=False)
            before, revision = (await storage.list("")).records, storage.revision
        async with opener(tmp_path) as storage:
            assert (await storage.list("")).records == before
            assert storage.revision == revision
            listener = Listener()
            await storage.watch("/", listener, after=start, ended=listener.ended)
            assert [key for _, key, _, _ in listener.heard] == ["/a", "/b", "/a", "/c", "/c", "/lease"]
            assert (await storage.put("/d", b"")).mod_revision > revision


KEYS = st.sampled_from(["/a/1", "/a/2", "/a/3", "/b/1", "/b/c/1", "/b/c/2"])
PREFIXES = st.sampled_from(["", "/a/", "/b/", "/b/c/", "/a/1", "/z/"])
VALUES = st.binary(max_size=8)


class Model:
    """A store written down as the list of its changes."""

    def __init__(self) -> None:
        self.states: dict[Revision, dict[str, bytes]] = {}
        self.changes: list[tuple[Revision, str, bytes, bool]] = []
        self.state: dict[str, bytes] = {}
        self.revisions: dict[str, Revision] = {}

    def wrote(self, revision: Revision, key: str, value: bytes, deleted: bool) -> None:
        self.changes.append((revision, key, value, deleted))
        self.state = {other: kept for other, kept in self.state.items() if other != key}
        self.revisions.pop(key, None)
        if not deleted:
            self.state[key] = value
            self.revisions[key] = revision
        self.states[revision] = self.state


class StorageMachine(RuleBasedStateMachine):
    """Random walks: the engine beside the model."""

    opener: ClassVar[Opener]
    keeps: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="anynode-storage-"))
        self.model = Model()
        self.listeners: list[tuple[str, Revision, Listener]] = []
        self.open()
        self.model.states[now(self.storage)] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def open(self) -> None:
        self.context = type(self).opener(self.directory)
        self.storage = self.run(self.context.__aenter__())

    def teardown(self) -> None:
        self.run(self.context.__aexit__(None, None, None))
        self.loop.close()
        shutil.rmtree(self.directory)

    @rule(key=KEYS, value=VALUES, durable=st.booleans())
    def put(self, key: str, value: bytes, durable: bool) -> None:
        record = self.run(self.storage.put(key, value, durable=durable))
        self.model.wrote(record.mod_revision, key, value, False)

    @rule(key=KEYS, value=VALUES, off=st.sampled_from([0, 0, 0, -1, 1]))
    def swap(self, key: str, value: bytes, off: int) -> None:
        current = self.model.revisions.get(key, Revision(0))
        expected = Revision(max(0, current + off))
        if expected != current:
            with pytest.raises(KeyMismatch) as refused:
                self.run(self.storage.put(key, value, expected=expected))
            assert (refused.value.current.mod_revision if refused.value.current else 0) == current
            return
        record = self.run(self.storage.put(key, value, expected=expected))
        self.model.wrote(record.mod_revision, key, value, False)

    @rule(writes=st.lists(st.tuples(KEYS, VALUES, st.booleans()), min_size=2, max_size=12))
    def put_at_once(self, writes: list[tuple[str, bytes, bool]]) -> None:
        async def all_at_once() -> list[Record]:
            async with asyncio.TaskGroup() as tasks:
                started = [
                    tasks.create_task(self.storage.put(key, value, durable=durable)) for key, value, durable in writes
                ]
            return [task.result() for task in started]

        records = self.run(all_at_once())
        for name in {key for key, _, _ in writes}:
            own = [record.mod_revision for record in records if record.key == name]
            assert own == sorted(own), "writes of one key keep their order"
        values = [value for _, value, _ in writes]
        for record, value in sorted(zip(records, values, strict=True), key=lambda each: each[0].mod_revision):
            self.model.wrote(record.mod_revision, record.key, value, False)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        gone = self.run(self.storage.delete(key))
        assert (gone is None) == (key not in self.model.state)
        if gone is not None:
            assert gone.value == self.model.state[key]
            self.model.wrote(gone.mod_revision, key, gone.value, True)

    @rule(data=st.data(), prefix=PREFIXES, limit=st.integers(0, 3), start=st.sampled_from(["", "/a/2", "/b/c/1"]))
    def list_then(self, data: st.DataObject, prefix: str, limit: int, start: str) -> None:
        revision = data.draw(st.sampled_from(sorted(self.model.states)))
        if revision < self.storage.oldest_revision:
            with pytest.raises(Compacted):
                self.run(self.storage.list(prefix, revision=revision))
            return
        page = self.run(self.storage.list(prefix, revision=revision, start=start, limit=limit))
        state = self.model.states[revision]
        expected = [(key, state[key]) for key in sorted(state) if key.startswith(prefix) and key >= start]
        assert [(record.key, record.value) for record in page.records] == (expected[:limit] if limit else expected)
        assert page.remaining == (max(0, len(expected) - limit) if limit else 0)

    @rule(data=st.data(), key=KEYS)
    def get_then(self, data: st.DataObject, key: str) -> None:
        revision = data.draw(st.sampled_from(sorted(self.model.states)))
        if revision < self.storage.oldest_revision:
            return
        found = self.run(self.storage.get(key, revision=revision))
        assert (None if found is None else found.value) == self.model.states[revision].get(key)

    @rule(data=st.data(), prefix=PREFIXES)
    def watch(self, data: st.DataObject, prefix: str) -> None:
        after = data.draw(st.sampled_from(sorted(self.model.states)))
        listener = Listener()
        if after < self.storage.oldest_revision:
            with pytest.raises(Compacted):
                self.run(self.storage.watch(prefix, listener, after=after, ended=listener.ended))
            return
        self.run(self.storage.watch(prefix, listener, after=after, ended=listener.ended))
        self.listeners.append((prefix, after, listener))

    @rule(data=st.data())
    def compact(self, data: st.DataObject) -> None:
        revision = data.draw(st.sampled_from(sorted(self.model.states)))
        self.run(self.storage.compact(revision))

    @precondition(lambda self: self.keeps)
    @rule()
    def reopen(self) -> None:
        before, oldest = now(self.storage), self.storage.oldest_revision
        self.run(self.context.__aexit__(None, None, None))
        self.listeners.clear()
        self.open()
        assert now(self.storage) == before
        assert self.storage.oldest_revision == oldest

    @invariant()
    def the_state_is_the_models(self) -> None:
        page = self.run(self.storage.list(""))
        assert {record.key: record.value for record in page.records} == self.model.state
        assert {record.key: record.mod_revision for record in page.records} == self.model.revisions

    @invariant()
    def listeners_heard_everything_once(self) -> None:
        for prefix, after, listener in self.listeners:
            expected = [each for each in self.model.changes if each[0] > after and each[1].startswith(prefix)]
            assert listener.heard == expected


def storage_machine(
    opener: Opener, *, keeps: bool = True, examples: int = 40, steps: int = 30
) -> type[unittest.TestCase]:
    """A test case of random walks over the engine ``opener`` opens."""
    machine: Any = type("Machine", (StorageMachine,), {"opener": staticmethod(opener), "keeps": keeps})
    case: Any = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    found: type[unittest.TestCase] = case
    return found
