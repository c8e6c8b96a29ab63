"""Rolling a Deployment from one template to the next: which ReplicaSet gets how many pods. Pure.

In: a Deployment and its ReplicaSets. Out: the ReplicaSet to create, ``Change``s to existing ones, the old ones to
delete. Invariants of a rolling update: never more than replicas + maxSurge pods, never fewer available ones than
replicas - maxUnavailable. Source: kubernetes ``pkg/controller/deployment/{rolling,recreate,sync}.go`` and
``util/deployment_util.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from anynode.api.objects import Object, annotations_of, get_path, is_deleting, meta, name_of, namespace_of, uid_of
from anynode.api.objects import with_meta as with_metadata
from anynode.api.resources import known
from anynode.controllers.ownership import controller_reference
from anynode.controllers.pods import created_at
from anynode.controllers.scaling import equal_templates, hashed_name, scaled, template_hash

DEPLOYMENTS = known("deployments", "apps")
HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
HISTORY_MOST_CHARACTERS = 2000
UNLIMITED = 2**31 - 1
_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED_REPLICAS,
        MAX_REPLICAS,
        "deprecated.deployment.rollback.to",
    }
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One ReplicaSet as it is and as it should be."""

    before: Object
    after: Object

    @property
    def message(self) -> str:
        """What the event says; empty when the size stays."""
        old, new = size(self.before), size(self.after)
        if old == new:
            return ""
        return f"Scaled {'up' if new > old else 'down'} replica set {name_of(self.before)} from {old} to {new}"


def wanted(deployment: Object) -> int:
    found = deployment["spec"].get("replicas")
    return 1 if found is None else int(found)


def size(replica_set: Object) -> int:
    """The pods ``replica_set`` should have."""
    found = replica_set["spec"].get("replicas")
    return 1 if found is None else int(found)


def count(replica_sets: Iterable[Object], field: str) -> int:
    """The sum of one number of their statuses."""
    return sum(get_path(each, "status", field, default=0) for each in replica_sets)


def sizes(replica_sets: Iterable[Object]) -> int:
    return sum(size(each) for each in replica_sets)


def active(replica_sets: Iterable[Object]) -> list[Object]:
    return [each for each in replica_sets if size(each) > 0]


def is_rolling(deployment: Object) -> bool:
    return bool(get_path(deployment, "spec", "strategy", "type", default="RollingUpdate") == "RollingUpdate")


def limits(deployment: Object) -> tuple[int, int]:
    """``(maxSurge, maxUnavailable)`` in pods; surge rounds up, unavailable down, and both are never zero at once."""
    if not is_rolling(deployment):
        return 0, 0
    rolling = get_path(deployment, "spec", "strategy", "rollingUpdate", default={})
    replicas = wanted(deployment)
    surge = scaled(rolling.get("maxSurge"), replicas, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable"), replicas, round_up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


def revision_of(obj: Object) -> int:
    """The revision an object says it has; 0 when it says none, or nonsense."""
    text = annotations_of(obj).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def _bare(template: Mapping[str, object]) -> Object:
    labels = get_path(template, "metadata", "labels", default={})
    kept = {key: value for key, value in labels.items() if key != HASH_LABEL}
    metadata = {key: value for key, value in (get_path(template, "metadata", default={})).items() if value}
    return {**template, "metadata": {**metadata, "labels": kept}}


def find_new(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """The oldest ReplicaSet that has the Deployment's template."""
    template = _bare(deployment["spec"]["template"])
    for each in sorted(replica_sets, key=_age):
        if equal_templates(_bare(each["spec"]["template"]), template):
            return each
    return None


def _age(replica_set: Object) -> tuple[float, str]:
    return created_at(replica_set), name_of(replica_set)


def new_replica_set(deployment: Object, old: Sequence[Object]) -> Object:
    """The ReplicaSet to POST for the Deployment's template, at the size a rollout starts with."""
    spec = deployment["spec"]
    template = spec["template"]
    name_hash = template_hash(template, get_path(deployment, "status", "collisionCount"))
    labels = {**(get_path(template, "metadata", "labels", default={})), HASH_LABEL: name_hash}
    selector = spec["selector"]
    chosen = {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), HASH_LABEL: name_hash}}
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": hashed_name(name_of(deployment), name_hash),
            "namespace": namespace_of(deployment),
            "labels": labels,
            "ownerReferences": [controller_reference(deployment, DEPLOYMENTS)],
        },
        "spec": {
            "replicas": 0,
            "selector": chosen,
            "template": {**template, "metadata": {**(template.get("metadata") or {}), "labels": labels}},
        },
    }
    if spec.get("minReadySeconds"):
        made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
    made["spec"]["replicas"] = new_size(deployment, [*old, made], made)
    annotations = new_annotations(deployment, made, _next_revision(old))
    return with_metadata(made, annotations={**annotations, **_replicas_annotations(deployment)})


