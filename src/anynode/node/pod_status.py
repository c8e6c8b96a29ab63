"""``PodStatus`` as a kubelet writes it: what is known of a pod in, its status out.

Pure. ``old`` is the status written last (or the API's): transition times, the start time and whatever the kubelet
does not own are taken from it. Source: kubelet ``pkg/kubelet/kubelet_pods.go`` (generateAPIPodStatus, getPhase,
convertToAPIContainerStatuses), ``pkg/kubelet/status/generate.go`` and ``status_manager.go``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence

from anynode.api.formats import Quantity, format_time
from anynode.api.objects import Object, find_condition, meta
from anynode.node.pod_machine import (
    RESTART_ALL,
    ContainerRecord,
    Kind,
    PodState,
    containers_of,
    has_initialized,
    init_containers,
    is_sidecar,
    main_containers,
    matching_rule,
    restarts_after,
    to_be_started,
)
from anynode.provider import ContainerReport, ContainerState

OWN_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
    "AllContainersRestarting",
    "PodResizePending",
    "PodResizeInProgress",
)
TERMINAL = ("Failed", "Succeeded")
UNKNOWN_REASON = "ContainerStatusUnknown"
LOCATED = "The container could not be located when the pod was terminated"
RESTARTED_ALL: Object = {
    "exitCode": 137,
    "reason": "RestartingAllContainers",
    "message": "The container is removed because RestartAllContainers in place",
}
EPOCH = "1970-01-01T00:00:00Z"
COMPUTE = ("cpu", "memory")


def generate(
    state: PodState, old: Object, now: datetime.datetime, *, host_ip: str = "", stopped: bool = False
) -> Object:
    """The status now. ``stopped``: the pod was ended for good, nothing runs and nothing will run again."""
    pod = state.pod
    if state.failure is not None and state.sandbox is None and not state.records:
        return rejected(state, old, now)
    statuses = {
        kind: [_container_status(state, each, kind) for each in containers]
        for kind, containers in (
            ("initContainerStatuses", init_containers(pod)),
            ("containerStatuses", main_containers(pod)),
            ("ephemeralContainerStatuses", pod["spec"].get("ephemeralContainers") or ()),
        )
    }
    by_name = {each["name"]: each for each in (*statuses["initContainerStatuses"], *statuses["containerStatuses"])}
    phase = _phase(pod, by_name, stopped=stopped, initialized=has_initialized(state))
    reason, message = _reason(state, old, phase)
    if state.failure is not None:
        phase, (reason, message) = "Failed", state.failure
    if old.get("phase") in TERMINAL:
        phase = old["phase"]
    elif phase in TERMINAL and state.any_running:
        phase = old.get("phase") or "Pending"  # not before everything has stopped
        reason, message = old.get("reason") or "", old.get("message") or ""
    status: Object = {"observedGeneration": meta(pod).get("generation"), "phase": phase}
    status["conditions"] = _conditions(state, old, now, by_name, phase, stopped=stopped)
    status["message"], status["reason"] = message, reason
    if state.sandbox is not None or host_ip:
        status.update(_addresses(state, host_ip))
    status["startTime"] = _start_time(state, old, now)
    status.update(statuses)
    status["qosClass"] = qos_class(pod)
    status.update(_pod_resources(pod, phase, old))
    return {key: value for key, value in status.items() if value not in (None, "", [])}


def rejected(state: PodState, old: Object, now: datetime.datetime) -> Object:
    """The status of a pod this node will not run."""
    reason, message = state.failure or ("", "")
    return {
        "observedGeneration": meta(state.pod).get("generation"),
        "phase": "Failed",
        "message": message,
        "reason": reason,
        "startTime": _start_time(state, old, now),
        "qosClass": qos_class(state.pod),
        "conditions": [each for each in old.get("conditions") or () if each.get("type") not in OWN_CONDITIONS[:4]],
    }


def finished(status: Object, pod: Object, before: Object) -> Object:
    """The last status of a pod that was ended: what never ran is failed, the phase is terminal.

    ``before`` is the status the API had while it ran. Source: status manager TerminatePod.
    """
    unknown = {"terminated": {"exitCode": 137, "reason": UNKNOWN_REASON, "message": LOCATED}}

    def failed(each: Object) -> Object:
        return each if "terminated" in each["state"] else {**each, "state": unknown}

    changed = dict(status)
    if _was_initialized(before, pod) and status.get("containerStatuses"):
        changed["containerStatuses"] = [failed(each) for each in status["containerStatuses"]]
    init = status.get("initContainerStatuses") or []
    if init:
        last = max(
            (i for i, each in enumerate(init) if "waiting" not in each["state"] or each.get("lastState")), default=0
        )
        changed["initContainerStatuses"] = [failed(each) if i <= last else each for i, each in enumerate(init)]
    if status.get("phase") not in TERMINAL:
        changed["phase"] = "Failed"
        terms = {"status": "False", "reason": "PodFailed"}
        conditions = []
        for each in status.get("conditions") or ():
            if each["type"] in ("Ready", "ContainersReady") and each["status"] == "True":
                each = {**{key: value for key, value in each.items() if key != "message"}, **terms}
            conditions.append(each)
        changed["conditions"] = conditions
    return changed


def _was_initialized(status: Object, pod: Object) -> bool:
    specs = init_containers(pod)
    if not specs:
        return True
    if any("waiting" not in each["state"] or each.get("lastState") for each in status.get("containerStatuses") or ()):
        return True
    init = status.get("initContainerStatuses") or []
    if not init:
        return False
    last = init[-1]
    if is_sidecar(specs[-1]):
        return "running" in last["state"] and bool(last.get("started"))
    ends = (last["state"].get("terminated"), (last.get("lastState") or {}).get("terminated"))
    return any(end is not None and end.get("exitCode") == 0 for end in ends)


# -- containers


def _container_status(state: PodState, spec: Object, kind: Kind | str) -> Object:
    record = state.record(spec["name"])
    real_kind = _kind_of(spec, kind)
    report = record.report
    status: Object = {"name": spec["name"]}
    if report is None or (record.fresh and not record.running):
        status.update(_not_created(state, spec, record, real_kind))
    else:
        status["state"] = _state(report)
        status["lastState"] = _last_state(record)
        _wait_if_held(state, spec, record, real_kind, status)
        status["ready"] = False
        status["restartCount"] = report.attempt
        status["image"], status["imageID"] = record.image or spec.get("image", ""), report.image_id
        status["containerID"] = report.container_id
    status["ready"] = _is_ready(record, real_kind, status["state"])
    if real_kind is not Kind.EPHEMERAL:
        status["started"] = "running" in status["state"] and (record.started or real_kind is Kind.INIT)
    if report is not None:
        requests = (spec.get("resources") or {}).get("requests")
        if requests:
            status["allocatedResources"] = requests
        status["resources"] = spec.get("resources") or {}
    mounts = _volume_mounts(spec)
    if mounts:
        status["volumeMounts"] = mounts
    return status


def _kind_of(spec: Object, kind: Kind | str) -> Kind:
    if kind == "initContainerStatuses":
        return Kind.SIDECAR if is_sidecar(spec) else Kind.INIT
    return Kind.EPHEMERAL if kind == "ephemeralContainerStatuses" else Kind.MAIN


def _not_created(state: PodState, spec: Object, record: ContainerRecord, kind: Kind) -> Object:
    waiting: Object = {"reason": "PodInitializing" if init_containers(state.pod) else "ContainerCreating"}
    if record.trouble is not None and to_be_started(state, spec):
        waiting = _waiting(record.trouble)
    last = record.report if record.fresh else None
    return {
        "state": {"waiting": waiting},
        "lastState": {"terminated": RESTARTED_ALL} if last is not None else {},
        "ready": False,
        "restartCount": last.attempt + 1 if last is not None else record.attempts_before,
        "image": spec.get("image", ""),
        "imageID": "",
    }


def _wait_if_held(state: PodState, spec: Object, record: ContainerRecord, kind: Kind, status: Object) -> None:
    """A container that is to be started again and cannot be waits, and says why."""
    if not record.terminated or record.trouble is None or kind is Kind.EPHEMERAL:
        return
    if kind in (Kind.INIT, Kind.SIDECAR) and record.exit_code == 0:
        return
    if to_be_started(state, spec):
        status["lastState"] = status["state"]
        status["state"] = {"waiting": _waiting(record.trouble)}


def _last_state(record: ContainerRecord) -> Object:
    if record.previous is None:
        return {}
    if record.restarted_with_all:
        return {"terminated": RESTARTED_ALL}
    return {"terminated": _terminated(record.previous)}


def _waiting(trouble: tuple[str, str]) -> Object:
    reason, message = trouble
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _state(report: ContainerReport) -> Object:
    if report.state is ContainerState.RUNNING:
        return {"running": {"startedAt": _time(report.started_at)}}
    if report.state is ContainerState.TERMINATED:
        return {"terminated": _terminated(report)}
    return {"waiting": {"reason": report.reason} if report.reason else {}}


def _terminated(report: ContainerReport) -> Object:
    ended: Object = {"exitCode": report.exit_code}
    if report.signal and report.reason not in ("Error", "Completed"):
        ended["signal"] = report.signal
    if report.reason:
        ended["reason"] = report.reason
    if report.message:
        ended["message"] = report.message
    ended["startedAt"], ended["finishedAt"] = _time(report.started_at), _time(report.finished_at)
    if report.container_id:
        ended["containerID"] = report.container_id
    return ended


def _time(moment: datetime.datetime | None) -> str:
    return EPOCH if moment is None else format_time(moment)


def _is_ready(record: ContainerRecord, kind: Kind, state: Object) -> bool:
    if kind is Kind.INIT:
        ended = state.get("terminated")
        return ended is not None and ended["exitCode"] == 0
    return kind is not Kind.EPHEMERAL and "running" in state and record.started and record.ready


def _volume_mounts(spec: Object) -> list[Object]:
    mounts = []
    for each in spec.get("volumeMounts") or ():
        mount = {"name": each["name"], "mountPath": each["mountPath"]}
        if each.get("readOnly"):
            mount["readOnly"] = True
            mount["recursiveReadOnly"] = "Disabled"
        mounts.append(mount)
    return mounts


# -- the pod


def _phase(pod: Object, by_name: Mapping[str, Object], *, stopped: bool, initialized: bool) -> str:
    """Source: getPhase. ``stopped``: nothing will run again whatever the policy says."""
    pending = pending_sidecars = waiting = running = ended = for_good = succeeded = 0
    for spec, kind in containers_of(pod):
        if kind is Kind.EPHEMERAL:
            continue
        status = by_name[spec["name"]]
        current = status["state"]
        last = (status.get("lastState") or {}).get("terminated")
        end = current.get("terminated") or (last if "waiting" in current else None)
        if kind is Kind.INIT:
            if end is None:
                pending += 1
            elif end["exitCode"] != 0 and not _runs_again(spec, pod, end):
                return "Failed"
        elif kind is Kind.SIDECAR:
            if "running" in current:
                running += 1
                pending_sidecars += not status.get("started")
            elif end is None:
                pending_sidecars += 1
                waiting += 1
        elif "running" in current:
            running += 1
        elif end is not None:
            ended += 1
            for_good += not _runs_again(spec, pod, end)
            succeeded += "terminated" in current and end["exitCode"] == 0
        else:
            waiting += 1
    if pending or (pending_sidecars and not initialized) or waiting:
        return "Pending"
    if running:
        return "Running"
    if not ended:
        return "Pending"
    if not stopped and ended != for_good:
        return "Running"
    return "Succeeded" if ended == succeeded else "Failed"


def _runs_again(spec: Object, pod: Object, end: Object) -> bool:
    return end.get("reason") == RESTARTED_ALL["reason"] or restarts_after(spec, pod, end["exitCode"])


def _reason(state: PodState, old: Object, phase: str) -> tuple[str, str]:
    """Reason and message stay with the phase they were written for."""
    if phase == old.get("phase"):
        return old.get("reason") or "", old.get("message") or ""
    return "", ""


def _start_time(state: PodState, old: Object, now: datetime.datetime) -> str:
    started = old.get("startTime")
    return str(started) if started else format_time(state.started_at or now)


def _addresses(state: PodState, host_ip: str) -> Object:
    found: Object = {}
    if host_ip:
        found["hostIP"], found["hostIPs"] = host_ip, [{"ip": host_ip}]
    pod_ip = state.sandbox.pod_ip if state.sandbox is not None else ""
    if not pod_ip and state.pod["spec"].get("hostNetwork"):
        pod_ip = host_ip
    if pod_ip:
        found["podIP"], found["podIPs"] = pod_ip, [{"ip": pod_ip}]
    return found


def _conditions(
    state: PodState,
    old: Object,
    now: datetime.datetime,
    by_name: Mapping[str, Object],
    phase: str,
    *,
    stopped: bool,
) -> list[Object]:
    pod = state.pod
    before: Sequence[Object] = old.get("conditions") or ()
    api: Sequence[Object] = (pod.get("status") or {}).get("conditions") or ()
    kept = [each for each in api if each.get("type") not in OWN_CONDITIONS]
    generation = meta(pod).get("generation")
    containers_ready = _containers_ready(pod, by_name, phase)
    own = [
        ("PodReadyToStartContainers", (state.sandbox is not None and not stopped and phase not in TERMINAL, "", "")),
        ("Initialized", _initialized(state, before, by_name, phase)),
        ("Ready", _pod_ready(pod, kept, containers_ready)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", (True, "", "")),
    ]
    conditions = [*kept, *(_condition(name, value, generation, before, now) for name, value in own)]
    if _may_restart_all(pod):
        conditions.append(_condition("AllContainersRestarting", _restarting_all(state, phase), None, before, now))
    return conditions


Judgement = tuple[bool, str, str]


def _condition(
    name: str, value: Judgement, generation: int | None, before: Iterable[Object], now: datetime.datetime
) -> Object:
    holds, reason, message = value
    status = "True" if holds else "False"
    old = find_condition(before, name)
    since = old.get("lastTransitionTime") if old is not None and old.get("status") == status else None
    condition: Object = {
        "type": name,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": since or format_time(now),
        "reason": reason,
        "message": message,
    }
    return {key: value for key, value in condition.items() if value not in (None, "")}


def _names(names: Iterable[str]) -> str:
    return "[" + " ".join(names) + "]"


def _containers_ready(pod: Object, by_name: Mapping[str, Object], phase: str) -> Judgement:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    unready = [
        each["name"]
        for each, kind in containers_of(pod)
        if kind in (Kind.SIDECAR, Kind.MAIN) and not by_name[each["name"]].get("ready")
    ]
    if unready:
        return False, "ContainersNotReady", f"containers with unready status: {_names(unready)}"
    return True, "", ""


def _pod_ready(pod: Object, others: Sequence[Object], containers_ready: Judgement) -> Judgement:
    if not containers_ready[0]:
        return containers_ready
    messages = []
    for gate in pod["spec"].get("readinessGates") or ():
        name = gate["conditionType"]
        condition = find_condition(others, name)
        if condition is None:
            messages.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
        elif condition.get("status") != "True":
            messages.append(f'the status of pod readiness gate "{name}" is not "True", but {condition.get("status")}')
    if messages:
        return False, "ReadinessGatesNotReady", ", ".join(messages)
    return True, "", ""


def _initialized(state: PodState, before: Iterable[Object], by_name: Mapping[str, Object], phase: str) -> Judgement:
    pod = state.pod
    if phase == "Succeeded":
        return True, "PodCompleted", ""
    if any(_has_started(by_name[each["name"]]) for each in main_containers(pod)):
        return True, "", ""
    incomplete = [
        each["name"]
        for each in init_containers(pod)
        if not by_name[each["name"]].get("started" if is_sidecar(each) else "ready")
    ]
    if incomplete:
        old = find_condition(before, "Initialized")
        if old is not None and old.get("status") == "True":
            return True, "", ""
        return False, "ContainersNotInitialized", f"containers with incomplete status: {_names(incomplete)}"
    return True, "", ""


def _has_started(status: Object) -> bool:
    """Source: HasAnyRegularContainerStarted."""
    return "waiting" not in status["state"] or bool((status.get("lastState") or {}).get("terminated"))


def _may_restart_all(pod: Object) -> bool:
    return any(
        rule.get("action") == RESTART_ALL
        for each, _ in containers_of(pod)
        for rule in each.get("restartPolicyRules") or ()
    )


def _restarting_all(state: PodState, phase: str) -> Judgement:
    if phase == "Succeeded":
        return False, "PodCompleted", ""
    if phase == "Failed":
        return False, "PodFailed", ""
    asked = any(
        state.record(each["name"]).exists
        and state.record(each["name"]).terminated
        and matching_rule(each, state.record(each["name"]).exit_code) == RESTART_ALL
        for each, kind in containers_of(state.pod)
        if kind is not Kind.EPHEMERAL
    )
    if state.restarting_all or asked:
        return True, "RestartAllContainersStarted", "container exited with restart policy rule"
    return False, "", ""


# -- resources


def qos_class(pod: Object) -> str:
    """Guaranteed, Burstable or BestEffort. Source: ``pkg/apis/core/v1/helper/qos/qos.go``."""
    present = (pod.get("status") or {}).get("qosClass")
    if present:
        return str(present)
    specs = [each for each, kind in containers_of(pod) if kind is not Kind.EPHEMERAL]
    own = pod["spec"].get("resources")
    lists = [own] if own and (own.get("requests") or own.get("limits")) else [e.get("resources") or {} for e in specs]
    asked = False
    guaranteed = True
    for each in lists:
        requests = _positive(each.get("requests"))
        limits = _positive(each.get("limits"))
        asked = asked or bool(requests or limits)
        for name in COMPUTE:
            limit = limits.get(name)
            if limit is None or requests.get(name, limit) != limit:
                guaranteed = False
    if not asked:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(amounts: Mapping[str, str] | None) -> dict[str, Quantity]:
    found = {name: Quantity.parse((amounts or {})[name]) for name in COMPUTE if name in (amounts or {})}
    return {name: value for name, value in found.items() if value}


def pod_requests(pod: Object, which: str = "requests") -> dict[str, str]:
    """Requests or limits of the whole pod: main containers and sidecars together, or a larger init container.

    Source: component-helpers ``resource/helpers.go`` (PodRequests).
    """
    totals: dict[str, Quantity] = {}
    for each in main_containers(pod):
        _add(totals, each, which)
    highest: dict[str, Quantity] = {}
    sidecars: dict[str, Quantity] = {}
    for each in init_containers(pod):
        current = dict(sidecars)
        if is_sidecar(each):
            _add(totals, each, which)
            _add(sidecars, each, which)
            current = dict(sidecars)
        else:
            _add(current, each, which)
        for name, value in current.items():
            if name not in highest or highest[name] < value:
                highest[name] = value
    for name, value in highest.items():
        if name not in totals or totals[name] < value:
            totals[name] = value
    for name, text in ((pod["spec"].get("resources") or {}).get(which) or {}).items():
        totals[name] = Quantity.parse(text)
    for name, text in (pod["spec"].get("overhead") or {}).items():
        if which == "requests" or name in totals:
            totals[name] = totals[name] + Quantity.parse(text) if name in totals else Quantity.parse(text)
    return {name: str(value) for name, value in totals.items()}


def _add(totals: dict[str, Quantity], container: Object, which: str) -> None:
    for name, text in ((container.get("resources") or {}).get(which) or {}).items():
        value = Quantity.parse(text)
        totals[name] = totals[name] + value if name in totals else value


def _pod_resources(pod: Object, phase: str, old: Object) -> Object:
    """Pod-level resources: all that is allocated before the pod runs, then what the node enforces for the whole."""
    requests = pod_requests(pod)
    found: Object = {"resources": {}}
    if requests:
        found["allocatedResources"] = requests
    if old.get("phase") in TERMINAL:
        found["resources"] = old.get("resources") or {}
    elif old.get("phase") == "Running":
        if "memory" in requests:
            found["resources"] = {"requests": {"memory": requests["memory"]}}
    else:
        limits = pod_requests(pod, "limits")
        found["resources"] = {key: value for key, value in (("limits", limits), ("requests", requests)) if value}
    return found
