"""Finished Jobs with ``ttlSecondsAfterFinished`` go when their time is up, their pods with them.

Source: kubernetes ``pkg/controller/ttlafterfinished``, 1.36.
"""

from __future__ import annotations

from anynode.api.errors import Conflict, NotFound
from anynode.api.objects import Object, ObjectKey, is_deleting, key_of, uid_of
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.job_plan import finished_condition
from anynode.controllers.job_step import JOBS
from anynode.controllers.times import seconds_of
from anynode.informers.controller import Done, Outcome, RequeueAfter


def seconds_left(job: Object, now: float) -> float | None:
    """How long a finished Job may stay; None when it may stay for good."""
    limit = job["spec"].get("ttlSecondsAfterFinished")
    finished = finished_condition(job)
    if limit is None or finished is None or is_deleting(job):
        return None
    since = finished.get("lastTransitionTime")
    return max(0.0, seconds_of(since) + limit - now) if since else None


class JobTtlController:
    """Deletes finished Jobs."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._jobs = context.informers.informer(JOBS)
        self._controller = context.controller("ttl-after-finished", self.reconcile)
        self._jobs.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._jobs,))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        cached = self._jobs.store.get(key)
        left = None if cached is None else seconds_left(cached, self._context.now())
        if left is None:
            return Done()
        if left > 0:
            return RequeueAfter(left)
        try:
            # The limit may just have been raised: only the server knows.
            fresh = await self._context.client.get(JOBS, key)
            left = seconds_left(fresh, self._context.now())
            if left is None:
                return Done()
            if left > 0:
                return RequeueAfter(left)
            await self._context.client.delete(JOBS, key, propagation="Foreground", uid=uid_of(fresh))
        except (NotFound, Conflict):
            return Done()
        return Done()
