"""The committed state of every key, in key order, and how it looked at an older revision.

An older state is the current one seen through an ``Overlay``: for each key changed since, what it was before. Overlays
are kept and extended while the pages of one listing are read, so that a page costs what is on it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from sortedcontainers import SortedList

from anynode.storage.types import Change, Page, Record, Revision

NO_OVERLAY: Mapping[str, Record | None] = {}
OVERLAYS_KEPT = 8


def prefix_end(prefix: str) -> str | None:
    """The least string above every string that begins with ``prefix``; None for the empty prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else None


class Overlay:
    """What the keys of ``prefix`` changed after ``revision`` were at ``revision`` (None: not there)."""

    __slots__ = ("before", "prefix", "through")

    def __init__(self, prefix: str, revision: Revision) -> None:
        self.prefix = prefix
        self.through = revision
        """Changes up to this revision are accounted for."""
        self.before: dict[str, Record | None] = {}

    def absorb(self, changes: Iterable[Change], through: Revision) -> None:
        """Account for ``changes``: those after ``self.through`` up to ``through``, in order; twice does no harm."""
        for change in changes:
            key = change.record.key
            if key not in self.before and key.startswith(self.prefix):
                self.before[key] = change.previous
        self.through = max(self.through, through)


class Overlays:
    """The overlays last used, so that the next page of a listing finds its own."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, Revision], Overlay] = {}

    def at(self, prefix: str, revision: Revision) -> Overlay:
        """The overlay for ``prefix`` at ``revision``, perhaps empty yet: see its ``through``."""
        key = (prefix, revision)
        overlay = self._kept.pop(key, None) or Overlay(prefix, revision)
        self._kept[key] = overlay  # the youngest stands last
        if len(self._kept) > OVERLAYS_KEPT:
            del self._kept[next(iter(self._kept))]
        return overlay

    def forget_before(self, oldest: Revision) -> None:
        for key in [key for key in self._kept if key[1] < oldest]:
            del self._kept[key]


class CurrentState:
    """Key -> committed ``Record``, listable by prefix."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._records: dict[str, Record] = {record.key: record for record in records}
        self._keys: SortedList[str] = SortedList(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> Record | None:
        return self._records.get(key)

    def put(self, record: Record) -> None:
        if record.key not in self._records:
            self._keys.add(record.key)
        self._records[record.key] = record

    def remove(self, key: str) -> None:
        if self._records.pop(key, None) is not None:
            self._keys.remove(key)

    def page(
        self,
        prefix: str,
        *,
        start: str,
        limit: int,
        revision: Revision,
        overlay: Mapping[str, Record | None] = NO_OVERLAY,
    ) -> Page:
        """Records of ``prefix`` from ``start`` on, as ``overlay`` shows them; ``revision`` only labels the page."""
        first, end = max(prefix, start), prefix_end(prefix)
        records: list[Record] = []
        for key in self._merged(first, end, overlay):
            record = overlay[key] if key in overlay else self._records[key]
            if record is None:
                continue
            if limit and len(records) == limit:
                return Page(records=records, revision=revision, remaining=self._count(key, end, overlay))
            records.append(record)
        return Page(records=records, revision=revision)

    def _merged(self, first: str, end: str | None, overlay: Mapping[str, Record | None]) -> Iterator[str]:
        current: Iterator[str] = self._keys.irange(first, end, inclusive=(True, False))
        if not overlay:
            return current
        inside = (key for key in overlay if key >= first and (end is None or key < end))
        return heapq.merge(current, sorted(key for key in inside if key not in self._records))

    def _count(self, first: str, end: str | None, overlay: Mapping[str, Record | None]) -> int:
        """How many keys of [first, end) there are as ``overlay`` shows it."""
        stop = len(self._keys) if end is None else self._keys.bisect_left(end)
        count: int = stop - self._keys.bisect_left(first)
        for key, record in overlay.items():
            if key >= first and (end is None or key < end):
                count += (record is not None) - (key in self._records)
        return count
