"""The durable engine: the shared suite, and what only a file can do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pathlib
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Sequence

import pytest

from anynode.aio.clock import SystemClock
from anynode.storage import log
from anynode.storage.sqlite import LAZY_SECONDS, Retention, SqliteStorage
from anynode.storage.types import (
    Change,
    Compacted,
    Revision,
    Storage,
    StorageDamaged,
    StorageUnavailable,
)
from anynode.testing.clock import FakeClock
from anynode.testing.storage_suite import Listener, Opener, StorageSuite, now, put_many, storage_machine


def open_sqlite(directory: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
    return SqliteStorage(directory / "state.db", clock=SystemClock())


def open_with_little_memory(directory: pathlib.Path) -> contextlib.AbstractAsyncContextManager[Storage]:
    return SqliteStorage(directory / "state.db", clock=SystemClock(), history_changes=3)


class TestSqliteStorage(StorageSuite):
    @pytest.fixture
    def opener(self) -> Opener:
        return open_sqlite


class TestSqliteStorageReadingItsFile(StorageSuite):
    @pytest.fixture
    def opener(self) -> Opener:
        return open_with_little_memory


TestSqliteWalks = storage_machine(open_sqlite, examples=20)
TestSqliteWalksReadingTheFile = storage_machine(open_with_little_memory, examples=20)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "state.db"


def copy_as_after_a_crash(path: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """The files as a process killed now would leave them."""
    target.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{path}{suffix}", f"{target / path.name}{suffix}")
    return target / path.name


async def until(condition: Callable[[], bool]) -> None:
    """Wait for another thread's work, at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  another thread sets no event of ours
            await asyncio.sleep(0.001)


async def pass_time(storage: SqliteStorage, clock: FakeClock, seconds: int) -> None:
    """Advance in steps, waiting for the file work each step begins."""
    for _ in range(0, seconds, 10):
        await clock.advance(10)
        await until(lambda: not storage._compacting.locked())
        await clock.settle()


async def test_files_are_for_their_owner_only(path: pathlib.Path) -> None:
    async with SqliteStorage(path, clock=SystemClock()) as storage:
        await storage.put("/a", b"1")
        for suffix in ("", "-wal", "-shm", ".lock"):
            assert stat.S_IMODE(os.stat(f"{path}{suffix}").st_mode) == 0o600, suffix


async def test_a_second_opener_is_refused_and_the_first_goes_on(path: pathlib.Path) -> None:
    async with SqliteStorage(path, clock=SystemClock()) as storage:
        with pytest.raises(StorageUnavailable, match="in use by another process"):
            async with SqliteStorage(path, clock=SystemClock()):
                pass
        await storage.put("/a", b"1")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello world, this is no database at all" * 10, "no anynode data file"),
        (b"SQLite format 3\0" + bytes(50), "no anynode data file"),
        (b"x", "no anynode data file"),
    ],
)
async def test_a_foreign_file_is_left_alone(path: pathlib.Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageDamaged, match=said):
        async with SqliteStorage(path, clock=SystemClock()):
            pass
    assert path.read_bytes() == content


