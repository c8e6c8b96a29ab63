"""CronJob: a Job at each strike of a schedule.

In: a CronJob, its Jobs, the time. Out: Jobs created (and with ``Replace`` deleted), old finished ones deleted, one
status write, and when to look again. Source: kubernetes ``pkg/controller/cronjob``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import zoneinfo
from collections.abc import Sequence

from anynode.api.errors import AlreadyExists, ApiError, NotFound
from anynode.api.formats import format_time, parse_time
from anynode.api.objects import (
    Object,
    ObjectKey,
    controller_of,
    get_path,
    is_deleting,
    key_of,
    meta,
    name_of,
    namespace_of,
    resource_version_of,
    uid_of,
)
from anynode.api.resources import known
from anynode.controllers.conditions import compact, same
from anynode.controllers.context import ControllerContext, run_when_synced
from anynode.controllers.cron_schedule import Schedule, ScheduleError, parse
from anynode.controllers.job_plan import finished_condition
from anynode.controllers.job_step import JOBS
from anynode.controllers.ownership import Latest, controller_reference, is_controlled_by
from anynode.controllers.pods import is_namespace_terminating
from anynode.controllers.selection import index_owned, owned_by
from anynode.informers.controller import Done, Outcome, RequeueAfter
from anynode.informers.informer import Delta

CRON_JOBS = known("cronjobs", "batch")
SCHEDULED_AT = "batch.kubernetes.io/cronjob-scheduled-timestamp"
LATE_SECONDS = 0.1
"""Look this much after the strike, so that it is past by then."""
MANY_MISSED = 100


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Strikes:
    """``due``: the last strike not acted on yet; ``missed``: about how many there were."""

    due: datetime.datetime | None = None
    missed: int = 0
    following: datetime.datetime | None = None


def strikes(cron_job: Object, schedule: Schedule, now: datetime.datetime) -> Strikes:
    """What the schedule asks for since the last Job (or the CronJob's creation, or the starting deadline)."""
    since = parse_time(get_path(cron_job, "status", "lastScheduleTime") or meta(cron_job)["creationTimestamp"])
    following = schedule.next(now)
    deadline = cron_job["spec"].get("startingDeadlineSeconds")
    if deadline is not None:
        since = max(since, now - datetime.timedelta(seconds=deadline))
    first = schedule.next(since)
    if first is None or first > now:
        return Strikes(following=first if first is not None else following)
    second = schedule.next(first)
    if second is None or second > now:
        return Strikes(due=first, missed=1, following=following)
    between = max(1.0, (second - first).total_seconds())
    missed = int((now - first).total_seconds() // between) + 1
    due = first
    while (step := schedule.next(max(due, first + datetime.timedelta(seconds=(missed - 2) * between)))) is not None:
        if step > now:
            break
        due = step
    return Strikes(due=due, missed=missed, following=following)


def job_for(cron_job: Object, due: datetime.datetime, zone: datetime.tzinfo) -> Object:
    """The Job to POST for one strike; its name tells the minute, so that none is made twice."""
    template = cron_job["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    stamp = due.astimezone(zone).isoformat().replace("+00:00", "Z")
    made: Object = {
        "name": f"{name_of(cron_job)}-{int(due.timestamp()) // 60}",
        "namespace": namespace_of(cron_job),
        "annotations": {**(metadata.get("annotations") or {}), SCHEDULED_AT: stamp},
        "ownerReferences": [controller_reference(cron_job, CRON_JOBS)],
    }
    if metadata.get("labels"):
        made["labels"] = metadata["labels"]
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": made, "spec": template["spec"]}


def plan_history(cron_job: Object, jobs: Sequence[Object]) -> list[Object]:
    """The finished Jobs beyond the limits, oldest first."""
    doomed: list[Object] = []
    for kind, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = cron_job["spec"].get(field)
        ended = [job for job in jobs if (finished_condition(job) or {}).get("type") == kind and not is_deleting(job)]
        if limit is None or len(ended) <= limit:
            continue
        ended.sort(key=lambda job: (get_path(job, "status", "startTime", default="9"), name_of(job)))
        doomed.extend(ended[: len(ended) - limit])
    return doomed


class CronJobController:
    """Starts Jobs in their time."""

    def __init__(self, context: ControllerContext) -> None:
        self._context = context
        self._client = context.client
        self._cron_jobs = context.informers.informer(CRON_JOBS)
        self._jobs = context.informers.informer(JOBS)
        index_owned(self._jobs.store)
        self._latest = Latest(self._cron_jobs.store)
        self._recorder = context.recorder("cronjob-controller")
        self._controller = context.controller("cronjob", self.reconcile)
        self._cron_jobs.subscribe(lambda delta: self._controller.queue.add(key_of(delta.obj)))
        self._jobs.subscribe(self._job_changed)

    async def run(self) -> None:
        await run_when_synced(self._controller, (self._cron_jobs, self._jobs))

    def _job_changed(self, delta: Delta) -> None:
        reference = controller_of(delta.obj)
        if reference is not None and reference.get("kind") == CRON_JOBS.kind:
            self._controller.queue.add(ObjectKey(namespace_of(delta.obj), reference.get("name") or ""))

    async def reconcile(self, key: ObjectKey) -> Outcome:
        cron_job = self._latest.get(key)
        if cron_job is None:
            return Done()
        jobs = owned_by(self._jobs.store, uid_of(cron_job))
        status = await self._with_jobs(cron_job, jobs)
        wait_seconds: float | None = None
        failure: ApiError | None = None
        if not is_deleting(cron_job):
            try:
                status, wait_seconds = await self._strike(cron_job, jobs, status)
            except ApiError as error:
                failure = error
            for job in plan_history(cron_job, jobs):
                await self._delete(cron_job, job)
        if not same(cron_job.get("status"), status):
            replaced = {**cron_job, "status": compact(status)}
            self._latest.note(await self._client.update(CRON_JOBS, replaced, subresource="status"))
        if failure is not None:
            raise failure
        return Done() if wait_seconds is None else RequeueAfter(wait_seconds)

    async def _with_jobs(self, cron_job: Object, jobs: Sequence[Object]) -> Object:
        """The status with Jobs that ended, or went missing, taken off the active ones."""
        status = dict(cron_job.get("status") or {})
        by_uid = {uid_of(job): job for job in jobs}
        active = []
        for reference in status.get("active") or ():
            job = by_uid.get(reference.get("uid"))
            if job is None:
                if await self._is_missing(reference):
                    text = f"Active job went missing: {reference.get('name')}"
                    self._recorder.event(cron_job, "Normal", "MissingJob", text)
                    continue
            elif (ended := finished_condition(job)) is not None:
                text = f"Saw completed job: {name_of(job)}, condition: {ended['type']}"
                self._recorder.event(cron_job, "Normal", "SawCompletedJob", text)
                continue
            active.append(reference)
        status["active"] = active
        completed = [get_path(job, "status", "completionTime", default="") for job in jobs]
        latest = max([*completed, status.get("lastSuccessfulTime") or ""], default="")
        if latest:
            status["lastSuccessfulTime"] = latest
        return status

    async def _is_missing(self, reference: Object) -> bool:
        key = ObjectKey(reference.get("namespace") or "", reference.get("name") or "")
        try:
            return uid_of(await self._client.get(JOBS, key)) != reference.get("uid")
        except NotFound:
            return True

    def _schedule(self, cron_job: Object) -> tuple[Schedule, datetime.tzinfo] | None:
        spec = cron_job["spec"]
        zone: datetime.tzinfo = datetime.UTC
        if spec.get("timeZone"):
            try:
                zone = zoneinfo.ZoneInfo(spec["timeZone"])
            except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
                text = f'invalid timeZone: "{spec["timeZone"]}": {error}'
                self._recorder.event(cron_job, "Warning", "UnknownTimeZone", text)
                return None
        try:
            return parse(spec["schedule"], zone), zone
        except ScheduleError as error:
            text = f'unparseable schedule: "{spec["schedule"]}" : {error}'
            self._recorder.event(cron_job, "Warning", "UnparseableSchedule", text)
            return None

    async def _strike(self, cron_job: Object, jobs: Sequence[Object], status: Object) -> tuple[Object, float | None]:
        """Start what is due; the status after it, and when to look again."""
        found = self._schedule(cron_job)
        if found is None or cron_job["spec"].get("suspend"):
            return status, None
        schedule, zone = found
        now = self._context.clock.now()
        told = strikes(cron_job, schedule, now)
        again = None if told.following is None else (told.following - now).total_seconds() + LATE_SECONDS
        due = told.due
        if due is None or format_time(due) == status.get("lastScheduleTime"):
            return status, again
        deadline = cron_job["spec"].get("startingDeadlineSeconds")
        if told.missed > MANY_MISSED:
            text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self._recorder.event(cron_job, "Warning", "TooManyMissedTimes", text)
        if deadline is not None and due + datetime.timedelta(seconds=deadline) < now:
            text = f"Missed scheduled time to start a job: {email.utils.format_datetime(due, usegmt=True)}"
            self._recorder.event(cron_job, "Warning", "MissSchedule", text)
            return status, again
        policy = cron_job["spec"].get("concurrencyPolicy")
        if policy == "Forbid" and status["active"]:
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self._recorder.event(cron_job, "Normal", "JobAlreadyActive", text)
            return status, again
        if policy == "Replace":
            running = {each.get("uid") for each in status["active"]}
            for job in jobs:
                if uid_of(job) in running:
                    await self._delete(cron_job, job)
            status = {**status, "active": []}
        made = await self._create(cron_job, job_for(cron_job, due, zone))
        if made is None:
            return status, again
        active = [each for each in status["active"] if each.get("uid") != uid_of(made)]
        return {**status, "active": [*active, _reference(made)], "lastScheduleTime": format_time(due)}, again

    async def _create(self, cron_job: Object, wished: Object) -> Object | None:
        """The Job of this strike; None when somebody else's has its name or the namespace goes."""
        try:
            created = await self._client.create(JOBS, wished)
        except AlreadyExists:
            found = await self._client.get(JOBS, key_of(wished))
            return found if is_controlled_by(found, cron_job) else None
        except ApiError as error:
            if is_namespace_terminating(error):
                return None
            self._recorder.event(cron_job, "Warning", "FailedCreate", f"Error creating job: {error.message}")
            raise
        self._recorder.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {name_of(created)}")
        return created

    async def _delete(self, cron_job: Object, job: Object) -> None:
        try:
            await self._client.delete(JOBS, key_of(job), propagation="Background", uid=uid_of(job))
        except NotFound:
            return
        self._recorder.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name_of(job)}")


def _reference(job: Object) -> Object:
    return {
        "kind": "Job",
        "namespace": namespace_of(job),
        "name": name_of(job),
        "uid": uid_of(job),
        "apiVersion": "batch/v1",
        "resourceVersion": resource_version_of(job),
    }
