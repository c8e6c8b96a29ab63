"""One pod on every node that fits: which to create, which to delete, how an update proceeds. Pure.

Source: kubernetes ``pkg/controller/daemon/{daemon_controller,update}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from anynode.api.objects import Object, annotations_of, get_path, is_deleting, labels_of, meta, name_of, uid_of
from anynode.controllers import node_fit
from anynode.controllers.conditions import compact
from anynode.controllers.pods import created_at, is_available, is_ready, is_terminal, names_node, phase_of
from anynode.controllers.revisions import HASH_LABEL
from anynode.controllers.scaling import scaled

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"
_NO_EXECUTE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_NO_SCHEDULE = (
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/unschedulable",
)


def tolerations(pod_spec: Object) -> list[Object]:
    """The template's tolerations and those every daemon has."""
    added = [_exists(key, "NoExecute") for key in _NO_EXECUTE] + [_exists(key, "NoSchedule") for key in _NO_SCHEDULE]
    if pod_spec.get("hostNetwork"):
        added.append(_exists("node.kubernetes.io/network-unavailable", "NoSchedule"))
    given = list(pod_spec.get("tolerations") or ())
    return [*given, *(each for each in added if each not in given)]


def _exists(key: str, effect: str) -> Object:
    return {"key": key, "operator": "Exists", "effect": effect}


def fit(daemon_set: Object, node: Object) -> tuple[bool, bool]:
    """Whether a pod should be started on ``node``, and whether one that runs there may stay."""
    spec = daemon_set["spec"]["template"].get("spec") or {}
    if spec.get("nodeName") not in (None, "", name_of(node)):
        return False, False
    if not node_fit.affinity_fits(spec, node):
        return False, False
    taints = get_path(node, "spec", "taints", default=())
    if not taints:
        return True, True
    tolerated = tolerations(spec)
    if node_fit.untolerated(tolerated, taints, ("NoExecute",)) is not None:
        return False, False
    return node_fit.untolerated(tolerated, taints, ("NoSchedule",)) is None, True