async def test_another_programs_database_is_left_alone(path: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("create table t(x)")
    content = path.read_bytes()
    with pytest.raises(StorageDamaged, match="belongs to another program"):
        async with SqliteStorage(path, clock=SystemClock()):
            pass
    assert path.read_bytes() == content


async def test_a_damaged_file_is_left_alone(path: pathlib.Path) -> None:
    async with SqliteStorage(path, clock=SystemClock()) as storage:
        for count in range(300):
            await storage.put(f"/{count}", bytes(3000))
    content = bytearray(path.read_bytes())
    for damaged in (
        content[: len(content) // 2],
        content[: log.PAGE_BYTES * 3] + bytes([7]) * (log.PAGE_BYTES * 8) + content[log.PAGE_BYTES * 11 :],
    ):
        path.write_bytes(damaged)
        with pytest.raises(StorageDamaged, match="is damaged"):
            async with SqliteStorage(path, clock=SystemClock()):
                pass
        assert path.read_bytes() == damaged


async def test_a_missing_main_file_beside_a_full_wal_is_damage(path: pathlib.Path) -> None:
    pathlib.Path(f"{path}-wal").write_bytes(b"something")
    with pytest.raises(StorageDamaged, match="missing or empty"):
        async with SqliteStorage(path, clock=SystemClock()):
            pass
    assert not path.exists()


async def test_a_directory_that_is_not_there_is_one_sentence(tmp_path: pathlib.Path) -> None:
    with pytest.raises(StorageUnavailable, match="No such file or directory"):
        async with SqliteStorage(tmp_path / "no" / "state.db", clock=SystemClock()):
            pass


async def test_a_full_disk_refuses_and_forgets(path: pathlib.Path) -> None:
    async with SqliteStorage(path, clock=SystemClock(), limit_bytes=40 * log.PAGE_BYTES) as storage:
        listener = Listener()
        await storage.watch("/", listener, after=now(storage), ended=listener.ended)
        kept: dict[str, int] = {}
        refused: list[str] = []

        async def write(key: str) -> None:
            try:
                kept[key] = (await storage.put(key, bytes(50_000))).mod_revision
            except StorageUnavailable:
                refused.append(key)

        for wave in range(10):
            async with asyncio.TaskGroup() as tasks:
                for count in range(4):
                    tasks.create_task(write(f"/{wave}/{count}"))
        assert kept
        assert refused
        records = (await storage.list("/")).records
        assert {record.key: record.mod_revision for record in records} == kept
        assert [change.record.key for change in listener.changes] == list(kept)
        # a failed write left no trace for compare-and-swap, and room made is used again
        first = next(iter(kept))
        assert await storage.delete(first) is not None
        await storage.compact(now(storage))
        again = await storage.put(refused[-1], b"small", expected=Revision(0))
        assert again.mod_revision > max(kept.values())
    async with SqliteStorage(path, clock=SystemClock()) as storage:
        assert {record.key for record in (await storage.list("/")).records} == kept.keys() - {first} | {refused[-1]}


async def test_lazy_writes_count_at_once_and_are_written_within_a_second(
    path: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    clock = FakeClock()
    async with SqliteStorage(path, clock=clock) as storage:
        await storage.put("/lease", b"0")
        writer = asyncio.get_running_loop().create_task(storage.put("/lease", b"1", durable=False))
        await asyncio.sleep(0)
        assert writer.done(), "acknowledged without waiting for the disk"
        found = await storage.get("/lease")
        assert found is not None
        assert found.value == b"1"
        renewed = found.mod_revision

        early = copy_as_after_a_crash(path, tmp_path / "early")
        await clock.settle()
        await clock.advance(LAZY_SECONDS)
        await until(lambda: not storage._writing and not storage._queue)
        late = copy_as_after_a_crash(path, tmp_path / "late")

    async with SqliteStorage(early, clock=clock) as storage:
        found = await storage.get("/lease")
        assert found is not None
        assert found.value == b"0"
        assert storage.revision > renewed, "a revision once handed out is not used again"
        with pytest.raises(Compacted):  # whoever saw the lost renewal must list again
            await storage.watch("/", Listener(), after=renewed, ended=Listener().ended)
        await storage.watch("/", Listener(), after=found.mod_revision, ended=Listener().ended)
    async with SqliteStorage(late, clock=clock) as storage:
        found = await storage.get("/lease")
        assert found is not None
        assert (found.value, found.mod_revision) == (b"1", renewed)


async def test_lazy_writes_behind_a_durable_one_wait_for_their_turn_only(path: pathlib.Path) -> None:
    clock = FakeClock()
    async with SqliteStorage(path, clock=clock) as storage:
        await storage.put("/a", b"0")
        async with asyncio.TaskGroup() as tasks:
            durable = tasks.create_task(storage.put("/a", b"1"))
            await asyncio.sleep(0)
            lazy = tasks.create_task(storage.put("/lease", b"1", durable=False))
            await asyncio.sleep(0)
            assert not lazy.done(), "an older write is not visible yet"
        assert lazy.result().mod_revision == durable.result().mod_revision + 1
        assert [write.visible for write in storage._queue] == [True], "acknowledged, and written with the next batch"
        await clock.advance(LAZY_SECONDS)
        await until(lambda: not storage._writing and not storage._queue)


async def test_a_listener_that_raises_does_not_hang_its_writers(path: pathlib.Path) -> None:
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context["exception"])))

    def broken(changes: Sequence[Change]) -> None:
        raise RuntimeError("a bug")

    async with SqliteStorage(path, clock=SystemClock()) as storage:
        await storage.watch("/", broken, after=now(storage), ended=Listener().ended)
        async with asyncio.timeout(5):
            await storage.put("/a", b"1")
        assert await storage.get("/a") is not None
    assert said == ["a bug"]


