"""Who watches what, and handing a change to exactly those it concerns.

Watchers that ask alike (same scope, selectors and form) are one ``Audience``: matching and rendering happen once per
change and audience, and every member is handed the same list. Audiences bound to a name, to one value of the indexed
field (``spec.nodeName``) or to a namespace are found by that value, so a change costs nothing for all others. A member
that does not take its events is closed, never waited for. Source: apiserver ``pkg/storage/cacher``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from anynode.api.wire import WatchEvent, WatchSink
from anynode.registry.items import (
    ADDED,
    BOOKMARK,
    DELETED,
    MODIFIED,
    CacheEvent,
    Fields,
    Form,
    Item,
    event_in,
    event_of,
)
from anynode.storage.types import Revision


def no_fields(_: object) -> Mapping[str, str]:
    return {}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects a reader asks for. Equal ``key``: the same question."""

    key: str = ""
    namespace: str = ""
    name: str = ""
    labels: Callable[[Mapping[str, str]], bool] | None = None
    fields: Callable[[Mapping[str, str]], bool] | None = None
    read_fields: Fields = no_fields
    pinned: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Field labels the selector requires to have one value."""

    @property
    def unfiltered(self) -> bool:
        """Whether everything in the namespace is asked for."""
        return not self.name and self.labels is None and self.fields is None

    def matches(self, item: Item) -> bool:
        if self.namespace and item.namespace != self.namespace:
            return False
        if self.name and item.name != self.name:
            return False
        if self.labels is not None and not self.labels(item.labels):
            return False
        return self.fields is None or self.fields(item.fields(self.read_fields))


class Watcher:
    """One running watch. ``deadline`` and ``bookmark_due`` are monotonic; None: never. ``floor``: show only what is
    newer; ``first``: its first event is still to be rendered apart."""

    __slots__ = ("audience", "bookmark_due", "deadline", "first", "floor", "sink")

    def __init__(
        self, sink: WatchSink, *, floor: Revision, deadline: float, bookmark_due: float | None, first: bool
    ) -> None:
        self.sink = sink
        self.floor = floor
        self.deadline = deadline
        self.bookmark_due = bookmark_due
        self.first = first
        self.audience: Audience | None = None


class Audience:
    """Watchers that ask alike."""

    __slots__ = ("form", "members", "selection")

    def __init__(self, selection: Selection, form: Form) -> None:
        self.selection = selection
        self.form = form
        self.members: dict[Watcher, None] = {}

    def kind_of(self, event: CacheEvent) -> str | None:
        """What this change is for the audience: an object entering the selection is ADDED, one leaving it DELETED."""
        selection = self.selection
        if selection.unfiltered:
            return event.kind if not selection.namespace or event.item.namespace == selection.namespace else None
        before = event.previous is not None and selection.matches(event.previous)
        after = not event.deleted and selection.matches(event.item)
        if before:
            return MODIFIED if after else DELETED
        return ADDED if after else None


class WatcherIndex:
    """The audiences of one resource."""

    def __init__(self, read_fields: Fields, indexed_field: str = "") -> None:
        self._read_fields = read_fields
        self._indexed_field = indexed_field
        self._audiences: dict[tuple[str, str], Audience] = {}
        self._wide: dict[Audience, None] = {}
        self._by_namespace: dict[str, dict[Audience, None]] = {}
        self._by_name: dict[tuple[str, str], dict[Audience, None]] = {}
        self._by_field: dict[str, dict[Audience, None]] = {}
        self.watchers: dict[Watcher, None] = {}

    def add(self, watcher: Watcher, selection: Selection, form: Form) -> None:
        slot = (selection.key, form.key)
        audience = self._audiences.get(slot)
        if audience is None:
            audience = self._audiences[slot] = Audience(selection, form)
            self._shelf(selection).setdefault(audience)
        audience.members[watcher] = None
        watcher.audience = audience
        self.watchers[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        """Take the watcher out; safe to call again."""
        audience = watcher.audience
        if audience is None or self.watchers.pop(watcher, self) is self:
            return
        audience.members.pop(watcher, None)
        if not audience.members:
            self._audiences.pop((audience.selection.key, audience.form.key), None)
            shelf = self._shelf(audience.selection)
            shelf.pop(audience, None)
            if not shelf:
                self._clear_shelf(audience.selection)

    def _shelf(self, selection: Selection) -> dict[Audience, None]:
        """Where the audience with this selection is found."""
        if selection.name:
            return self._by_name.setdefault((selection.namespace, selection.name), {})
        value = selection.pinned.get(self._indexed_field) if self._indexed_field else None
        if value is not None:
            return self._by_field.setdefault(value, {})
        if selection.namespace:
            return self._by_namespace.setdefault(selection.namespace, {})
        return self._wide

    def _clear_shelf(self, selection: Selection) -> None:
        """Forget the place of a selection that nobody asks for any more."""
        if selection.name:
            self._by_name.pop((selection.namespace, selection.name), None)
        elif self._indexed_field in selection.pinned:
            self._by_field.pop(selection.pinned[self._indexed_field], None)
        elif selection.namespace:
            self._by_namespace.pop(selection.namespace, None)

    def concerned(self, event: CacheEvent) -> Iterable[Audience]:
        """Audiences the change may matter to, each once."""
        item = event.item
        found = list(self._wide)
        if self._by_namespace:
            found.extend(self._by_namespace.get(item.namespace, ()))
        if self._by_name:
            found.extend(self._by_name.get((item.namespace, item.name), ()))
            if item.namespace:
                found.extend(self._by_name.get(("", item.name), ()))
        if self._by_field:
            value = item.fields(self._read_fields).get(self._indexed_field, "")
            found.extend(self._by_field.get(value, ()))
            if event.previous is not None:
                before = event.previous.fields(self._read_fields).get(self._indexed_field, "")
                if before != value:
                    found.extend(self._by_field.get(before, ()))
        return found

    def dispatch(self, events: Sequence[CacheEvent]) -> None:
        """Hand a committed batch to everybody it concerns."""
        batches: dict[Audience, list[tuple[str, CacheEvent]]] = {}
        for event in events:
            for audience in self.concerned(event):
                kind = audience.kind_of(event)
                if kind is not None:
                    batches.setdefault(audience, []).append((kind, event))
        for audience, told in batches.items():
            shared = [event.rendered(kind, audience.form) for kind, event in told]
            for watcher in tuple(audience.members):
                if watcher.first or watcher.floor:
                    self._deliver_own(watcher, told)
                elif not watcher.sink.deliver(shared):
                    self.close(watcher)

    def _deliver_own(self, watcher: Watcher, told: Sequence[tuple[str, CacheEvent]]) -> None:
        """For a watcher that begins at a later revision or whose first event differs from what others get."""
        audience = watcher.audience
        assert audience is not None
        events = [(kind, event) for kind, event in told if event.revision > watcher.floor]
        if not events:
            return
        watcher.floor = Revision(0)
        lines = [event.rendered(kind, audience.form) for kind, event in events]
        if watcher.first:
            watcher.first = False
            kind, event = events[0]
            lines[0] = WatchEvent(kind, encoded=audience.form.first_event(event.seen(kind)))
        if not watcher.sink.deliver(lines):
            self.close(watcher)

    def deliver_initial(self, watcher: Watcher, items: Sequence[Item], form: Form) -> bool:
        """Synthetic ADDED events for what is there; False when the reader did not take them."""
        if not items:
            return True
        events = [event_of(ADDED, item, form) for item in items]
        if watcher.first:
            watcher.first = False
            events[0] = WatchEvent(ADDED, encoded=form.first_event(items[0]))
        return watcher.sink.deliver(events)

    def replay(self, watcher: Watcher, events: Sequence[CacheEvent]) -> bool:
        """Deliver history to a watcher just added; False when the reader did not take it."""
        audience = watcher.audience
        assert audience is not None
        told = [(kind, event) for event in events if (kind := audience.kind_of(event)) is not None]
        if not told:
            return True
        lines = [event.rendered(kind, audience.form) for kind, event in told]
        if watcher.first:
            watcher.first = False
            kind, event = told[0]
            lines[0] = WatchEvent(kind, encoded=audience.form.first_event(event.seen(kind)))
        return watcher.sink.deliver(lines)

    def close(self, watcher: Watcher) -> None:
        """End a watch from the server's side: its reader lists or watches again."""
        self.remove(watcher)
        watcher.sink.end()


def bookmark(form: Form, revision: Revision, *, initial_events_end: bool = False) -> WatchEvent:
    return event_in(form, BOOKMARK, form.bookmark(revision, initial_events_end=initial_events_end))
