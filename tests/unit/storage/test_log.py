"""The file: batches of every size, what compaction leaves, room given back."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from collections.abc import Iterator

import pytest

from anynode.storage import log
from anynode.storage.types import Change, Record, Revision, StorageDamaged

LAST = Revision(10**9)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "state.db"
    log.prepare(path)
    return path


@pytest.fixture
def file(path: pathlib.Path) -> Iterator[log.RevisionLog]:
    with contextlib.closing(log.RevisionLog(path)) as opened:
        yield opened


def change(revision: int, key: str, previous: int = 0, *, deleted: bool = False, size: int = 3) -> Change:
    at = Revision(revision)
    before = Record(key, b"old", Revision(previous), Revision(previous)) if previous else None
    return Change(at, Record(key, bytes(size), at, at), before, deleted)


@pytest.mark.parametrize("count", [1, 2, 8, 9, 64, 65, 256])
def test_batches_of_every_size(path: pathlib.Path, file: log.RevisionLog, count: int) -> None:
    file.append([change(number, f"/{number:03}") for number in range(1, count + 1)], None)
    loaded = log.load(path)
    assert [record.mod_revision for record in loaded.records] == list(range(1, count + 1))
    assert (loaded.newest, loaded.limit) == (count, count)


def test_a_batch_with_an_impossible_write_leaves_nothing(path: pathlib.Path, file: log.RevisionLog) -> None:
    file.append([change(1, "/a")], Revision(50))
    with pytest.raises(sqlite3.IntegrityError):
        file.append([change(2, "/b"), change(1, "/a")], Revision(90))
    loaded = log.load(path)
    assert [record.key for record in loaded.records] == ["/a"]
    assert loaded.limit == 50
    file.append([change(2, "/b")], None)


def test_compaction_leaves_the_state_and_later_changes_with_their_pasts(
    path: pathlib.Path, file: log.RevisionLog
) -> None:
    file.append(
        [
            change(1, "/a"), change(2, "/b"), change(3, "/a", 1), change(4, "/b", 2, deleted=True),
            change(5, "/a", 3), change(6, "/a", 5, deleted=True),
        ],
        None,
    )  # fmt: skip
    file.compact(Revision(0), Revision(4))
    with contextlib.closing(sqlite3.connect(path)) as raw:
        assert [row[0] for row in raw.execute("select revision from log")] == [3, 5, 6]
    changes, through = file.changes(Revision(4), LAST, "", None, 10)
    assert [(each.revision, each.deleted) for each in changes] == [(5, False), (6, True)]
    assert [each.previous and each.previous.mod_revision for each in changes] == [3, 5]
    assert changes[1].record.value == changes[1].previous.value  # type: ignore[union-attr]
    assert through == LAST
    assert log.load(path).oldest == 4
    with pytest.raises(sqlite3.DatabaseError, match="revision 1 of /a is missing"):
        file.changes(Revision(0), LAST, "", None, 10)


def test_changes_are_read_in_pieces(file: log.RevisionLog) -> None:
    file.append([change(number, f"/{'ab'[number % 2]}/{number}") for number in range(1, 9)], None)
    first, through = file.changes(Revision(0), Revision(7), "/a/", "/a0", 2)
    assert ([each.revision for each in first], through) == ([2, 4], 4)
    rest, through = file.changes(through, Revision(7), "/a/", "/a0", 2)
    assert ([each.revision for each in rest], through) == ([6], 7)


def test_unused_room_is_given_back(path: pathlib.Path, file: log.RevisionLog) -> None:
    file.append([change(number, "/a", number - 1, size=20_000) for number in range(1, 251)], None)
    file.compact(Revision(0), Revision(250))
    file.checkpoint()
    before = path.stat().st_size
    for _ in range(40):
        file.shrink(16)
    file.checkpoint()
    assert path.stat().st_size < before / 4
    assert log.load(path).newest == 250


def test_a_missing_value_is_damage(path: pathlib.Path, file: log.RevisionLog) -> None:
    file.append([change(1, "/a"), change(2, "/b")], None)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("delete from log where revision = 1")
    with pytest.raises(StorageDamaged, match="1 of 2 values are missing"):
        log.load(path)


def test_another_format_is_not_read(path: pathlib.Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as raw:
        raw.execute("pragma user_version = 7")
        raw.execute("pragma wal_checkpoint(truncate)")
    with pytest.raises(StorageDamaged, match="has format 7, this anynode reads format 1"):
        log.prepare(path)
