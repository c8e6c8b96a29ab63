"""IPAddress objects: each cluster IP a Service holds has one that names the Service, shortly after it was given.

The pool, not these objects, decides who gets an address; they tell administrators and the ServiceCIDR controller.
Source: kubernetes ``pkg/registry/core/service/ipallocator`` and its repair loop, 1.36; KEP-1880.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence

from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import Object, get_path, labels_of, name_of, namespace_of
from anynode.api.wire import User
from anynode.registry.deletion import DeleteOptions
from anynode.registry.items import CacheEvent
from anynode.registry.services import held_addresses
from anynode.registry.store import ResourceStore, Write

MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
FAMILY = "ipaddress.kubernetes.io/ip-family"
MANAGER = "ipallocator.k8s.io"
_SELF = User(name="system:apiserver", groups=("system:masters",))


def address_of(ip: str, service: Object) -> Object:
    """The object of one address that ``service`` holds."""
    family = f"IPv{ipaddress.ip_address(ip).version}"
    reference = {"resource": "services", "namespace": namespace_of(service), "name": name_of(service)}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": ip, "labels": {FAMILY: family, MANAGED_BY: MANAGER}},
        "spec": {"parentRef": reference},
    }


class ServiceAddresses:
    """Keeps the objects as the Services are."""

    def __init__(
        self, services: ResourceStore, addresses: ResourceStore, *, is_keeper: Callable[[], bool] = lambda: True
    ) -> None:
        """``is_keeper``: whether this server writes; where several share a store, one does."""
        self._services = services
        self._addresses = addresses
        self._is_keeper = is_keeper
        self._pending: dict[str, None] = {}
        self._holders: dict[str, str] = {}
        self._wake = asyncio.Event()
        for key, item in services.cache.items.items():
            self._note(key, held_addresses(item.peek()))
        for ip, item in addresses.cache.items.items():
            if labels_of(item.peek()).get(MANAGED_BY) == MANAGER:
                self._pending[ip] = None
        services.cache.listeners.append(self._changed)

    def _note(self, key: str, held: Sequence[str]) -> None:
        for ip in held:
            self._holders[ip] = key
            self._pending[ip] = None

    def _changed(self, events: Sequence[CacheEvent]) -> None:
        for event in events:
            before = [] if event.previous is None else held_addresses(event.previous.peek())
            now = [] if event.deleted else held_addresses(event.item.peek())
            if before == now:
                continue
            for ip in before:
                if self._holders.get(ip) == event.item.key:
                    del self._holders[ip]
                self._pending[ip] = None
            self._note(event.item.key, now)
        if self._pending:
            self._wake.set()

    async def run(self) -> None:
        """Write what is pending, for ever."""
        while True:
            self._wake.clear()
            await self.settle()
            await self._wake.wait()

    async def settle(self) -> None:
        """Write what is pending now."""
        while self._pending:
            ip = next(iter(self._pending))
            del self._pending[ip]
            if not self._is_keeper():
                continue
            try:
                await self._settle(ip)
            except ApiError:
                continue  # somebody else was faster, or the store is away: the next start repairs

    async def _settle(self, ip: str) -> None:
        item = self._addresses.find(ip)
        service = self._services.find(self._holders.get(ip, ""))
        stored = None if item is None else item.peek()
        if service is None:
            if stored is not None and labels_of(stored).get(MANAGED_BY) == MANAGER:
                await self._delete(ip)
            return
        wished = address_of(ip, service.peek())
        if stored is not None:
            if get_path(stored, "spec", "parentRef") == wished["spec"]["parentRef"]:
                return
            await self._delete(ip)
        whole = self._addresses.kind.rules.default(wished)
        await self._addresses.create(whole, Write(user=_SELF, manager="kube-apiserver", trusted=True))

    async def _delete(self, ip: str) -> None:
        try:
            await self._addresses.delete(ip, DeleteOptions(), Write(user=_SELF))
        except NotFound:
            return