def _next_revision(old: Sequence[Object]) -> int:
    return max((revision_of(each) for each in old), default=0) + 1


def new_annotations(deployment: Object, replica_set: Object, revision: int) -> dict[str, str]:
    """The new ReplicaSet's annotations: the Deployment's, its revision, and the revisions it had before."""
    had = annotations_of(replica_set)
    copied = {key: value for key, value in annotations_of(deployment).items() if key not in _NOT_COPIED}
    annotations = {**had, **copied}
    before = had.get(REVISION, "")
    if before and not before.isdecimal():
        return annotations
    if int(before or 0) < revision:
        annotations[REVISION] = str(revision)
        if before:
            annotations[REVISION_HISTORY] = _with_history(had.get(REVISION_HISTORY, ""), before)
    return annotations


def _with_history(history: str, revision: str) -> str:
    revisions = [each for each in history.split(",") if each] + [revision]
    while len(",".join(revisions)) > HISTORY_MOST_CHARACTERS:
        revisions.pop(0)
    return ",".join(revisions)


def refreshed(deployment: Object, new: Object, old: Sequence[Object]) -> Object:
    """``new`` with up-to-date annotations and minReadySeconds; ``new`` itself when nothing differs."""
    annotations = new_annotations(deployment, new, _next_revision(old))
    min_ready_seconds = deployment["spec"].get("minReadySeconds") or 0
    result = new
    if annotations != annotations_of(new):
        result = with_metadata(result, annotations=annotations)
    if (new["spec"].get("minReadySeconds") or 0) != min_ready_seconds:
        result = {**result, "spec": {**result["spec"], "minReadySeconds": min_ready_seconds}}
    return result


def _replicas_annotations(deployment: Object) -> dict[str, str]:
    replicas = wanted(deployment)
    return {DESIRED_REPLICAS: str(replicas), MAX_REPLICAS: str(replicas + limits(deployment)[0])}


def resized(deployment: Object, replica_set: Object, replicas: int) -> Change | None:
    """The change to ``replicas`` pods, sizes noted in annotations for proportional scaling; None when none is due."""
    annotations = {**annotations_of(replica_set), **_replicas_annotations(deployment)}
    if replicas == size(replica_set) and annotations == annotations_of(replica_set):
        return None
    after = with_metadata(replica_set, annotations=annotations)
    return Change(before=replica_set, after={**after, "spec": {**after["spec"], "replicas": replicas}})


def _sized(deployment: Object, replica_set: Object, replicas: int) -> list[Change]:
    if replicas == size(replica_set):
        return []
    change = resized(deployment, replica_set, replicas)
    return [] if change is None else [change]


def new_size(deployment: Object, replica_sets: Sequence[Object], new: Object) -> int:
    """How many pods the new ReplicaSet may have now."""
    replicas = wanted(deployment)
    if not is_rolling(deployment):
        return replicas
    surge = scaled(get_path(deployment, "spec", "strategy", "rollingUpdate", "maxSurge"), replicas, round_up=True)
    room = replicas + surge - sizes(replica_sets)
    if room <= 0:
        return size(new)
    return size(new) + min(room, replicas - size(new))


def is_scaling(deployment: Object, replica_sets: Iterable[Object]) -> bool:
    """Whether the Deployment's size changed since its ReplicaSets were sized."""
    replicas = wanted(deployment)
    for each in active(replica_sets):
        text = annotations_of(each).get(DESIRED_REPLICAS, "")
        if text.isdecimal() and int(text) != replicas:
            return True
    return False


def plan_rolling(deployment: Object, new: Object, old: Sequence[Object]) -> list[Change]:
    """The next step of a rolling update: the new ReplicaSet grows, else old ones shrink."""
    replicas = wanted(deployment)
    if size(new) > replicas:
        return _sized(deployment, new, replicas)
    if size(new) < replicas:
        grown = _sized(deployment, new, new_size(deployment, [*old, new], new))
        if grown:
            return grown
    return _plan_shrinking(deployment, new, active(old))


