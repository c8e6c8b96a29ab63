"""All pods of one node: from the informer and the provider's reports to workers.

In: pods bound to this node (``spec.nodeName``) and reports. Out: one worker per pod, woken through the ``PodEngine``
when something changed. After a restart of the process, what the provider holds is taken over by UID; what nobody wants
is removed.
Source: kubelet ``pkg/kubelet/pod_workers.go``, ``pkg/kubelet/status/status_manager.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
from collections.abc import Callable, Mapping

from anynode.aio.clock import Clock
from anynode.api.formats import Quantity
from anynode.api.objects import (
    Object,
    ObjectKey,
    Uid,
    is_deleting,
    key_of,
    resource_version_of,
    uid_of,
)
from anynode.informers.informer import Delta, Informer
from anynode.informers.recorder import EventRecorder
from anynode.node import pod_admission, pod_status
from anynode.node.handlers import Handlers
from anynode.node.pod_engine import PodEngine
from anynode.node.pod_lookups import NodeSide, PodLookups
from anynode.node.pod_worker import PodContext, PodWorker
from anynode.provider import ContainerReport, PodRecord, Provider, ProviderError

logger = logging.getLogger(__name__)

ORPHAN_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """The node's side of its pods."""

    node_name: str
    cluster_id: str
    host_ip: str
    allocatable: Mapping[str, str]
    node_labels: Callable[[], Mapping[str, str]]
    node_os: str = "linux"
    container_events: bool = True
    """Whether Pulled, Created, Started and Killing are told; three writes per container that a simulation can spare."""


