"""The file of the durable engine: an append-only revision log in SQLite, current state apart from history.

``log`` holds every write once, numbered by its revision; ``state`` names the newest write of each living key and is
kept by triggers, so that starting needs no search through history; ``meta`` holds the oldest readable revision and a
limit above every revision ever handed out. Blocking: called only in the engine's threads.

Invariants: a batch is one statement, hence one transaction, hence all or nothing. Compacting to revision R leaves the
state at R and all later changes with their previous states. A file that is not ours or is broken is never written to.
Source: https://sqlite.org/wal.html, https://sqlite.org/fileformat.html.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import sqlite3
import struct
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence

from anynode.storage.types import Change, Record, Revision, StorageDamaged, StorageUnavailable

APPLICATION_ID = 0x414E4F44
""""ANOD", in the SQLite header."""
FORMAT = 1
PAGE_BYTES = 16_384
BATCH_SIZES = (1, 8, 64, 256)
"""Rows of the prepared inserts; a batch is padded with rows that are not inserted."""
CHECKED_BYTES = 64 * 1024 * 1024
"""Files up to this size are checked in full when opened; of larger ones, what is loaded."""
WAL_KEPT_BYTES = 32 * 1024 * 1024
BUSY_SECONDS = 10.0

_SCHEMA = """
create table meta(name text primary key, value integer not null) without rowid;
create table log(revision integer primary key, key text not null, created integer not null, previous integer not null,
                 deleted integer not null, value blob);
create table state(key text primary key, revision integer not null) without rowid;
create trigger kept after insert on log when not new.deleted
begin insert or replace into state values (new.key, new.revision); end;
create trigger gone after insert on log when new.deleted
begin delete from state where key = new.key; end;
insert into meta values ('oldest', 0), ('limit', 0);
"""
_ROW = "(?,?,?,?,?,?)"
_INSERTS = {
    size: f"insert into log select * from (values {','.join([_ROW] * size)}) where column1 is not null"
    for size in BATCH_SIZES
}
_LOAD = "select key, value, created, revision from log where revision in (select revision from state)"
"""In the order of revisions, which is that of the file: three times as fast as by key."""
_CHANGES = """
select l.revision, l.key, l.value, l.created, l.deleted, l.previous, p.value, p.created
from log l left join log p on p.revision = l.previous
where l.revision > ? and l.revision <= ? and l.key >= ? and l.key < ? order by l.revision limit ?
"""
LAST_KEY = "\U0010ffff"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a file held when it was opened."""

    records: Sequence[Record]
    newest: Revision
    """The newest write in the log."""
    limit: Revision
    """No revision above this was ever handed out."""
    oldest: Revision


