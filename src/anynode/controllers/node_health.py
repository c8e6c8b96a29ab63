"""What a node's conditions mean: taints, a status nobody renews, zones in trouble. Pure.

Source: kubernetes ``pkg/controller/nodelifecycle/node_lifecycle_controller.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping

from anynode.api.objects import Object, condition_of, get_path, labels_of, meta
from anynode.controllers.times import timestamp

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_BY_CONDITION: Mapping[tuple[str, str], str] = {
    ("Ready", "False"): NOT_READY,
    ("Ready", "Unknown"): UNREACHABLE,
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
}
_NO_SCHEDULE_KEYS = frozenset(_BY_CONDITION.values()) | {UNSCHEDULABLE}
_NO_EXECUTE_KEYS = frozenset({NOT_READY, UNREACHABLE})
_RENEWED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

EVICTIONS_PER_SECOND = 0.1
SECONDARY_EVICTIONS_PER_SECOND = 0.01
LARGE_ZONE_NODES = 50
UNHEALTHY_SHARE = 0.55


def ready_status(node: Object) -> str:
    """``True``, ``False``, ``Unknown``, or empty where the node never said."""
    condition = condition_of(node, "Ready")
    return "" if condition is None else str(condition.get("status") or "")


def zone_of(node: Object) -> str:
    """Region and zone, as one name; empty for nodes without either."""
    labels = labels_of(node)
    region = labels.get("topology.kubernetes.io/region") or labels.get("failure-domain.beta.kubernetes.io/region", "")
    zone = labels.get("topology.kubernetes.io/zone") or labels.get("failure-domain.beta.kubernetes.io/zone", "")
    return f"{region}:{zone}" if region or zone else ""


def plan_unknown(node: Object, now: float) -> Object | None:
    """The status of a node that stopped reporting; None when it says so already."""
    status = node.get("status") or {}
    conditions = list(status.get("conditions") or ())
    by_type = {each.get("type"): number for number, each in enumerate(conditions)}
    changed = False
    for kind in _RENEWED:
        at = by_type.get(kind)
        if at is None:
            conditions.append(
                {
                    "type": kind,
                    "status": "Unknown",
                    "lastHeartbeatTime": meta(node).get("creationTimestamp") or timestamp(now),
                    "lastTransitionTime": timestamp(now),
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
            )
            changed = True
        elif conditions[at].get("status") != "Unknown":
            conditions[at] = {
                **conditions[at],
                "status": "Unknown",
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
                "lastTransitionTime": timestamp(now),
            }
            changed = True
    return {**status, "conditions": conditions} if changed else None


def no_schedule_keys(node: Object) -> set[str]:
    """The NoSchedule taints the node's conditions call for."""
    keys = {
        key
        for each in get_path(node, "status", "conditions", default=())
        if (key := _BY_CONDITION.get((each.get("type") or "", each.get("status") or ""))) is not None
    }
    if get_path(node, "spec", "unschedulable"):
        keys.add(UNSCHEDULABLE)
    return keys


def no_execute_key(node: Object) -> str:
    """The NoExecute taint the Ready condition calls for; empty for a ready or a new node."""
    return {"False": NOT_READY, "Unknown": UNREACHABLE}.get(ready_status(node), "")


def plan_taints(node: Object, *, execute: bool, now: float) -> list[Object] | None:
    """The node's taints as they should be; None when they are right.

    A NoExecute taint is set anew only if ``execute``; a present one is always changed to the right one, or taken off.
    """
    taints = list(get_path(node, "spec", "taints", default=()))
    wanted = {(key, "NoSchedule") for key in no_schedule_keys(node)}
    execute_key = no_execute_key(node)
    executing = any(each.get("effect") == "NoExecute" and each.get("key") in _NO_EXECUTE_KEYS for each in taints)
    if execute_key and (execute or executing):
        wanted.add((execute_key, "NoExecute"))
    kept = []
    for taint in taints:
        at = (taint.get("key"), taint.get("effect"))
        if not _is_ours(taint) or at in wanted:
            kept.append(taint)
            wanted.discard((str(at[0]), str(at[1])))
    if not wanted and len(kept) == len(taints):
        return None
    added = [{"key": key, "effect": effect, "timeAdded": timestamp(now)} for key, effect in sorted(wanted)]
    return [*kept, *added]


def needs_execute(node: Object) -> bool:
    """Whether the node should have a NoExecute taint and has none of ours."""
    taints = get_path(node, "spec", "taints", default=())
    return bool(no_execute_key(node)) and not any(
        each.get("effect") == "NoExecute" and each.get("key") in _NO_EXECUTE_KEYS for each in taints
    )


def _is_ours(taint: Object) -> bool:
    if taint.get("effect") == "NoSchedule":
        return taint.get("key") in _NO_SCHEDULE_KEYS
    return taint.get("effect") == "NoExecute" and taint.get("key") in _NO_EXECUTE_KEYS


def is_fully_disrupted(ready: int, not_ready: int) -> bool:
    return ready == 0 and not_ready > 0


def taints_per_second(ready: int, not_ready: int) -> float:
    """How fast nodes of a zone may be given NoExecute taints: slower where much of the zone is in trouble."""
    total = ready + not_ready
    if not is_fully_disrupted(ready, not_ready) and not_ready > 2 and not_ready / total >= UNHEALTHY_SHARE:
        return SECONDARY_EVICTIONS_PER_SECOND if total > LARGE_ZONE_NODES else 0.0
    return EVICTIONS_PER_SECOND
