"""One object of the cache and one change of it, each with the bytes every reader is served.

An ``Item`` is immutable: the stored bytes (the storage's own, not a copy), revision, and what selectors look at, read
from the decoded object when first asked for. A ``CacheEvent`` renders itself at most once per (type, form)
whoever watches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import orjson

from anynode.api.objects import Object
from anynode.api.wire import WatchEvent
from anynode.registry.encoding import object_with_revision, with_revision
from anynode.schema import protobuf_writing
from anynode.storage.types import Record, Revision

ADDED, MODIFIED, DELETED, BOOKMARK, ERROR = "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"

WHOLE = ""
"""The key of the form that shows objects as they are."""
BINARY = "protobuf/"
"""The key of every form that shows objects as protobuf begins so."""
Fields = Callable[[Object], Mapping[str, str]]
"""An object's field-selector values by label, ``metadata.name`` and ``metadata.namespace`` excepted."""


class Item:
    """An object at one revision. ``key`` is relative to its resource: ``namespace/name`` or ``name``."""

    __slots__ = (
        "_fields",
        "_held",
        "_labels",
        "_obj",
        "_retired",
        "_stored",
        "key",
        "name",
        "namespace",
        "revision",
        "value",
    )

    def __init__(self, key: str, value: bytes, revision: Revision, *, stored: Object | None = None) -> None:
        self.key = key
        self.namespace, _, self.name = key.rpartition("/")
        self.value = value
        self.revision = revision
        self._stored = stored
        self._obj: Object | None = None
        self._labels: Mapping[str, str] | None = None
        self._fields: Mapping[str, str] | None = None
        self._held = False
        self._retired = False

    @classmethod
    def of_record(cls, key: str, record: Record) -> Item:
        """The item of a stored record; takes the decoded object over from it."""
        stored, record.decoded = record.decoded, None
        return cls(key, record.value, record.mod_revision, stored=stored)

    @property
    def encoded(self) -> bytes:
        """The JSON every reader is served: a copy of the stored bytes with the resource version in its place."""
        return with_revision(self.value, self.revision) if self.revision else self.value

    @property
    def object(self) -> Object:
        """The decoded object with its resource version: shared, never to be changed."""
        if self._obj is None:
            stored = self._stored
            if stored is None and self._retired:
                return self.peek()
            self._obj = orjson.loads(self.encoded) if stored is None else object_with_revision(stored, self.revision)
            self._stored = None
        return self._obj

    def peek(self) -> Object:
        """The same for who looks once: what has to be decoded for him is not kept."""
        if self._obj is None and self._stored is None:
            decoded: Object = orjson.loads(self.encoded)
            return decoded
        return self.object

    @property
    def labels(self) -> Mapping[str, str]:
        if self._labels is None:
            source = self._stored if self._stored is not None else self.peek()
            self._labels = source["metadata"].get("labels") or {}
        return self._labels

    def fields(self, read: Fields) -> Mapping[str, str]:
        """The values field selectors compare, names included."""
        if self._fields is None:
            source = self._stored if self._stored is not None else self.peek()
            self._fields = {**read(source), "metadata.name": self.name, "metadata.namespace": self.namespace}
        return self._fields

    def hold(self) -> Object:
        """The object for a reader in this process who keeps it while it is current: keeping it here too costs nothing,
        and spares the next writer decoding it."""
        self._held = True
        return self.object

    def release(self) -> None:
        """Let go of the decoded object unless a reader holds it anyway; who asks again decodes again. Objects weigh
        several times their bytes."""
        if not self._held:
            self._stored = self._obj = None

    def retire(self) -> None:
        """The state is no longer current: keep nothing but its bytes from now on."""
        self._retired = True
        self._stored = self._obj = self._labels = self._fields = None

    def at(self, revision: Revision) -> Item:
        """The same object saying another revision, as watchers are told of what left their selector."""
        moved = Item(self.key, self.value, revision)
        moved._labels, moved._fields = self._labels, self._fields
        return moved


class Form(Protocol):
    """How a reader wants objects: whole, as a Table, as metadata only. Equal ``key``: the same bytes for everybody."""

    @property
    def key(self) -> str: ...

    def item(self, item: Item) -> bytes:
        """The JSON of one object in this form."""
        ...

    @property
    def special_first(self) -> bool:
        """Whether the first object of a watch looks different (Table headers)."""
        ...

    def first_event(self, item: Item) -> bytes:
        """The JSON of the first object of a watch."""
        ...

    def bookmark(self, revision: Revision, *, initial_events_end: bool) -> bytes:
        """The JSON of a bookmark's object."""
        ...


class CacheEvent:
    """One change of one object. ``previous`` is None for a creation; a deletion's ``item`` says its revision."""

    __slots__ = ("_as_left", "_rendered", "deleted", "item", "moment", "previous", "revision")

    def __init__(self, item: Item, previous: Item | None, *, deleted: bool, moment: float) -> None:
        self.item = item
        self.previous = previous
        self.deleted = deleted
        self.revision = item.revision
        self.moment = moment
        self._rendered: dict[tuple[str, str], WatchEvent] | None = None
        self._as_left: Item | None = None

    def settle(self) -> None:
        """Everybody who watched has been told: keep what a replay needs, bytes, and no more."""
        self._rendered = None
        if self.previous is not None:
            self.previous.retire()
        if self.deleted:
            self.item.retire()
        else:
            self.item.release()

    @property
    def kind(self) -> str:
        if self.deleted:
            return DELETED
        return MODIFIED if self.previous is not None else ADDED

    def seen(self, kind: str) -> Item:
        """The object a watcher is shown with an event of type ``kind``."""
        if kind != DELETED or self.deleted or self.previous is None:
            return self.item
        if self._as_left is None:
            self._as_left = self.previous.at(self.revision)
        return self._as_left

    def rendered(self, kind: str, form: Form) -> WatchEvent:
        """The event every watcher with this form shares."""
        slot = (kind, form.key)
        if self._rendered is None:
            self._rendered = {}
        found = self._rendered.get(slot)
        if found is None:
            found = self._rendered[slot] = event_of(kind, self.seen(kind), form)
        return found


def event_of(kind: str, item: Item, form: Form) -> WatchEvent:
    return ItemEvent(kind, item) if form.key == WHOLE else event_in(form, kind, form.item(item))


def event_in(form: Form, kind: str, encoded: bytes) -> WatchEvent:
    """An event that shows ``encoded``, which is in this form."""
    return FramedEvent(kind, encoded=encoded) if form.key.startswith(BINARY) else WatchEvent(kind, encoded=encoded)


class FramedEvent(WatchEvent):
    """An event that shows protobuf: a frame of a stream instead of a line."""

    __slots__ = ()

    @property
    def line(self) -> bytes:
        if self._line is None:
            self._line = protobuf_writing.frame(self.type, self.encoded)
        return self._line


class ItemEvent(WatchEvent):
    """An event that shows an item as it is: makes bytes only for who reads bytes, shares the decoded object."""

    __slots__ = ("_item",)

    def __init__(self, kind: str, item: Item) -> None:
        super().__init__(kind, encoded=b"")
        self._item = item

    @property
    def encoded(self) -> bytes:
        return self._item.encoded

    @property
    def object(self) -> Object:
        return self._item.hold()


def encoded_lines(events: Sequence[WatchEvent]) -> bytes:
    """The lines of a batch, for a connection."""
    return events[0].line if len(events) == 1 else b"".join([event.line for event in events])