class FileLock:
    """The right to write one store: an advisory lock on ``<path>.lock``, gone when the process is."""

    def __init__(self, path: pathlib.Path) -> None:
        self._descriptor = -1
        try:
            self._descriptor = os.open(f"{os.path.realpath(path)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise StorageUnavailable(f"{path} is in use by another process") from error
        except OSError as error:
            self.release()
            raise StorageUnavailable(f"cannot lock {path}: {error.strerror}") from error

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
    """SQLite's refusals while opening, in our words."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # such as: no such table
            raise StorageDamaged(f"{path} is damaged ({error}): restore it from a copy or move it away") from error
        raise StorageUnavailable(f"cannot open {path}: {error}") from error
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise StorageDamaged(f"{path} is damaged ({error}): restore it from a copy or move it away") from error


def prepare(path: pathlib.Path) -> None:
    """Make the file if there is none; raises ``StorageDamaged`` or ``StorageUnavailable`` when it cannot be ours."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        header = b""
    except OSError as error:
        raise StorageUnavailable(f"cannot open {path}: {error.strerror}") from error
    if header:
        _check_header(path, header)
        return
    wal = pathlib.Path(f"{path}-wal")
    if wal.exists() and wal.stat().st_size:
        raise StorageDamaged(f"{path} is missing or empty, but {wal} is not: restore the one or move the other away")
    _create(path)


def _check_header(path: pathlib.Path, header: bytes) -> None:
    if not header.startswith(b"SQLite format 3\0") or len(header) < 100:
        raise StorageDamaged(f"{path} is no anynode data file: move it away or choose another place")
    version, application = struct.unpack(">I4xI", header[60:72])
    if application != APPLICATION_ID:
        raise StorageDamaged(f"{path} belongs to another program: move it away or choose another place")
    if version != FORMAT:
        raise StorageDamaged(f"{path} has format {version}, this anynode reads format {FORMAT}: use the other version")


def fill(path: pathlib.Path, records: Iterable[Record], revision: Revision) -> int:
    """Make the file, which must not be there yet, hold ``records`` as the state at ``revision``; how many they are.

    No revision up to ``revision`` is readable or handed out again. Whatever ``records`` raises leaves nothing behind.
    """
    if path.exists():
        raise StorageUnavailable(f"{path} is there already: choose another place, or move it away")

    def load(connection: sqlite3.Connection) -> None:
        rows = ((each.mod_revision, each.key, each.create_revision, each.value) for each in records)
        connection.execute("begin")
        connection.executemany("insert into log values (?, ?, ?, 0, 0, ?)", rows)
        connection.execute("update meta set value = ?", (revision,))
        connection.execute("commit")

    _create(path, load)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        count: int = connection.execute("select count(*) from state").fetchone()[0]
    return count


def _create(path: pathlib.Path, load: Callable[[sqlite3.Connection], None] | None = None) -> None:
    """Build the store beside its place, ``load`` its content, and move it there whole."""
    fresh = pathlib.Path(f"{path}.new")
    try:
        for leftover in (fresh, pathlib.Path(f"{fresh}-wal"), pathlib.Path(f"{fresh}-shm")):
            leftover.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(fresh, isolation_level=None)
        try:
            connection.executescript(
                f"pragma page_size = {PAGE_BYTES}; pragma auto_vacuum = incremental; "
                f"pragma application_id = {APPLICATION_ID}; pragma user_version = {FORMAT};"
                f"begin; {_SCHEMA} commit;"
            )
            if load is not None:
                load(connection)
            connection.execute("pragma journal_mode = wal")
        finally:
            connection.close()
        os.replace(fresh, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except (OSError, sqlite3.Error) as error:
        raise StorageUnavailable(f"cannot create {path}: {error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def load(path: pathlib.Path) -> Loaded:
    """Everything alive in the file, read without the right to change it."""
    with reading(path):
        uri = f"file:{urllib.parse.quote(str(path))}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
        try:
            if path.stat().st_size <= CHECKED_BYTES:
                verdict = connection.execute("pragma quick_check(1)").fetchone()[0]
                if verdict != "ok":
                    raise sqlite3.DatabaseError(verdict)
            meta = dict(connection.execute("select name, value from meta"))
            newest = connection.execute("select max(revision) from log").fetchone()[0] or 0
            alive = connection.execute("select count(*) from state").fetchone()[0]
            records = [_record(row) for row in connection.execute(_LOAD)]
        finally:
            connection.close()
        if len(records) != alive:
            raise sqlite3.DatabaseError(f"{alive - len(records)} of {alive} values are missing")
        if not meta.keys() >= {"oldest", "limit"}:
            raise sqlite3.DatabaseError("its counters are missing")
    return Loaded(
        records=records,
        newest=Revision(newest),
        limit=Revision(max(meta["limit"], newest)),
        oldest=Revision(meta["oldest"]),
    )


def _record(row: tuple[str, bytes | None, int, int]) -> Record:
    key, value, created, revision = row
    if value is None:
        raise sqlite3.DatabaseError(f"the value of {key} is missing")
    return Record(key, value, Revision(created), Revision(revision))


class RevisionLog:
    """One connection to a prepared file."""

    def __init__(self, path: pathlib.Path, *, limit_bytes: int = 0) -> None:
        with reading(path):
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
            )
            self._connection.executescript(
                "pragma synchronous = full; pragma wal_autocheckpoint = 0; pragma foreign_keys = off;"
                f"pragma journal_size_limit = {WAL_KEPT_BYTES}; pragma temp_store = memory; pragma cache_size = -8192;"
            )
            if limit_bytes:
                pages = max(1, limit_bytes // PAGE_BYTES)
                self._connection.execute(f"pragma max_page_count = {pages}").fetchone()

    def append(self, changes: Sequence[Change], limit: Revision | None) -> None:
        """Commit ``changes`` (at most ``BATCH_SIZES[-1]``), with ``limit`` as the new limit of revisions if given.

        Raises ``sqlite3.Error``; nothing is written then.
        """
        size = next(each for each in BATCH_SIZES if each >= len(changes))
        values: list[object] = []
        for change in changes:
            record, previous = change.record, change.previous
            values += (
                change.revision,
                record.key,
                record.create_revision,
                0 if previous is None else previous.mod_revision,
                change.deleted,
                None if change.deleted else record.value,
            )
        values += (None,) * (6 * (size - len(changes)))
        if limit is None:
            self._connection.execute(_INSERTS[size], values)
            return
        with self._transaction():
            self._connection.execute(_INSERTS[size], values)
            self._connection.execute("update meta set value = ? where name = 'limit'", (limit,))

    def set_limit(self, limit: Revision) -> None:
        """No revision above ``limit`` was or will be handed out without asking again."""
        self._connection.execute("update meta set value = ? where name = 'limit'", (limit,))

    def changes(
        self, after: Revision, through: Revision, first: str, end: str | None, most: int
    ) -> tuple[Sequence[Change], Revision]:
        """At most ``most`` changes of keys [first, end) in (after, through], and up to where these are all."""
        rows = self._connection.execute(_CHANGES, (after, through, first, end or LAST_KEY, most)).fetchall()
        found = [_change(row) for row in rows]
        return found, found[-1].revision if len(found) == most else through

    def compact(self, after: Revision, through: Revision) -> None:
        """Forget what the writes in (after, through] replaced, and the deletions among them."""
        span = (after, through)
        with self._transaction():
            self._connection.execute(
                "delete from log where revision in "
                "(select previous from log where revision > ? and revision <= ? and previous > 0)",
                span,
            )
            self._connection.execute("delete from log where revision > ? and revision <= ? and deleted", span)
            self._connection.execute("update meta set value = ? where name = 'oldest'", (through,))

    def shrink(self, most_pages: int) -> None:
        """Give some of the file's unused pages back when more than half of it is unused."""
        free = self._connection.execute("pragma freelist_count").fetchone()[0]
        pages = self._connection.execute("pragma page_count").fetchone()[0]
        if free > max(most_pages, pages // 2):
            # Not execute: that stops after the first page, for each is a row without columns.
            self._connection.executescript(f"pragma incremental_vacuum({most_pages})")

    def checkpoint(self, *, restart: bool = False) -> int:
        """Copy the write-ahead file's content into the main file; its size in bytes is returned.

        ``restart`` makes the next write begin at its start again, and is for the writing connection.
        """
        mode = "restart" if restart else "passive"
        pages: int = self._connection.execute(f"pragma wal_checkpoint({mode})").fetchone()[1]
        return max(0, pages) * PAGE_BYTES

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("begin immediate")
        try:
            yield
            self._connection.execute("commit")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("rollback")


def _change(row: tuple[int, str, bytes | None, int, int, int, bytes | None, int | None]) -> Change:
    revision, key, value, created, deleted, replaced, old_value, old_created = row
    previous: Record | None = None
    if replaced:
        if old_value is None or old_created is None:
            raise sqlite3.DatabaseError(f"revision {replaced} of {key} is missing")
        previous = Record(key, old_value, Revision(old_created), Revision(replaced))
    kept = old_value if deleted else value
    if kept is None:
        raise sqlite3.DatabaseError(f"revision {revision} of {key} has no value")
    return Change(Revision(revision), Record(key, kept, Revision(created), Revision(revision)), previous, bool(deleted))
