"""Endpoints (core/v1): the older form of what EndpointSlices say, one object per Service.

In: a Service and its pods. Out: one object of the Service's name, its addresses grouped by the ports they share, at
most a thousand of them. Source: kubernetes ``pkg/controller/endpoint`` and ``pkg/api/v1/endpoints``, 1.36.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import orjson

from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    annotations_of,
    get_path,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
    with_meta,
)
from anynode.api.resources import known
from anynode.controllers import service_pods
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.ownership import Latest
from anynode.controllers.pace import Pace
from anynode.controllers.pods import PODS, is_namespace_terminating, is_ready, names_node
from anynode.controllers.selection import index_labels, index_selectors
from anynode.controllers.service_pods import HEADLESS, SERVICES
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

ENDPOINTS = known("endpoints")
MANAGED_BY = "endpoints.kubernetes.io/managed-by"
CONTROLLER_NAME = "endpoint-controller"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
MOST_ADDRESSES = 1000
POD_EVENT_SECONDS = 0.02


def plan_subsets(service: Object, pods: Iterable[Object]) -> list[Object]:
    """``subsets``: addresses that are ready on the same ports stand together, everything sorted."""
    ports = service_pods.Ports(service)
    unready_too = service_pods.publishes_unready(service)
    wants_ipv6 = get_path(service, "spec", "ipFamilies", default=["IPv4"])[0] == "IPv6"
    encoded_ports: dict[int, list[bytes]] = {}
    addresses: dict[str, Object] = {}
    ready_on: dict[bytes, dict[str, bool]] = {}
    for pod in pods:
        address = _address(service, pod, wants_ipv6)
        if address is None:
            continue
        at = f"{address['ip']}/{uid_of(pod)}"
        addresses[at] = address
        ready = unready_too or is_ready(pod)
        for encoded in _encoded(service, ports.of(pod), encoded_ports):
            ready_on.setdefault(encoded, {})[at] = ready
    grouped: dict[tuple[tuple[str, bool], ...], list[Object]] = {}
    for encoded, users in ready_on.items():
        grouped.setdefault(tuple(sorted(users.items())), []).append(orjson.loads(encoded))
    subsets = []
    for users_of, shared in grouped.items():
        subset: Object = {}
        for field, wanted in (("addresses", True), ("notReadyAddresses", False)):
            found = [addresses[at] for at, ready in users_of if ready is wanted]
            if found:
                subset[field] = found
        listed = sorted((each for each in shared if each), key=lambda each: (each.get("name", ""), each.get("port", 0)))
        if listed:
            subset["ports"] = listed
        subsets.append(subset)
    return sorted(subsets, key=orjson.dumps)


def _encoded(service: Object, ports: list[Object], known_ports: dict[int, list[bytes]]) -> list[bytes]:
    """The ports as bytes to group by; lists that pods share are encoded once."""
    found = known_ports.get(id(ports))
    if found is None:
        listed = ports or _without_ports(service)
        found = [orjson.dumps({key: value for key, value in port.items() if value}) for port in listed]
        known_ports[id(ports)] = found
    return found


def _without_ports(service: Object) -> Sequence[Object]:
    """A headless Service may have no ports and still has addresses."""
    headless = get_path(service, "spec", "clusterIP") == "None"
    return ({},) if headless and not get_path(service, "spec", "ports") else ()


def _address(service: Object, pod: Object, wants_ipv6: bool) -> Object | None:
    ip = next((each for each in service_pods.addresses_of(pod) if service_pods.is_ipv6(each) == wants_ipv6), None)
    if ip is None:
        return None
    address: Object = {"ip": ip, "targetRef": service_pods.target_reference(pod)}
    node = names_node(pod)
    if node:
        address["nodeName"] = node
    hostname = service_pods.hostname_of(pod, service)
    if hostname:
        address["hostname"] = hostname
    return address


def truncated(subsets: Sequence[Object]) -> tuple[list[Object], bool]:
    """``subsets`` with at most ``MOST_ADDRESSES``, ready ones first, in proportion; and whether any were cut."""
    ready = sum(len(each.get("addresses") or ()) for each in subsets)
    unready = sum(len(each.get("notReadyAddresses") or ()) for each in subsets)
    if ready + unready <= MOST_ADDRESSES:
        return list(subsets), False
    field = "addresses" if ready > MOST_ADDRESSES else "notReadyAddresses"
    total = ready if field == "addresses" else unready
    most = MOST_ADDRESSES if field == "addresses" else MOST_ADDRESSES - ready
    room = most
    cut = []
    for each in subsets:
        listed = each.get(field) or []
        count = min(room, math.ceil(len(listed) / total * most))
        room -= count
        kept = {**each, field: listed[:count]}
        if field == "addresses":
            kept.pop("notReadyAddresses", None)
        cut.append({key: value for key, value in kept.items() if value})
    return cut, True


def plan_endpoints(service: Object, pods: Iterable[Object], current: Object | None) -> Object | None:
    """The Endpoints object to write; None when ``current`` is right."""
    subsets, is_cut = truncated(plan_subsets(service, pods))
    labels = {key: value for key, value in labels_of(service).items() if key != HEADLESS}
    if service_pods.is_headless(service):
        labels[HEADLESS] = ""
    labels[MANAGED_BY] = CONTROLLER_NAME
    annotations = {key: value for key, value in annotations_of(current or {}).items() if key != OVER_CAPACITY}
    if is_cut:
        annotations[OVER_CAPACITY] = "truncated"
    base: Object = current or {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name_of(service), "namespace": namespace_of(service)},
    }
    wished = with_meta(base, labels=labels, annotations=annotations or None)
    wished = {**wished, "subsets": subsets} if subsets else {k: v for k, v in wished.items() if k != "subsets"}
    if current is not None and with_meta(current, annotations=annotations_of(current) or None) == wished:
        return None
    return wished


class EndpointsController:
    """Keeps the Endpoints of every Service that has a selector."""

    def __init__(self, context: ControllerContext) -> None:
        self._client = context.client
        self._services = context.informers.informer(SERVICES)
        self._pods = context.informers.informer(PODS)
        self._endpoints = context.informers.informer(ENDPOINTS)
        index_labels(self._pods.store)
        index_selectors(self._services.store)
        self._latest = Latest(self._endpoints.store)
        self._controller = context.controller("endpoints", self.reconcile)
        self._pace = Pace(self._controller.queue, least_seconds=POD_EVENT_SECONDS)
        self._services.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))
        self._endpoints.subscribe(self._endpoints_changed)
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._services, self._pods, self._endpoints))

    def _endpoints_changed(self, delta: Delta) -> None:
        if not self._latest.is_echo(delta):
            self._controller.queue.add(key_of(delta.obj))

    def _pod_changed(self, delta: Delta) -> None:
        for service in service_pods.affected(self._services.store, delta):
            self._pace.add(key_of(service))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        service = self._services.store.get(key)
        current = self._latest.get(key)
        if service is None:
            self._pace.forget(key)
            await self._remove(key, current)
            return Done()
        if is_deleting(service) or not service_pods.selector_of(service):
            return Done()
        unready = service_pods.publishes_unready(service)
        pods = service_pods.pods_of(service, self._pods.store, terminating=unready)
        self._pace.note(key, len(pods))
        wished = plan_endpoints(service, pods, current)
        if wished is None:
            return Done()
        if current is not None:
            self._latest.note(await self._client.update(ENDPOINTS, wished))
            return Done()
        try:
            self._latest.note(await self._client.create(ENDPOINTS, wished))
        except ApiError as error:
            if not is_namespace_terminating(error):
                raise
        return Done()

    async def _remove(self, key: ObjectKey, current: Object | None) -> None:
        """The Service is gone; Endpoints that were not ours stay with whoever made them."""
        if current is None or labels_of(current).get(MANAGED_BY) != CONTROLLER_NAME:
            return
        try:
            await self._client.delete(ENDPOINTS, key, uid=uid_of(current))
        except NotFound:
            return
