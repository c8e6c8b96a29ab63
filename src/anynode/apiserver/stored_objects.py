"""Stored objects as the rest of the server asks for them: by key, all of a kind, all of a namespace, counted.

Answers come from the caches, so they are the newest this server knows; a kind that is not served has no objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from anynode.api.objects import Object, ObjectKey, key_of
from anynode.api.resources import Resource
from anynode.api.wire import User
from anynode.apiserver.served import ServedSet
from anynode.registry.store import Write

SERVER = User(name="system:apiserver", groups=("system:masters",))


class StoredObjects:
    """What ``served`` holds."""

    def __init__(self, served: ServedSet) -> None:
        self._served = served

    def find(self, resource: Resource, key: ObjectKey) -> Object | None:
        """The newest state of an object, for admission and token checks."""
        served = self._served.get((resource.group, resource.version, resource.plural))
        item = served.store.find(str(key)) if served is not None else None
        return item.object if item is not None else None

    def all_of(self, resource: Resource) -> Iterable[Object]:
        """Every stored object of a small kind, for admission."""
        served = self._served.get((resource.group, resource.version, resource.plural))
        return () if served is None else (item.object for item in served.store.cache.scan())

    def all_in(self, resource: Resource, namespace: str) -> Iterable[Object]:
        """The stored objects of a kind in one namespace, for admission."""
        served = self._served.get((resource.group, resource.version, resource.plural))
        if served is None or not served.store.cache.items:
            return ()
        return (item.object for item in served.store.cache.scan(f"{namespace}/"))

    async def replace_status(self, resource: Resource, obj: Object) -> Object:
        """Write a status that admission decided on; raises ``Conflict`` when the object changed meanwhile."""
        store = self._served[resource.group, resource.version, resource.plural].store
        write = Write(user=SERVER, manager="kube-apiserver", subresource="status")
        item, _ = await store.update(str(key_of(obj)), lambda _: obj, write, rules=store.status_rules)
        return item.object

    def counts(self) -> Mapping[str, float]:
        """How many there are, by the label of the metric."""
        stores = {each.kind.resource.qualified: each.store for each in self._served.values()}
        return {f'resource="{name}"': len(store.cache.items) for name, store in stores.items()}

    def watcher_counts(self) -> Mapping[str, float]:
        """How many watchers each kind has, by the label of the metric."""
        stores = {each.kind.resource.qualified: each.store for each in self._served.values()}
        return {f'resource="{name}"': len(store.cache.watchers.watchers) for name, store in stores.items()}
