"""The narrow waist: ``Storage``, what travels through it, and how it fails.

Keys are paths such as ``/registry/pods/default/web-0``; values are bytes the engine never looks into. Every write gets
the next ``Revision`` of the whole store. Invariants every engine keeps (checked by ``testing.storage_suite``):

* A write is acknowledged only when it is durable; ``durable=False`` writes (Lease renewals) may be lost in a crash and
  are never revived stale.
* When ``put`` or ``delete`` returns, every watcher that was not closed has been handed the change, and ``get`` and
  ``list`` show it.
* A watch shows every change after its revision exactly once, in revision order, or raises ``Compacted``.
* Compare-and-swap: ``expected`` is the ``mod_revision`` the caller read (0: the key must not exist); a mismatch writes
  nothing.

Source: etcd's KV API guarantees (https://etcd.io/docs/v3.6/learning/api_guarantees/) and apiserver
``pkg/storage/interfaces.go``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NewType, Protocol

Revision = NewType("Revision", int)
"""The store's counter; the first write makes 1 or more, so that 0 means "before everything"."""


@dataclasses.dataclass(slots=True)
class Record:
    """One key's state. ``decoded`` is whatever the writer handed over beside the bytes, or None: a cache, no truth."""

    key: str
    value: bytes
    create_revision: Revision
    mod_revision: Revision
    decoded: Any = None
    damage: str = ""
    """Why the value cannot be read; there is none then."""


@dataclasses.dataclass(slots=True)
class Change:
    """One write. ``record`` is the new state (for a deletion: the last one, with the deletion's revision as
    ``mod_revision``); ``previous`` the state before, None for a creation."""

    revision: Revision
    record: Record
    previous: Record | None
    deleted: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Records in key order at ``revision``. ``remaining`` counts those past the limit, in the same prefix."""

    records: Sequence[Record]
    revision: Revision
    remaining: int = 0


class StorageError(Exception):
    """Base of everything an engine raises on purpose."""


class KeyMismatch(StorageError):
    """Compare-and-swap failed; ``current`` is what is there (None: no such key)."""

    def __init__(self, key: str, current: Record | None) -> None:
        super().__init__(f"{key} is not at the expected revision")
        self.key = key
        self.current = current


class Compacted(StorageError):
    """The revision asked for is no longer kept; ``oldest`` is the oldest that is."""

    def __init__(self, revision: Revision, oldest: Revision) -> None:
        super().__init__(f"revision {revision} is compacted, the oldest kept is {oldest}")
        self.revision = revision
        self.oldest = oldest


class FutureRevision(StorageError):
    """The revision asked for does not exist yet; ``current`` is the newest."""

    def __init__(self, revision: Revision, current: Revision) -> None:
        super().__init__(f"revision {revision} is newer than the current {current}")
        self.revision = revision
        self.current = current


class StorageUnavailable(StorageError):
    """The engine cannot write or read now (disk full, connection lost); nothing was acknowledged."""


class StorageDamaged(StorageError):
    """The data at hand is no store of ours or is broken; the text says what to do."""


class ChangeListener(Protocol):
    """Called on the event loop with each committed batch, in revision order. Must not wait and must not raise."""

    def __call__(self, changes: Sequence[Change]) -> None: ...


class Watch(Protocol):
    """A subscription. ``stop`` ends it; nothing is delivered afterwards."""

    def stop(self) -> None: ...


class Storage(Protocol):
    """A revisioned store. Opened and closed by the composition root (``async with``)."""

    @property
    def shared(self) -> bool:
        """Whether other processes write too, so that ``revision`` may lag behind what they acknowledged."""
        ...

    @property
    def trouble(self) -> str:
        """Why the store cannot be written to at this moment; empty while nothing is known against it."""
        ...

    def is_stale(self, key: str) -> bool:
        """Whether ``key`` should be written again though nothing changes: it is stored in an older form."""
        ...

    async def catch_up(self) -> bool:
        """Return when all is shown that anybody acknowledged before this call; whether something new came.

        At once where nobody else writes. Raises ``StorageUnavailable``.
        """
        ...

    @property
    def revision(self) -> Revision:
        """The newest committed revision."""
        ...

    @property
    def oldest_revision(self) -> Revision:
        """The oldest revision that can still be read or watched from."""
        ...

    async def get(self, key: str, *, revision: Revision | None = None) -> Record | None:
        """The state of ``key`` now or at ``revision``; raises ``Compacted`` or ``FutureRevision``."""
        ...

    async def list(self, prefix: str, *, revision: Revision | None = None, start: str = "", limit: int = 0) -> Page:
        """Records of ``prefix`` from key ``start`` on, in key order, at most ``limit`` (0: all).

        Raises ``Compacted`` or ``FutureRevision``.
        """
        ...

    async def put(
        self, key: str, value: bytes, *, expected: Revision | None = None, decoded: Any = None, durable: bool = True
    ) -> Record:
        """Write and return the new state. ``expected`` None: whatever is there; 0: must not exist.

        Raises ``KeyMismatch`` (nothing written) or ``StorageUnavailable``. Cancellation leaves the write either done
        or not done, never half.
        """
        ...

    async def delete(self, key: str, *, expected: Revision | None = None) -> Record | None:
        """Remove and return the last state, ``mod_revision`` being the deletion's; None when there was none.

        Raises ``KeyMismatch`` or ``StorageUnavailable``.
        """
        ...

    async def watch(
        self,
        prefix: str,
        listener: ChangeListener,
        *,
        after: Revision,
        ended: Callable[[StorageError], None],
        progress: Callable[[Revision], None] | None = None,
    ) -> Watch:
        """Call ``listener`` with every change of ``prefix`` after revision ``after``, history first.

        Raises ``Compacted`` or ``FutureRevision``. ``ended`` is called once if the engine itself must end the watch:
        with ``Compacted`` when what follows is lost and the state must be listed anew. ``progress`` hears of revisions
        of a shared store that changed nothing anybody watches.
        """
        ...

    async def compact(self, revision: Revision) -> None:
        """Forget history before ``revision``; current state stays. Earlier reads raise ``Compacted`` from then on."""
        ...
