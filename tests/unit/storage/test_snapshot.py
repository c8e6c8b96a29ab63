"""Snapshots: what goes in comes out, and what was cut off or changed is noticed."""

from __future__ import annotations

import io
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.storage import log, snapshot
from anynode.storage.memory import MemoryStorage
from anynode.storage.snapshot import Reader, chunks
from anynode.storage.sqlite import SqliteStorage
from anynode.storage.types import Compacted, Revision, StorageDamaged, StorageUnavailable
from anynode.testing.clock import FakeClock

KEYS = st.text("abcäé/", min_size=1, max_size=4).map("/registry/{}".format)


async def taken(storage: MemoryStorage, revision: Revision | None = None) -> bytes:
    return b"".join([piece async for piece in chunks(storage, revision)])


@given(st.dictionaries(KEYS, st.binary(max_size=30), max_size=8))
async def test_what_goes_in_comes_out(values: dict[str, bytes]) -> None:
    async with MemoryStorage() as storage:
        for key, value in values.items():
            await storage.put(key, value)
        reader = Reader(io.BytesIO(await taken(storage)))
        assert reader.revision == storage.revision
        assert list(reader.records()) == list((await storage.list("/")).records)


async def test_an_older_revision_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "PAGE", 1)
    monkeypatch.setattr(snapshot, "CHUNK_BYTES", 1)
    async with MemoryStorage() as storage:
        await storage.put("/a", b"1")
        await storage.put("/b", b"1")
        await storage.put("/a", b"2")
        await storage.delete("/b")
        reader = Reader(io.BytesIO(await taken(storage, Revision(2))))
        assert [(each.key, each.value, each.mod_revision) for each in reader.records()] == [
            ("/a", b"1", 1),
            ("/b", b"1", 2),
        ]
        await storage.compact(Revision(4))
        with pytest.raises(Compacted):
            await taken(storage, Revision(2))


async def test_no_prefix_of_a_snapshot_passes() -> None:
    async with MemoryStorage() as storage:
        await storage.put("/a", b"one\ntwo")
        whole = await taken(storage)
    for size in range(len(whole)):
        with pytest.raises(StorageDamaged):
            list(Reader(io.BytesIO(whole[:size])).records())


async def test_no_changed_byte_passes() -> None:
    async with MemoryStorage() as storage:
        await storage.put("/a", b"one")
        whole = await taken(storage)
    for place in range(len(whole)):
        changed = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        with pytest.raises(StorageDamaged):
            list(Reader(io.BytesIO(changed)).records())
    with pytest.raises(StorageDamaged):
        list(Reader(io.BytesIO(whole + b"x")).records())


@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"[]\n", b"SQLite format 3\0\n", b'{"format":"anynode-snapshot/2"}\n']
)
def test_other_files_are_no_snapshots(content: bytes) -> None:
    with pytest.raises(StorageDamaged):
        Reader(io.BytesIO(content))


async def test_a_store_filled_from_a_snapshot_goes_on_from_it(tmp_path: pathlib.Path) -> None:
    async with MemoryStorage() as storage:
        await storage.put("/a", b"1")
        await storage.put("/b", b"2")
        await storage.put("/a", b"3")
        await storage.delete("/b")
        whole = await taken(storage)
        expected = list((await storage.list("/")).records)
    path = tmp_path / "state.db"
    reader = Reader(io.BytesIO(whole))
    assert log.fill(path, reader.records(), reader.revision) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    reader = Reader(io.BytesIO(whole))
    memory = MemoryStorage()
    memory.fill(reader.records(), reader.revision)
    for filled in (SqliteStorage(path, clock=FakeClock()), memory):
        async with filled:
            assert filled.revision == filled.oldest_revision == 4
            assert list((await filled.list("/")).records) == expected
            with pytest.raises(Compacted):
                await filled.get("/a", revision=Revision(3))
            assert (await filled.put("/a", b"4", expected=Revision(3))).create_revision == 1
            assert filled.revision == 5


async def test_a_damaged_snapshot_leaves_no_store_behind(tmp_path: pathlib.Path) -> None:
    async with MemoryStorage() as storage:
        await storage.put("/a", b"1")
        whole = await taken(storage)
    reader = Reader(io.BytesIO(whole[:-5]))
    with pytest.raises(StorageDamaged):
        log.fill(tmp_path / "state.db", reader.records(), reader.revision)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_not_filled(tmp_path: pathlib.Path) -> None:
    log.prepare(tmp_path / "state.db")
    with pytest.raises(StorageUnavailable, match="is there already"):
        log.fill(tmp_path / "state.db", (), Revision(1))
