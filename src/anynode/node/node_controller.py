"""Keeps Node objects and their Leases alive: registers, beats, and registers again what somebody deleted.

In: settings per node and a mirror of Node objects. Out: Lease renewals every 10 s (of 40 s), a status when something
changed or every 5 minutes, a new Node (and lease owner) when the old one is gone. One queue serves all nodes of a
process, with no task per node. Source: kubelet ``pkg/kubelet/kubelet_node_status.go``, component-helpers
``apimachinery/lease/controller.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Mapping

from anynode.aio.clock import Clock
from anynode.api.errors import AlreadyExists, Conflict, NotFound
from anynode.api.objects import Object, ObjectKey, labels_of, meta, name_of, uid_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.informers.controller import Controller, Outcome, RequeueAfter
from anynode.informers.informer import Delta, Informer
from anynode.informers.recorder import EventRecorder
from anynode.node import node_object
from anynode.node.node_object import LEASE_NAMESPACE, Health, NodeSettings

logger = logging.getLogger(__name__)

NODES = known("nodes")
LEASES = known("leases", "coordination.k8s.io")
RENEW_SECONDS = 10.0
STATUS_SECONDS = 300.0
JITTER = 0.04
WORKERS = 16
HEALTHY = Health()


@dataclasses.dataclass(slots=True)
class _Node:
    settings: NodeSettings
    health: Callable[[], Health]
    node: Object | None = None
    lease: Object | None = None
    status_at: float = float("-inf")
    ready: bool | None = None
    registered: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)


class NodeController:
    """The nodes of one process."""

    def __init__(
        self,
        client: ApiClient,
        *,
        nodes: Informer,
        clock: Clock,
        chance: random.Random,
        recorder: EventRecorder | None = None,
        workers: int = WORKERS,
    ) -> None:
        """``nodes`` mirrors at least our own Node objects."""
        self._client = client
        self._clock = clock
        self._chance = chance
        self._informer = nodes
        self._recorder = recorder
        self._nodes: dict[str, _Node] = {}
        self._controller: Controller[str] = Controller("node", self._reconcile, clock=clock, workers=workers)

    def add(self, settings: NodeSettings, *, health: Callable[[], Health] = lambda: HEALTHY) -> None:
        """Keep this node alive from now on; ``health`` is asked at every beat."""
        self._nodes[settings.name] = _Node(settings, health)
        self._controller.queue.add(settings.name)

    def remove(self, name: str) -> None:
        """Let go of a node; its object stays, its lease runs out."""
        self._nodes.pop(name, None)

    def check(self, name: str) -> None:
        """Something of the node may have changed: look now."""
        self._controller.queue.add(name)

    def labels(self, name: str) -> Mapping[str, str]:
        """The node's labels as the API has them."""
        node = self._informer.store.get(ObjectKey("", name))
        own = self._nodes.get(name)
        if node is None:
            node = own.node if own is not None else None
        if node is not None:
            return labels_of(node)
        return node_object.labels_for(own.settings) if own is not None else {}

    async def wait_registered(self, name: str) -> None:
        """Return when the node has its object and its lease; raises ``KeyError`` for a node not added."""
        await self._nodes[name].registered.wait()

    async def run(self) -> None:
        """Beat until cancelled; nodes are not marked or deleted then."""
        self._informer.subscribe(self._changed)
        await self._controller.run()

    def _changed(self, delta: Delta) -> None:
        own = self._nodes.get(name_of(delta.obj))
        if own is None:
            return
        if delta.kind == "deleted":
            if own.node is not None and uid_of(own.node) == uid_of(delta.obj):
                own.node = own.lease = None
                self._controller.queue.add(own.settings.name)
        elif own.node is not None and uid_of(own.node) != uid_of(delta.obj):
            own.node = own.lease = None
            self._controller.queue.add(own.settings.name)

    async def _reconcile(self, name: str) -> Outcome:
        own = self._nodes.get(name)
        if own is None:
            return RequeueAfter(STATUS_SECONDS)
        if own.node is None:
            await self._register(own)
        await self._update_status(own)
        await self._renew(own)
        own.registered.set()
        return RequeueAfter(RENEW_SECONDS * (1 - JITTER * self._chance.random()))

    async def _register(self, own: _Node) -> None:
        """Create the Node, or adopt the one that is there: it gets our labels, nothing of it is taken away."""
        settings = own.settings
        wanted = node_object.node_object(settings, own.health(), self._clock.now())
        own.status_at = float("-inf")
        try:
            node = await self._client.create(NODES, wanted)
            logger.info("node registered", extra={"node": settings.name})
        except AlreadyExists:
            node = await self._client.get(NODES, ObjectKey("", settings.name))
            patch = node_object.adoption_patch(settings, node)
            if patch:
                node = await self._client.patch(NODES, ObjectKey("", settings.name), patch, kind=PatchKind.STRATEGIC)
            logger.info("node adopted", extra={"node": settings.name})
        own.node, own.lease = node, None
        self._say(own, "Normal", "Starting", "Starting kubelet.")

    async def _update_status(self, own: _Node) -> None:
        """Write the status when it says something new, or when it has not been written for long."""
        now = self._clock.monotonic()
        node = own.node or {}
        health = own.health()
        status = node_object.node_status(own.settings, health, node.get("status") or {}, self._clock.now())
        if now - own.status_at < STATUS_SECONDS and not node_object.differs(status, node):
            return
        try:
            own.node = await self._client.patch(
                NODES,
                ObjectKey("", own.settings.name),
                {"status": status},
                kind=PatchKind.STRATEGIC,
                subresource="status",
            )
        except NotFound:
            own.node = own.lease = None
            raise
        own.status_at = now
        if own.ready is not health.ready:
            reason = "NodeReady" if health.ready else "NodeNotReady"
            self._say(own, "Normal", reason, f"Node {own.settings.name} status is now: {reason}")
        own.ready = health.ready

    async def _renew(self, own: _Node) -> None:
        """Renew from the copy we hold; another holder's write, or a lost lease, is read or made anew."""
        node = own.node or {}
        fresh = node_object.lease_object(own.settings, node, self._clock.now())
        key = ObjectKey(LEASE_NAMESPACE, own.settings.name)
        for _ in range(5):
            if own.lease is None:
                try:
                    own.lease = await self._client.create(LEASES, fresh)
                except AlreadyExists:
                    own.lease = await self._client.get(LEASES, key)
                else:
                    return
            metadata = {**meta(own.lease), "ownerReferences": fresh["metadata"]["ownerReferences"]}
            spec = {**(own.lease.get("spec") or {}), **fresh["spec"]}
            try:
                own.lease = await self._client.update(LEASES, {**own.lease, "metadata": metadata, "spec": spec})
            except (Conflict, NotFound):
                own.lease = None
            else:
                return

    def _say(self, own: _Node, kind: str, reason: str, message: str) -> None:
        """An event about the node; as a kubelet's it names the node where others have a uid."""
        if self._recorder is not None and own.node is not None:
            about = {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": own.settings.name, "uid": own.settings.name},
            }
            self._recorder.event(about, kind, reason, message, host=own.settings.name)
