"""Services: cluster IPs and node ports are given at creation, kept over updates and given back at deletion.

One family, IPv4. Source: kubernetes ``pkg/registry/core/service/storage/{alloc,storage}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from typing import Any

from anynode.aio.clock import Clock
from anynode.api import errors
from anynode.api.objects import Object, get_path, meta
from anynode.registry.addresses import AddressPool, PoolFull, PortPool
from anynode.registry.kinds import Kind
from anynode.registry.store import Ownership, ResourceStore, Write
from anynode.registry.watch_cache import ResourceCache
from anynode.schema import fields
from anynode.schema.kinds import service_families, service_rules, services
from anynode.storage.types import Storage

NONE = "None"
FAMILIES = ("IPv4",)
"""Of the pool."""
_SPEC = fields.FieldPath("spec")


@dataclasses.dataclass(slots=True)
class _Reserved:
    """What one write took from the pools."""

    addresses: list[str] = dataclasses.field(default_factory=list)
    ports: list[int] = dataclasses.field(default_factory=list)


class ServiceStore(ResourceStore):
    """Allocates. ``repair`` marks what stored services hold; call it when the cache is filled."""

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
        super().__init__(kind, cache, storage, clock=clock, random=random, ownership=ownership)
        self._addresses = addresses
        self._ports = ports

    def repair(self) -> None:
        for item in self.cache.items.values():
            for address in held_addresses(item.peek()):
                if self._addresses.contains(address):
                    self._addresses.take(address)
            for port in held_ports(item.peek()):
                self._ports.take(port)

    def on_create(self, obj: Object, write: Write) -> Object:
        return self._allocated(obj, None)

    def on_update(self, new: Object, old: Object, write: Write) -> Object:
        return self._allocated(new, old)

    def on_abandoned(self, new: Object, old: Object | None, write: Write) -> None:
        kept_addresses, kept_ports = _held(old)
        self._release(
            (each for each in held_addresses(new) if each not in kept_addresses),
            (each for each in held_ports(new) if each not in kept_ports),
        )

    def on_written(self, new: Object, old: Object | None) -> None:
        if old is not None:
            now_addresses, now_ports = _held(new)
            self._release(
                (each for each in held_addresses(old) if each not in now_addresses),
                (each for each in held_ports(old) if each not in now_ports),
            )

    def on_removed(self, obj: Object) -> None:
        self._release(held_addresses(obj), held_ports(obj))

    def _release(self, addresses: Iterable[str], ports: Iterable[int]) -> None:
        for address in addresses:
            self._addresses.release(address)
        for port in ports:
            self._ports.release(port)

    def _allocated(self, obj: Object, old: Object | None) -> Object:
        spec: Object = obj.get("spec") or {}
        reserved = _Reserved()
        try:
            spec = self._with_addresses(obj, spec, old, reserved)
            spec = self._with_ports(obj, spec, old, reserved)
        except errors.ApiError:
            self._release(reserved.addresses, reserved.ports)
            raise
        return obj if spec is obj.get("spec") else {**obj, "spec": spec}

    # --- addresses

    def _with_addresses(self, obj: Object, spec: Object, old: Object | None, reserved: _Reserved) -> Object:
        if not services.needs_cluster_ip(spec):
            return spec
        before = (old or {}).get("spec") or {}
        if spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec = {**spec, "clusterIPs": [spec["clusterIP"]]}
        wrong = service_rules.validate_cluster_ips(spec, before)
        if wrong:
            raise _invalid(obj, *wrong)
        spec, found = service_families.with_families(spec, before, FAMILIES)
        if found:
            raise _invalid(obj, *found)
        given = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or ()), "")
        if given == NONE:
            return {**spec, "clusterIP": NONE, "clusterIPs": [NONE]}
        if given not in held_addresses(old or {}):
            given = self._take_address(obj, given)
            reserved.addresses.append(given)
        return {**spec, "clusterIP": given, "clusterIPs": [given]}

    def _take_address(self, obj: Object, given: str) -> str:
        if not given:
            try:
                return self._addresses.next()
            except PoolFull as error:
                why = "failed to allocate IP: range is full"
                raise errors.InternalError(f"Internal error occurred: {why}") from error
        path = _SPEC.child("clusterIPs")
        if not self._addresses.contains(given):
            why = (
                "failed to allocate IP " + given + f": the provided IP ({given}) is not in the valid range. "
                f"The range of valid IPs is {self._addresses.network}"
            )
            raise _invalid(obj, fields.invalid(path, [given], why))
        if not self._addresses.take(given):
            raise _invalid(
                obj, fields.invalid(path, [given], f"failed to allocate IP {given}: provided IP is already allocated")
            )
        return given

    # --- ports

    def _with_ports(self, obj: Object, spec: Object, old: Object | None, reserved: _Reserved) -> Object:
        wanted: list[Any] = list(spec.get("ports") or ())
        if wanted and spec.get("type") in ("NodePort", "LoadBalancer"):
            if old is None:
                self._number_new(obj, wanted, reserved, all_of_them=services.needs_node_port(spec))
            else:
                held = set(held_ports(old))
                self._number(obj, wanted, held, reserved, all_of_them=services.needs_node_port(spec))
            spec = {**spec, "ports": wanted}
        if services.needs_health_check_port(spec) and not spec.get("healthCheckNodePort"):
            number = self._take_port(obj, -1, 0)
            reserved.ports.append(number)
            spec = {**spec, "healthCheckNodePort": number}
        return spec

    def _number_new(self, obj: Object, wanted: list[Any], reserved: _Reserved, *, all_of_them: bool) -> None:
        """Give the ports of a new service their numbers; the same port of two protocols gets one."""
        known: dict[int, int] = {}
        for index, port in enumerate(wanted):
            number, of_port = port.get("nodePort") or 0, port.get("port") or 0
            if not number and not all_of_them:
                continue
            shared = known.get(of_port, 0)
            if not shared:
                asked = (each.get("nodePort") or 0 for each in wanted if (each.get("port") or 0) == of_port)
                number = known[of_port] = self._take_port(obj, index, next(filter(None, asked), 0))
                reserved.ports.append(number)
            elif not number:
                number = shared
            elif number != shared:
                reserved.ports.append(self._take_port(obj, index, number))
            wanted[index] = {**port, "nodePort": number}

    def _number(
        self, obj: Object, wanted: list[Any], held: set[int], reserved: _Reserved, *, all_of_them: bool
    ) -> None:
        """The same for a changed service, which had ``held``."""
        taken: set[int] = set()
        known: set[tuple[str, int]] = set()
        for index, port in enumerate(wanted):
            number, protocol = port.get("nodePort") or 0, port.get("protocol") or "TCP"
            if not number and not all_of_them:
                continue
            if not number or (number not in held and number not in taken):
                number = self._take_port(obj, index, number)
                reserved.ports.append(number)
                taken.add(number)
            if (protocol, number) in known:
                raise errors.ApiError(f"duplicate nodePort: {{{protocol} {number}}}", reason="")
            known.add((protocol, number))
            wanted[index] = {**port, "nodePort": number}

    def _take_port(self, obj: Object, index: int, number: int) -> int:
        if not number:
            try:
                return self._ports.next()
            except PoolFull as error:
                why = "failed to allocate a nodePort: range is full"
                raise errors.InternalError(f"Internal error occurred: {why}") from error
        path = _SPEC.child("ports").index(index).child("nodePort")
        if not self._ports.contains(number):
            ports = f"{self._ports.first}-{self._ports.last}"
            why = f"provided port is not in the valid range. The range of valid ports is {ports}"
            raise _invalid(obj, fields.invalid(path, number, why))
        if not self._ports.take(number):
            raise _invalid(obj, fields.invalid(path, number, "provided port is already allocated"))
        return number


def _invalid(obj: Object, *found: fields.FieldError) -> errors.Invalid:
    return errors.invalid("Service", "", str(meta(obj).get("name") or ""), fields.causes(found))


def _held(service: Object | None) -> tuple[set[str], set[int]]:
    return set(held_addresses(service or {})), set(held_ports(service or {}))


def held_addresses(service: Object) -> list[str]:
    """The cluster IPs a service has from the pool."""
    addresses = get_path(service, "spec", "clusterIPs", default=None) or [
        get_path(service, "spec", "clusterIP", default="")
    ]
    return [each for each in addresses if each and each != NONE]


def held_ports(service: Object) -> list[int]:
    """The node ports a service has."""
    ports = [port["nodePort"] for port in get_path(service, "spec", "ports", default=()) if port.get("nodePort")]
    health = get_path(service, "spec", "healthCheckNodePort", default=0)
    return [*ports, health] if health else ports
