"""Services of several servers on one store: no address and no node port is given twice.

Each server has its own pools, which follow every stored service. Two servers may still choose alike at the same moment;
so, before a service is written, every address and port it newly takes is reserved by a key of its own
(``/registry/ranges/serviceips/10.0.0.7``), made only if there is none. Who comes second chooses again. Reservations
whose service was never written are cleared away by ``repair_reservations``, which one server runs now and then.

Source: the invariants of kubernetes ``pkg/registry/core/service/{ipallocator,portallocator}`` and their repair loops.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Sequence

from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.objects import Object
from anynode.registry.addresses import AddressPool, PortPool
from anynode.registry.items import CacheEvent, Item
from anynode.registry.kinds import Kind
from anynode.registry.services import ServiceStore, held_addresses, held_ports
from anynode.registry.store import Change, Ownership, UpdateRules, Write
from anynode.registry.watch_cache import ResourceCache
from anynode.storage.types import KeyMismatch, Record, Revision, Storage, StorageError, StorageUnavailable

RESERVED = "/registry/ranges/"
ADDRESSES, PORTS = "serviceips/", "servicenodeports/"
TRIES = 64


class Taken(Exception):
    """Another server reserved it first."""


class SharedServiceStore(ServiceStore):
    """Allocates beside other servers. ``repair`` comes first, as for ``ServiceStore``."""

    def __init__(
        self,
        kind: Kind,
        cache: ResourceCache,
        storage: Storage,
        *,
        clock: Clock,
        random: random.Random,
        addresses: AddressPool,
        ports: PortPool,
        ownership: Ownership | None = None,
    ) -> None:
        super().__init__(
            kind, cache, storage, clock=clock, random=random, addresses=addresses, ports=ports, ownership=ownership
        )
        self._suspects: dict[str, Revision] = {}
        """Reservations without a service, seen once."""
        cache.listeners.append(self._follow)

    # --- writing

    async def create(self, obj: Object, write: Write) -> Item:
        for _ in range(TRIES):
            with contextlib.suppress(Taken):
                return await super().create(obj, write)
        raise _range_full()

    async def update(
        self,
        key: str,
        change: Change,
        write: Write,
        *,
        rules: UpdateRules | None = None,
        force_create: bool = False,
        uid_meant: bool = False,
    ) -> tuple[Item, bool]:
        for _ in range(TRIES):
            with contextlib.suppress(Taken):
                return await super().update(
                    key, change, write, rules=rules, force_create=force_create, uid_meant=uid_meant
                )
        raise _range_full()

    async def _put(self, key: str, stored: Object, expected: Revision, write: Write) -> Item:
        before = self.cache.items.get(key) if expected else None
        old = None if before is None else before.peek()
        had, wants = _names(old), _names(stored)
        reserved = await self._reserve(key, [name for name in wants if name not in had], stored, old, write)
        try:
            item = await super()._put(key, stored, expected, write)
        except KeyMismatch:
            await self._give_back(key, reserved)
            raise
        await self._give_back(key, [name for name in had if name not in wants])
        return item

    async def _storage_delete(self, key: str, expected: Revision) -> Record | None:
        item = self.cache.items.get(key)
        had = _names(None if item is None else item.peek())
        record = await super()._storage_delete(key, expected)
        if record is not None:
            await self._give_back(key, had)
        return record

    async def _reserve(
        self, key: str, names: Sequence[str], stored: Object, old: Object | None, write: Write
    ) -> Sequence[str]:
        """Make a key for each of ``names``, or for none; raises ``Taken``."""
        reserved: list[str] = []
        for name in names:
            try:
                await self._storage.put(RESERVED + name, key.encode(), expected=Revision(0))
            except KeyMismatch as error:
                if error.current is not None and error.current.value == key.encode():
                    continue  # left by an earlier try to write this service
                await self._give_back(key, reserved)
                self.on_abandoned(stored, old, write)
                self._mark(name)
                raise Taken from error
            except StorageUnavailable as error:
                self.on_abandoned(stored, old, write)
                raise errors.ServerTimeout(str(error), retry_after_seconds=1) from error
            reserved.append(name)
        return reserved

    async def _give_back(self, key: str, names: Iterable[str]) -> None:
        """Remove this service's reservations; what cannot be removed now is left to the repair."""
        for name in names:
            with contextlib.suppress(StorageError):
                found = await self._storage.get(RESERVED + name)
                if found is not None and found.value == key.encode():
                    await self._storage.delete(RESERVED + name, expected=found.mod_revision)

    # --- the pools

    def on_written(self, new: Object, old: Object | None) -> None:
        """The pools follow the stored services, whoever wrote them: nothing to do."""

    def on_removed(self, obj: Object) -> None:
        """The same."""

    def _follow(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            had = _names(event.previous.peek()) if event.previous is not None else []
            has = [] if event.deleted else _names(event.item.peek())
            for name in has:
                self._mark(name)
            gone = [name for name in had if name not in has]
            self._release(
                (name.removeprefix(ADDRESSES) for name in gone if name.startswith(ADDRESSES)),
                (int(name.removeprefix(PORTS)) for name in gone if name.startswith(PORTS)),
            )

    def _mark(self, name: str) -> None:
        """Somebody has it."""
        if name.startswith(PORTS):
            self._ports.take(int(name.removeprefix(PORTS)))
        elif self._addresses.contains(name.removeprefix(ADDRESSES)):
            self._addresses.take(name.removeprefix(ADDRESSES))

    # --- repair

    async def repair_reservations(self) -> None:
        """Make reservations that are missing; remove those that had no service last time either."""
        held = {name: key for key, item in self.cache.items.items() for name in _names(item.peek())}
        page = await self._storage.list(RESERVED)
        suspects: dict[str, Revision] = {}
        for record in page.records:
            name = record.key.removeprefix(RESERVED)
            if held.pop(name, "").encode() == record.value:
                continue
            if self._suspects.get(name) == record.mod_revision:
                with contextlib.suppress(KeyMismatch):
                    await self._storage.delete(record.key, expected=record.mod_revision)
            else:
                suspects[name] = record.mod_revision
        self._suspects = suspects
        for name, key in held.items():
            with contextlib.suppress(KeyMismatch):
                await self._storage.put(RESERVED + name, key.encode(), expected=Revision(0))


def _names(service: Object | None) -> list[str]:
    """The reservations a service needs."""
    if service is None:
        return []
    return [
        *(ADDRESSES + address for address in held_addresses(service)),
        *(f"{PORTS}{port}" for port in dict.fromkeys(held_ports(service))),
    ]


def _range_full() -> errors.InternalError:
    return errors.InternalError("Internal error occurred: failed to allocate: range is full")
