"""Endpoints that somebody writes for a Service without a selector appear as EndpointSlices too.

One slice per set of ports and family of addresses, owned by the Endpoints, with their labels and annotations.
Source: kubernetes ``pkg/controller/endpointslicemirroring``, ``pkg/api/v1/endpoints/util.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from anynode.api import names
from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    annotations_of,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    meta,
    name_of,
    namespace_of,
    uid_of,
    with_meta,
)
from anynode.api.resources import known
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.pods import is_namespace_terminating
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

ENDPOINTS = known("endpoints")
SERVICES = known("services")
SLICES = known("endpointslices", "discovery.k8s.io")
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslicemirroring-controller.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
SKIP = "endpointslice.kubernetes.io/skip-mirror"
LEADER = "control-plane.alpha.kubernetes.io/leader"
NOT_MIRRORED = (
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
)
MOST_PER_SLICE = 1000
_BY_SERVICE = "mirrored-service"


@dataclasses.dataclass(frozen=True, slots=True)
class Wished:
    """What should be mirrored: the slices' contents by family and ports, and what could not be taken."""

    groups: Mapping[str, Object]
    invalid: int
    skipped: int


def wished(endpoints: Object) -> Wished:
    """The slices (``addressType``, ``ports``, ``endpoints``) these Endpoints ask for."""
    groups: dict[str, Object] = {}
    invalid = skipped = 0
    for ports, addresses in repacked(endpoints.get("subsets") or ()):
        taken = 0
        for address, ready in addresses:
            if taken >= MOST_PER_SLICE:
                skipped += 1
                continue
            found = _endpoint(address, ready)
            if found is None:
                invalid += 1
                continue
            taken += 1
            family, endpoint = found
            shown = [_port(each) for each in ports]
            group = groups.setdefault(_key(family, shown), {"addressType": family, "ports": shown, "endpoints": []})
            if endpoint not in group["endpoints"]:
                group["endpoints"].append(endpoint)
    return Wished(groups, invalid, skipped)


def repacked(subsets: Iterable[Object]) -> list[tuple[Sequence[Object], list[tuple[Object, bool]]]]:
    """The addresses by the ports they all have: (ports, (address, ready)...), each address once."""
    ports_of: dict[str, dict[str, Object]] = {}
    addresses: dict[str, tuple[Object, bool]] = {}
    for subset in subsets:
        ports = {_packed(each): each for each in subset.get("ports") or ()}
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                key = _packed([address.get("ip"), uid_of({"metadata": address.get("targetRef") or {}})])
                ports_of.setdefault(key, {}).update(ports)
                if key not in addresses or not ready:
                    addresses[key] = (address, ready)
    groups: dict[str, tuple[Sequence[Object], list[tuple[Object, bool]]]] = {}
    for key, ports in ports_of.items():
        slot = _packed(sorted(ports))
        groups.setdefault(slot, ([ports[each] for each in sorted(ports)], []))[1].append(addresses[key])
    return list(groups.values())


