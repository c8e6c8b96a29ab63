"""Job: pods are started until enough of them succeeded, each counted exactly once.

In: a Job and its pods. Out: pods created and deleted, finalizers taken off, at most two status writes (pods noted as
uncounted; counted). What to do is decided in ``job_plan``. Also ends what outlives its Job: the finalizers of pods
whose Job is gone. Source: kubernetes ``pkg/controller/job``, 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import (
    Object,
    ObjectKey,
    controller_of,
    get_path,
    is_deleting,
    key_of,
    meta,
    name_of,
    uid_of,
    with_meta,
)
from anynode.api.resources import known
from anynode.client.api_client import PatchKind
from anynode.controllers import job_plan as plan
from anynode.controllers.conditions import same
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.job_indexes import (
    INDEX,
    INDEX_FAILURES,
    INDEX_IGNORED_FAILURES,
    failures_of,
    ignored_failures_of,
)
from anynode.controllers.job_plan import TRACKING_FINALIZER, PodPlan, Progress
from anynode.controllers.job_rules import FailureRecord, verdict
from anynode.controllers.ownership import Claimer, Expectations, Latest
from anynode.controllers.pace import Pace
from anynode.controllers.pod_events import PodEvents
from anynode.controllers.pods import (
    PODS,
    BatchFailed,
    PodControl,
    in_parallel,
    is_namespace_terminating,
    is_ready,
    slow_start,
    template_pod,
)
from anynode.controllers.selection import index_owned, index_selectors, orphans, owned_by, selector_of
from anynode.informers.controller import Controller, Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

JOBS = known("jobs", "batch")
CONTROLLER_NAME = "kubernetes.io/job-controller"
BATCH_SECONDS = 0.1
"""Pod events are looked at together (upstream waits a second)."""
_NAME_PREFIX_MOST = 58
_INDEX_VARIABLE = {
    "name": "JOB_COMPLETION_INDEX",
    "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}},
}


class JobController:
    """Brings every Job to its end."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._jobs = context.informers.informer(JOBS)
        self._pods = context.informers.informer(PODS)
        index_owned(self._pods.store)
        index_selectors(self._jobs.store)
        self._expectations = Expectations(context.clock)
        self._latest = Latest(self._jobs.store)
        self._released: dict[ObjectKey, set[str]] = {}
        self._records: dict[ObjectKey, FailureRecord] = {}
        self._claimer = Claimer(context.client, owner=JOBS, owned=PODS, finalizers=(TRACKING_FINALIZER,))
        self._recorder = context.recorder("job-controller")
        self._control = PodControl(context.client, self._recorder, JOBS)
        self._controller = context.controller("job", self.reconcile)
        self._orphans: Controller[ObjectKey] = context.controller("job-orphan-pods", self._release_orphan)
        self._pace = Pace(self._controller.queue, least_seconds=BATCH_SECONDS)
        self._events = PodEvents(self._jobs, self._pace.add, self._expectations)
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
            self._forget(key)
        if delta.kind == "deleted" or plan.is_finished(delta.obj):
            for pod in owned_by(self._pods.store, uid_of(delta.obj)):
                self._check_orphan(pod)
        self._controller.queue.add(key)

    def _forget(self, key: ObjectKey) -> None:
        self._expectations.forget(key)
        self._pace.forget(key)
        self._released.pop(key, None)
        self._records.pop(key, None)

    def _pod_changed(self, delta: Delta) -> None:
        pod = delta.obj
        if delta.kind == "deleted" or not plan.is_tracked(pod):
            key = self._events.owner_key(pod)
            if key is not None:
                self._released.get(key, set()).discard(uid_of(pod))
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
            job_key = self._events.owner_key(pod)
            job = None if job_key is None else self._jobs.store.get(job_key)
            if job is not None and (not plan.is_finished(job) or _is_managed_elsewhere(job)):
                return Done()
        await self._release(pod)
        return Done()

    async def _release(self, pod: Object) -> None:
        """Take the finalizer off; raises ``Invalid`` when the pod's finalizers are not what the cache shows."""
        at = (meta(pod).get("finalizers") or []).index(TRACKING_FINALIZER)
        path = f"/metadata/finalizers/{at}"
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": uid_of(pod)},
            {"op": "test", "path": path, "value": TRACKING_FINALIZER},
            {"op": "remove", "path": path},
        ]
        try:
            await self._client.patch(PODS, key_of(pod), operations, kind=PatchKind.JSON)
        except NotFound:
            return

    async def reconcile(self, key: ObjectKey) -> Outcome:
        job = self._latest.get(key)
        if job is None:
            self._forget(key)
            return Done()
        if _is_managed_elsewhere(job):
            return Done()
        if plan.is_finished(job):
            self._forget(key)
            return Done()
        settled = self._expectations.satisfied(key)
        selector = selector_of(job)
        candidates = [*owned_by(self._pods.store, uid_of(job)), *orphans(self._pods.store, key.namespace, selector)]
        pods = await self._claimer.claim(job, selector, candidates)
        self._pace.note(key, len(pods))
        now = self._context.now()
        started = plan.with_start(job, now)
        released = frozenset(self._released.get(key, ()))
        progress = plan.judge(started, pods, released, self._records.get(key, FailureRecord()), now)
        work = _Step(self, key, progress, settled=settled)
        await work.manage_pods(now)
        await work.track(job, self._context.now())
        if work.failure is not None:
            raise work.failure
        waits = [each for each in (work.wait_seconds, plan.seconds_to_deadline(started, now)) if each]
        return RequeueAfter(min(waits)) if waits and not work.ended else Done()


