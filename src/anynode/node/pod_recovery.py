"""What the API says of a pod's containers as reports: the memory of a node that was restarted.

Pure. What the provider still holds is reported by it and wins; a container the API saw running and the provider lost
has ended, so that it is not run again where its policy forbids. Source: kubelet ``pkg/kubelet/kubelet_pods.go``
(convertToAPIContainerStatuses), 1.36.
"""

from __future__ import annotations

import datetime

from anynode.api.formats import parse_time
from anynode.api.objects import Object, Uid
from anynode.node import pod_status
from anynode.node.pod_machine import PodState
from anynode.provider import ContainerReport, ContainerState


def recover(state: PodState, uid: Uid, *, held: bool, now: float) -> None:
    """Take the pod's status into its state; ``held``: the provider still has the pod."""
    status = state.pod.get("status") or {}
    for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(key) or ():
            _recover_container(state, uid, each, held=held, now=now)


def _recover_container(state: PodState, uid: Uid, status: Object, *, held: bool, now: float) -> None:
    current = status.get("state") or {}
    last = (status.get("lastState") or {}).get("terminated")
    attempt = int(status.get("restartCount") or 0)
    name = status["name"]
    ended = current.get("terminated") or (last if "waiting" in current else None)
    if "running" in current and not held:
        ended = {"exitCode": 137, "reason": pod_status.UNKNOWN_REASON, "message": pod_status.LOCATED}
    if last is not None and ended is not last and attempt > 0:
        state.observe(_report(uid, name, attempt - 1, last, status), now)
    if ended is not None:
        state.observe(_report(uid, name, attempt, ended, status), now)
    state.record(name).attempts_before = attempt + 1 if ended is not None else attempt


def _report(uid: Uid, name: str, attempt: int, ended: Object, status: Object) -> ContainerReport:
    def moment(key: str) -> datetime.datetime | None:
        return parse_time(ended[key]) if ended.get(key) else None

    return ContainerReport(
        uid=uid,
        container=name,
        attempt=attempt,
        state=ContainerState.TERMINATED,
        container_id=ended.get("containerID") or status.get("containerID") or "",
        image_id=status.get("imageID") or "",
        exit_code=int(ended.get("exitCode") or 0),
        signal=int(ended.get("signal") or 0),
        reason=ended.get("reason") or "",
        message=ended.get("message") or "",
        started_at=moment("startedAt"),
        finished_at=moment("finishedAt"),
    )
