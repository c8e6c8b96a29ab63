"""Services and their EndpointSlices -> where to listen and whom to connect to. Pure.

In: one Service and the slices that belong to it. Out: ``Route``s, one per (address, port) to listen on: each cluster IP
with each service port, and the node-port address with each node port. A route's endpoints are the ready ones, or, when
none is ready, those that still serve while they end. Headless and ExternalName Services have no routes; only TCP does.
Traffic policies do not matter here: one proxy serves all nodes of this process.

``Balancer`` picks endpoints in turn, or the same one for the same client (sessionAffinity ClientIP).
Source: kube-proxy ``pkg/proxy/{topology,serviceport,endpointslicecache}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from anynode.api.objects import Object, ObjectKey, get_path, key_of

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
AFFINITY_SECONDS = 10800
CLIENTS_KEPT = 10_000


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Listen:
    """Where clients connect to."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a connection goes. ``uid`` is the pod's, empty for endpoints that are none; ``node`` its node's name."""

    address: str
    port: int
    uid: str = dataclasses.field(default="", compare=False)
    node: str = dataclasses.field(default="", compare=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One service port at one address. ``affinity_seconds`` 0: none."""

    listen: Listen
    service: ObjectKey
    port_name: str
    endpoints: tuple[Endpoint, ...]
    affinity_seconds: int = 0


def routes_of(service: Object, slices: Iterable[Object], *, node_port_address: str) -> list[Route]:
    """The routes of one Service, in the order of its ports."""
    spec = service.get("spec") or {}
    addresses = cluster_addresses(service)
    if not addresses:
        return []
    by_port = endpoints_by_port(slices)
    affinity_seconds = _affinity_seconds(spec)
    routes = []
    for port in spec.get("ports") or ():
        if (port.get("protocol") or "TCP") != "TCP":
            continue
        name = port.get("name") or ""
        listens = [Listen(address, port["port"]) for address in addresses]
        if port.get("nodePort") and spec.get("type") in ("NodePort", "LoadBalancer"):
            listens.append(Listen(node_port_address, port["nodePort"]))
        routes += [
            Route(
                listen=listen,
                service=key_of(service),
                port_name=name,
                endpoints=by_port.get(name, ()),
                affinity_seconds=affinity_seconds,
            )
            for listen in listens
        ]
    return routes


def cluster_addresses(service: Object) -> list[str]:
    """The Service's cluster IPs; none for headless and ExternalName Services."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return []
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    return [address for address in addresses if address and address != "None"]


def endpoints_by_port(slices: Iterable[Object]) -> Mapping[str, tuple[Endpoint, ...]]:
    """Port name -> the endpoints to use, in a lasting order, each address and port once."""
    ready: dict[str, dict[Endpoint, None]] = {}
    ending: dict[str, dict[Endpoint, None]] = {}
    for each in slices:
        if each.get("addressType") == "FQDN":
            continue
        for endpoint in each.get("endpoints") or ():
            chosen = _usable(endpoint, ready, ending)
            addresses = endpoint.get("addresses") or ()
            if chosen is None or not addresses:
                continue
            uid = get_path(endpoint, "targetRef", "uid", default="")
            for port in each.get("ports") or ():
                if port.get("port") and (port.get("protocol") or "TCP") == "TCP":
                    there = Endpoint(addresses[0], port["port"], uid, endpoint.get("nodeName") or "")
                    chosen.setdefault(port.get("name") or "", {})[there] = None
    return {name: tuple(sorted(ready.get(name) or ending[name])) for name in ready.keys() | ending.keys()}


def _usable(
    endpoint: Object, ready: dict[str, dict[Endpoint, None]], ending: dict[str, dict[Endpoint, None]]
) -> dict[str, dict[Endpoint, None]] | None:
    """Where this endpoint belongs by its conditions; an absent ``ready`` means yes, an absent ``serving`` as ready."""
    conditions = endpoint.get("conditions") or {}
    is_ready = conditions.get("ready")
    if is_ready or is_ready is None:
        return ready
    serving = conditions.get("serving")
    if conditions.get("terminating") and serving:
        return ending
    return None


def _affinity_seconds(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    return int(get_path(spec, "sessionAffinityConfig", "clientIP", "timeoutSeconds", default=AFFINITY_SECONDS))


class Balancer:
    """Picks endpoints of one route; keeps its place when they change."""

    def __init__(self, route: Route) -> None:
        self.route = route
        self._next = 0
        self._clients: dict[str, tuple[Endpoint, float]] = {}

    def update(self, route: Route) -> None:
        """New endpoints or affinity; clients of endpoints that are gone may go elsewhere."""
        self.route = route
        there = set(route.endpoints)
        self._clients = {client: held for client, held in self._clients.items() if held[0] in there}

    def candidates(self, client: str, now: float) -> Sequence[Endpoint]:
        """Endpoints to try, best first; empty when there are none."""
        endpoints = self.route.endpoints
        if not endpoints:
            return ()
        held = self._clients.get(client) if self.route.affinity_seconds else None
        if held is not None and now - held[1] < self.route.affinity_seconds:
            first = endpoints.index(held[0])
        else:
            first = self._next % len(endpoints)
            self._next = first + 1
        return endpoints[first:] + endpoints[:first]

    def connected(self, client: str, endpoint: Endpoint, now: float) -> None:
        """The client got through to ``endpoint``: with affinity it stays there."""
        if not self.route.affinity_seconds or endpoint not in self.route.endpoints:
            return
        self._clients.pop(client, None)
        self._clients[client] = (endpoint, now)
        if len(self._clients) > CLIENTS_KEPT:
            del self._clients[next(iter(self._clients))]
