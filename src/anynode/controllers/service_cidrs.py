"""ServiceCIDRs say whether they are ready, and stay until no cluster IP depends on them.

Source: kubernetes ``pkg/controller/servicecidrs``, 1.36; KEP-1880.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from anynode.api.errors import NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    condition_of,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    meta,
    name_of,
)
from anynode.api.resources import known
from anynode.client.api_client import PatchKind
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.times import seconds_of
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

CIDRS = known("servicecidrs", "networking.k8s.io")
ADDRESSES = known("ipaddresses", "networking.k8s.io")
FINALIZER = "networking.k8s.io/service-cidr-finalizer"
MANAGED_BY = "ipaddress.kubernetes.io/managed-by"
MANAGER = "ipallocator.k8s.io"
DELETION_SECONDS = 10.0
"""How long it may take until nobody draws addresses from a range that is going."""
_NAME = "service-cidr-controller"
_BLOCKED = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_of(cidr: Object) -> list[Network]:
    return [ipaddress.ip_network(each, strict=False) for each in get_path(cidr, "spec", "cidrs", default=())]


def _within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network):
        return isinstance(outer, ipaddress.IPv4Network) and inner.subnet_of(outer)
    return isinstance(outer, ipaddress.IPv6Network) and inner.subnet_of(outer)


def may_go(cidr: Object, cidrs: Iterable[Object], addresses: Iterable[Object]) -> bool:
    """Whether nothing would be orphaned: other ranges hold this one, or every address allocated in it."""
    others = [network for each in cidrs if name_of(each) != name_of(cidr) for network in networks_of(each)]
    own = networks_of(cidr)
    if all(any(_within(network, other) for other in others) for network in own):
        return True
    for address in addresses:
        if labels_of(address).get(MANAGED_BY) != MANAGER:
            continue
        ip = ipaddress.ip_address(name_of(address))
        if any(ip in network for network in own) and not any(ip in network for network in others):
            return False
    return True


class ServiceCidrController:
    """Keeps finalizers and the condition Ready."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._cidrs = context.informers.informer(CIDRS)
        self._addresses = context.informers.informer(ADDRESSES)
        self._controller = context.controller("service-cidr", self.reconcile)
        self._cidrs.subscribe(self._cidr_changed)
        self._addresses.subscribe(self._address_changed)

    def _cidr_changed(self, delta: Delta) -> None:
        self._controller.queue.add(key_of(delta.obj))
        if delta.kind != "modified":
            self._look_at_deleting()

    def _address_changed(self, delta: Delta) -> None:
        if delta.kind != "modified":
            self._look_at_deleting()

    def _look_at_deleting(self) -> None:
        """What comes or goes may let a range go, or hold it."""
        for cidr in self._cidrs.store:
            if is_deleting(cidr):
                self._controller.queue.add(key_of(cidr))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._cidrs, self._addresses))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        cidr = self._cidrs.store.get(key)
        if cidr is None:
            return Done()
        finalizers = meta(cidr).get("finalizers") or []
        if not is_deleting(cidr):
            if FINALIZER not in finalizers:
                await self._patch(key, {"metadata": {"finalizers": [FINALIZER]}})
            await self._tell(cidr, "True", "", "Kubernetes Service CIDR is ready")
            return Done()
        if not may_go(cidr, self._cidrs.store, self._addresses.store):
            await self._tell(cidr, "False", "Terminating", _BLOCKED)
            return Done()
        left = seconds_of(meta(cidr)["deletionTimestamp"]) + DELETION_SECONDS - self._context.now()
        if left > 0:
            return RequeueAfter(left)
        if FINALIZER in finalizers:
            await self._patch(key, {"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}})
        return Done()

    async def _patch(self, key: ObjectKey, patch: Object) -> None:
        try:
            await self._client.patch(CIDRS, key, patch, kind=PatchKind.STRATEGIC)
        except NotFound:
            return

    async def _tell(self, cidr: Object, status: str, reason: str, message: str) -> None:
        old = condition_of(cidr, "Ready") or {}
        if (old.get("status"), old.get("reason") or "", old.get("message")) == (status, reason, message):
            return
        condition = {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": self._context.timestamp(),
        }
        applied = {
            "apiVersion": CIDRS.api_version,
            "kind": CIDRS.kind,
            "metadata": {"name": name_of(cidr)},
            "status": {"conditions": [condition]},
        }
        try:
            await self._client.patch(
                CIDRS,
                key_of(cidr),
                applied,
                kind=PatchKind.APPLY,
                subresource="status",
                field_manager=_NAME,
                force=True,
            )
        except NotFound:
            return