async def test_the_interpreter_is_handed_over_quickly_while_a_store_is_open(path: pathlib.Path) -> None:
    before = sys.getswitchinterval()
    async with SqliteStorage(path, clock=SystemClock()):
        assert sys.getswitchinterval() < 0.001
    assert sys.getswitchinterval() == before


async def test_a_lazy_write_is_never_revived_after_its_deletion(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    async with SqliteStorage(path, clock=FakeClock()) as storage:
        await storage.put("/lease", b"0")
        await storage.put("/lease", b"1", durable=False)
        await storage.delete("/lease")
        crashed = copy_as_after_a_crash(path, tmp_path / "crashed")
    for each in (path, crashed):
        async with SqliteStorage(each, clock=FakeClock()) as storage:
            assert await storage.get("/lease") is None


async def test_old_history_is_compacted_by_itself(path: pathlib.Path) -> None:
    clock = FakeClock()
    retention = Retention(keep_seconds=300, keep_revisions=5, every_seconds=10)
    async with SqliteStorage(path, clock=clock, retention=retention) as storage:
        await put_many(storage, *["/a"] * 20)
        old = now(storage)
        await clock.advance(290)
        await put_many(storage, *["/a"] * 20)
        assert storage.oldest_revision == 0
        await pass_time(storage, clock, 20)
        assert storage.oldest_revision == old
        await pass_time(storage, clock, 300)
        assert storage.oldest_revision == storage.revision - 5
        assert (await storage.list("/", revision=storage.oldest_revision)).records
    with contextlib.closing(sqlite3.connect(path)) as file:
        assert file.execute("select count(*) from log").fetchone()[0] == 6


async def test_the_files_stay_bounded(path: pathlib.Path) -> None:
    retention = Retention(keep_seconds=0, keep_revisions=100, every_seconds=0.01)
    async with SqliteStorage(path, clock=SystemClock(), retention=retention) as storage:
        for _ in range(30):
            async with asyncio.TaskGroup() as tasks:
                for count in range(100):
                    tasks.create_task(storage.put(f"/{count}", bytes(10_000)))
        await storage.compact(now(storage))
    assert path.stat().st_size < 20_000_000, "thirty million bytes were written, one million is alive"
    assert not pathlib.Path(f"{path}-wal").exists()


async def test_the_write_ahead_file_does_not_grow_over_crashes(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """No life writes enough to be due for a checkpoint, so each begins with one of what the last one left."""

    def grown(file: pathlib.Path, before: int) -> bool:
        return file.stat().st_size > before

    sizes: list[int] = []
    for life in range(5):
        begun = path.stat().st_size if path.exists() else 0
        async with SqliteStorage(path, clock=SystemClock()) as storage:
            if life:
                assert pathlib.Path(f"{path}-wal").stat().st_size == sizes[-1]
                await until(functools.partial(grown, path, begun))
                await storage._on(storage._reader, lambda: None)  # the checkpoint is over
            for number in range(50):
                await storage.put(f"/{life}/{number}", os.urandom(2_000))
            path = copy_as_after_a_crash(path, tmp_path / f"life-{life}")
            sizes.append(pathlib.Path(f"{path}-wal").stat().st_size)
    assert max(sizes) < 1.5 * sizes[0]
