"""What drives the pods of all nodes of a process: one queue, one set of timers, one prober, one set of status writers.

A worker is synced when it was woken, never twice at a time; its status is written when it changed, coalesced, and tried
again until the API server took it. Costs no task per node and none per pod at rest. ``async with`` starts and stops it.
"""

from __future__ import annotations

import contextlib
import functools
from types import TracebackType
from typing import Self

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import Conflict, NotFound
from anynode.api.objects import is_deleting, key_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.informers.controller import Controller, Done, Outcome
from anynode.informers.workqueue import Workqueue
from anynode.node.pod_worker import PodWorker
from anynode.node.probes import Prober
from anynode.node.status_patch import status_patch

PODS = known("pods")
STATUS_WRITERS = 32
TRY_AGAIN = Backoff(first_seconds=1.0, most_seconds=60.0)


class PodEngine:
    """Runs workers; see the module."""

    def __init__(self, client: ApiClient, *, clock: Clock, status_writers: int = STATUS_WRITERS) -> None:
        self._client = client
        self._queue: Workqueue[PodWorker] = Workqueue(clock=clock)
        self._statuses: Controller[PodWorker] = Controller(
            "pod-status", self._write_status, clock=clock, workers=status_writers
        )
        self.prober = Prober(clock=clock)
        self.tasks = Supervisor("pods", clock=clock)
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.tasks)
            self.tasks.start("probes", self.prober.run)
            self.tasks.start("timers", self._queue.run)
            self.tasks.start("statuses", self._statuses.run)
            self.tasks.start("pods", self._dispatch)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def wake(self, worker: PodWorker, seconds: float = 0.0) -> None:
        """Have a pod synced, now or after so many seconds."""
        if seconds <= 0:
            self._queue.add(worker)
        else:
            self._queue.add_after(worker, seconds)

    def changed(self, worker: PodWorker, seconds: float = 0.0) -> None:
        """The pod's status is to be written, now or after so many seconds."""
        if seconds <= 0:
            self._statuses.queue.add(worker)
        else:
            self._statuses.queue.add_after(worker, seconds)

    async def _dispatch(self) -> None:
        while True:
            worker = await self._queue.get()
            self.tasks.start(f"pod {worker.uid}", functools.partial(self._sync, worker), restart=TRY_AGAIN)

    async def _sync(self, worker: PodWorker) -> None:
        if worker.running_here:
            await worker.sync()
        self._queue.done(worker)

    async def _write_status(self, worker: PodWorker) -> Outcome:
        if worker.gone or not worker.running_here:
            return Done()
        worker.freshen()
        ended, status = worker.ended, worker.status  # what happens while we write is written next
        key = key_of(worker.pod)
        patch = status_patch(worker.api_status, status) if worker.published else {}
        try:
            if patch:
                body = {"metadata": {"uid": worker.uid}, "status": patch}
                answer = await self._client.patch(PODS, key, body, kind=PatchKind.STRATEGIC, subresource="status")
                worker.wrote(answer)
            if ended and worker.status is status and is_deleting(worker.pod):
                await self._client.delete(PODS, key, grace_seconds=0, uid=worker.uid)
        except (NotFound, Conflict):
            return Done()  # gone, or another pod has the name: the informer tells
        return Done()