def _plan_shrinking(deployment: Object, new: Object, old: Sequence[Object]) -> list[Change]:
    """Old ReplicaSets lose pods that are not available first, then as many as availability allows."""
    if not old:
        return []
    least_available = wanted(deployment) - limits(deployment)[1]
    unavailable_new = size(new) - count([new], "availableReplicas")
    most = sizes([*old, new]) - least_available - unavailable_new
    if most <= 0:
        return []
    targets = {uid_of(each): size(each) for each in old}
    ordered = sorted(old, key=_age)
    for each in ordered:
        unhealthy = max(0, size(each) - count([each], "availableReplicas"))
        dropped = min(most, unhealthy)
        targets[uid_of(each)] -= dropped
        most -= dropped
    spare = count([*old, new], "availableReplicas") - least_available
    for each in ordered:
        dropped = max(0, min(spare, targets[uid_of(each)]))
        targets[uid_of(each)] -= dropped
        spare -= dropped
    return [change for each in old for change in _sized(deployment, each, targets[uid_of(each)])]


def plan_recreate_down(deployment: Object, old: Sequence[Object]) -> list[Change]:
    return [change for each in active(old) for change in _sized(deployment, each, 0)]


def plan_scaling(deployment: Object, new: Object | None, old: Sequence[Object]) -> list[Change]:
    """A new size for a Deployment outside or amid a rollout: pods are added or taken in proportion."""
    everything = [*old, new] if new is not None else list(old)
    alive = active(everything)
    replicas = wanted(deployment)
    if len(alive) <= 1:
        only = alive[0] if alive else new or max(old, key=_age, default=None)
        return [] if only is None or size(only) == replicas else _sized(deployment, only, replicas)
    if new is not None and _is_saturated(deployment, new):
        return plan_recreate_down(deployment, old)
    return _plan_proportional(deployment, alive) if is_rolling(deployment) else []


def _is_saturated(deployment: Object, new: Object) -> bool:
    replicas = wanted(deployment)
    return (
        size(new) == replicas
        and annotations_of(new).get(DESIRED_REPLICAS) == str(replicas)
        and count([new], "availableReplicas") == replicas
    )


def _plan_proportional(deployment: Object, alive: Sequence[Object]) -> list[Change]:
    replicas = wanted(deployment)
    allowed = replicas + limits(deployment)[0] if replicas > 0 else 0
    to_add = allowed - sizes(alive)
    newest_first = to_add > 0
    ordered = sorted(
        alive, key=lambda each: (-size(each), -created_at(each) if newest_first else created_at(each), name_of(each))
    )
    added = 0
    targets: list[int] = []
    for each in ordered:
        part = _proportion(deployment, each, to_add, added)
        targets.append(size(each) + part)
        added += part
    if to_add:
        targets[0] = max(0, targets[0] + to_add - added)
    changes = [resized(deployment, each, target) for each, target in zip(ordered, targets, strict=True)]
    return [change for change in changes if change is not None]


def _proportion(deployment: Object, replica_set: Object, to_add: int, added: int) -> int:
    if size(replica_set) == 0 or to_add in (0, added):
        return 0
    share = _fraction(deployment, replica_set)
    return min(share, to_add - added) if to_add > 0 else max(share, to_add - added)


def _fraction(deployment: Object, replica_set: Object) -> int:
    replicas = wanted(deployment)
    if replicas == 0:
        return -size(replica_set)
    text = annotations_of(replica_set).get(MAX_REPLICAS, "")
    before = int(text) if text.isdecimal() else 0
    before = before or get_path(deployment, "status", "replicas", default=0)
    if not before:
        return 0
    exact = size(replica_set) * (replicas + limits(deployment)[0]) / before
    return math.floor(exact + 0.5) - size(replica_set)


def plan_history(deployment: Object, old: Sequence[Object]) -> list[Object]:
    """The old, empty ReplicaSets beyond the history limit, oldest revision first."""
    limit = deployment["spec"].get("revisionHistoryLimit")
    if limit is None or limit == UNLIMITED:
        return []
    cleanable = [each for each in old if not is_deleting(each)]
    surplus = len(cleanable) - limit
    if surplus <= 0:
        return []
    ordered = sorted(cleanable, key=lambda each: (revision_of(each), *_age(each)))
    return [
        each
        for each in ordered[:surplus]
        if not size(each)
        and not count([each], "replicas")
        and (meta(each).get("generation") or 0) <= get_path(each, "status", "observedGeneration", default=0)
    ]