class PodController:
    """Runs the pods of one node."""

    def __init__(
        self,
        settings: PodSettings,
        *,
        engine: PodEngine,
        provider: Provider,
        pods: Informer,
        lookups: PodLookups,
        recorder: EventRecorder,
        clock: Clock,
        subscribe: Callable[[Callable[[Delta], None]], None] | None = None,
    ) -> None:
        """``pods`` holds at least this node's pods; ``subscribe`` gives only theirs, where the informer holds more."""
        self._settings = settings
        self._engine = engine
        self._provider = provider
        self._pods = pods
        self._subscribe = subscribe or pods.subscribe
        self._lookups = lookups
        self._recorder = recorder
        self._clock = clock
        self._workers: dict[Uid, PodWorker] = {}
        self._by_key: dict[ObjectKey, Uid] = {}
        self._used: dict[str, Quantity] = {}
        self._ports: dict[Uid, frozenset[pod_admission.HostPort]] = {}
        self._requests: dict[Uid, dict[str, Quantity]] = {}
        self._context = PodContext(
            node_name=settings.node_name,
            cluster_id=settings.cluster_id,
            side=NodeSide(host_ip=settings.host_ip, allocatable=settings.allocatable),
            provider=provider,
            lookups=lookups,
            recorder=recorder,
            handlers=Handlers(provider=provider, clock=clock),
            clock=clock,
            engine=engine,
            container_events=settings.container_events,
            admit=self._admit,
            ended=self._release,
            removed=self._forget,
        )
        self._held: dict[Uid, PodRecord] = {}
        self._ready = asyncio.Event()

    # -- what others ask

    def find(self, namespace: str, name: str) -> Object | None:
        """The pod of that name on this node, with the status this node knows."""
        uid = self._by_key.get(ObjectKey(namespace, name))
        worker = self._workers.get(uid) if uid is not None else None
        return {**worker.pod, "status": worker.status} if worker is not None else None

    def list(self) -> list[Object]:
        """All pods of this node."""
        return [{**worker.pod, "status": worker.status} for worker in self._workers.values()]

    # -- life

    async def wait_ready(self) -> None:
        """Return when what the provider held was taken over and new pods are taken up."""
        await self._ready.wait()

    async def run(self) -> None:
        """Run pods until cancelled; then they are left running. Informer and engine are run by whoever owns them."""
        async with self._provider.run(self._reported):
            try:
                await self._pods.wait_synced()
                self._held = {Uid(each.identity.uid): each for each in await self._provider.list()}
                self._subscribe(self._changed)
                self._ready.set()
                await self._remove_orphans()
            finally:
                for worker in self._workers.values():
                    worker.running_here = False

    # -- what comes in

    def _changed(self, delta: Delta) -> None:
        uid = uid_of(delta.obj)
        if delta.kind == "deleted":
            self._vanished(uid, delta.obj)
            return
        key = key_of(delta.obj)
        other = self._by_key.get(key)
        if other is not None and other != uid:
            self._vanished(other, self._workers[other].pod)
        worker = self._workers.get(uid)
        if worker is None:
            self._add(uid, key, delta.obj)
            return
        if is_deleting(delta.obj) and not is_deleting(worker.pod):
            logger.debug("pod is to be ended", extra={"pod": str(key)})
        worker.update(delta.obj)
        if worker.written_version and worker.written_version == resource_version_of(delta.obj):
            return  # the echo of our own write
        self._take_status(worker, delta.obj)
        self._engine.wake(worker)

    def _add(self, uid: Uid, key: ObjectKey, pod: Object) -> None:
        worker = PodWorker(self._context, pod, self._held.pop(uid, None))
        worker.update(pod)
        self._workers[uid] = worker
        self._by_key[key] = uid
        if worker.admitted and not worker.ended:
            self._account(uid, pod)
        self._engine.wake(worker)

    def _vanished(self, uid: Uid, last: Object) -> None:
        worker = self._workers.get(uid)
        if worker is None:
            return
        if self._by_key.get(key_of(last)) == uid:
            del self._by_key[key_of(last)]
        worker.vanish(last)
        self._engine.wake(worker)

    def _take_status(self, worker: PodWorker, pod: Object) -> None:
        """Believe the mirror unless it is older than what our own write was answered."""
        seen, written = resource_version_of(pod), worker.written_version
        if seen.isdigit() and written.isdigit() and int(seen) < int(written):
            return
        worker.api_status = pod.get("status") or {}

    def _reported(self, report: ContainerReport) -> None:
        worker = self._workers.get(report.uid)
        if worker is not None and worker.observe(report) and not worker.syncing:
            self._engine.wake(worker)

    # -- admission

    def _admit(self, pod: Object) -> tuple[str, str] | None:
        refusal = pod_admission.refusal(
            pod,
            node_name=self._settings.node_name,
            node_labels=self._settings.node_labels(),
            node_os=self._settings.node_os,
            allocatable=self._settings.allocatable,
            used=self._used,
            pod_count=len(self._requests),
            taken_ports=itertools.chain.from_iterable(self._ports.values()),
        )
        if refusal is None:
            self._account(uid_of(pod), pod)
        return refusal

    def _account(self, uid: Uid, pod: Object) -> None:
        if uid in self._requests:
            return
        amounts = {name: Quantity.parse(text) for name, text in pod_status.pod_requests(pod).items()}
        self._requests[uid] = amounts
        ports = pod_admission.host_ports(pod)
        if ports:
            self._ports[uid] = ports
        for name, amount in amounts.items():
            self._used[name] = self._used[name] + amount if name in self._used else amount

    def _release(self, uid: Uid) -> None:
        self._ports.pop(uid, None)
        for name, amount in self._requests.pop(uid, {}).items():
            self._used[name] = self._used[name] - amount

    def _forget(self, worker: PodWorker) -> None:
        self._release(worker.uid)
        self._workers.pop(worker.uid, None)
        self._lookups.forget(worker.uid)
        key = key_of(worker.pod)
        if self._by_key.get(key) == worker.uid:
            del self._by_key[key]

    async def _remove_orphans(self) -> None:
        """Pods the provider holds and nobody wants; seen twice, as what was just made may not be known yet."""
        suspects = set(self._held)
        self._held = {}
        while True:
            for uid in suspects:
                if uid not in self._workers:
                    await self._remove_orphan(uid)
            await self._clock.sleep(ORPHAN_SECONDS)
            try:
                held = {Uid(each.identity.uid) for each in await self._provider.list()}
            except (ProviderError, OSError) as error:
                logger.warning("provider cannot say what it holds", extra={"why": str(error)})
                held = set()
            suspects = held - self._workers.keys()

    async def _remove_orphan(self, uid: Uid) -> None:
        try:
            await self._provider.delete(uid)
        except (ProviderError, OSError) as error:
            logger.warning("pod that nobody wants could not be removed", extra={"uid": uid, "why": str(error)})
        else:
            logger.info("pod that nobody wants was removed", extra={"uid": uid})