def _is_managed_elsewhere(job: Object) -> bool:
    return job["spec"].get("managedBy") not in (None, CONTROLLER_NAME)


class _Step:
    """One reconcile under way: what was judged, and what writing changed of it."""

    def __init__(self, owner: JobController, key: ObjectKey, progress: Progress, *, settled: bool) -> None:
        self._owner = owner
        self._key = key
        self._progress = progress
        self._settled = settled
        self._job = progress.job
        self._finish = progress.finish
        self._active = len(progress.active)
        self._ready = plan.ready_count(progress.active)
        self._terminating = progress.terminating
        self.failure: Exception | None = None
        self.wait_seconds = 0.0
        self.ended = False

    async def manage_pods(self, now: float) -> None:
        """Stop the pods of a Job that ended, else start or stop what the plan says."""
        if self._finish is not None:
            await self._delete(self._progress.active)
            if self._active or not self._settled:
                self._finish = None  # pods we do not know of may still run; decide again when they are seen
            return
        managed = self._settled and not is_deleting(self._job)
        if managed:
            await self._carry_out(plan.plan_pods(self._progress, now))
        self._finish = plan.plan_completion(self._progress, self._active, now)
        if self._finish is None and managed:
            self._job, event = plan.with_suspension(self._job, now)
            if event:
                text = f"Job {event.lower()}"
                self._owner._recorder.event(self._job, "Normal", event, text)

    async def _carry_out(self, pods: PodPlan) -> None:
        if pods.delete:
            self._owner._expectations.expect(self._key, deletions=(uid_of(pod) for pod in pods.delete))
            await self._delete(pods.delete, release=True)
        elif pods.count or pods.indexes:
            await self._create(pods)
        self.wait_seconds = pods.wait_seconds

    async def _delete(self, doomed: Sequence[Object], *, release: bool = False) -> None:
        """Delete pods; with ``release`` their finalizer goes first, so that they are not counted."""
        owner = self._owner

        async def delete(pod: Object) -> None:
            deleted = False
            try:
                if release and plan.is_tracked(pod):
                    await owner._release(pod)
                deleted = await owner._control.delete(self._job, pod)
            finally:
                if not deleted:
                    owner._expectations.deleted(self._key, uid_of(pod))
            self._active -= 1
            self._terminating += 1
            self._ready -= is_ready(pod)

        failures = await in_parallel(doomed, delete)
        self.failure = failures[0] if failures else None

    async def _create(self, pods: PodPlan) -> None:
        owner, job = self._owner, self._job
        count = len(pods.indexes) or pods.count
        wished = [_pod(self._progress, job, index) for index in pods.indexes] or [
            _pod(self._progress, job, None)
        ] * count
        owner._expectations.expect(self._key, creations=count)

        async def create(number: int) -> None:
            try:
                await owner._control.create(job, wished[number])
            except ApiError as error:
                if not is_namespace_terminating(error):
                    raise

        try:
            await slow_start(count, create)
        except BatchFailed as failed:
            owner._expectations.created(self._key, count - failed.succeeded)
            self._active += failed.succeeded
            self.failure = failed.first
        else:
            self._active += count

    async def track(self, before: Object, now: float) -> None:
        """Note what ended, take finalizers off, count, and end the Job when all of it is counted."""
        progress = self._progress
        progress.job = self._job
        tracking = plan.plan_tracking(
            progress, self._finish, active=self._active, ready=self._ready, terminating=self._terminating, now=now
        )
        self._owner._records[self._key] = progress.record
        job = await self._write(before, tracking.status)
        released = await self._release_all(tracking.release)
        held = frozenset(
            uid_of(pod)
            for pod in progress.pods
            if plan.is_tracked(pod) and uid_of(pod) not in progress.released and uid_of(pod) not in released
        )
        status = plan.with_counted(job.get("status") or {}, held)
        final: Object | None = None
        if not tracking.more:
            status, final = plan.with_end(status, self._finish, now)
        job = await self._write(job, status)
        if final is not None:
            self.ended = True
            self._tell_end(job, final)
        elif tracking.more:
            self._owner._pace.add(self._key)

    async def _write(self, job: Object, status: Object) -> Object:
        if same(job.get("status"), _printed(status)):
            return {**job, "status": status}
        owner = self._owner
        return owner._latest.note(
            await owner._client.update(JOBS, {**job, "status": _printed(status)}, subresource="status")
        )

    async def _release_all(self, pods: Sequence[Object]) -> set[str]:
        owner = self._owner
        pending = owner._released.setdefault(self._key, set())
        done: set[str] = set()

        async def release(pod: Object) -> None:
            pending.add(uid_of(pod))
            try:
                await owner._release(pod)
            except BaseException:
                pending.discard(uid_of(pod))
                raise
            done.add(uid_of(pod))
            current = owner._pods.store.get(key_of(pod))
            if current is None or uid_of(current) != uid_of(pod) or not plan.is_tracked(current):
                pending.discard(uid_of(pod))  # seen already

        failures = await in_parallel([pod for pod in pods if plan.is_tracked(pod)], release)
        if failures and self.failure is None:
            self.failure = failures[0]
        return done

    def _tell_end(self, job: Object, final: Object) -> None:
        recorder = self._owner._recorder
        if final["type"] == "Failed":
            recorder.event(job, "Warning", final["reason"], final["message"])
            return
        completions = job["spec"].get("completions")
        if completions is not None and get_path(job, "status", "succeeded", default=0) > completions:
            text = "Too many succeeded pods running after completion count reached"
            recorder.event(job, "Warning", "TooManySucceededPods", text)
        recorder.event(job, "Normal", "Completed", "Job completed")


