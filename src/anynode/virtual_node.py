"""Virtual nodes put together: node object and lease, pods, the kubelet's endpoint, and a provider.

``async with VirtualNode(config, client) as node`` returns when the node is registered and runs its pods; leaving the
block stops the node and leaves its pods running. Nodes of one process share a ``NodeGroup``: one mirror of pods, nodes
and services, one engine for pods, one heartbeat queue, one event recorder. Holds wiring only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import platform
import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from anynode.aio import tls
from anynode.aio.clock import Clock, SystemClock
from anynode.aio.ports import lowest_port, stand_in
from anynode.aio.tasks import Supervisor
from anynode.api.objects import Object, get_path, with_path
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.informer import Delta, Informer, InformerFactory
from anynode.informers.recorder import EventRecorder
from anynode.kubelet_api.auth import Authenticator, published_client_ca
from anynode.kubelet_api.server import KubeletServer
from anynode.node import serving_certificate
from anynode.node.node_controller import NodeController
from anynode.node.node_object import Machine, NodeSettings
from anynode.node.pod_controller import PodController, PodSettings
from anynode.node.pod_engine import PodEngine
from anynode.node.pod_lookups import PodLookups
from anynode.provider import Provider, ProviderSettings
from anynode.providers import registry

PODS = known("pods")
NODES = known("nodes")
SERVICES = known("services")
REVIEWS = {
    "tokenreviews": known("tokenreviews", "authentication.k8s.io"),
    "subjectaccessreviews": known("subjectaccessreviews", "authorization.k8s.io"),
}
COMPONENT = "kubelet"
BY_NODE = "node"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VirtualNodeConfig:
    """One virtual node as a user asks for it. ``capacity`` overrides what the provider says, name by name."""

    name: str
    data_dir: pathlib.Path
    cluster_id: str = "anynode"
    provider: str = "process"
    provider_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    node_ip: str = "127.0.0.1"
    kubelet_host: str = "127.0.0.1"
    kubelet_port: int = 0
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    annotations: Mapping[str, str] = dataclasses.field(default_factory=dict)
    taints: Sequence[Object] = ()
    capacity: Mapping[str, str] = dataclasses.field(default_factory=dict)
    container_events: bool | None = None
    """Whether every container's Pulled, Created, Started and Killing is told; None: unless the provider is ``sim``."""
    client_ca: bytes | None = None
    """PEM: who may ask the kubelet's endpoint with a certificate of this authority."""


def this_machine() -> Machine:
    """What nodes of this process say of the machine they run on."""
    names = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "AMD64": "amd64"}
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id")
    identity = pathlib.Path("/etc/machine-id")
    pretty = platform.system()
    with contextlib.suppress(OSError):
        pretty = platform.freedesktop_os_release().get("PRETTY_NAME", pretty)
    return Machine(
        operating_system=platform.system().lower(),
        architecture=names.get(platform.machine(), platform.machine()),
        kernel_version=platform.release(),
        os_image=pretty,
        machine_id=identity.read_text().strip() if identity.exists() else platform.node(),
        boot_id=boot.read_text().strip() if boot.exists() else "",
        host_name=platform.node(),
    )


class NodeGroup:
    """What the virtual nodes of one process share. ``only`` limits the mirrors to one node's objects.

    ``informers``: mirrors that others in this process keep already, run by their owner; all pods are in them then.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        only: str = "",
        informers: InformerFactory | None = None,
    ) -> None:
        self.client = client
        self.clock = clock or SystemClock()
        self.chance = chance or random.Random()
        self.machine = this_machine()
        self._lowest_port = lowest_port()
        self._own_informers = informers is None
        self._factory = informers or InformerFactory(client, clock=self.clock, chance=self.chance)
        node_selector = f"metadata.name={only}" if only else ""
        pod_selector = f"spec.nodeName={only}" if only else "spec.nodeName!=" if self._own_informers else ""
        self.pods = self._factory.informer(PODS, field_selector=pod_selector)
        self._services = self._factory.informer(SERVICES)
        self.recorder = EventRecorder(client, component=COMPONENT, clock=self.clock, host=only, chance=self.chance)
        self._nodes = self._factory.informer(NODES, field_selector=node_selector)
        self.nodes = NodeController(
            client,
            nodes=self._nodes,
            clock=self.clock,
            chance=self.chance,
            recorder=self.recorder,
        )
        self.lookups = PodLookups(client, clock=self.clock, services=self._services_for)
        self.router = PodRouter(self.pods)
        self.engine = PodEngine(client, clock=self.clock)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(Supervisor("nodes", clock=self.clock))
            if self._own_informers:
                tasks.start("informers", self._factory.run)
            tasks.start("events", self.recorder.run)
            tasks.start("heartbeats", self.nodes.run)
            await stack.enter_async_context(self.engine)
            for informer in (self.pods, self._services, self._nodes):
                await informer.wait_synced()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def _services_for(self, namespace: str) -> list[Object]:
        store = self._services.store
        found = list(store.list(namespace))
        if namespace != "default":
            found += store.list("default")
        return [as_served(service, self._lowest_port) for service in found]


def as_served(service: Object, lowest_port: int) -> Object:
    """The Service with the ports it can be reached at from this machine.

    Services on loopback addresses are served by this user's own proxy, which may not listen on ports below
    ``lowest_port`` and takes others in their stead.
    """
    ports = get_path(service, "spec", "ports", default=())
    if not str(get_path(service, "spec", "clusterIP", default="")).startswith("127."):
        return service
    if all(port["port"] >= lowest_port for port in ports):
        return service
    return with_path(
        service, ("spec", "ports"), [{**port, "port": stand_in(port["port"], lowest_port)} for port in ports]
    )


class PodRouter:
    """Pods of one mirror to the node each is bound to: one lookup per change, however many nodes there are."""

    def __init__(self, pods: Informer) -> None:
        self._pods = pods
        self._handlers: dict[str, Callable[[Delta], None]] = {}
        pods.store.add_index(BY_NODE, lambda pod: [pod["spec"].get("nodeName") or ""])
        pods.subscribe(self._route)

    def subscribe(self, node: str, handler: Callable[[Delta], None]) -> None:
        """Changes of this node's pods, beginning with those that are there."""
        self._handlers[node] = handler
        for pod in list(self._pods.store.by_index(BY_NODE, node)):
            handler(Delta(kind="added", obj=pod, old=None))

    def unsubscribe(self, node: str) -> None:
        self._handlers.pop(node, None)

    def _route(self, delta: Delta) -> None:
        node = delta.obj["spec"].get("nodeName")
        handler = self._handlers.get(node) if node else None
        if handler is None:
            return
        if delta.kind == "modified" and delta.old is not None and not delta.old["spec"].get("nodeName"):
            delta = Delta(kind="added", obj=delta.obj)  # bound now: new to its node
        handler(delta)