def by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """``node -> pods`` that are there or are meant for it; those that ended and are being deleted left out."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        if is_terminal(pod) and is_deleting(pod):
            continue
        node = node_fit.target_node(pod)
        if node:
            found.setdefault(node, []).append(pod)
    return found


def _oldest_first(pods: Iterable[Object]) -> list[Object]:
    return sorted(pods, key=lambda pod: (not names_node(pod), created_at(pod), name_of(pod)))


@dataclasses.dataclass(slots=True, kw_only=True)
class DaemonPlan:
    """Nodes that need a pod, pods to delete, and pods that ended (in ``delete`` unless held back by back-off)."""

    create: list[str] = dataclasses.field(default_factory=list)
    delete: list[Object] = dataclasses.field(default_factory=list)
    failed: list[tuple[str, Object]] = dataclasses.field(default_factory=list)
    succeeded: list[tuple[str, Object]] = dataclasses.field(default_factory=list)


def generation_of(daemon_set: Object) -> str:
    return annotations_of(daemon_set).get(TEMPLATE_GENERATION, "")


def is_updated(daemon_set: Object, pod: Object, name_hash: str) -> bool:
    labels = labels_of(pod)
    generation = generation_of(daemon_set)
    return labels.get(HASH_LABEL) == name_hash or (bool(generation) and labels.get(GENERATION_LABEL) == generation)


def min_ready_seconds(daemon_set: Object) -> int:
    return int(daemon_set["spec"].get("minReadySeconds") or 0)


def limits(daemon_set: Object, desired: int) -> tuple[int, int]:
    """``(maxSurge, maxUnavailable)`` in nodes, both rounded up; never both zero."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate")
    if strategy.get("type") != "RollingUpdate" or rolling is None:
        return 0, 0
    surge = scaled(rolling.get("maxSurge"), desired, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable"), desired, round_up=True)
    if desired and not surge and not unavailable:
        unavailable = 1
    return surge, unavailable


def allows_surge(daemon_set: Object) -> bool:
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    surge = get_path(strategy, "rollingUpdate", "maxSurge")
    return strategy.get("type") == "RollingUpdate" and scaled(surge, 1, round_up=True) > 0


def plan_nodes(
    daemon_set: Object, nodes: Sequence[Object], placed: Mapping[str, list[Object]], name_hash: str, now: float
) -> DaemonPlan:
    """Bring every node to one pod or none."""
    plan = DaemonPlan()
    surging = allows_surge(daemon_set)
    for node in nodes:
        _plan_node(plan, daemon_set, node, placed.get(name_of(node), []), name_hash, now, surging)
    present = {name_of(node) for node in nodes}
    for name, pods in placed.items():
        if name not in present:
            plan.delete.extend(pod for pod in pods if not names_node(pod) and not is_deleting(pod))
    return plan


def _plan_node(
    plan: DaemonPlan,
    daemon_set: Object,
    node: Object,
    pods: list[Object],
    name_hash: str,
    now: float,
    surging: bool,
) -> None:
    should_run, may_stay = fit(daemon_set, node)
    if should_run and not pods:
        plan.create.append(name_of(node))
        return
    if not may_stay:
        plan.delete.extend(pod for pod in pods if not is_deleting(pod))
        return
    running: list[Object] = []
    for pod in pods:
        if is_deleting(pod):
            continue
        if phase_of(pod) == "Failed":
            plan.failed.append((name_of(node), pod))
        elif phase_of(pod) == "Succeeded":
            plan.succeeded.append((name_of(node), pod))
        else:
            running.append(pod)
    if not surging:
        plan.delete.extend(_oldest_first(running)[1:])
    elif len(running) > 1:
        plan.delete.extend(_surplus(daemon_set, _oldest_first(running), name_hash, now))
    elif not running and should_run:
        plan.create.append(name_of(node))


def _surplus(daemon_set: Object, running: Sequence[Object], name_hash: str, now: float) -> list[Object]:
    """While surging a node may have one old and one new pod; the old one goes when the new one is available."""
    new = [pod for pod in running if labels_of(pod).get(HASH_LABEL) == name_hash]
    old = [pod for pod in running if labels_of(pod).get(HASH_LABEL) != name_hash]
    surplus = [*new[1:], *old[1:]]
    if new and old and (not is_ready(old[0]) or is_available(new[0], min_ready_seconds(daemon_set), now)):
        surplus.append(old[0])
    return surplus


def plan_update(
    daemon_set: Object, nodes: Sequence[Object], placed: Mapping[str, list[Object]], name_hash: str, now: float
) -> DaemonPlan:
    """The next step of a rolling update."""
    fitting = {name_of(node) for node in nodes if fit(daemon_set, node)[0]}
    surge, unavailable = limits(daemon_set, len(fitting))
    everywhere = {**{name: [] for name in fitting}, **placed}
    if surge:
        return _plan_surge(daemon_set, fitting, everywhere, name_hash, surge, now)
    return _plan_replacing(daemon_set, everywhere, name_hash, unavailable, now)


def _pair(daemon_set: Object, pods: Iterable[Object], name_hash: str) -> tuple[Object | None, Object | None, bool]:
    """The updated pod and the old one of a node; False when there are more of a sort than one."""
    new: Object | None = None
    old: Object | None = None
    for pod in pods:
        if is_deleting(pod):
            continue
        if is_updated(daemon_set, pod, name_hash):
            if new is not None:
                return None, None, False
            new = pod
        else:
            if old is not None:
                return None, None, False
            old = pod
    return new, old, True


def _plan_replacing(
    daemon_set: Object, placed: Mapping[str, list[Object]], name_hash: str, most: int, now: float
) -> DaemonPlan:
    """Old pods that are not available go at once, available ones as far as ``most`` unavailable nodes allow."""
    seconds = min_ready_seconds(daemon_set)
    missing = 0
    at_once: list[Object] = []
    candidates: list[Object] = []
    for pods in placed.values():
        new, old, plain = _pair(daemon_set, pods, name_hash)
        if not plain or (new is None) == (old is None):
            missing += 1
        elif new is not None:
            missing += not is_available(new, seconds, now)
        elif old is not None and not is_available(old, seconds, now):
            at_once.append(old)
            missing += 1
        elif old is not None:
            candidates.append(old)
    return DaemonPlan(delete=[*at_once, *candidates[: max(0, most - missing)]])


def _plan_surge(
    daemon_set: Object,
    fitting: set[str],
    placed: Mapping[str, list[Object]],
    name_hash: str,
    most: int,
    now: float,
) -> DaemonPlan:
    seconds = min_ready_seconds(daemon_set)
    plan = DaemonPlan()
    candidates: list[str] = []
    misplaced: list[Object] = []
    surging = available = 0
    for node, pods in placed.items():
        new, old, plain = _pair(daemon_set, pods, name_hash)
        if not plain:
            surging += 1
            continue
        judged = old if old is not None else new
        old_available = judged is not None and is_available(judged, seconds, now)
        available += old_available
        if old is None:
            continue
        if new is not None:
            if is_available(new, seconds, now):
                plan.delete.append(old)
            else:
                surging += 1
        elif node not in fitting:
            (misplaced if old_available else plan.delete).append(old)
        elif old_available:
            candidates.append(node)
        else:
            plan.create.append(node)
    plan.delete.extend(misplaced[: max(0, available - len(fitting))])
    plan.create.extend(candidates[: max(0, most - surging)])
    return plan


def plan_status(
    daemon_set: Object,
    nodes: Iterable[Object],
    placed: Mapping[str, list[Object]],
    name_hash: str,
    *,
    observed: bool,
    now: float,
) -> Object:
    desired = current = misplaced = ready = updated = available = 0
    seconds = min_ready_seconds(daemon_set)
    for node in nodes:
        pods = placed.get(name_of(node), [])
        if not fit(daemon_set, node)[0]:
            misplaced += bool(pods)
            continue
        desired += 1
        if not pods:
            continue
        current += 1
        pod = _oldest_first(pods)[0]
        ready += is_ready(pod)
        available += is_available(pod, seconds, now)
        updated += is_updated(daemon_set, pod, name_hash)
    old = daemon_set.get("status") or {}
    return compact(
        {
            "currentNumberScheduled": current,
            "numberMisscheduled": misplaced,
            "desiredNumberScheduled": desired,
            "numberReady": ready,
            "observedGeneration": meta(daemon_set).get("generation") if observed else old.get("observedGeneration"),
            "updatedNumberScheduled": updated,
            "numberAvailable": available,
            "numberUnavailable": desired - available,
            "collisionCount": old.get("collisionCount"),
            "conditions": old.get("conditions"),
        },
        always=(
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "collisionCount",
        ),
    )


def live_hashes(pods: Iterable[Object]) -> frozenset[str]:
    return frozenset(labels_of(pod).get(HASH_LABEL, "") for pod in pods) - {""}


def uids(pods: Iterable[Object]) -> list[str]:
    return [uid_of(pod) for pod in pods]
