"""What a Deployment says about itself: counts and the conditions Progressing, Available and ReplicaFailure. Pure.

Source: kubernetes ``pkg/controller/deployment/{progress,sync}.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anynode.api.objects import Object, find_condition, get_path, meta, name_of
from anynode.controllers.conditions import compact, with_condition, without
from anynode.controllers.deployment_rollout import UNLIMITED, count, limits, sizes, wanted
from anynode.controllers.times import seconds_of, timestamp

PROGRESSING = "Progressing"
NEW_AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"
PAUSED = "DeploymentPaused"


def condition(kind: str, status: str, reason: str, message: str, now: float) -> Object:
    return {
        "type": kind,
        "status": status,
        "lastUpdateTime": timestamp(now),
        "lastTransitionTime": timestamp(now),
        "reason": reason,
        "message": message,
    }


def deadline_of(deployment: Object) -> int | None:
    """Seconds a rollout may stand still; None without limit."""
    found = deployment["spec"].get("progressDeadlineSeconds")
    return None if found is None or found == UNLIMITED else int(found)


def progressing(deployment: Object) -> Object | None:
    return find_condition(get_path(deployment, "status", "conditions", default=()), PROGRESSING)


def with_progress(deployment: Object, status: str, reason: str, message: str, now: float) -> Object:
    """``deployment`` with that Progressing condition, if it has a deadline at all."""
    if deadline_of(deployment) is None:
        return deployment
    old = deployment.get("status") or {}
    new = with_condition(old.get("conditions") or [], condition(PROGRESSING, status, reason, message, now))
    return {**deployment, "status": {**old, "conditions": new}}


def with_pause_noted(deployment: Object, now: float) -> Object:
    """``deployment`` with Progressing unknown when it was paused or resumed since; time paused does not count."""
    current = progressing(deployment)
    if current is not None and current.get("reason") == TIMED_OUT:
        return deployment
    noted = current is not None and current.get("reason") == PAUSED
    if deployment["spec"].get("paused") and not noted:
        return with_progress(deployment, "Unknown", PAUSED, "Deployment is paused", now)
    if not deployment["spec"].get("paused") and noted:
        return with_progress(deployment, "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    return deployment


def is_complete(deployment: Object, status: Mapping[str, object]) -> bool:
    """Whether all replicas are new and available and nothing else is left."""
    replicas = wanted(deployment)
    return (
        status.get("updatedReplicas", 0) == replicas
        and status.get("replicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas
        and int(str(status.get("observedGeneration") or 0)) >= (meta(deployment).get("generation") or 0)
    )


def plan_counts(deployment: Object, new: Object | None, replica_sets: Sequence[Object], now: float) -> Object:
    """Counts and the Available condition."""
    available = count(replica_sets, "availableReplicas")
    old = deployment.get("status") or {}
    if available >= wanted(deployment) - limits(deployment)[1]:
        said = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        said = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    return compact(
        {
            "observedGeneration": meta(deployment).get("generation") or 0,
            "replicas": count(replica_sets, "replicas"),
            "updatedReplicas": 0 if new is None else count([new], "replicas"),
            "readyReplicas": count(replica_sets, "readyReplicas"),
            "availableReplicas": available,
            "unavailableReplicas": max(0, sizes(replica_sets) - available),
            "terminatingReplicas": _terminating(replica_sets),
            "collisionCount": old.get("collisionCount"),
            "conditions": with_condition(old.get("conditions") or [], condition("Available", *said, now)),
        },
        always=("terminatingReplicas", "collisionCount"),
    )


def _terminating(replica_sets: Sequence[Object]) -> int | None:
    total = 0
    for each in replica_sets:
        status = each.get("status") or {}
        found = status.get("terminatingReplicas")
        if found is None and status.get("observedGeneration"):
            return None
        total += found or 0
    return total


def plan_status(deployment: Object, new: Object | None, replica_sets: Sequence[Object], now: float) -> Object:
    """The status during a rollout, its progress judged against the status before."""
    status = plan_counts(deployment, new, replica_sets, now)
    conditions = status["conditions"]
    current = progressing(deployment)
    if deadline_of(deployment) is None:
        conditions = without(conditions, PROGRESSING)
    elif not (
        status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and current is not None
        and current.get("reason") == NEW_AVAILABLE
    ):
        conditions = _judged(deployment, new, status, conditions, current, now)
    failing = _failures(new, replica_sets)
    if failing is not None:
        conditions = with_condition(conditions, failing)
    else:
        conditions = without(conditions, "ReplicaFailure")
    return {**status, "conditions": conditions}


def _judged(
    deployment: Object, new: Object | None, status: Object, conditions: list[Object], current: Object | None, now: float
) -> list[Object]:
    subject = f'Deployment "{name_of(deployment)}"' if new is None else f'ReplicaSet "{name_of(new)}"'
    if is_complete(deployment, status):
        message = f"{subject} has successfully progressed."
        return with_condition(conditions, condition(PROGRESSING, "True", NEW_AVAILABLE, message, now))
    if _has_progressed(deployment.get("status") or {}, status):
        found = condition(PROGRESSING, "True", "ReplicaSetUpdated", f"{subject} is progressing.", now)
        if current is not None and current.get("status") == "True":
            found["lastTransitionTime"] = current.get("lastTransitionTime", found["lastTransitionTime"])
        return [*without(conditions, PROGRESSING), found]
    if _has_timed_out(deployment, current, now):
        message = f"{subject} has timed out progressing."
        return with_condition(conditions, condition(PROGRESSING, "False", TIMED_OUT, message, now))
    return conditions


def _has_progressed(old: Object, new: Object) -> bool:
    def left(status: Object) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    return left(new) < left(old) or any(
        new.get(field, 0) > old.get(field, 0) for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def _has_timed_out(deployment: Object, current: Object | None, now: float) -> bool:
    deadline_seconds = deadline_of(deployment)
    if deadline_seconds is None or current is None or current.get("reason") == NEW_AVAILABLE:
        return False
    if current.get("reason") == TIMED_OUT:
        return True
    since = current.get("lastUpdateTime") or ""
    return since != "" and seconds_of(since) + deadline_seconds < now


def _failures(new: Object | None, replica_sets: Sequence[Object]) -> Object | None:
    """The first ReplicaFailure, the new ReplicaSet's before others'."""
    for each in [*([] if new is None else [new]), *replica_sets]:
        found = find_condition(get_path(each, "status", "conditions", default=()), "ReplicaFailure")
        if found is not None:
            moment = found.get("lastTransitionTime")
            return {**found, "lastUpdateTime": moment} if moment else found
    return None


def seconds_until_timeout(deployment: Object, status: Object, now: float) -> float | None:
    """When to look at a rollout again that stands still; None when it need not be looked at."""
    deadline_seconds = deadline_of(deployment)
    current = find_condition(status.get("conditions") or (), PROGRESSING)
    if deadline_seconds is None or current is None or not current.get("lastUpdateTime"):
        return None
    if is_complete(deployment, status) or current.get("reason") == TIMED_OUT:
        return None
    return max(0.0, seconds_of(current["lastUpdateTime"]) + deadline_seconds - now) + 1.0
