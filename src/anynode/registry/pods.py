"""What is done to pods beside plain writes: binding to a node, and eviction under disruption budgets.

Source: kubernetes ``pkg/registry/core/pod/storage/{storage,eviction}.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from anynode.api import errors, selectors
from anynode.api.objects import Object, condition_of, get_path, labels_of, meta
from anynode.registry import deletion
from anynode.registry.items import Item
from anynode.registry.store import ResourceStore, UpdateRules, Write
from anynode.schema import fields
from anynode.schema.rules import keep_new, nothing_wrong_between

MOST_DISRUPTED = 2000
_SERVER = "kube-apiserver"
"""Who writes a budget's status for an eviction."""
PLAIN_UPDATE = UpdateRules(prepare=keep_new, validate=nothing_wrong_between)
"""The update of one who already knows that it is right."""


def check_binding(binding: Object, name: str) -> None:
    """Raises ``BadRequest`` or a plain error for a binding that makes no sense."""
    if (meta(binding).get("name") or "") != name:
        raise errors.BadRequest("name in URL does not match name in Binding object")
    target = binding.get("target") or {}
    found: list[fields.FieldError] = []
    path = fields.FieldPath("target")
    if target.get("kind") not in (None, "", "Node"):
        found.append(fields.not_supported(path.child("kind"), target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        found.append(fields.required(path.child("name")))
    if found:
        said = [f"{error.field}: {error.message}" for error in found]
        raise errors.ApiError(said[0] if len(said) == 1 else f"[{', '.join(said)}]", reason="")


async def bind(store: ResourceStore, key: str, binding: Object, write: Write, now: str) -> Item:
    """Put the pod on the binding's node; raises ``Conflict`` when it has one or may not get one."""
    name = key.rpartition("/")[2]
    node = str(binding["target"]["name"])
    given = meta(binding)

    def bound(old: Object | None) -> Object:
        if old is None:
            raise errors.not_found(store.kind.resource, name)
        if given.get("uid") in (None, "", meta(old).get("uid")):  # another pod's is refused before all else
            _check_bindable(old, name)
        metadata: Object = {**meta(old)}
        if given.get("annotations"):
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **given["annotations"]}
        if given.get("labels"):
            metadata["labels"] = {**(metadata.get("labels") or {}), **given["labels"]}
        if given.get("uid"):
            metadata["uid"] = given["uid"]
        if given.get("resourceVersion"):
            metadata["resourceVersion"] = given["resourceVersion"]
        status = {key: value for key, value in (old.get("status") or {}).items() if key != "nominatedNodeName"}
        status["conditions"] = _scheduled(status.get("conditions") or (), now)
        return {**old, "metadata": metadata, "spec": {**old["spec"], "nodeName": node}, "status": status}

    write.applied = True  # a binding owns no fields
    item, _ = await store.update(key, bound, write, rules=PLAIN_UPDATE, uid_meant=True)
    return item


def _check_bindable(pod: Object, name: str) -> None:
    why = ""
    if meta(pod).get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif get_path(pod, "spec", "nodeName"):
        why = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
    elif get_path(pod, "spec", "schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
    if why:
        message = f'Operation cannot be fulfilled on pods/binding "{name}": {why}'
        raise errors.Conflict(message, details={"name": name, "kind": "pods/binding"})


def _scheduled(conditions: Sequence[Object], now: str) -> list[Object]:
    """The conditions with PodScheduled true."""
    condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    found, kept = False, []
    for each in conditions:
        if each.get("type") != "PodScheduled":
            kept.append(each)
            continue
        found = True
        moved = each.get("status") != "True"
        kept.append({**condition, "lastTransitionTime": now if moved else each.get("lastTransitionTime", now)})
    return kept if found else [*kept, condition]


# --- eviction


def ignores_budgets(pod: Object) -> bool:
    """Whether the pod's loss is none: over, not begun, or being deleted."""
    phase = get_path(pod, "status", "phase")
    return phase in ("Succeeded", "Failed", "Pending") or bool(meta(pod).get("deletionTimestamp"))


def budgets_of(pod: Object, budgets: Sequence[Item]) -> list[Item]:
    """The disruption budgets whose selector matches the pod."""
    labels = labels_of(pod)
    return [each for each in budgets if _selects(each.object, labels)]


def _selects(budget: Object, labels: Mapping[str, str]) -> bool:
    try:
        return selectors.of_label_selector(get_path(budget, "spec", "selector")).matches(labels)
    except selectors.SelectorError:
        return False


def needs_no_budget(pod: Object, budget: Object) -> bool:
    """Whether an unready pod may go without counting against the budget."""
    ready = condition_of(pod, "Ready")
    if ready is not None and ready.get("status") == "True":
        return False
    if get_path(budget, "spec", "unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    status = budget.get("status") or {}
    desired = status.get("desiredHealthy") or 0
    return bool((status.get("currentHealthy") or 0) >= desired > 0)


def with_disruption(budget: Object, pod_name: str, now: str) -> Object:
    """The budget after one more disruption; raises ``TooManyRequests`` or ``Forbidden`` when there may be none."""
    name = str(meta(budget).get("name") or "")
    status = budget.get("status") or {}
    if (status.get("observedGeneration") or 0) < (meta(budget).get("generation") or 0):
        raise refused(name, f"The disruption budget {name} is still being processed by the server.", 10)
    allowed = status.get("disruptionsAllowed") or 0
    disrupted = status.get("disruptedPods") or {}
    if allowed < 0 or len(disrupted) > MOST_DISRUPTED:
        why = (
            "pdb disruptions allowed is negative"
            if allowed < 0
            else ("DisruptedPods map too big - too many evictions not confirmed by PDB controller")
        )
        message = f'poddisruptionbudget.policy "{name}" is forbidden: {why}'
        raise errors.Forbidden(message, details={"name": name, "group": "policy", "kind": "poddisruptionbudget"})
    if allowed == 0:
        raise refused(name, _why_not(name, budget), 0)
    changed = {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": {**disrupted, pod_name: now}}
    if allowed == 1:
        changed["conditions"] = _used_up(status, now)
    return {**budget, "status": changed}


def _used_up(status: Object, now: str) -> list[Object]:
    """The conditions of a budget that allows no more."""
    conditions = list(status.get("conditions") or ())
    at = next((at for at, each in enumerate(conditions) if each.get("type") == "DisruptionAllowed"), len(conditions))
    before = conditions[at] if at < len(conditions) else {}
    since = before["lastTransitionTime"] if before.get("status") == "False" else now
    observed = status.get("observedGeneration")
    condition = {
        "type": "DisruptionAllowed",
        "status": "False",
        **({"observedGeneration": observed} if observed else {}),
        "lastTransitionTime": since,
        "reason": "InsufficientPods",
        "message": "",
    }
    return [*conditions[:at], condition, *conditions[at + 1 :]]


def _why_not(name: str, budget: Object) -> str:
    status = budget.get("status") or {}
    condition = condition_of(budget, "DisruptionAllowed") or {}
    refuses = condition.get("status") == "False" and bool(condition.get("message"))
    healthy, desired = status.get("currentHealthy") or 0, status.get("desiredHealthy") or 0
    head = f"The disruption budget {name} does not allow evicting pods currently"
    if refuses and condition.get("reason") == "SyncFailed":
        return f"{head} because it failed sync: {condition['message']}"
    if healthy <= desired:
        return f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
    return f"{head} ({condition.get('reason')}): {condition['message']}" if refuses else head


def refused(name: str, message: str, retry_seconds: int) -> errors.TooManyRequests:
    return errors.TooManyRequests(
        "Cannot evict pod as it would violate the pod's disruption budget.",
        causes=[errors.Cause(reason="DisruptionBudget", message=message)],
        retry_after_seconds=retry_seconds or None,
    )


async def evict(
    pods: ResourceStore,
    budgets: ResourceStore,
    key: str,
    options: deletion.DeleteOptions,
    write: Write,
    now: str,
) -> None:
    """Delete the pod if its budget allows; raises ``TooManyRequests`` when it does not."""
    pod = pods.get(key).object
    if not ignores_budgets(pod):
        namespace, _, name = key.rpartition("/")
        found = budgets_of(pod, list(budgets.cache.scan(f"{namespace}/")))
        if len(found) > 1:
            raise errors.ApiError(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                reason="",
            )
        if found and not needs_no_budget(pod, found[0].object):
            await _charge(budgets, found[0].key, name, write, now)
    if not options.dry_run:
        options = await _mark_disrupted(pods, key, options, write, now)
    await pods.delete(key, options, write)


async def _charge(budgets: ResourceStore, key: str, pod_name: str, write: Write, now: str) -> None:
    name = key.rpartition("/")[2]

    def charged(old: Object | None) -> Object:
        if old is None:
            raise errors.not_found(budgets.kind.resource, name)
        return with_disruption(old, pod_name, now)

    own = Write(user=write.user, manager=_SERVER, subresource="status", dry_run=write.dry_run)
    await budgets.update(key, charged, own, rules=PLAIN_UPDATE)


def check_meant(pod: Object, options: deletion.DeleteOptions) -> None:
    """Raises ``Conflict`` for a pod that is not, or not in the state, the client wants gone."""
    metadata = meta(pod)
    name, uid, version = metadata.get("name"), metadata.get("uid"), metadata.get("resourceVersion")
    why = ""
    if options.uid and options.uid != uid:
        why = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({uid}). "
            "The object might have been deleted and then recreated"
        )
    elif options.resource_version and options.resource_version != version:
        why = (
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the ResourceVersion "
            f"in record ({version}). The object might have been modified"
        )
    if why:
        message = f'Operation cannot be fulfilled on Pod "{name}": {why}'
        raise errors.Conflict(message, details={"name": name, "kind": "Pod"})


async def _mark_disrupted(
    pods: ResourceStore, key: str, options: deletion.DeleteOptions, write: Write, now: str
) -> deletion.DeleteOptions:
    """The pod says that it is being evicted; the options for its deletion, which follow this change."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
        "lastProbeTime": None,
        "lastTransitionTime": now,
    }

    def marked(old: Object | None) -> Object:
        if old is None:
            raise errors.not_found(pods.kind.resource, key.rpartition("/")[2])
        check_meant(old, options)
        if condition_of(old, "DisruptionTarget"):
            return old
        status = old.get("status") or {}
        return {**old, "status": {**status, "conditions": [*(status.get("conditions") or ()), condition]}}

    own = Write(user=write.user, manager=write.manager, dry_run=write.dry_run, applied=True)
    item, _ = await pods.update(key, marked, own, rules=PLAIN_UPDATE)
    if not options.resource_version:
        return options
    return dataclasses.replace(options, resource_version=str(item.revision))
