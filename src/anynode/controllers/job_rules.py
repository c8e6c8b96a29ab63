"""What a Job makes of its pods' ends: failure policy, success policy, back-off. Pure.

Source: kubernetes ``pkg/controller/job/{pod_failure_policy,success_policy,backoff_utils}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anynode.api.objects import Object, condition_of, get_path, is_deleting, meta, name_of, namespace_of
from anynode.controllers.job_indexes import Indexes, all_failures_of
from anynode.controllers.pods import created_at, phase_of
from anynode.controllers.times import seconds_of

FIRST_BACKOFF_SECONDS = 10.0
MOST_BACKOFF_SECONDS = 600.0


def only_replaces_failed(job: Mapping[str, Any]) -> bool:
    """Whether a pod being deleted still counts until it is terminal (podReplacementPolicy Failed)."""
    spec = job["spec"]
    return spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy") is not None


def is_failed(pod: Mapping[str, Any], job: Mapping[str, Any]) -> bool:
    phase = phase_of(pod)
    if phase == "Failed":
        return True
    return not only_replaces_failed(job) and is_deleting(pod) and phase != "Succeeded"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the failure policy says of one failed pod. ``fails_job`` is the message that ends the Job."""

    counts: bool = True
    action: str = ""
    fails_job: str = ""


def verdict(policy: Mapping[str, Any] | None, pod: Object) -> Verdict:
    """The first rule that matches decides; without one the failure counts."""
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule.get("action", "")
        if rule.get("onExitCodes") is not None:
            status = _exited(pod, rule["onExitCodes"])
            if status is None:
                continue
            code = status["state"]["terminated"].get("exitCode", 0)
            subject = f"Container {status.get('name')} for pod {namespace_of(pod)}/{name_of(pod)}"
            text = f"{subject} failed with exit code {code} matching {action} rule at index {index}"
        else:
            condition = _matching_condition(pod, rule.get("onPodConditions") or ())
            if condition is None:
                continue
            where = f"{namespace_of(pod)}/{name_of(pod)}"
            text = f"Pod {where} has condition {condition['type']} matching {action} rule at index {index}"
        return Verdict(counts=action != "Ignore", action=action, fails_job=text if action == "FailJob" else "")
    return Verdict()


def _exited(pod: Object, requirement: Mapping[str, Any]) -> Object | None:
    statuses = get_path(pod, "status", "containerStatuses", default=[])
    for status in [*statuses, *get_path(pod, "status", "initContainerStatuses", default=[])]:
        code = get_path(status, "state", "terminated", "exitCode", default=0)
        if not code or requirement.get("containerName") not in (None, status.get("name")):
            continue
        if (code in (requirement.get("values") or ())) == (requirement.get("operator") == "In"):
            found: Object = status
            return found
    return None


def _matching_condition(pod: Object, patterns: Sequence[Mapping[str, Any]]) -> Object | None:
    for condition in get_path(pod, "status", "conditions", default=()):
        for pattern in patterns:
            if condition.get("type") == pattern.get("type") and condition.get("status") == pattern.get(
                "status", "True"
            ):
                found: Object = condition
                return found
    return None


def success(policy: Mapping[str, Any] | None, completions: int, succeeded: Indexes) -> str:
    """The message of the first success rule that holds; empty when none does."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        needed_count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is None:
            met = needed_count is not None and len(succeeded) >= needed_count
        else:
            needed = Indexes.parse(rule["succeededIndexes"], completions)
            both = needed.overlap(succeeded)
            met = len(needed) > 0 and (both == len(needed) or (needed_count is not None and both >= needed_count))
        if met:
            return f"Matched rules at index {number}"
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class FailureRecord:
    """Failures in a row, and when the last was (seconds since 1970)."""

    failures: int = 0
    last: float | None = None

    def after(self, succeeded: Iterable[Object], failed: Iterable[Object]) -> FailureRecord:
        """The record with newly finished pods; a success starts the row anew."""
        successes = [finished_at(pod) for pod in succeeded]
        failures = [finished_at(pod) for pod in failed]
        if not successes:
            if not failures:
                return self
            return FailureRecord(self.failures + len(failures), max(failures))
        later = [each for each in failures if each > max(successes)]
        return FailureRecord(len(later), max(later, default=None))

    def wait_seconds(self, now: float) -> float:
        """How long to wait before the next pod."""
        if not self.failures or self.last is None:
            return 0.0
        delay = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(self.failures - 1, 10), MOST_BACKOFF_SECONDS)
        return float(max(0.0, delay - (now - self.last)))


def index_wait_seconds(replaced: Object | None, now: float) -> float:
    """How long an index waits whose last pod was ``replaced``."""
    if replaced is None:
        return 0.0
    return FailureRecord(all_failures_of(replaced) + 1, finished_at(replaced)).wait_seconds(now)


def finished_at(pod: Object) -> float:
    """When the pod ended: by its containers, its Ready condition, its deletion, else its creation."""
    ended = _containers_ended(pod)
    if ended is not None:
        return ended
    ready = condition_of(pod, "Ready")
    if ready is not None and ready.get("status") == "False" and ready.get("lastTransitionTime"):
        return seconds_of(ready["lastTransitionTime"])
    deleted = meta(pod).get("deletionTimestamp")
    if deleted:
        return seconds_of(deleted) - (meta(pod).get("deletionGracePeriodSeconds") or 0)
    return created_at(pod)


def _containers_ended(pod: Object) -> float | None:
    sidecars = {
        each.get("name")
        for each in get_path(pod, "spec", "initContainers", default=())
        if each.get("restartPolicy") == "Always"
    }
    statuses = [
        *get_path(pod, "status", "containerStatuses", default=[]),
        *(
            each
            for each in get_path(pod, "status", "initContainerStatuses", default=[])
            if each.get("name") in sidecars
        ),
    ]
    times = [get_path(each, "state", "terminated", "finishedAt", default="") for each in statuses]
    if not times or not all(times):
        return None
    return max(seconds_of(each) for each in times)


def past_restart_limit(job: Object, pods: Iterable[Object]) -> bool:
    """Whether containers restarted in place (restartPolicy OnFailure) used the back-off limit up."""
    if get_path(job, "spec", "template", "spec", "restartPolicy") != "OnFailure":
        return False
    restarts = sum(
        status.get("restartCount", 0)
        for pod in pods
        if phase_of(pod) in ("Running", "Pending")
        for field in ("initContainerStatuses", "containerStatuses")
        for status in get_path(pod, "status", field, default=())
    )
    limit = job["spec"].get("backoffLimit", 6)
    return restarts > 0 if limit == 0 else bool(restarts >= limit)
