"""The whole state at one revision as a stream of bytes: what backups, forks and their files are made of.

A first line says what it is and of which revision; then, for every record, a line with its key, revisions and size,
and the value itself; a last line counts the records and carries the SHA-256 of all that came before it, so that what
was cut off or changed on the way is noticed before anything is made of it. Values are as the storage above the engine
gives them: a snapshot of a store that encrypts is in the clear, so its file is for its owner alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from types import MappingProxyType
from typing import BinaryIO

from anynode.storage.types import Record, Revision, Storage, StorageDamaged

FORMAT = "anynode-snapshot/1"
PAGE = 1_000
CHUNK_BYTES = 256 * 1024
MOST_LINE_BYTES = 64 * 1024


async def chunks(
    storage: Storage,
    revision: Revision | None = None,
    *,
    prefix: str = "/",
    about: Mapping[str, str] = MappingProxyType({}),
) -> AsyncGenerator[bytes, None]:
    """The snapshot at ``revision`` (now, when None), in pieces.

    Raises ``Compacted`` or ``FutureRevision``, and ``StorageDamaged`` for a value that cannot be decrypted.

    ``about`` stands in the first line, for whoever makes something of it.

    The revision must stay readable until the end: a compaction on the way raises ``Compacted`` from the next piece.
    """
    if revision is None:
        await storage.catch_up()
        revision = storage.revision
    digest = hashlib.sha256()
    count, start = 0, ""
    gathered = bytearray(_line({"format": FORMAT, "revision": revision, "about": dict(about)}))
    while True:
        page = await storage.list(prefix, revision=revision, start=start, limit=PAGE)
        for record in page.records:
            if record.damage:
                raise StorageDamaged(f"{record.key} cannot be read: {record.damage}")
            gathered += _line(
                {
                    "key": record.key,
                    "created": record.create_revision,
                    "modified": record.mod_revision,
                    "bytes": len(record.value),
                }
            )
            gathered += record.value
            gathered += b"\n"
            if len(gathered) >= CHUNK_BYTES:
                digest.update(gathered)
                yield bytes(gathered)
                gathered.clear()
        count += len(page.records)
        if not page.remaining:
            break
        start = f"{page.records[-1].key}\x00"
    digest.update(gathered)
    yield bytes(gathered) + _line({"records": count, "sha256": digest.hexdigest()})


class Reader:
    """Reads a snapshot from a file.

    ``revision`` and ``about`` are known at once, and that it is whole once ``records`` has ended.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Raises ``StorageDamaged`` when it is no snapshot."""
        self._file = file
        self._digest = hashlib.sha256()
        head = self._next_line()
        if head.get("format") != FORMAT:
            raise StorageDamaged(f"this is no snapshot that this anynode reads: its format is not {FORMAT}")
        self.revision = Revision(_number(head, "revision"))
        about = head.get("about")
        self.about: Mapping[str, object] = about if isinstance(about, dict) else {}

    def records(self) -> Iterator[Record]:
        """Every record in key order; raises ``StorageDamaged`` at the end when anything is missing or was changed."""
        count = 0
        while True:
            digest = self._digest.hexdigest()
            line = self._next_line()
            if "sha256" in line:
                if line["sha256"] != digest or line.get("records") != count or self._file.read(1):
                    raise StorageDamaged("the snapshot is not what was written: its checksum differs; take it again")
                return
            yield self._record(line)
            count += 1

    def _record(self, line: Mapping[str, object]) -> Record:
        key, size = line.get("key"), _number(line, "bytes")
        if not isinstance(key, str):
            raise StorageDamaged("the snapshot is damaged: one of its records has no key")
        value = self._file.read(size + 1)
        if len(value) != size + 1 or value[-1:] != b"\n":
            raise StorageDamaged(f"the snapshot is damaged or cut off at {key}: take it again")
        self._digest.update(value)
        return Record(key, value[:-1], Revision(_number(line, "created")), Revision(_number(line, "modified")))

    def _next_line(self) -> Mapping[str, object]:
        line = self._file.readline(MOST_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise StorageDamaged("the snapshot is cut off: take it again")
        try:
            found = json.loads(line)
        except ValueError as error:
            raise StorageDamaged("the snapshot is damaged: one of its lines is no JSON") from error
        if not isinstance(found, dict):
            raise StorageDamaged("the snapshot is damaged: one of its lines is no object")
        self._digest.update(line)
        return found


def _number(line: Mapping[str, object], name: str) -> int:
    found = line.get(name)
    if type(found) is not int or found < 0:
        raise StorageDamaged(f"the snapshot is damaged: the {name!r} of one of its lines is no number")
    return found


def _line(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
