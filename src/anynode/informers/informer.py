"""One shared cache per (resource, namespace, selectors) and its subscribers.

In: a client. Out: a ``Store`` that follows the server, and ``Delta``s to subscribers. Promises: a subscriber sees a
subsequence of each object's states, in order; between different objects nothing is promised beyond that. The store
already holds the new state when a subscriber hears of it. An object that was deleted and made again under the same name
while the watch was broken is told as deleted, then added.

Source: client-go ``tools/cache/shared_informer.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.objects import Object, key_of, resource_version_of, uid_of
from anynode.api.resources import Resource
from anynode.client.api_client import ApiClient
from anynode.informers.reflector import Reflector, Scope
from anynode.informers.store import Store

DeltaKind = Literal["added", "modified", "deleted"]


@dataclasses.dataclass(frozen=True, slots=True)
class Delta:
    """One change. ``old`` is the state before (None for ``added``); for ``deleted`` ``obj`` is the last state known."""

    kind: DeltaKind
    obj: Object
    old: Object | None = None


Handler = Callable[[Delta], None]
Identity: TypeAlias = tuple[str, str, str, str, bool]


def identity(resource: Resource) -> Identity:
    """What makes two resources the same to a mirror, whoever told of them: discovery says less than our own tables."""
    return resource.group, resource.version, resource.plural, resource.kind, resource.namespaced


class Informer:
    """The cache of one scope; made by an ``InformerFactory``."""

    def __init__(self, scope: Scope, *, detect_mutation: bool = False) -> None:
        self.scope = scope
        self.store = Store(detect_mutation=detect_mutation)
        self._handlers: list[Handler] = []
        self._synced = asyncio.Event()

    @property
    def resource(self) -> Resource:
        return self.scope.resource

    @property
    def synced(self) -> bool:
        """Whether the first list is in the store."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def subscribe(self, handler: Handler) -> None:
        """Call ``handler`` with every change from now on, beginning with each present object as ``added``.

        The handler runs on the loop and must not wait.
        """
        for obj in self.store.list():
            handler(Delta("added", obj))
        self._handlers = [*self._handlers, handler]

    def unsubscribe(self, handler: Handler) -> None:
        """Tell ``handler`` no more."""
        self._handlers = [each for each in self._handlers if each is not handler]

    def replace(self, objects: Sequence[Object]) -> None:
        """The server holds exactly ``objects``: tell what differs."""
        present = {key_of(obj): obj for obj in objects}
        for gone in self.store.list():
            new = present.get(key_of(gone))
            if new is None or uid_of(new) != uid_of(gone):
                self.store.remove(key_of(gone))
                self._tell(Delta("deleted", gone, gone))
        for key, obj in present.items():
            old = self.store.get(key)
            if old is None or resource_version_of(old) != resource_version_of(obj):
                self.store.put(key, obj)
                self._tell(Delta("added", obj) if old is None else Delta("modified", obj, old))
        self._synced.set()

    def apply(self, kind: str, obj: Object) -> None:
        """One event of a watch."""
        key = key_of(obj)
        if kind == "DELETED":
            old = self.store.remove(key)
            if old is not None:
                self._tell(Delta("deleted", obj, old))
            return
        old = self.store.put(key, obj)
        self._tell(Delta("added", obj) if old is None else Delta("modified", obj, old))

    def _tell(self, delta: Delta) -> None:
        for handler in self._handlers:
            handler(delta)


_Key: TypeAlias = tuple[Identity, str, str, str]


def _key(scope: Scope) -> _Key:
    return identity(scope.resource), scope.namespace, scope.label_selector, scope.field_selector


class InformerFactory:
    """Informers shared by equal arguments; ``run`` keeps all of them fresh."""

    def __init__(
        self,
        client: ApiClient,
        *,
        clock: Clock,
        chance: random.Random | None = None,
        detect_mutation: bool = False,
    ) -> None:
        self._client = client
        self._clock = clock
        self._chance = chance or random.Random()
        self._detect_mutation = detect_mutation
        self._informers: dict[_Key, Informer] = {}
        self._uses: collections.Counter[_Key] = collections.Counter()
        self._running: dict[_Key, asyncio.Task[None]] = {}
        self._tasks: Supervisor | None = None

    def informer(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Informer:
        """The informer of this scope, begun at once when ``run`` already runs; each call counts as a use of it."""
        scope = Scope(
            resource=resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
        )
        key = _key(scope)
        informer = self._informers.get(key)
        if informer is None:
            informer = self._informers[key] = Informer(scope, detect_mutation=self._detect_mutation)
            if self._tasks is not None:
                self._start(self._tasks, informer)
        self._uses[key] += 1
        return informer

    def release(self, informer: Informer) -> None:
        """End one use of ``informer``; with the last its mirror ends. What its store holds stays as it is."""
        key = _key(informer.scope)
        if self._informers.get(key) is not informer:
            return
        self._uses[key] -= 1
        if self._uses[key] > 0:
            return
        del self._informers[key], self._uses[key]
        task = self._running.pop(key, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Keep all informers fresh, also those asked for later; until cancelled."""
        async with Supervisor("informers", clock=self._clock) as tasks:
            for informer in self._informers.values():
                self._start(tasks, informer)
            self._tasks = tasks
            try:
                await asyncio.Event().wait()
            finally:
                self._tasks = None
                self._running.clear()

    async def wait_synced(self) -> None:
        """Return when every informer asked for so far has its first list."""
        for informer in tuple(self._informers.values()):
            await informer.wait_synced()

    def check_unchanged(self) -> None:
        """Raise ``ObjectMutated`` if a shared object was changed (with ``detect_mutation``)."""
        for informer in self._informers.values():
            informer.store.check_unchanged()

    def _start(self, tasks: Supervisor, informer: Informer) -> None:
        reflector = Reflector(self._client, informer.scope, informer, clock=self._clock, chance=self._chance)
        self._running[_key(informer.scope)] = tasks.start(str(informer.resource.qualified), reflector.run)