class VirtualNode:
    """One node. ``provider`` and ``group`` are made when none are given."""

    def __init__(
        self,
        config: VirtualNodeConfig,
        client: ApiClient,
        *,
        provider: Provider | None = None,
        group: NodeGroup | None = None,
        clock: Clock | None = None,
        chance: random.Random | None = None,
        kubelet_tls: ssl.SSLContext | None = None,
        wait_registered: bool = True,
    ) -> None:
        """``kubelet_tls``: the endpoint's own certificate and the authority it trusts; self-signed without one.

        ``wait_registered`` False: who starts many nodes enters them all and then awaits each ``wait_registered``, so
        that their first writes go side by side.
        """
        self._waits = wait_registered
        self.config = config
        self._client = client
        self._own_group = group is None
        self.group = group or NodeGroup(client, clock=clock, chance=chance, only=config.name)
        self.provider = provider or registry.load(
            config.provider,
            ProviderSettings(
                node=config.name,
                cluster_id=config.cluster_id,
                data_dir=config.data_dir,
                node_ip=config.node_ip,
                options=config.provider_options,
            ),
        )
        self._kubelet_tls = kubelet_tls
        self._capacity = {**self.provider.capacity(), **config.capacity}
        self.pods = PodController(
            PodSettings(
                node_name=config.name,
                cluster_id=config.cluster_id,
                host_ip=config.node_ip,
                allocatable=self._capacity,
                node_labels=lambda: self.group.nodes.labels(config.name),
                node_os=self.group.machine.operating_system,
                container_events=config.provider != "sim"
                if config.container_events is None
                else config.container_events,
            ),
            engine=self.group.engine,
            provider=self.provider,
            pods=self.group.pods,
            lookups=self.group.lookups,
            recorder=self.group.recorder,
            clock=self.group.clock,
            subscribe=lambda handler: self.group.router.subscribe(config.name, handler),
        )
        self._stack = contextlib.AsyncExitStack()
        self.kubelet_port = config.kubelet_port

    @property
    def name(self) -> str:
        return self.config.name

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            if self._own_group:
                await stack.enter_async_context(self.group)
            server = await stack.enter_async_context(self._kubelet_server(await self._trusted()))
            self.kubelet_port = server.port
            tasks = await stack.enter_async_context(Supervisor(f"node {self.name}", clock=self.group.clock))
            tasks.start("pods", self.pods.run)
            stack.callback(self.group.router.unsubscribe, self.name)
            await self.pods.wait_ready()
            self.group.nodes.add(self._node_settings())
            stack.callback(self.group.nodes.remove, self.name)
            if self._waits:
                await self.wait_registered()
            self._stack = stack.pop_all()
        return self

    async def wait_registered(self) -> None:
        """Return when the API server has the node and its lease."""
        await self.group.nodes.wait_registered(self.name)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def _node_settings(self) -> NodeSettings:
        config = self.config
        return NodeSettings(
            name=config.name,
            capacity=self._capacity,
            internal_ip=config.node_ip,
            kubelet_port=self.kubelet_port,
            labels=config.labels,
            annotations=config.annotations,
            taints=config.taints,
            provider_id=f"anynode://{config.cluster_id}/{config.name}",
            machine=self.group.machine,
        )

    async def _trusted(self) -> bytes | None:
        """The authority of whoever may ask the kubelet endpoint: as told, or as the cluster publishes it."""
        if self._kubelet_tls is not None or self.config.client_ca is not None:
            return self.config.client_ca
        return await published_client_ca(self._client)

    def _kubelet_server(self, client_ca: bytes | None) -> KubeletServer:
        config = self.config
        context = self._kubelet_tls
        if context is None:
            pair = serving_certificate.self_signed(config.name, [config.node_ip, config.kubelet_host], self.group.clock)
            context = tls.server_context(pair.certificate, pair.key, client_ca=client_ca)
        return KubeletServer(
            self.pods,
            self.provider,
            node=config.name,
            authenticator=Authenticator(node=config.name, clock=self.group.clock, review=self._review),
            clock=self.group.clock,
            ssl=context,
            host=config.kubelet_host,
            port=config.kubelet_port,
        )

    async def _review(self, plural: str, review: Object) -> Object:
        return await self._client.create(REVIEWS[plural], review)


def default_name() -> str:
    """The node name of this machine when the user gives none."""
    return os.environ.get("ANYNODE_NODE_NAME") or platform.node().lower().split(".")[0] or "anynode"