def _packed(value: Any) -> str:
    """Equal for equal values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _endpoint(address: Object, ready: bool) -> tuple[str, Object] | None:
    """The family and the endpoint of an address; None when it is none."""
    try:
        ip = ipaddress.ip_address(address.get("ip") or "")
    except ValueError:
        return None
    endpoint: Object = {"addresses": [str(ip)], "conditions": {"ready": ready}}
    for field in ("hostname", "targetRef", "nodeName"):
        if address.get(field):
            endpoint[field] = address[field]
    return f"IPv{ip.version}", endpoint


def _port(port: Object) -> Object:
    shown = {"name": port.get("name") or "", "port": port.get("port"), "protocol": port.get("protocol") or "TCP"}
    return shown | ({"appProtocol": port["appProtocol"]} if port.get("appProtocol") else {})


def _key(family: str, ports: Iterable[Object]) -> str:
    return _packed([family, *sorted(_packed(each) for each in ports)])


def mirrored(endpoints: Object, group: Object) -> Object:
    """A new slice that shows ``group``."""
    owner = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "name": name_of(endpoints),
        "uid": uid_of(endpoints),
        "controller": True,
        "blockOwnerDeletion": True,
    }
    labels = {**labels_of(endpoints), SERVICE_NAME: name_of(endpoints), MANAGED_BY: MANAGER}
    kept = {key: value for key, value in annotations_of(endpoints).items() if key not in NOT_MIRRORED}
    prefix = f"{name_of(endpoints)}-"
    return {
        "apiVersion": SLICES.api_version,
        "kind": SLICES.kind,
        "metadata": {
            "generateName": prefix if not names.dns1123_subdomain(f"{name_of(endpoints)}a") else name_of(endpoints),
            "namespace": namespace_of(endpoints),
            "labels": labels,
            **({"annotations": kept} if kept else {}),
            "ownerReferences": [owner],
        },
        **group,
    }


def shows(existing: Object, new: Object) -> bool:
    """Whether a slice already is what it should be."""
    if labels_of(existing) != labels_of(new) or annotations_of(existing) != annotations_of(new):
        return False
    order = [_packed(each) for each in existing.get("endpoints") or ()]
    return sorted(order) == sorted(_packed(each) for each in new["endpoints"])


class EndpointSliceMirroringController:
    """Keeps the mirrors of Endpoints."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._recorder = context.recorder("endpoint-slice-mirroring-controller")
        self._endpoints = context.informers.informer(ENDPOINTS)
        self._services = context.informers.informer(SERVICES)
        self._slices = context.informers.informer(SLICES)
        self._slices.store.add_index(_BY_SERVICE, _service_keys)
        self._controller = context.controller("endpointslicemirroring", self.reconcile)
        self._endpoints.subscribe(self._endpoints_changed)
        self._services.subscribe(self._service_changed)
        self._slices.subscribe(self._slice_changed)

    def _endpoints_changed(self, delta: Delta) -> None:
        if may_be_mirrored(delta.obj) or (delta.old is not None and may_be_mirrored(delta.old)):
            self._controller.queue.add(key_of(delta.obj))

    def _service_changed(self, delta: Delta) -> None:
        changed = delta.old is None or _selects(delta.old) != _selects(delta.obj)
        if changed or delta.kind == "deleted":
            self._controller.queue.add(key_of(delta.obj))

    def _slice_changed(self, delta: Delta) -> None:
        for key in _service_keys(delta.obj):
            namespace, _, name = key.partition("/")
            self._controller.queue.add(ObjectKey(namespace, name))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._endpoints, self._services, self._slices))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        endpoints, service = self._endpoints.store.get(key), self._services.store.get(key)
        existing = sorted(self._slices.store.by_index(_BY_SERVICE, str(key)), key=name_of)
        mirrors = endpoints is not None and may_be_mirrored(endpoints)
        if endpoints is None or not mirrors or service is None or _selects(service):
            for each in existing:
                await self._delete(each)
            return Done()
        wanted = wished(endpoints)
        self._tell(endpoints, wanted)
        held: dict[str, list[Object]] = {}
        for each in existing:
            shown = [_port(port) for port in each.get("ports") or ()]
            held.setdefault(_key(each.get("addressType") or "", shown), []).append(each)
        spare = [each for slot, found in held.items() for each in found[0 if slot not in wanted.groups else 1 :]]
        for slot, group in wanted.groups.items():
            new, found = mirrored(endpoints, group), held.get(slot)
            if found:
                if not shows(found[0], new):
                    await self._client.update(SLICES, _in_place_of(found[0], new))
            elif spare and spare[-1].get("addressType") == group["addressType"]:
                await self._client.update(SLICES, _in_place_of(spare.pop(), new))
            elif not is_deleting(endpoints):
                await self._create(new)
        for each in spare:
            await self._delete(each)
        return Done()

    def _tell(self, endpoints: Object, wanted: Wished) -> None:
        if wanted.invalid:
            said = f"Skipped {wanted.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self._recorder.event(endpoints, "Warning", "InvalidIPAddress", said)
        if wanted.skipped:
            left = wanted.skipped + wanted.invalid
            said = f"A max of {MOST_PER_SLICE} addresses can be mirrored to EndpointSlices per Endpoints subset."
            self._recorder.event(
                endpoints, "Warning", "TooManyAddressesToMirror", f"{said} {left} addresses were skipped"
            )

    async def _create(self, new: Object) -> None:
        try:
            await self._client.create(SLICES, new)
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise

    async def _delete(self, found: Object) -> None:
        try:
            await self._client.delete(SLICES, key_of(found))
        except NotFound:
            return


def _in_place_of(old: Object, new: Object) -> Object:
    """``new`` as the next state of ``old``."""
    metadata = {field: value for field, value in meta(new).items() if field != "generateName"}
    kept = {field: meta(old)[field] for field in ("name", "uid", "resourceVersion") if field in meta(old)}
    return with_meta({**new, "metadata": metadata}, **kept)


def may_be_mirrored(endpoints: Object) -> bool:
    """Whether these Endpoints do not ask to be left alone."""
    if labels_of(endpoints).get(SKIP) == "true":
        return False
    return LEADER not in annotations_of(endpoints)


def _selects(service: Object) -> bool:
    return get_path(service, "spec", "selector") is not None


def _service_keys(found: Object) -> Sequence[str]:
    labels = labels_of(found)
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return ()
    return (f"{namespace_of(found)}/{labels[SERVICE_NAME]}",)
