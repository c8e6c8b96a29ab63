"""Any engine with the values of chosen resources encrypted: nothing above it notices, nothing below it reads them.

Values are encrypted before they are written and decrypted when read or heard of; the stored key is the context, so a
value moved to another key is not believed (aesgcm). A value nobody can read becomes a record with ``damage`` and
without a value: who reads it is told why, all else goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from anynode.storage.encryption import MARK, PLAIN, Encryption, Ring, Unreadable
from anynode.storage.types import (
    Change,
    ChangeListener,
    KeyMismatch,
    Page,
    Record,
    Revision,
    Storage,
    StorageError,
    Watch,
)

ROOT = "/registry/"
PLACES_KEPT = 10_000


def resource_of(key: str) -> tuple[str, str] | None:
    """(group, plural) of ``/registry/pods/...``, ``/registry/apps/deployments/...`` and
    ``/registry/storage.k8s.io/storageclasses/...``: a group has a dot, or its objects a namespace."""
    if not key.startswith(ROOT):
        return None
    parts = key[len(ROOT) :].split("/")
    if len(parts) > 3 or (len(parts) > 1 and "." in parts[0]):
        return parts[0], parts[1]
    return "", parts[0]


class EncryptedStorage:
    """``Storage`` over ``inner``, which the caller opens and closes."""

    def __init__(self, inner: Storage, encryption: Encryption) -> None:
        self._inner = inner
        self._encryption = encryption
        self._rings: dict[str, Ring] = {}
        self._stale: set[str] = set()

    @property
    def shared(self) -> bool:
        return self._inner.shared

    @property
    def revision(self) -> Revision:
        return self._inner.revision

    @property
    def oldest_revision(self) -> Revision:
        return self._inner.oldest_revision

    @property
    def trouble(self) -> str:
        return self._inner.trouble

    async def catch_up(self) -> bool:
        return await self._inner.catch_up()

    async def compact(self, revision: Revision) -> None:
        await self._inner.compact(revision)

    def is_stale(self, key: str) -> bool:
        """Whether ``key`` is stored otherwise than it would be written today, as far as it was read or heard of."""
        return key in self._stale

    async def get(self, key: str, *, revision: Revision | None = None) -> Record | None:
        found = await self._inner.get(key, revision=revision)
        return None if found is None else self._read(found)

    async def list(self, prefix: str, *, revision: Revision | None = None, start: str = "", limit: int = 0) -> Page:
        page = await self._inner.list(prefix, revision=revision, start=start, limit=limit)
        return Page(
            records=[self._read(record) for record in page.records], revision=page.revision, remaining=page.remaining
        )

    async def put(
        self, key: str, value: bytes, *, expected: Revision | None = None, decoded: Any = None, durable: bool = True
    ) -> Record:
        stored = self._ring(key).encrypt(value, key.encode())
        try:
            record = await self._inner.put(key, stored, expected=expected, decoded=decoded, durable=durable)
        except KeyMismatch as error:
            raise self._mismatch(error) from error
        self._stale.discard(key)
        return Record(key, value, record.create_revision, record.mod_revision, record.decoded)

    async def delete(self, key: str, *, expected: Revision | None = None) -> Record | None:
        try:
            gone = await self._inner.delete(key, expected=expected)
        except KeyMismatch as error:
            raise self._mismatch(error) from error
        return None if gone is None else self._read(gone)

    async def watch(
        self,
        prefix: str,
        listener: ChangeListener,
        *,
        after: Revision,
        ended: Callable[[StorageError], None],
        progress: Callable[[Revision], None] | None = None,
    ) -> Watch:
        def heard(changes: Sequence[Change]) -> None:
            for change in changes:
                if change.deleted:
                    self._stale.discard(change.record.key)
            listener([self._change(change) for change in changes])

        return await self._inner.watch(prefix, heard, after=after, ended=ended, progress=progress)

    def _mismatch(self, error: KeyMismatch) -> KeyMismatch:
        return KeyMismatch(error.key, None if error.current is None else self._read(error.current))

    def _change(self, change: Change) -> Change:
        record = self._read(change.record)
        previous = None if change.previous is None else self._read(change.previous)
        if record is change.record and previous is change.previous:
            return change
        return Change(change.revision, record, previous, change.deleted)

    def _read(self, record: Record) -> Record:
        """The record as readers see it."""
        ring = self._ring(record.key)
        if ring is PLAIN and not record.value.startswith(MARK):
            return record
        if ring.is_stale(record.value):
            self._stale.add(record.key)
        elif self._stale:
            self._stale.discard(record.key)
        try:
            value, damage = ring.decrypt(record.value, record.key.encode()), ""
        except Unreadable as error:
            value, damage = b"", str(error)
        return Record(record.key, value, record.create_revision, record.mod_revision, record.decoded, damage)

    def _ring(self, key: str) -> Ring:
        directory = key[: key.rfind("/") + 1]
        ring = self._rings.get(directory)
        if ring is None:
            if len(self._rings) >= PLACES_KEPT:
                self._rings.clear()
            place = resource_of(key)
            ring = self._rings[directory] = PLAIN if place is None else self._encryption.ring(*place)
        return ring
