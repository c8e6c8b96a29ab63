"""What readers and watchers see: the committed state, its newest revision, and the window of recent changes.

Engines hand in changes once they count (``apply``); from then on ``get`` and ``page`` show them and every listener has
been told. All on the event loop, without waiting, so that nobody ever sees half a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from anynode.storage.hub import Hub
from anynode.storage.state import CurrentState, Overlay, Overlays
from anynode.storage.types import Change, Compacted, FutureRevision, Page, Record, Revision


class Committed:
    """State, hub and revision, changed together."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.revision = Revision(0)
        self._state = CurrentState()
        self._overlays = Overlays()

    def begin(self, records: Iterable[Record], revision: Revision) -> None:
        """Start from ``records`` at ``revision``, with an empty window."""
        self._state = CurrentState(records)
        self.revision = revision
        self.hub.begin(revision)

    def get(self, key: str) -> Record | None:
        return self._state.get(key)

    def page(self, prefix: str, *, start: str, limit: int) -> Page:
        return self._state.page(prefix, start=start, limit=limit, revision=self.revision)

    def page_at(self, revision: Revision, overlay: Overlay, *, start: str, limit: int) -> Page:
        """A page as ``overlay`` shows it, which must be brought up to date by ``refresh`` right before."""
        return self._state.page(overlay.prefix, start=start, limit=limit, revision=revision, overlay=overlay.before)

    def overlay(self, prefix: str, revision: Revision) -> Overlay:
        """The overlay for ``prefix`` at ``revision``; may not be used before ``refresh``."""
        return self._overlays.at(prefix, revision)

    def refresh(self, overlay: Overlay) -> None:
        """Account for the window's changes; ``overlay.through`` must not lie before the window."""
        overlay.absorb(self.hub.changes_after(overlay.through), self.revision)

    def forget_before(self, oldest: Revision) -> None:
        self.hub.forget_before(oldest)
        self._overlays.forget_before(oldest)

    def check_readable(self, revision: Revision, oldest: Revision) -> None:
        """Raises ``Compacted`` or ``FutureRevision``."""
        if revision > self.revision:
            raise FutureRevision(revision, self.revision)
        if revision < oldest:
            raise Compacted(revision, oldest)

    def apply(self, changes: Sequence[Change]) -> None:
        """Make ``changes`` visible, remember them, and tell the listeners.

        The decoded form a writer handed over reaches the listeners and is not kept: at 100,000 pods it would take
        more memory than everything else.
        """
        state, hub = self._state, self.hub
        for change in changes:
            record = change.record
            previous = change.previous = state.get(record.key)
            kept = change
            if change.deleted:
                state.remove(record.key)
            elif record.decoded is None:
                state.put(record)
            else:
                stored = Record(record.key, record.value, record.create_revision, record.mod_revision)
                state.put(stored)
                kept = Change(change.revision, stored, previous)
            hub.remember(kept)
        self.revision = changes[-1].revision
        hub.publish(changes)
