"""One look at a Job, carried out: pods stopped or started, then counted.

In: a ``Progress``, the tools to write with. Out: writes in the order that makes every pod count exactly once: status
with the uncounted UIDs, finalizers, status with the counts. Source: kubernetes
``pkg/controller/job/job_controller.go`` (manageJob, trackJobStatusAndRemoveFinalizers), 1.36; KEP-2307.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import Object, ObjectKey, get_path, is_deleting, key_of, meta, name_of, uid_of, with_meta
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.controllers import job_plan as plan
from anynode.controllers.conditions import same
from anynode.controllers.context import Recorder
from anynode.controllers.job_indexes import (
    INDEX,
    INDEX_FAILURES,
    INDEX_IGNORED_FAILURES,
    failures_of,
    ignored_failures_of,
)
from anynode.controllers.job_plan import TRACKING_FINALIZER, PodPlan, Progress
from anynode.controllers.job_rules import FailureRecord, verdict
from anynode.controllers.ownership import Expectations, Latest
from anynode.controllers.pace import Pace
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
from anynode.informers.store import Store

JOBS = known("jobs", "batch")
_NAME_PREFIX_MOST = 58
_INDEX_VARIABLE = {
    "name": "JOB_COMPLETION_INDEX",
    "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}},
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobTools:
    """What looks at Jobs share: ways to write, and what is remembered between two looks."""

    client: ApiClient
    control: PodControl
    recorder: Recorder
    pods: Store
    latest: Latest
    expectations: Expectations
    pace: Pace
    released: dict[ObjectKey, set[str]]
    """Per Job the UIDs of pods whose finalizer was removed though the cache does not show it yet."""
    records: dict[ObjectKey, FailureRecord]

    def forget(self, key: ObjectKey) -> None:
        self.expectations.forget(key)
        self.pace.forget(key)
        self.released.pop(key, None)
        self.records.pop(key, None)

    async def release(self, pod: Object) -> None:
        """Take the finalizer off; raises ``Invalid`` when the pod's finalizers are not what the cache shows."""
        at = (meta(pod).get("finalizers") or []).index(TRACKING_FINALIZER)
        path = f"/metadata/finalizers/{at}"
        operations = [
            {"op": "test", "path": "/metadata/uid", "value": uid_of(pod)},
            {"op": "test", "path": path, "value": TRACKING_FINALIZER},
            {"op": "remove", "path": path},
        ]
        try:
            await self.client.patch(PODS, key_of(pod), operations, kind=PatchKind.JSON)
        except NotFound:
            return


class JobStep:
    """One reconcile under way: what was judged, and what writing changed of it."""

    def __init__(self, tools: JobTools, key: ObjectKey, progress: Progress, *, settled: bool) -> None:
        self._tools = tools
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
                self._tools.recorder.event(self._job, "Normal", event, text)

    async def _carry_out(self, pods: PodPlan) -> None:
        if pods.delete:
            self._tools.expectations.expect(self._key, deletions=(uid_of(pod) for pod in pods.delete))
            await self._delete(pods.delete, release=True)
        elif pods.count or pods.indexes:
            await self._create(pods)
        self.wait_seconds = pods.wait_seconds

    async def _delete(self, doomed: Sequence[Object], *, release: bool = False) -> None:
        """Delete pods; with ``release`` their finalizer goes first, so that they are not counted."""
        tools = self._tools

        async def delete(pod: Object) -> None:
            deleted = False
            try:
                if release and plan.is_tracked(pod):
                    await tools.release(pod)
                deleted = await tools.control.delete(self._job, pod)
            finally:
                if not deleted:
                    tools.expectations.deleted(self._key, uid_of(pod))
            self._active -= 1
            self._terminating += 1
            self._ready -= is_ready(pod)

        failures = await in_parallel(doomed, delete)
        self.failure = failures[0] if failures else None

    async def _create(self, pods: PodPlan) -> None:
        tools, job = self._tools, self._job
        count = len(pods.indexes) or pods.count
        wished = [_pod(self._progress, job, index) for index in pods.indexes] or [
            _pod(self._progress, job, None)
        ] * count
        tools.expectations.expect(self._key, creations=count)

        async def create(number: int) -> None:
            try:
                await tools.control.create(job, wished[number])
            except ApiError as error:
                if not is_namespace_terminating(error):
                    raise

        try:
            await slow_start(count, create)
        except BatchFailed as failed:
            tools.expectations.created(self._key, count - failed.succeeded)
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
        self._tools.records[self._key] = progress.record
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
            self._tools.pace.add(self._key)

    async def _write(self, job: Object, status: Object) -> Object:
        if same(job.get("status"), _printed(status)):
            return {**job, "status": status}
        tools = self._tools
        return tools.latest.note(
            await tools.client.update(JOBS, {**job, "status": _printed(status)}, subresource="status")
        )

    async def _release_all(self, pods: Sequence[Object]) -> set[str]:
        tools = self._tools
        pending = tools.released.setdefault(self._key, set())
        done: set[str] = set()

        async def release(pod: Object) -> None:
            pending.add(uid_of(pod))
            try:
                await tools.release(pod)
            except BaseException:
                pending.discard(uid_of(pod))
                raise
            done.add(uid_of(pod))
            current = tools.pods.get(key_of(pod))
            if current is None or uid_of(current) != uid_of(pod) or not plan.is_tracked(current):
                pending.discard(uid_of(pod))  # seen already

        failures = await in_parallel([pod for pod in pods if plan.is_tracked(pod)], release)
        if failures and self.failure is None:
            self.failure = failures[0]
        return done

    def _tell_end(self, job: Object, final: Object) -> None:
        recorder = self._tools.recorder
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
