"""EndpointSlices: the addresses behind each Service, a hundred to a slice.

In: a Service, its pods, their nodes, the slices there are. Out: slices created, updated and deleted, as few as can be;
a Service without pods keeps one empty slice. Slices whose Service has no selector belong to others.
Source: kubernetes ``staging/src/k8s.io/endpointslice/reconciler.go``, 1.36; KEP-752, KEP-1672.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from anynode.api import names
from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
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
from anynode.controllers import service_pods
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.ownership import Latest, controller_reference
from anynode.controllers.pace import Pace
from anynode.controllers.pods import PODS, in_parallel, is_namespace_terminating, is_ready
from anynode.controllers.selection import index_labels, index_nodes, index_selectors, labelled, on_node, services_of
from anynode.controllers.service_pods import HEADLESS, SERVICES
from anynode.informers.controller import Done, Outcome
from anynode.informers.informer import Delta

ENDPOINT_SLICES = known("endpointslices", "discovery.k8s.io")
NODES = known("nodes")
SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER_NAME = "endpointslice-controller.k8s.io"
ZONE = "topology.kubernetes.io/zone"
MOST_ENDPOINTS = 100
POD_EVENT_SECONDS = 0.02
"""Changes of many pods are looked at together."""
_OWN_LABELS = frozenset({SERVICE_NAME, MANAGED_BY, HEADLESS})

PortsKey: TypeAlias = tuple[tuple[str, int, str, str], ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SlicePlan:
    create: Sequence[Object] = ()
    update: Sequence[Object] = ()
    delete: Sequence[Object] = ()


def address_types(service: Object) -> list[str]:
    """``IPv4`` and ``IPv6``, those the Service has."""
    families = get_path(service, "spec", "ipFamilies", default=[])
    if families:
        return list(families)
    address = get_path(service, "spec", "clusterIP", default="")
    if address not in ("", "None"):
        return ["IPv6" if service_pods.is_ipv6(address) else "IPv4"]
    return ["IPv4", "IPv6"]


def slice_labels(service: Object) -> dict[str, str]:
    kept = {key: value for key, value in labels_of(service).items() if key not in _OWN_LABELS}
    if service_pods.is_headless(service):
        kept[HEADLESS] = ""
    return {**kept, SERVICE_NAME: name_of(service), MANAGED_BY: CONTROLLER_NAME}


def endpoint(
    pod: Object, node: Object | None, service: Object, address_type: str, *, unready_too: bool
) -> Object | None:
    """The endpoint ``pod`` is; None when it has no address of that type."""
    addresses = [
        each for each in service_pods.addresses_of(pod) if service_pods.is_ipv6(each) == (address_type == "IPv6")
    ]
    if not addresses:
        return None
    serving, terminating = is_ready(pod), is_deleting(pod)
    made: Object = {
        "addresses": addresses,
        "conditions": {
            "ready": unready_too or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": service_pods.target_reference(pod),
    }
    node_name = (pod.get("spec") or {}).get("nodeName")
    if node_name:
        made["nodeName"] = node_name
    zone = labels_of(node).get(ZONE) if node is not None else None
    if zone:
        made["zone"] = zone
    hostname = service_pods.hostname_of(pod, service)
    if hostname:
        made["hostname"] = hostname
    return made


def _ports_key(ports: Iterable[Mapping[str, object]] | None) -> PortsKey:
    return tuple(
        sorted(
            (
                str(each.get("name") or ""),
                int(str(each.get("port") or 0)),
                str(each.get("protocol") or ""),
                str(each.get("appProtocol") or ""),
            )
            for each in ports or ()
        )
    )


def _endpoint_key(found: Object) -> str:
    target = found.get("targetRef")
    uid = target.get("uid", "") if target else ""
    addresses: list[str] = found.get("addresses") or []
    return f"{uid} {addresses[0]}" if len(addresses) == 1 else f"{uid} {','.join(sorted(addresses))}"


def new_slice(service: Object, address_type: str, ports: Sequence[Object], endpoints: Sequence[Object]) -> Object:
    prefix = f"{name_of(service)}-"
    if names.dns1123_subdomain(f"{prefix}a"):
        prefix = name_of(service)
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": {
            "generateName": prefix,
            "namespace": namespace_of(service),
            "labels": slice_labels(service),
            "ownerReferences": [controller_reference(service, SERVICES)],
        },
        "addressType": address_type,
        "endpoints": list(endpoints),
        "ports": list(ports),
    }


def plan_slices(
    service: Object, pods: Iterable[Object], nodes: Mapping[str, Object], existing: Sequence[Object], address_type: str
) -> SlicePlan:
    """The way from ``existing`` slices (of this address type) to what the pods are."""
    owned = [each for each in existing if _is_owned(each, service)]
    foreign = [each for each in existing if not _is_owned(each, service)]
    wanted, ports = _wanted(service, pods, nodes, address_type)
    create: list[Object] = []
    update: list[Object] = []
    delete: list[Object] = list(foreign)
    by_ports: dict[PortsKey, list[Object]] = {}
    for each in owned:
        by_ports.setdefault(_ports_key(each.get("ports")), []).append(each)
    for key, endpoints in wanted.items():
        step = _plan_ports(service, address_type, by_ports.pop(key, []), endpoints, ports[key])
        create.extend(step.create)
        update.extend(step.update)
        delete.extend(step.delete)
    left = [each for each in owned if _ports_key(each.get("ports")) in by_ports]
    delete.extend(left)
    if len(delete) == len(existing) and not create:
        placeholder = new_slice(service, address_type, [], [])
        if len(delete) == 1 and _is_placeholder(delete[0], placeholder):
            delete = []
        else:
            create.append(placeholder)
    return _reusing(service, create, update, delete)


def _wanted(
    service: Object, pods: Iterable[Object], nodes: Mapping[str, Object], address_type: str
) -> tuple[dict[PortsKey, dict[str, Object]], dict[PortsKey, list[Object]]]:
    """Per set of ports: the endpoints by their key, and the ports themselves."""
    wanted: dict[PortsKey, dict[str, Object]] = {}
    ports: dict[PortsKey, list[Object]] = {}
    all_ports = service_pods.Ports(service)
    known_keys: dict[int, PortsKey] = {}
    unready_too = service_pods.publishes_unready(service)
    for pod in pods:
        node = nodes.get((pod.get("spec") or {}).get("nodeName") or "")
        if node is None and not unready_too:
            continue
        made = endpoint(pod, node, service, address_type, unready_too=unready_too)
        if made is None:
            continue
        pod_ports = all_ports.of(pod)
        key = known_keys.get(id(pod_ports))
        if key is None:
            key = known_keys[id(pod_ports)] = _ports_key(pod_ports)
            ports[key] = pod_ports
        wanted.setdefault(key, {})[_endpoint_key(made)] = made
    return wanted, ports


def _is_owned(found: Object, service: Object) -> bool:
    return any(each.get("uid") == uid_of(service) for each in meta(found).get("ownerReferences") or ())


def _is_placeholder(found: Object, placeholder: Object) -> bool:
    empty = not found.get("endpoints") and not found.get("ports")
    return empty and labels_of(found) == labels_of(placeholder)


def _plan_ports(
    service: Object,
    address_type: str,
    existing: Sequence[Object],
    endpoints: dict[str, Object],
    ports: Sequence[Object],
) -> SlicePlan:
    """Keep what is right where it is, then fill slices that change anyway, then others, then new ones."""
    labels = slice_labels(service)
    left = dict(endpoints)
    unchanged: list[Object] = []
    changed: list[Object] = []
    delete: list[Object] = []
    for each in existing:
        before = each.get("endpoints") or []
        kept = [found for old in before if (found := left.pop(_endpoint_key(old), None)) is not None]
        if before and not kept:
            delete.append(each)
        elif kept != before or labels_of(each) != labels:
            changed.append(with_meta({**each, "endpoints": kept}, labels=labels))
        else:
            unchanged.append(each)
    pending = list(left.values())
    changed.sort(key=lambda each: -len(each["endpoints"]))
    changed = [_filled(each, pending) for each in changed]
    if pending and len(pending) < MOST_ENDPOINTS:
        room = [each for each in unchanged if len(each.get("endpoints") or ()) + len(pending) <= MOST_ENDPOINTS]
        if room:
            changed.append(_filled(max(room, key=lambda each: len(each.get("endpoints") or ())), pending))
    create = []
    while pending:
        create.append(_filled(new_slice(service, address_type, ports, []), pending))
    return SlicePlan(create=create, update=changed, delete=delete)


def _filled(found: Object, pending: list[Object]) -> Object:
    """``found`` with as many of ``pending`` as fit, which are taken out of it."""
    present = found.get("endpoints") or []
    count = min(len(pending), MOST_ENDPOINTS - len(present))
    taken = pending[:count]
    del pending[:count]
    return {**found, "endpoints": [*present, *taken]} if taken else found


def _reusing(service: Object, create: list[Object], update: list[Object], delete: list[Object]) -> SlicePlan:
    """A slice that would be deleted becomes one that would be created: one write instead of two."""
    doomed: list[Object] = []
    for each in delete:
        if create and _is_owned(each, service):
            made = create.pop()
            update.append({**made, "metadata": {**meta(each), "labels": labels_of(made)}})
        else:
            doomed.append(each)
    return SlicePlan(create=create, update=update, delete=doomed)


class EndpointSliceController:
    """Keeps the slices of every Service that has a selector."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._services = context.informers.informer(SERVICES)
        self._pods = context.informers.informer(PODS)
        self._nodes = context.informers.informer(NODES)
        self._slices = context.informers.informer(ENDPOINT_SLICES)
        index_labels(self._pods.store)
        index_nodes(self._pods.store)
        index_labels(self._slices.store)
        index_selectors(self._services.store)
        self._latest = Latest(self._slices.store)
        self._made: dict[ObjectKey, set[ObjectKey]] = {}
        self._gone: dict[ObjectKey, set[str]] = {}
        self._postponed: set[ObjectKey] = set()
        self._controller = context.controller("endpointslice", self.reconcile)
        self._pace = Pace(self._controller.queue, least_seconds=POD_EVENT_SECONDS)
        self._services.subscribe(self._service_changed)
        self._pods.subscribe(self._pod_changed)
        self._slices.subscribe(self._slice_changed)
        self._nodes.subscribe(self._node_changed)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._services, self._pods, self._nodes, self._slices))

    def _service_changed(self, delta: Delta) -> None:
        key = key_of(delta.obj)
        if delta.kind == "deleted":
            self._pace.forget(key)
            self._made.pop(key, None)
            self._gone.pop(key, None)
            self._postponed.discard(key)
        self._controller.queue.add(key)

    def _pod_changed(self, delta: Delta) -> None:
        for service in service_pods.affected(self._services.store, delta):
            self._pace.add(key_of(service))

    def _node_changed(self, delta: Delta) -> None:
        """A node's zone shows in slices, and pods of unknown nodes are left out of them."""
        old = delta.old if delta.kind == "modified" else None
        if old is not None and labels_of(old).get(ZONE) == labels_of(delta.obj).get(ZONE):
            return
        for pod in on_node(self._pods.store, name_of(delta.obj)):
            for service in services_of(self._services.store, pod):
                self._pace.add(key_of(service))

    def _slice_changed(self, delta: Delta) -> None:
        labels = labels_of(delta.obj)
        name = labels.get(SERVICE_NAME)
        if labels.get(MANAGED_BY) != CONTROLLER_NAME or not name:
            return
        key = ObjectKey(namespace_of(delta.obj), name)
        if delta.kind == "deleted":
            self._gone.get(key, set()).discard(uid_of(delta.obj))
        self._made.get(key, set()).discard(key_of(delta.obj))
        if not self._latest.is_echo(delta) or key in self._postponed:
            self._controller.queue.add(key)

    async def reconcile(self, key: ObjectKey) -> Outcome:
        service = self._services.store.get(key)
        if service is None or is_deleting(service) or not service_pods.selector_of(service):
            return Done()
        if self._made.get(key):
            self._postponed.add(key)
            return Done()  # slices of ours are not in the cache yet; their arrival brings us back
        self._postponed.discard(key)
        gone = self._gone.get(key, set())
        existing = [
            self._latest.newer(each)
            for each in labelled(
                self._slices.store, key.namespace, {SERVICE_NAME: key.name, MANAGED_BY: CONTROLLER_NAME}
            )
            if uid_of(each) not in gone
        ]
        pods = service_pods.pods_of(service, self._pods.store, terminating=True)
        self._pace.note(key, len(pods))
        nodes = self._nodes_of(pods)
        supported = address_types(service)
        stale = [each for each in existing if each.get("addressType") not in supported]
        plans = [
            plan_slices(service, pods, nodes, [each for each in existing if each.get("addressType") == kind], kind)
            for kind in supported
        ]
        await self._carry_out(key, plans, stale)
        return Done()

    def _nodes_of(self, pods: Iterable[Object]) -> dict[str, Object]:
        found: dict[str, Object] = {}
        for pod in pods:
            name = get_path(pod, "spec", "nodeName", default="")
            node = self._nodes.store.get(ObjectKey("", name)) if name and name not in found else None
            if node is not None:
                found[name] = node
        return found

    async def _carry_out(self, key: ObjectKey, plans: Sequence[SlicePlan], stale: Sequence[Object]) -> None:
        async def create(wished: Object) -> None:
            try:
                created = await self._client.create(ENDPOINT_SLICES, wished)
            except ApiError as error:
                if is_namespace_terminating(error):
                    return
                raise
            self._latest.note(created)
            if self._slices.store.get(key_of(created)) is None:
                self._made.setdefault(key, set()).add(key_of(created))

        async def update(wished: Object) -> None:
            self._latest.note(await self._client.update(ENDPOINT_SLICES, wished))

        async def delete(doomed: Object) -> None:
            try:
                await self._client.delete(ENDPOINT_SLICES, key_of(doomed), uid=uid_of(doomed))
            except NotFound:
                return
            if self._slices.store.get(key_of(doomed)) is not None:
                self._gone.setdefault(key, set()).add(uid_of(doomed))

        failures = await in_parallel([each for plan in plans for each in plan.create], create)
        failures += await in_parallel([each for plan in plans for each in plan.update], update)
        failures += await in_parallel([*(each for plan in plans for each in plan.delete), *stale], delete)
        if failures:
            raise failures[0]
