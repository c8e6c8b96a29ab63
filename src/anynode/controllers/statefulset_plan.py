"""Pods with a name and storage of their own, one after the other: what a StatefulSet does next. Pure.

Source: kubernetes ``pkg/controller/statefulset/{stateful_set_control,stateful_set_utils}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from anynode.api.objects import Object, get_path, is_deleting, labels_of, meta, name_of, namespace_of, uid_of, with_meta
from anynode.api.resources import known
from anynode.controllers.conditions import compact
from anynode.controllers.pods import is_available, is_ready, is_terminal, phase_of, template_pod
from anynode.controllers.revisions import HASH_LABEL, template_of
from anynode.controllers.scaling import scaled

STATEFUL_SETS = known("statefulsets", "apps")
POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"
_NAME = re.compile(r"(.*)-([0-9]+)")


def member(pod: Object) -> tuple[str, int]:
    """The set and ordinal a pod's name says; ordinal -1 when it says none."""
    match = _NAME.fullmatch(name_of(pod))
    return (match[1], int(match[2])) if match else ("", -1)


def ordinals(stateful_set: Object) -> range:
    start = get_path(stateful_set, "spec", "ordinals", "start", default=0)
    return range(start, start + wanted(stateful_set))


def wanted(stateful_set: Object) -> int:
    found = stateful_set["spec"].get("replicas")
    return 1 if found is None else int(found)


def is_parallel(stateful_set: Object) -> bool:
    return bool(stateful_set["spec"].get("podManagementPolicy") == "Parallel")


def min_ready_seconds(stateful_set: Object) -> int:
    return int(stateful_set["spec"].get("minReadySeconds") or 0)


def revision_of(pod: Object) -> str:
    return labels_of(pod).get(HASH_LABEL, "")


def claim_name(template: Object, stateful_set: Object, ordinal: int) -> str:
    return f"{name_of(template)}-{name_of(stateful_set)}-{ordinal}"


def claims(stateful_set: Object, ordinal: int) -> dict[str, Object]:
    """Volume name -> the claim to POST for the pod with ``ordinal``."""
    found = {}
    selector = get_path(stateful_set, "spec", "selector", "matchLabels", default={})
    for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
        made = with_meta(
            template,
            name=claim_name(template, stateful_set, ordinal),
            namespace=namespace_of(stateful_set),
            labels={**labels_of(template), **selector} or None,
            creationTimestamp=None,
        )
        made = {key: value for key, value in made.items() if key != "status"}
        found[name_of(template)] = {**made, "apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return found


def _volumes(stateful_set: Object, ordinal: int, present: Sequence[Object]) -> list[Object]:
    names = {name: name_of(claim) for name, claim in claims(stateful_set, ordinal).items()}
    claimed = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in names.items()]
    return [*claimed, *(each for each in present if each.get("name") not in names)]


def new_pod(stateful_set: Object, template: Object, revision: str, ordinal: int) -> Object:
    """The pod to POST."""
    name = f"{name_of(stateful_set)}-{ordinal}"
    pod = template_pod(template, stateful_set, STATEFUL_SETS)
    labels = {
        **labels_of(pod),
        HASH_LABEL: revision,
        POD_NAME_LABEL: name,
        INDEX_LABEL: str(ordinal),
    }
    pod = with_meta(pod, name=name, generateName=None, labels=labels)
    spec = {**pod["spec"], "hostname": name}
    if stateful_set["spec"].get("serviceName"):
        spec["subdomain"] = stateful_set["spec"]["serviceName"]
    volumes = _volumes(stateful_set, ordinal, spec.get("volumes") or ())
    if volumes:
        spec["volumes"] = volumes
    return {**pod, "spec": spec}


def has_identity(stateful_set: Object, pod: Object) -> bool:
    """Whether the pod's label tells its name, as whoever selects single pods needs."""
    return labels_of(pod).get(POD_NAME_LABEL) == name_of(pod)


