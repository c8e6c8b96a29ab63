"""All pods of one node: from the informer and the provider's reports to workers, and their statuses to the API.

In: pods bound to this node (``spec.nodeName``) and reports. Out: one worker per pod, synced when something changed and
never twice at a time; one status PATCH per change, coalesced and tried again; removal of API objects whose pods were
ended. After a restart of the process, what the provider holds is taken over by UID; what nobody wants is removed.
Source: kubelet ``pkg/kubelet/pod_workers.go``, ``pkg/kubelet/status/status_manager.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import Conflict, NotFound
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
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.informers.controller import Controller, Done, Outcome
from anynode.informers.informer import Delta, Informer
from anynode.informers.recorder import EventRecorder
from anynode.informers.workqueue import Workqueue
from anynode.node import pod_admission, pod_status
from anynode.node.handlers import Handlers
from anynode.node.pod_lookups import NodeSide, PodLookups
from anynode.node.pod_worker import PodContext, PodWorker, status_patch
from anynode.node.probes import Prober, ProbeRun
from anynode.provider import ContainerReport, PodRecord, Provider

logger = logging.getLogger(__name__)

PODS = known("pods")
STATUS_WRITERS = 16
ORPHAN_SECONDS = 60.0
TRY_AGAIN = Backoff(first_seconds=1.0, most_seconds=60.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodSettings:
    """The node's side of its pods."""

    node_name: str
    cluster_id: str
    host_ip: str
    allocatable: Mapping[str, str]
    node_labels: Callable[[], Mapping[str, str]]
    node_os: str = "linux"
    status_writers: int = STATUS_WRITERS
    container_events: bool = True
    """Whether Pulled, Created, Started and Killing are told; three writes per container that a simulation can spare."""


