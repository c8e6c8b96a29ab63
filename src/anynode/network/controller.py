"""Keeps the proxy's listeners equal to what Services and EndpointSlices say.

In: Services and EndpointSlices through informers. Out: listeners of an ``L4Proxy``, one per cluster IP and node port
that has endpoints; where there are none nobody listens, so that clients are refused as with kube-proxy. An address
that cannot be listened on becomes a Warning event of the Service and is tried again; a port below 1024 that an
ordinary user may not have is served 10,000 higher, and the event says so.
"""

from __future__ import annotations

import errno
import logging

from anynode.aio.clock import Clock
from anynode.aio.ports import STAND_IN_OFFSET
from anynode.aio.tasks import Supervisor
from anynode.api.objects import Object, ObjectKey, labels_of, namespace_of
from anynode.api.resources import known
from anynode.informers.controller import Controller, Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta, InformerFactory
from anynode.informers.recorder import EventRecorder
from anynode.network.l4_proxy import Dial, L4Proxy
from anynode.network.routing import SERVICE_NAME_LABEL, Balancer, Listen, Route, routes_of

logger = logging.getLogger(__name__)

SERVICES, ENDPOINT_SLICES = known("services"), known("endpointslices", "discovery.k8s.io")
BY_SERVICE = "network/service"
TRY_AGAIN_SECONDS = 15.0
NOT_PRIVILEGED = "ports below net.ipv4.ip_unprivileged_port_start (sysctl) are not open to this user"


class ServiceProxy:
    """Makes Services reachable on this machine's loopback addresses."""

    def __init__(
        self,
        informers: InformerFactory,
        recorder: EventRecorder,
        *,
        clock: Clock,
        dial: Dial | None = None,
        node_port_address: str = "127.0.0.1",
    ) -> None:
        self.proxy = L4Proxy(clock=clock, dial=dial)
        self._recorder = recorder
        self._clock = clock
        self._node_port_address = node_port_address
        self._balancers: dict[Listen, Balancer] = {}
        self._held: dict[ObjectKey, set[Listen]] = {}
        self._at: dict[Listen, Listen] = {}
        self._troubled: dict[Listen, str] = {}
        self._controller: Controller[ObjectKey] = Controller("service-proxy", self._reconcile, clock=clock)
        self._services = informers.informer(SERVICES)
        self._slices = informers.informer(ENDPOINT_SLICES)
        self._slices.store.add_index(BY_SERVICE, lambda each: [str(service_of(each))])
        self._services.subscribe(self._on_service)
        self._slices.subscribe(self._on_slice)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._services.wait_synced()
        await self._slices.wait_synced()
        async with self.proxy, Supervisor("network", clock=self._clock) as tasks:
            working = tasks.start("services", self._controller.run)
            await working

    def _on_service(self, delta: Delta) -> None:
        metadata = delta.obj["metadata"]
        self._controller.queue.add(ObjectKey(metadata.get("namespace") or "", metadata["name"]))

    def _on_slice(self, delta: Delta) -> None:
        for each in (delta.obj, delta.old):
            if each is not None and labels_of(each).get(SERVICE_NAME_LABEL):
                self._controller.queue.add(service_of(each))

    async def _reconcile(self, key: ObjectKey) -> Outcome:
        service = self._services.store.get(key)
        slices = self._slices.store.by_index(BY_SERVICE, str(key))
        routes = routes_of(service, slices, node_port_address=self._node_port_address) if service is not None else []
        wanted = {route.listen: route for route in routes if route.endpoints}
        held = self._held.setdefault(key, set())
        for listen in held - wanted.keys():
            self._release(listen)
            held.discard(listen)
        troubled = False
        for listen, route in wanted.items():
            if listen in held:
                self._balancers[listen].update(route)
            elif await self._listen(route, service or {}):
                held.add(listen)
            else:
                troubled = True
        if not held:
            self._held.pop(key, None)
        return RequeueAfter(TRY_AGAIN_SECONDS) if troubled else Done()

    async def _listen(self, route: Route, service: Object) -> bool:
        """Whether the route is served now; if not, or elsewhere, its Service says why."""
        balancer = Balancer(route)
        try:
            at = await self._listen_somewhere(route.listen, balancer)
        except OSError as error:
            self._complain(
                route.listen, service, "FailedToListen", f"Cannot listen on {route.listen}: {_explained(error)}"
            )
            return False
        if at == route.listen:
            self._troubled.pop(route.listen, None)
        else:
            message = f"Listening on {at} instead of {route.listen}: {NOT_PRIVILEGED}"
            self._complain(route.listen, service, "ListeningElsewhere", message)
        self._balancers[route.listen] = balancer
        self._at[route.listen] = at
        return True

    async def _listen_somewhere(self, listen: Listen, balancer: Balancer) -> Listen:
        """Where clients are accepted: ``listen``, or a higher port when an ordinary user may not use that one."""
        try:
            await self.proxy.listen(listen, balancer)
        except PermissionError:
            listen = Listen(listen.address, listen.port + STAND_IN_OFFSET)
            await self.proxy.listen(listen, balancer)
        return listen

    def _complain(self, listen: Listen, service: Object, reason: str, message: str) -> None:
        """Say it once."""
        if self._troubled.get(listen) == message:
            return
        self._troubled[listen] = message
        self._recorder.event(service, "Warning", reason, message, action="Listen")
        logger.warning("service port cannot be served as asked", extra={"listen": str(listen), "why": message})

    def _release(self, listen: Listen) -> None:
        self.proxy.close(self._at.pop(listen, listen))
        self._balancers.pop(listen, None)
        self._troubled.pop(listen, None)


def service_of(endpoint_slice: Object) -> ObjectKey:
    """The Service a slice belongs to."""
    return ObjectKey(namespace_of(endpoint_slice), labels_of(endpoint_slice).get(SERVICE_NAME_LABEL, ""))


def _explained(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use by another program"
        case errno.EACCES:
            return NOT_PRIVILEGED
        case errno.EADDRNOTAVAIL:
            return "the address is none of this machine"
        case _:
            return error.strerror or str(error)