def with_identity(pod: Object) -> Object:
    ordinal = member(pod)[1]
    return with_meta(pod, labels={**labels_of(pod), POD_NAME_LABEL: name_of(pod), INDEX_LABEL: str(ordinal)})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The revision pods had before and the one they are brought to."""

    current: Object
    update: Object

    def for_new_pod(self, stateful_set: Object, ordinal: int) -> Object:
        """Which of them a pod that is made now has: below the partition the current one."""
        strategy = stateful_set["spec"].get("updateStrategy") or {}
        start = ordinals(stateful_set).start
        rolling = strategy.get("rollingUpdate")
        if rolling is not None:
            keep = rolling.get("partition") or 0
        elif strategy.get("type") == "RollingUpdate":
            keep = get_path(stateful_set, "status", "currentReplicas", default=0)
        else:
            keep = 0
        return self.current if ordinal < start + keep else self.update


@dataclasses.dataclass(slots=True)
class SetPlan:
    """Pods to create (with their claims), to delete, to relabel; claims to complete for pods that wait."""

    create: list[Object] = dataclasses.field(default_factory=list)
    delete: list[Object] = dataclasses.field(default_factory=list)
    relabel: list[Object] = dataclasses.field(default_factory=list)
    claims_for: list[Object] = dataclasses.field(default_factory=list)
    updating: int = 0
    """How many of ``delete`` make room for the new revision."""


def plan_pods(stateful_set: Object, pods: Sequence[Object], revisions: Revisions, now: float) -> SetPlan:
    """The next step. In order means: nothing more until the pod just acted on is available, or gone."""
    plan = SetPlan()
    ordered = not is_parallel(stateful_set)
    seconds = min_ready_seconds(stateful_set)
    wished = ordinals(stateful_set)
    present = {member(pod)[1]: pod for pod in pods}
    for ordinal in wished:
        if _plan_replica(plan, stateful_set, present.get(ordinal), ordinal, revisions, now) and ordered:
            return plan
    condemned = sorted(
        (pod for pod in pods if member(pod)[1] >= 0 and member(pod)[1] not in wished), key=lambda pod: -member(pod)[1]
    )
    kept = [present[ordinal] for ordinal in wished if ordinal in present]
    if _plan_condemned(plan, kept, condemned, ordered, seconds, now):
        return plan
    if get_path(stateful_set, "spec", "updateStrategy", "type") != "OnDelete":
        _plan_update(plan, stateful_set, present, name_of(revisions.update), now)
    return plan


def _plan_replica(
    plan: SetPlan, stateful_set: Object, pod: Object | None, ordinal: int, revisions: Revisions, now: float
) -> bool:
    """Whether the pods after this one have to wait."""
    if pod is None:
        revision = revisions.for_new_pod(stateful_set, ordinal)
        plan.create.append(new_pod(stateful_set, template_of(revision), name_of(revision), ordinal))
        return True
    if is_terminal(pod):
        if not is_deleting(pod):
            plan.delete.append(pod)
        return True
    if phase_of(pod) == "Pending":
        plan.claims_for.append(pod)
    if not is_deleting(pod) and not has_identity(stateful_set, pod):
        plan.relabel.append(pod)
    return _is_unavailable(pod, min_ready_seconds(stateful_set), now)


def _is_unavailable(pod: Object, seconds: int, now: float) -> bool:
    return is_deleting(pod) or not is_available(pod, seconds, now)


def _plan_condemned(
    plan: SetPlan, kept: Sequence[Object], condemned: Sequence[Object], ordered: bool, seconds: int, now: float
) -> bool:
    """Pods beyond the size go, the last first; in order, an unavailable one is waited for unless it is the first."""
    everything = [*kept, *reversed(condemned)]
    first = next((pod for pod in everything if _is_unavailable(pod, seconds, now)), None)
    for pod in condemned:
        if is_deleting(pod):
            if ordered:
                return True
            continue
        if ordered and pod is not first and _is_unavailable(pod, seconds, now):
            return True
        plan.delete.append(pod)
        if ordered:
            return True
    return False


def _plan_update(plan: SetPlan, stateful_set: Object, present: Mapping[int, Object], update: str, now: float) -> None:
    """From the last pod down to the partition: pods of another revision go, as many as may be unavailable."""
    rolling = get_path(stateful_set, "spec", "updateStrategy", "rollingUpdate", default={})
    wished = ordinals(stateful_set)
    most = max(1, scaled(rolling.get("maxUnavailable", 1), len(wished), round_up=False))
    partition = rolling.get("partition") or 0
    unavailable = 0
    for position in reversed(range(partition, len(wished))):
        pod = present.get(wished[position])
        if pod is None:
            unavailable += 1
        elif revision_of(pod) != update and not is_deleting(pod):
            if pod not in plan.delete:
                plan.delete.append(pod)
                plan.updating += 1
            unavailable += 1
        elif _is_unavailable(pod, min_ready_seconds(stateful_set), now):
            unavailable += 1
        if unavailable >= most:
            return


def plan_status(
    stateful_set: Object, pods: Sequence[Object], revisions: Revisions, updating: int, now: float
) -> Object:
    seconds = min_ready_seconds(stateful_set)
    current, update = name_of(revisions.current), name_of(revisions.update)
    living = [pod for pod in pods if not is_deleting(pod)]
    ready = [pod for pod in pods if phase_of(pod) == "Running" and is_ready(pod)]
    counts = {
        "replicas": len(pods),
        "readyReplicas": len(ready),
        "currentReplicas": sum(1 for pod in living if revision_of(pod) == current) - updating,
        "updatedReplicas": sum(1 for pod in living if revision_of(pod) == update),
        "availableReplicas": sum(1 for pod in ready if is_available(pod, seconds, now)),
    }
    size = wanted(stateful_set)
    rolling = get_path(stateful_set, "spec", "updateStrategy", "type") == "RollingUpdate"
    if rolling and counts["updatedReplicas"] == counts["readyReplicas"] == counts["replicas"] == size:
        counts["currentReplicas"] = counts["updatedReplicas"]
        current = update
    old = stateful_set.get("status") or {}
    return compact(
        {
            "observedGeneration": meta(stateful_set).get("generation") or 0,
            **counts,
            "currentReplicas": max(0, counts["currentReplicas"]),
            "currentRevision": current,
            "updateRevision": update,
            "collisionCount": old.get("collisionCount") or 0,
            "conditions": old.get("conditions"),
        },
        always=("replicas", "availableReplicas", "collisionCount"),
    )


def plan_claim_owners(stateful_set: Object, pod: Object, claim: Object) -> list[Object] | None:
    """The owners a claim should have by the retention policy; None when they are right."""
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    on_delete, on_scale = policy.get("whenDeleted") == "Delete", policy.get("whenScaled") == "Delete"
    before = list(meta(claim).get("ownerReferences") or ())
    set_reference = _owner(stateful_set, "apps/v1", "StatefulSet")
    pod_reference = _owner(pod, "v1", "Pod")
    ours = {(each["apiVersion"], each["kind"], each["name"]) for each in (set_reference, pod_reference)}
    others = [each for each in before if (each.get("apiVersion"), each.get("kind"), each.get("name")) not in ours]
    if any(each.get("controller") for each in others):
        return None
    scaled_down = member(pod)[1] not in ordinals(stateful_set)
    added = []
    if on_scale and scaled_down:
        added.append(pod_reference)
    elif on_delete:
        added.append(set_reference)
    wished = [*others, *added]
    known_uids = [each.get("uid") for each in before]
    return None if known_uids == [each.get("uid") for each in wished] else wished


def _owner(obj: Object, api_version: str, kind: str) -> Object:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "name": name_of(obj),
        "uid": uid_of(obj),
        "controller": True,
        "blockOwnerDeletion": True,
    }
