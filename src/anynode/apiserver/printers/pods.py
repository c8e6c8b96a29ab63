"""A pod's row: ready containers, the one word for its state, restarts.

Source: ``printPod`` in kubernetes ``pkg/printers/internalversion/printers.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from anynode.api import objects
from anynode.api.objects import Object
from anynode.apiserver.printers.wording import NONE, age, since

COMPLETED: list[Object] = [
    {
        "type": "Completed",
        "status": "True",
        "reason": "Succeeded",
        "message": "The pod has completed successfully.",
    },
]
FAILED: list[Object] = [{"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}]
TERMINAL = ("Succeeded", "Failed")


@dataclasses.dataclass(slots=True)
class Summary:
    """What is known after looking at some of a pod's containers."""

    reason: str
    ready: int = 0
    restarts: int = 0
    restarted: str = ""
    """When the last restart began, as RFC 3339: such texts sort as times do."""

    def count_restarts(self, status: Object) -> None:
        self.restarts += status.get("restartCount") or 0
        terminated = (status.get("lastState") or {}).get("terminated")
        if terminated:
            self.restarted = max(self.restarted, terminated.get("finishedAt") or "")


def conditions(pod: Object) -> list[Object] | None:
    """What a table row says of a pod that is over; None for others."""
    phase = (pod.get("status") or {}).get("phase")
    return COMPLETED if phase == "Succeeded" else FAILED if phase == "Failed" else None


def pod_cells(pod: Object, now: datetime.datetime) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    restartable = {each.get("name"): each.get("restartPolicy") == "Always" for each in spec.get("initContainers") or ()}
    summary = summarize(pod, spec, status, restartable)
    total = len(spec.get("containers") or ()) + sum(restartable.values())
    restarts = str(summary.restarts)
    if summary.restarts and summary.restarted:
        restarts = f"{restarts} ({since(summary.restarted, now)} ago)"
    addresses: Sequence[Object] = status.get("podIPs") or ({},)
    return [
        pod["metadata"].get("name", ""),
        f"{summary.ready}/{total}",
        summary.reason,
        restarts,
        age(pod, now),
        addresses[0].get("ip") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _readiness_gates(spec, status),
    ]


def summarize(pod: Object, spec: Object, status: Object, restartable: Mapping[str | None, bool]) -> Summary:
    """A pod's state in one word, with its ready containers and restarts."""
    found = status.get("conditions") or ()
    reason = status.get("reason") or status.get("phase") or ""
    if any(each.get("type") == "PodScheduled" and each.get("reason") == "SchedulingGated" for each in found):
        reason = "SchedulingGated"
    summary, sidecars, initializing = _initialization(spec, status, restartable, reason)
    initialized = objects.find_condition(found, "Initialized")
    if not initializing or (initialized is not None and initialized.get("status") == "True"):
        sidecars.reason, sidecars.ready = summary.reason, summary.ready
        summary = sidecars
        _running(status, summary)
    if pod["metadata"].get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            summary.reason = "Unknown"
        elif status.get("phase") not in TERMINAL:
            summary.reason = "Terminating"
    return summary


def _initialization(
    spec: Object, status: Object, restartable: Mapping[str | None, bool], reason: str
) -> tuple[Summary, Summary, bool]:
    """After the init containers: the summary, the restarts of those that go on running, whether one is not done."""
    summary, sidecars = Summary(reason), Summary(reason)
    for index, each in enumerate(status.get("initContainerStatuses") or ()):
        summary.count_restarts(each)
        is_sidecar = restartable.get(each.get("name"), False)
        if is_sidecar:
            sidecars.count_restarts(each)
        state = each.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if is_sidecar and each.get("started"):
            summary.ready += bool(each.get("ready"))
            continue
        if terminated is not None:
            summary.reason = f"Init:{_ending(terminated)}"
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            summary.reason = f"Init:{waiting['reason']}"
        else:
            summary.reason = f"Init:{index}/{len(spec.get('initContainers') or ())}"
        return summary, sidecars, True
    return summary, sidecars, False


def _running(status: Object, summary: Summary) -> None:
    """Look at the ordinary containers, the last one first: the first one's word counts."""
    running, failed = False, ""
    for each in reversed(status.get("containerStatuses") or ()):
        summary.count_restarts(each)
        state = each.get("state") or {}
        terminated = state.get("terminated")
        waiting_reason = (state.get("waiting") or {}).get("reason")
        if waiting_reason:
            summary.reason = waiting_reason
        elif terminated is not None:
            summary.reason = _ending(terminated)
            if terminated.get("exitCode"):
                failed = summary.reason
        elif each.get("ready") and state.get("running") is not None:
            running = True
            summary.ready += 1
    if summary.reason != "Completed":
        return
    ready = objects.find_condition(status.get("conditions") or (), "Ready")
    if running and ready is not None and ready.get("status") == "True":
        summary.reason = "Running"
    elif failed:
        summary.reason = failed
    elif running:
        summary.reason = "NotReady"


def _ending(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def _readiness_gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return NONE
    found = status.get("conditions") or ()
    passed = [objects.find_condition(found, gate.get("conditionType", "")) for gate in gates]
    return f"{sum(each is not None and each.get('status') == 'True' for each in passed)}/{len(gates)}"