class PodController:
    """Runs the pods of one node."""

    def __init__(
        self,
        settings: PodSettings,
        *,
        client: ApiClient,
        provider: Provider,
        pods: Informer,
        lookups: PodLookups,
        recorder: EventRecorder,
        clock: Clock,
        subscribe: Callable[[Callable[[Delta], None]], None] | None = None,
    ) -> None:
        """``pods`` holds at least this node's pods; ``subscribe`` gives only theirs, where the informer holds more."""
        self._settings = settings
        self._client = client
        self._provider = provider
        self._pods = pods
        self._subscribe = subscribe or pods.subscribe
        self._lookups = lookups
        self._recorder = recorder
        self._clock = clock
        self._workers: dict[Uid, PodWorker] = {}
        self._by_key: dict[ObjectKey, Uid] = {}
        self._queue: Workqueue[Uid] = Workqueue(clock=clock)
        self._statuses: Controller[Uid] = Controller(
            "pod-status", self._write_status, clock=clock, workers=settings.status_writers
        )
        handlers = Handlers(provider=provider, clock=clock)
        self._prober = Prober(handlers, clock=clock, result=self._probed, failure=self._unhealthy)
        self._handlers = handlers
        self._used: dict[str, Quantity] = {}
        self._requests: dict[Uid, dict[str, Quantity]] = {}
        self._context: PodContext | None = None
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
        """Run pods until cancelled; then they are left running. The informer is run by whoever owns it."""
        async with self._provider.run(self._reported), Supervisor("pods", clock=self._clock) as tasks:
            side = NodeSide(host_ip=self._settings.host_ip, allocatable=self._settings.allocatable)
            self._context = PodContext(
                node_name=self._settings.node_name,
                cluster_id=self._settings.cluster_id,
                side=side,
                provider=self._provider,
                lookups=self._lookups,
                recorder=self._recorder,
                handlers=self._handlers,
                prober=self._prober,
                clock=self._clock,
                tasks=tasks,
                container_events=self._settings.container_events,
                wake_after=self._wake_after,
                changed=self._statuses.queue.add,
                admit=self._admit,
            )
            tasks.start("probes", self._prober.run)
            tasks.start("timers", self._queue.run)
            tasks.start("statuses", self._statuses.run)
            await self._pods.wait_synced()
            self._held = {Uid(each.identity.uid): each for each in await self._provider.list()}
            self._subscribe(self._changed)
            self._ready.set()
            tasks.start("orphans", self._remove_orphans, restart=TRY_AGAIN)
            while True:
                uid = await self._queue.get()
                tasks.start(f"pod {uid}", functools.partial(self._sync, uid), restart=TRY_AGAIN)

    async def _sync(self, uid: Uid) -> None:
        worker = self._workers.get(uid)
        if worker is not None:
            await worker.sync()
            if worker.removed:
                self._forget(worker)
        self._queue.done(uid)

    def _wake_after(self, uid: Uid, seconds: float) -> None:
        if seconds <= 0:
            self._queue.add(uid)
        else:
            self._queue.add_after(uid, seconds)

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
        self._queue.add(uid)
        if worker.ended:
            self._statuses.queue.add(uid)

    def _add(self, uid: Uid, key: ObjectKey, pod: Object) -> None:
        context = self._context
        if context is None:
            return
        worker = PodWorker(context, pod, self._held.pop(uid, None))
        worker.update(pod)
        self._workers[uid] = worker
        self._by_key[key] = uid
        if worker.admitted and not worker.ended:
            self._account(uid, pod)
        self._queue.add(uid)

    def _vanished(self, uid: Uid, last: Object) -> None:
        worker = self._workers.get(uid)
        if worker is None:
            return
        if self._by_key.get(key_of(last)) == uid:
            del self._by_key[key_of(last)]
        worker.vanish(last)
        self._queue.add(uid)

    def _take_status(self, worker: PodWorker, pod: Object) -> None:
        """Believe the mirror unless it is older than what our own write was answered."""
        seen, written = resource_version_of(pod), worker.written_version
        if seen.isdigit() and written.isdigit() and int(seen) < int(written):
            return
        worker.api_status = pod.get("status") or {}

    def _reported(self, report: ContainerReport) -> None:
        worker = self._workers.get(report.uid)
        if worker is not None and worker.observe(report) and not worker.syncing:
            self._queue.add(report.uid)

    def _probed(self, run: ProbeRun, success: bool) -> None:
        worker = self._workers.get(run.uid)
        if worker is not None:
            worker.probe_result(run.container["name"], run.attempt, run.kind, success)
            self._queue.add(run.uid)

    def _unhealthy(self, run: ProbeRun, message: str) -> None:
        field = f"spec.containers{{{run.container['name']}}}"
        self._recorder.event(run.pod, "Warning", "Unhealthy", message, field_path=field)

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
        )
        if refusal is None:
            self._account(uid_of(pod), pod)
        return refusal

    def _account(self, uid: Uid, pod: Object) -> None:
        if uid in self._requests:
            return
        amounts = {name: Quantity.parse(text) for name, text in pod_status.pod_requests(pod).items()}
        self._requests[uid] = amounts
        for name, amount in amounts.items():
            self._used[name] = self._used[name] + amount if name in self._used else amount

    def _release(self, uid: Uid) -> None:
        for name, amount in self._requests.pop(uid, {}).items():
            self._used[name] = self._used[name] - amount

    def _forget(self, worker: PodWorker) -> None:
        self._release(worker.uid)
        self._workers.pop(worker.uid, None)
        self._lookups.forget(worker.uid)
        key = key_of(worker.pod)
        if self._by_key.get(key) == worker.uid:
            del self._by_key[key]

    # -- what goes out

    async def _write_status(self, uid: Uid) -> Outcome:
        worker = self._workers.get(uid)
        if worker is None or worker.gone:
            return Done()
        ended, status = worker.ended, worker.status  # what happens while we write is written next
        if ended:
            self._release(uid)
        key = key_of(worker.pod)
        patch = status_patch(worker.api_status, status) if worker.published else {}
        try:
            if patch:
                body = {"metadata": {"uid": uid}, "status": patch}
                answer = await self._client.patch(PODS, key, body, kind=PatchKind.STRATEGIC, subresource="status")
                worker.wrote(answer)
            if ended and worker.status is status and is_deleting(worker.pod):
                await self._client.delete(PODS, key, grace_seconds=0, uid=uid)
        except (NotFound, Conflict):
            return Done()  # gone, or another pod has the name: the informer tells
        return Done()

    async def _remove_orphans(self) -> None:
        """Pods the provider holds and nobody wants; seen twice, as what was just made may not be known yet."""
        suspects = set(self._held)
        self._held = {}
        while True:
            for uid in suspects:
                if uid not in self._workers:
                    logger.info("pod that nobody wants is removed", extra={"uid": uid})
                    await self._provider.delete(uid)
            await self._clock.sleep(ORPHAN_SECONDS)
            held = {Uid(each.identity.uid) for each in await self._provider.list()}
            suspects = held - self._workers.keys()
            await self._clock.sleep(0)
