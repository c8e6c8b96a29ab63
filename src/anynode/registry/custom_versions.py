"""Custom resources as the clients of one version see them: the stored objects read, converted and kept by version.

In: the cache of what is stored, in whichever version each object was written, and a ``Codec`` that reads one version.
Out: a ``ResourceCache`` in that version, with its own watchers. ``VersionCache`` never lags: its items are converted
when somebody looks at them. An object written in this version since the definition last changed is shown as it is
stored, from the very same bytes. Source: apiextensions-apiserver ``pkg/apiserver/customresource_handler.go`` (one
storage per version), 1.36.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from anynode.aio.clock import Clock
from anynode.api.objects import Object
from anynode.api.resources import Resource
from anynode.registry.encoding import canonical, encode, head_of
from anynode.registry.items import CacheEvent, Fields, Item
from anynode.registry.watch_cache import EVENT_BYTES, ResourceCache
from anynode.storage.types import Record, Revision


class Codec(Protocol):
    """How one version of a custom resource is read from storage and written to it."""

    resource: Resource
    """As clients of this version see it."""
    storage_head: bytes
    """What an object stored as the definition wants it begins with."""

    def read(self, stored: Object) -> Object:
        """A stored object of any version in this one, pruned and defaulted."""
        ...

    async def to_storage(self, obj: Object) -> Object:
        """An object of this version as it is stored; raises ``ApiError`` when it cannot be converted."""
        ...

    async def converted(self, stored: Sequence[Object]) -> Sequence[Object]:
        """Stored objects of any version in this one, in one call where a webhook is asked. Raises ``ApiError``."""
        ...


class VersionItem(Item):
    """An object that has to be read by its schema, and converted, before it is shown."""

    __slots__ = ("_read", "_resource", "_source", "_value", "weight")

    def __init__(self, source: Item, resource: Resource, read: Callable[[Object], Object]) -> None:
        self._source: Item | None = source
        self.weight = len(source.value)
        """Bytes as stored: known without converting."""
        self._resource = resource
        self._read = read
        super().__init__(source.key, b"", source.revision)

    @property
    def value(self) -> bytes:
        source = self._source
        if source is not None:
            self._value = encode(canonical(self._read(source.peek()), self._resource))
            self._source = None
        return self._value

    @value.setter
    def value(self, value: bytes) -> None:
        self._value = value


class VersionedCache(ResourceCache):
    """What stores ask of the cache of one version."""

    @abc.abstractmethod
    async def shown(self, stored: Item) -> Item:
        """An item of what is stored in this version. Raises ``ApiError``."""

    @abc.abstractmethod
    def detach(self) -> None:
        """Follow no longer; safe to call again."""


class VersionCache(VersionedCache):
    """The objects of a custom resource in one version, converted without waiting."""

    def __init__(
        self, base: ResourceCache, clock: Clock, codec: Codec, *, read_fields: Fields, revision: Revision
    ) -> None:
        """``revision``: the store's now; what was written later, in this version, needs no reading by the schema."""
        super().__init__(base.prefix, clock, read_fields=read_fields)
        self._base = base
        self._codec = codec
        self._head = head_of(codec.resource)
        self._since = revision
        self.items.update((key, self.seen(item)) for key, item in base.items.items())
        self.begin(revision)
        base.listeners.append(self.follow)

    async def shown(self, stored: Item) -> Item:
        found = self.items.get(stored.key)
        return found if found is not None and found.revision == stored.revision else self.seen(stored)

    def detach(self) -> None:
        if self.follow in self._base.listeners:
            self._base.listeners.remove(self.follow)

    def seen(self, item: Item) -> Item:
        """A stored item in this version."""
        if item.revision > self._since and item.value.startswith(self._head):
            return item
        return VersionItem(item, self._codec.resource, self._codec.read)

    async def items_of(self, records: Sequence[Record]) -> Sequence[Item]:
        return [self.seen(item) for item in await super().items_of(records)]

    def follow(self, events: Sequence[CacheEvent]) -> None:
        moment = self._clock.monotonic()
        self.take([self._followed(event, moment) for event in events], moment)

    def _followed(self, event: CacheEvent, moment: float) -> CacheEvent:
        previous = self.items.get(event.item.key)
        if previous is None and event.previous is not None:
            previous = self.seen(event.previous)
        item = self.seen(event.item)
        self.place(item, deleted=event.deleted)
        return CacheEvent(item, previous, deleted=event.deleted, moment=moment)

    def weight(self, event: CacheEvent) -> int:
        item = event.item
        return EVENT_BYTES + (item.weight if isinstance(item, VersionItem) else len(item.value))


def field_reader(paths: Mapping[str, Sequence[str]]) -> Fields:
    """A function from an object to its selectable fields; ``paths``: label -> steps to the value."""

    def read(obj: Object) -> Mapping[str, str]:
        return {label: _text(obj, steps) for label, steps in paths.items()}

    return read


def _text(obj: Object, steps: Sequence[str]) -> str:
    value: object = obj
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
