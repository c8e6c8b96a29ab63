"""Objects by key, with indexes kept up to date: what a reflector fills and controllers read.

In: whole lists (``replace``) and single states (``put``, ``remove``). Out: the objects themselves, shared and never to
be changed. Invariant: between two awaits the store, its namespaces and its indexes agree. A store made with
``detect_mutation`` remembers a digest of every object and raises ``ObjectMutated`` when a reader changed one.

Source: client-go ``tools/cache`` (thread_safe_store, mutation_detector), 1.36.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import orjson

from anynode.api.objects import Object, ObjectKey

IndexFunction = Callable[[Object], Iterable[str]]
Objects: TypeAlias = list[Object]
Keys: TypeAlias = list[ObjectKey]


class ObjectMutated(AssertionError):
    """Somebody changed an object that is shared."""


class _Index:
    __slots__ = ("entries", "values_of")

    def __init__(self, values_of: IndexFunction) -> None:
        self.values_of = values_of
        self.entries: dict[str, dict[ObjectKey, Object]] = {}

    def add(self, key: ObjectKey, obj: Object) -> None:
        for value in self.values_of(obj):
            self.entries.setdefault(value, {})[key] = obj

    def replace(self, key: ObjectKey, old: Object, new: Object) -> None:
        before, after = [*self.values_of(old)], [*self.values_of(new)]
        if before == after:
            for value in after:
                self.entries[value][key] = new
        else:
            self.discard(key, old)
            self.add(key, new)

    def discard(self, key: ObjectKey, obj: Object) -> None:
        for value in self.values_of(obj):
            held = self.entries.get(value)
            if held is None:
                continue
            held.pop(key, None)
            if not held:
                del self.entries[value]


class Store:
    """The newest known state of each object of one informer."""

    def __init__(self, *, detect_mutation: bool = False) -> None:
        self._objects: dict[ObjectKey, Object] = {}
        self._namespaces: dict[str, dict[ObjectKey, Object]] = {}
        self._indexes: dict[str, _Index] = {}
        self._digests: dict[ObjectKey, bytes] | None = {} if detect_mutation else None

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Object]:
        """All objects; the store must not change while this runs (await nothing)."""
        return iter(self._objects.values())

    def get(self, key: ObjectKey) -> Object | None:
        return self._objects.get(key)

    def list(self, namespace: str = "") -> Objects:
        """The objects of one namespace, or all."""
        return [*(self._namespaces.get(namespace, {}) if namespace else self._objects).values()]

    def keys(self) -> Keys:
        return [*self._objects]

    def add_index(self, name: str, values_of: IndexFunction) -> None:
        """Keep objects findable by ``values_of(obj)``; adding the same name again replaces the index."""
        index = self._indexes[name] = _Index(values_of)
        for key, obj in self._objects.items():
            index.add(key, obj)

    def by_index(self, name: str, value: str) -> Objects:
        """The objects whose index values contain ``value``; raises ``KeyError`` for an index that was not added."""
        return [*self._indexes[name].entries.get(value, {}).values()]

    def put(self, key: ObjectKey, obj: Object) -> Object | None:
        """Hold ``obj``; the state before, if there was one."""
        old = self._objects.get(key)
        self._objects[key] = obj
        if old is None:
            self._namespaces.setdefault(key.namespace, {})[key] = obj
            for index in self._indexes.values():
                index.add(key, obj)
        else:
            self._check(key, old)
            self._namespaces[key.namespace][key] = obj
            for index in self._indexes.values():
                index.replace(key, old, obj)
        if self._digests is not None:
            self._digests[key] = _digest(obj)
        return old

    def remove(self, key: ObjectKey) -> Object | None:
        """Forget the object; its last state, if it was there."""
        old = self._objects.pop(key, None)
        if old is None:
            return None
        self._check(key, old)
        held = self._namespaces[key.namespace]
        del held[key]
        if not held:
            del self._namespaces[key.namespace]
        for index in self._indexes.values():
            index.discard(key, old)
        if self._digests is not None:
            del self._digests[key]
        return old

    def check_unchanged(self) -> None:
        """Raise ``ObjectMutated`` if a held object was changed; does nothing unless made with ``detect_mutation``."""
        for key, obj in self._objects.items():
            self._check(key, obj)

    def _check(self, key: ObjectKey, obj: Object) -> None:
        if self._digests is not None and self._digests[key] != _digest(obj):
            raise ObjectMutated(f"{obj.get('kind', 'object')} {key} was changed after it was shared")


def _digest(obj: Object) -> bytes:
    return hashlib.blake2b(orjson.dumps(obj, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
