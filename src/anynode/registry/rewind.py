"""Going back: the stored state made what it was at an older revision, as new writes.

Nothing is unmade: every object that differs is written, brought back or deleted at a new revision, so watchers,
controllers and nodes follow by ordinary events. What lives from moment to moment (leases, events) stays as it is.
All writes are handed to storage in one turn of the loop, so an engine in this process commits them together; an object
somebody else writes meanwhile is written again on top of that.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

from anynode.registry.watch_cache import ROOT
from anynode.storage.types import KeyMismatch, Record, Revision, Storage, StorageUnavailable

PAGE = 2_000
TRIES = 10
LEASES = ("/registry/coordination.k8s.io/leases/", "/registry/masterleases/")
LEFT_ALONE = ("/registry/events/", *LEASES)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """What going back took. ``before`` is the newest revision of the state that was left."""

    before: Revision
    restored: int
    changed: int
    deleted: int


async def rewind(storage: Storage, revision: Revision, *, dry_run: bool = False) -> Rewound:
    """Make the state what it was at ``revision``; ``dry_run`` only counts.

    Raises ``Compacted`` or ``FutureRevision`` and has then written nothing; ``StorageUnavailable`` when the engine
    fails on the way, with some objects written and others not.
    """
    return await restore(storage, await records_at(storage, revision), dry_run=dry_run)


async def restore(
    storage: Storage,
    wanted: Mapping[str, Record],
    *,
    left_alone: Sequence[str] = LEFT_ALONE,
    dry_run: bool = False,
) -> Rewound:
    """Make the state ``wanted``, but for keys that begin with one of ``left_alone``. Raises ``StorageUnavailable``."""
    before = storage.revision
    current = await records_at(storage, before, left_alone=left_alone)
    for record in (*wanted.values(), *current.values()):
        if record.damage:
            raise StorageUnavailable(f"{record.key} cannot be read: {record.damage}")
    changed = [key for key in wanted if key in current and wanted[key].value != current[key].value]
    restored = [key for key in wanted if key not in current]
    deleted = [key for key in current if key not in wanted]
    if not dry_run:
        try:
            async with asyncio.TaskGroup() as writes:
                for key in sorted([*restored, *changed], key=_owners_first):
                    writes.create_task(_put(storage, key, wanted[key].value, current.get(key)))
                for key in deleted:
                    writes.create_task(_delete(storage, key, current[key]))
        except BaseExceptionGroup as failed:
            first = failed.exceptions[0]
            raise first from first.__cause__
    return Rewound(before=before, restored=len(restored), changed=len(changed), deleted=len(deleted))


async def records_at(
    storage: Storage, revision: Revision, *, left_alone: Sequence[str] = LEFT_ALONE
) -> Mapping[str, Record]:
    """Every record at ``revision`` but those ``left_alone``; raises ``Compacted`` or ``FutureRevision``."""
    skipped = tuple(left_alone)
    found: dict[str, Record] = {}
    start = ""
    while True:
        page = await storage.list(ROOT, revision=revision, start=start, limit=PAGE)
        found.update((each.key, each) for each in page.records if not each.key.startswith(skipped))
        if not page.remaining:
            return found
        start = f"{page.records[-1].key}\x00"


def _owners_first(key: str) -> tuple[bool, str]:
    return not key.startswith("/registry/namespaces/"), key


async def _put(storage: Storage, key: str, value: bytes, current: Record | None) -> None:
    for _ in range(TRIES):
        if current is not None and current.value == value:
            return
        expected = Revision(0) if current is None else current.mod_revision
        try:
            await storage.put(key, value, expected=expected)
        except KeyMismatch as error:
            current = error.current
        else:
            return
    await storage.put(key, value)


async def _delete(storage: Storage, key: str, current: Record | None) -> None:
    for _ in range(TRIES):
        if current is None:
            return
        try:
            await storage.delete(key, expected=current.mod_revision)
        except KeyMismatch as error:
            current = error.current
        else:
            return
    await storage.delete(key)
