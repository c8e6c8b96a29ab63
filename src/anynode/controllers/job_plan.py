"""One look at a Job: how far it is, which pods to start or stop, what its status becomes. Pure.

In: a Job, its pods, what is still on its way, the time. Out: ``Progress`` (the judgement), ``PodPlan`` (pods to delete
or create), then ``Tracking`` (status, and pods whose finalizer may go). Invariant: a pod is counted exactly once; its
UID stands in ``uncountedTerminatedPods`` from before its finalizer goes until after.
Source: kubernetes ``pkg/controller/job/job_controller.go``, 1.36; KEP-2307.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from anynode.api.objects import Object, find_condition, get_path, is_deleting, meta, uid_of
from anynode.controllers import job_rules as rules
from anynode.controllers.job_indexes import Indexes, all_failures_of, failures_of, index_of
from anynode.controllers.job_rules import FailureRecord, is_failed, only_replaces_failed
from anynode.controllers.pods import deletion_order, is_active, is_ready, is_terminal, phase_of
from anynode.controllers.times import seconds_of, timestamp

TRACKING_FINALIZER = "batch.kubernetes.io/job-tracking"
MOST_UNCOUNTED = 500
MOST_PODS_PER_STEP = 500


def condition(kind: str, status: str, reason: str, message: str, now: float) -> Object:
    moment = timestamp(now)
    return {
        "type": kind,
        "status": status,
        "lastProbeTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }


def is_finished(job: Object) -> bool:
    return finished_condition(job) is not None


def finished_condition(job: Object) -> Object | None:
    """The Complete or Failed condition of a Job that has ended."""
    for each in get_path(job, "status", "conditions", default=()):
        if each.get("type") in ("Complete", "Failed") and each.get("status") == "True":
            found: Object = each
            return found
    return None


def is_suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def is_indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def has_limit_per_index(job: Object) -> bool:
    return job["spec"].get("backoffLimitPerIndex") is not None


def parallelism_of(job: Object) -> int:
    found = job["spec"].get("parallelism")
    return 1 if found is None else int(found)


def is_tracked(pod: Object) -> bool:
    return TRACKING_FINALIZER in (meta(pod).get("finalizers") or ())


def is_terminating(pod: Object) -> bool:
    return is_deleting(pod) and not is_terminal(pod)


@dataclasses.dataclass(slots=True, kw_only=True)
class Progress:
    """The judgement; ``finish`` is the condition that ends the Job, as soon as its pods are gone."""

    job: Object
    pods: Sequence[Object]
    released: frozenset[str]
    """UIDs of pods whose finalizer was removed already, though the cache may still show it."""
    active: list[Object]
    terminating: int
    succeeded: int
    failed: int
    uncounted_succeeded: frozenset[str]
    uncounted_failed: frozenset[str]
    record: FailureRecord
    completed_before: Indexes
    completed: Indexes
    failed_indexes: Indexes | None
    waiting: Mapping[int, Object]
    """Per index the failed pod that stays until its index starts again."""
    finish: Object | None


def with_start(job: Object, now: float) -> Object:
    """``job`` with a start time, unless it is suspended or has one."""
    status = job.get("status") or {}
    if status.get("startTime") or is_suspended(job):
        return job
    return {**job, "status": {**status, "startTime": timestamp(now)}}


def judge(job: Object, pods: Sequence[Object], released: frozenset[str], record: FailureRecord, now: float) -> Progress:
    """How far ``job`` (with its start time) is."""
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    progress = Progress(
        job=job,
        pods=pods,
        released=released,
        active=[pod for pod in pods if is_active(pod)],
        terminating=sum(1 for pod in pods if is_terminating(pod)),
        succeeded=0,
        failed=0,
        uncounted_succeeded=frozenset(uncounted.get("succeeded") or ()),
        uncounted_failed=frozenset(uncounted.get("failed") or ()),
        record=record,
        completed_before=Indexes(),
        completed=Indexes(),
        failed_indexes=None,
        waiting={},
        finish=None,
    )
    new_succeeded = _newly(progress, progress.uncounted_succeeded, lambda pod: phase_of(pod) == "Succeeded")
    new_failed = _newly(progress, progress.uncounted_failed, lambda pod: is_failed(pod, job))
    policy = job["spec"].get("podFailurePolicy")
    counting = [pod for pod in new_failed if rules.verdict(policy, pod).counts]
    progress.succeeded = status.get("succeeded", 0) + len(new_succeeded) + len(progress.uncounted_succeeded)
    progress.failed = status.get("failed", 0) + len(counting) + len(progress.uncounted_failed)
    progress.record = record.after(new_succeeded, new_failed)
    progress.finish = _failure(progress, now)
    if is_indexed(job):
        _judge_indexes(progress, now)
    return progress


def _newly(progress: Progress, known: frozenset[str], wanted: Callable[[Object], bool]) -> list[Object]:
    return [pod for pod in _countable(progress) if uid_of(pod) not in known and wanted(pod)]


def _countable(progress: Progress) -> list[Object]:
    """The pods not counted yet that have a part in the Job."""
    return [
        pod
        for pod in progress.pods
        if is_tracked(pod)
        and uid_of(pod) not in progress.released
        and (not is_indexed(progress.job) or _valid_index(progress.job, pod) is not None)
    ]


def _valid_index(job: Object, pod: Object) -> int | None:
    index = index_of(pod)
    return index if index is not None and index < job["spec"].get("completions", 0) else None


def _failure(progress: Progress, now: float) -> Object | None:
    job = progress.job
    conditions = get_path(job, "status", "conditions", default=())
    met = find_condition(conditions, "SuccessCriteriaMet")
    if met is not None and met.get("status") == "True":
        return met
    target = find_condition(conditions, "FailureTarget")
    if target is not None and target.get("status") == "True":
        return condition("Failed", "True", target.get("reason", ""), target.get("message", ""), now)
    policy = job["spec"].get("podFailurePolicy")
    for pod in progress.pods if policy is not None else ():
        if is_failed(pod, job) and (message := rules.verdict(policy, pod).fails_job):
            return condition("FailureTarget", "True", "PodFailurePolicy", message, now)
    limit = job["spec"].get("backoffLimit")
    if progress.failed > (6 if limit is None else limit) or rules.past_restart_limit(job, progress.pods):
        text = "Job has reached the specified backoff limit"
        return condition("FailureTarget", "True", "BackoffLimitExceeded", text, now)
    if seconds_to_deadline(job, now) == 0:
        text = "Job was active longer than specified deadline"
        return condition("FailureTarget", "True", "DeadlineExceeded", text, now)
    return None


def seconds_to_deadline(job: Object, now: float) -> float | None:
    """How long the Job may still be active; None when it has no deadline or does not run."""
    limit = job["spec"].get("activeDeadlineSeconds")
    start = get_path(job, "status", "startTime")
    if limit is None or start is None or is_suspended(job):
        return None
    return max(0.0, seconds_of(start) + float(limit) - now)


def _judge_indexes(progress: Progress, now: float) -> None:
    job = progress.job
    spec, status = job["spec"], job.get("status") or {}
    completions = spec.get("completions") or 0
    progress.completed_before = Indexes.parse(status.get("completedIndexes") or "", completions)
    progress.completed = progress.completed_before.with_added(
        index
        for pod in progress.pods
        if phase_of(pod) == "Succeeded" and is_tracked(pod) and (index := _valid_index(job, pod)) is not None
    )
    progress.succeeded = len(progress.completed)
    if has_limit_per_index(job):
        progress.failed_indexes = Indexes.parse(status.get("failedIndexes") or "", completions).with_added(
            index
            for pod in progress.pods
            if is_tracked(pod) and (index := _valid_index(job, pod)) is not None and _fails_index(job, pod)
        )
        failed = len(progress.failed_indexes)
        most = spec.get("maxFailedIndexes")
        if progress.finish is None and most is not None and failed > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            progress.finish = condition("FailureTarget", "True", "MaxFailedIndexesExceeded", text, now)
        elif progress.finish is None and failed and failed + len(progress.completed) >= completions:
            progress.finish = condition("FailureTarget", "True", "FailedIndexes", "Job has failed indexes", now)
        progress.waiting = _waiting_pods(progress)
    if progress.finish is None:
        message = rules.success(spec.get("successPolicy"), completions, progress.completed)
        if message:
            progress.finish = condition("SuccessCriteriaMet", "True", "SuccessPolicy", message, now)


def _fails_index(job: Object, pod: Object) -> bool:
    if not is_failed(pod, job):
        return False
    said = rules.verdict(job["spec"].get("podFailurePolicy"), pod)
    if said.action == "FailIndex":
        return True
    return said.counts and failures_of(pod) >= job["spec"]["backoffLimitPerIndex"]


def _waiting_pods(progress: Progress) -> Mapping[int, Object]:
    active = {index_of(pod) for pod in progress.active}
    waiting: dict[int, Object] = {}
    for pod in _countable(progress):
        index = index_of(pod)
        if index is None or not is_failed(pod, progress.job) or index in active or index in progress.completed:
            continue
        if progress.failed_indexes is not None and index in progress.failed_indexes:
            continue
        rank = (all_failures_of(pod), rules.finished_at(pod))
        held = waiting.get(index)
        if held is None or (all_failures_of(held), rules.finished_at(held)) <= rank:
            waiting[index] = pod
    return waiting


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodPlan:
    """``delete`` these; or create ``indexes`` (of an indexed Job) or ``count`` pods; or look again later."""

    delete: Sequence[Object] = ()
    count: int = 0
    indexes: Sequence[int] = ()
    wait_seconds: float = 0.0


def plan_pods(progress: Progress, now: float) -> PodPlan:
    """The next step of a Job that has not ended."""
    job = progress.job
    active = len(progress.active)
    if is_suspended(job):
        return PodPlan(delete=_for_removal(progress, active))
    completions = job["spec"].get("completions")
    if completions is None:
        wanted = active if progress.succeeded else parallelism_of(job)
    else:
        wanted = max(0, min(completions - progress.succeeded, parallelism_of(job)))
    doomed = _for_removal(progress, max(0, active - wanted))[:MOST_PODS_PER_STEP]
    if doomed:
        return PodPlan(delete=doomed)
    missing = wanted - active - (progress.terminating if only_replaces_failed(job) else 0)
    if missing <= 0:
        return PodPlan()
    wait_seconds = 0.0 if has_limit_per_index(job) else progress.record.wait_seconds(now)
    if wait_seconds > 0:
        return PodPlan(wait_seconds=wait_seconds)
    missing = min(missing, MOST_PODS_PER_STEP)
    return _plan_indexes(progress, missing, now) if is_indexed(job) else PodPlan(count=missing)


def _plan_indexes(progress: Progress, missing: int, now: float) -> PodPlan:
    job = progress.job
    taken = progress.completed.with_added(index for pod in progress.active if (index := index_of(pod)) is not None)
    if only_replaces_failed(job):
        taken = taken.with_added(
            index for pod in progress.pods if is_terminating(pod) and (index := index_of(pod)) is not None
        )
    if progress.failed_indexes is not None:
        taken = taken.union(progress.failed_indexes)
    indexes = taken.first_missing(missing, job["spec"].get("completions") or 0)
    if not has_limit_per_index(job):
        return PodPlan(indexes=indexes)
    waits = {index: rules.index_wait_seconds(progress.waiting.get(index), now) for index in indexes}
    ready = [index for index in indexes if waits[index] <= 0]
    if ready or not waits:
        return PodPlan(indexes=ready)
    return PodPlan(wait_seconds=min(waits.values()))


def _for_removal(progress: Progress, at_least: int) -> list[Object]:
    """Active pods with an index that is no index, or that another has too, then the least useful ones."""
    if not is_indexed(progress.job):
        return deletion_order(progress.active, {}, 0.0)[:at_least] if at_least else []
    removed: list[Object] = []
    kept: list[Object] = []
    by_index: dict[int | None, list[Object]] = {}
    for pod in progress.active:
        by_index.setdefault(_valid_index(progress.job, pod), []).append(pod)
    for index, pods in by_index.items():
        ordered = deletion_order(pods, {}, 0.0)
        cut = len(ordered) if index is None else len(ordered) - 1
        removed.extend(ordered[:cut])
        kept.extend(ordered[cut:])
    if len(removed) < at_least:
        removed.extend(deletion_order(kept, {}, 0.0)[: at_least - len(removed)])
    return removed


def plan_completion(progress: Progress, active: int, now: float) -> Object | None:
    """The condition that ends a Job whose work is done."""
    completions = progress.job["spec"].get("completions")
    if active:
        return None
    if progress.succeeded <= 0 if completions is None else progress.succeeded < completions:
        return None
    text = "Reached expected number of succeeded pods"
    return condition("SuccessCriteriaMet", "True", "CompletionsReached", text, now)


def with_suspension(job: Object, now: float) -> tuple[Object, str]:
    """``job`` with its Suspended condition and start time right, and the event to tell, if it changed."""
    status = job.get("status") or {}
    conditions = status.get("conditions") or []
    current = find_condition(conditions, "Suspended")
    suspended = is_suspended(job)
    if (current is not None and current.get("status") == "True") == suspended:
        return job, ""
    said = ("True", "JobSuspended", "Job suspended") if suspended else ("False", "JobResumed", "Job resumed")
    new = condition("Suspended", *said, now)
    conditions = [new if each is current else each for each in conditions] if current else [*conditions, new]
    changed = {**status, "conditions": conditions, "startTime": timestamp(now)}
    if suspended:
        del changed["startTime"]
    return {**job, "status": changed}, "Suspended" if suspended else "Resumed"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tracking:
    """``status`` to write before the finalizers of ``release`` go; ``more`` when not all could be noted at once."""

    status: Object
    release: Sequence[Object]
    more: bool


def plan_tracking(
    progress: Progress, finish: Object | None, *, active: int, ready: int, terminating: int, now: float
) -> Tracking:
    """Note every pod that ended. ``finish`` ends the Job: then running pods count as failed unless it succeeded."""
    job = progress.job
    held = frozenset(uid_of(pod) for pod in progress.pods if is_tracked(pod) and uid_of(pod) not in progress.released)
    status = with_counted(job.get("status") or {}, held)
    uncounted = status["uncountedTerminatedPods"]
    succeeded, failed = list(uncounted.get("succeeded") or ()), list(uncounted.get("failed") or ())
    indexes: list[int] = []
    release: list[Object] = []
    more = False
    for pod in progress.pods:
        if uid_of(pod) not in held or not _may_release(progress, pod, finish):
            continue
        release.append(pod)
        _note(progress, pod, finish, succeeded, failed, indexes)
        if len(indexes) + len(succeeded) + len(failed) >= MOST_UNCOUNTED:
            more = True
            break
    status = {
        **status,
        "active": active,
        "ready": ready,
        "terminating": terminating,
        "uncountedTerminatedPods": {
            key: value for key, value in (("succeeded", succeeded), ("failed", failed)) if value
        },
    }
    if is_indexed(job):
        completed = progress.completed_before.with_added(indexes)
        status = {**status, "succeeded": len(completed), "completedIndexes": str(completed)}
        if progress.failed_indexes is not None:
            status["failedIndexes"] = str(progress.failed_indexes)
    if finish is not None and finish["type"] in ("FailureTarget", "SuccessCriteriaMet"):
        conditions = status.get("conditions") or []
        if find_condition(conditions, finish["type"]) is None:
            status = {**status, "conditions": [*conditions, finish]}
    return Tracking(status=status, release=release, more=more)


def _may_release(progress: Progress, pod: Object, finish: Object | None) -> bool:
    if is_deleting(progress.job) or finish is not None or phase_of(pod) == "Succeeded":
        return True
    if not is_failed(pod, progress.job):
        return False
    index = index_of(pod)
    waiting = progress.waiting.get(index) if index is not None else None
    return waiting is None or uid_of(waiting) != uid_of(pod)


def _note(
    progress: Progress,
    pod: Object,
    finish: Object | None,
    succeeded: list[str],
    failed: list[str],
    indexes: list[int],
) -> None:
    job, uid = progress.job, uid_of(pod)
    index = _valid_index(job, pod)
    if phase_of(pod) == "Succeeded" and uid not in progress.uncounted_failed:
        if is_indexed(job):
            if index is not None and index not in progress.completed_before and index not in indexes:
                indexes.append(index)
        elif uid not in progress.uncounted_succeeded:
            succeeded.append(uid)
        return
    ended_by_failure = finish is not None and finish["type"] != "SuccessCriteriaMet"
    if (is_failed(pod, job) or ended_by_failure) and uid not in progress.uncounted_failed:
        if is_indexed(job) and index is None:
            return
        if rules.verdict(job["spec"].get("podFailurePolicy"), pod).counts:
            failed.append(uid)


def with_counted(status: Object, held: frozenset[str]) -> Object:
    """``status`` with the uncounted pods that no longer have their finalizer moved into the counts."""
    uncounted = status.get("uncountedTerminatedPods") or {}
    result = dict(status)
    left: Object = {}
    for field in ("succeeded", "failed"):
        uids = uncounted.get(field) or []
        kept = [uid for uid in uids if uid in held]
        if len(kept) < len(uids):
            result[field] = status.get(field, 0) + len(uids) - len(kept)
        if kept:
            left[field] = kept
    result["uncountedTerminatedPods"] = left
    return result


def with_end(status: Object, finish: Object | None, now: float) -> tuple[Object, Object | None]:
    """``status`` with the final condition, and that condition; unchanged while pods are uncounted or terminating."""
    if finish is None or status.get("uncountedTerminatedPods") or status.get("terminating"):
        return status, None
    kind = "Complete" if finish["type"] == "SuccessCriteriaMet" else "Failed"
    final = condition(kind, "True", finish.get("reason", ""), finish.get("message", ""), now)
    ended = {**status, "conditions": [*(status.get("conditions") or []), final]}
    if kind == "Complete":
        ended["completionTime"] = final["lastTransitionTime"]
    return ended, final


def ready_count(pods: Sequence[Object]) -> int:
    return sum(1 for pod in pods if is_ready(pod))
