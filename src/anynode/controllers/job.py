"""Job: pods are started until enough of them succeeded, each counted exactly once.

In: a Job and its pods. Out: pods created and deleted, finalizers taken off, at most two status writes (pods noted as
uncounted; counted). What to do is decided in ``job_plan``. Also ends what outlives its Job: the finalizers of pods
whose Job is gone. Source: kubernetes ``pkg/controller/job``, 1.36.
"""

from __future__ import annotations

from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, controller_of, key_of, namespace_of, uid_of
from anynode.controllers import job_plan as plan
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.job_plan import TRACKING_FINALIZER
from anynode.controllers.job_rules import FailureRecord
from anynode.controllers.job_step import JOBS, JobStep, JobTools
from anynode.controllers.ownership import Claimer, Expectations, Latest
from anynode.controllers.pace import Pace
from anynode.controllers.pod_events import PodEvents
from anynode.controllers.pods import PODS, PodControl
from anynode.controllers.selection import index_owned, index_selectors, orphans, owned_by, selector_of
from anynode.informers.controller import Controller, Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

CONTROLLER_NAME = "kubernetes.io/job-controller"
BATCH_SECONDS = 0.1
"""Pod events are looked at together (upstream waits a second)."""


class JobController:
    """Brings every Job to its end."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._jobs = context.informers.informer(JOBS)
        self._pods = context.informers.informer(PODS)
        index_owned(self._pods.store)
        index_selectors(self._jobs.store)
        self._claimer = Claimer(context.client, owner=JOBS, owned=PODS, finalizers=(TRACKING_FINALIZER,))
        self._controller = context.controller("job", self.reconcile)
        self._orphans: Controller[ObjectKey] = context.controller("job-orphan-pods", self._release_orphan)
        recorder = context.recorder("job-controller")
        self._tools = JobTools(
            client=context.client,
            control=PodControl(context.client, recorder, JOBS),
            recorder=recorder,
            pods=self._pods.store,
            latest=Latest(self._jobs.store),
            expectations=Expectations(context.clock),
            pace=Pace(self._controller.queue, least_seconds=BATCH_SECONDS),
            released={},
            records={},
        )
        self._events = PodEvents(self._jobs, self._tools.pace.add, self._tools.expectations)
        self._jobs.subscribe(self._job_changed)
        self._pods.subscribe(self._pod_changed)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._jobs, self._pods))

    async def run_orphans(self) -> None:
        """Take the finalizer off pods whose Job is gone."""
        await run_when_synced(self._orphans, (self._jobs, self._pods))

    def _job_changed(self, delta: Delta) -> None:
        key = key_of(delta.obj)
        if delta.kind == "deleted":
            self._tools.forget(key)
        if delta.kind == "deleted" or plan.is_finished(delta.obj):
            for pod in owned_by(self._pods.store, uid_of(delta.obj)):
                self._check_orphan(pod)
        self._controller.queue.add(key)

    def _pod_changed(self, delta: Delta) -> None:
        pod = delta.obj
        if delta.kind == "deleted" or not plan.is_tracked(pod):
            key = self._events.owner_key(pod)
            if key is not None:
                self._tools.released.get(key, set()).discard(uid_of(pod))
        if delta.kind != "deleted":
            self._check_orphan(pod)
        self._events.handle(delta)

    def _check_orphan(self, pod: Object) -> None:
        if plan.is_tracked(pod):
            key = self._events.owner_key(pod)
            job = None if key is None else self._jobs.store.get(key)
            if job is None or plan.is_finished(job):
                self._orphans.queue.add(key_of(pod))

    async def _release_orphan(self, key: ObjectKey) -> Outcome:
        pod = self._pods.store.get(key)
        if pod is None or not plan.is_tracked(pod):
            return Done()
        reference = controller_of(pod)
        if reference is not None:
            if reference.get("kind") != "Job" or reference.get("apiVersion") != "batch/v1":
                return Done()
            job = await self._job_of(pod, reference)
            if job is not None and (not plan.is_finished(job) or _is_managed_elsewhere(job)):
                return Done()
        await self._tools.release(pod)
        return Done()

    async def _job_of(self, pod: Object, reference: Object) -> Object | None:
        """The Job a pod belongs to; that it is gone is believed only from the server."""
        key = ObjectKey(namespace_of(pod), reference.get("name") or "")
        cached = self._jobs.store.get(key)
        if cached is not None and uid_of(cached) == reference.get("uid"):
            return cached
        try:
            job = await self._client.get(JOBS, key)
        except NotFound:
            return None
        return job if uid_of(job) == reference.get("uid") else None

    async def reconcile(self, key: ObjectKey) -> Outcome:
        job = self._tools.latest.get(key)
        if job is None:
            self._tools.forget(key)
            return Done()
        if _is_managed_elsewhere(job):
            return Done()
        if plan.is_finished(job):
            self._tools.forget(key)
            return Done()
        settled = self._tools.expectations.satisfied(key)
        selector = selector_of(job)
        candidates = [*owned_by(self._pods.store, uid_of(job)), *orphans(self._pods.store, key.namespace, selector)]
        pods = await self._claimer.claim(job, selector, candidates)
        self._tools.pace.note(key, len(pods))
        now = self._context.now()
        started = plan.with_start(job, now)
        released = frozenset(self._tools.released.get(key, ()))
        progress = plan.judge(started, pods, released, self._tools.records.get(key, FailureRecord()), now)
        work = JobStep(self._tools, key, progress, settled=settled)
        await work.manage_pods(now)
        await work.track(job, self._context.now())
        if work.failure is not None:
            raise work.failure
        waits = [each for each in (work.wait_seconds, plan.seconds_to_deadline(started, now)) if each]
        return RequeueAfter(min(waits)) if waits and not work.ended else Done()


def _is_managed_elsewhere(job: Object) -> bool:
    return job["spec"].get("managedBy") not in (None, CONTROLLER_NAME)