def _printed(status: Object) -> Object:
    """The status as Go prints it: ready, terminating and uncountedTerminatedPods always, other zeros never."""
    always = ("ready", "terminating", "uncountedTerminatedPods", "failedIndexes")
    return {key: value for key, value in status.items() if value or key in always}


def _pod(progress: Progress, job: Object, index: int | None) -> Object:
    """The pod to POST; with a completion index if the Job is indexed."""
    pod = template_pod(job["spec"]["template"], job, JOBS)
    finalizers = list(meta(pod).get("finalizers") or ())
    if TRACKING_FINALIZER not in finalizers:
        finalizers.append(TRACKING_FINALIZER)
    pod = with_meta(pod, finalizers=finalizers)
    if index is None:
        return pod
    suffix = f"-{index}-"
    annotations = {**(meta(pod).get("annotations") or {}), INDEX: str(index), **_failure_counts(progress, job, index)}
    pod = with_meta(
        pod,
        generateName=f"{name_of(job)[: _NAME_PREFIX_MOST - len(suffix)]}{suffix}",
        labels={**(meta(pod).get("labels") or {}), INDEX: str(index)},
        annotations=annotations,
    )
    spec = {**pod["spec"], "hostname": f"{name_of(job)}-{index}"}
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [_with_index_variable(each) for each in spec[field]]
    return {**pod, "spec": spec}


def _failure_counts(progress: Progress, job: Object, index: int) -> dict[str, str]:
    if not plan.has_limit_per_index(job):
        return {}
    replaced = progress.waiting.get(index)
    if replaced is None:
        return {INDEX_FAILURES: "0"}
    counts = verdict(job["spec"].get("podFailurePolicy"), replaced).counts
    failures = failures_of(replaced) + (1 if counts else 0)
    ignored = ignored_failures_of(replaced) + (0 if counts else 1)
    found = {INDEX_FAILURES: str(failures)}
    return {**found, INDEX_IGNORED_FAILURES: str(ignored)} if ignored else found


def _with_index_variable(container: Object) -> Object:
    variables = container.get("env") or []
    if any(each.get("name") == _INDEX_VARIABLE["name"] for each in variables):
        return container
    return {**container, "env": [*variables, _INDEX_VARIABLE]}
