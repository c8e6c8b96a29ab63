"""What valid workloads are: replication controllers and the kinds of apps/v1.

Source: kubernetes ``pkg/apis/apps/validation/validation.go``, ``pkg/apis/core/validation/validation.go``
(ValidateReplicationController), 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynode.api import names
from anynode.api.objects import Object, meta, name_of
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, not_supported, required
from anynode.schema.kinds.claim_rules import validate_claim_spec
from anynode.schema.kinds.internal_form import internal, selector_form
from anynode.schema.kinds.pod_rules import validate_template
from anynode.schema.kinds.selection import is_selector, matches_labels, validate_label_selector
from anynode.schema.kinds.strategy import same_value, with_field, without_fields
from anynode.schema.metadata import validate_nonnegative

_SPEC, _STATUS = FieldPath("spec"), FieldPath("status")
_NO_MATCH = "`selector` does not match template `labels`"
_ABOVE = "cannot be greater than status.replicas"


def validate_percent_or_count(value: Any, path: FieldPath) -> list[FieldError]:
    """Complaints about a number of pods, given as a count or a percentage."""
    if isinstance(value, str):
        return [invalid(path, value, text) for text in names.percent(value)]
    return validate_nonnegative(value or 0, path)


def amount_of(value: Any) -> int:
    """The number in a count or percentage; 0 where it is neither."""
    if not isinstance(value, str):
        return int(value or 0)
    digits = value.removesuffix("%")
    return int(digits) if digits.isdigit() else 0


def validate_at_most_all(value: Any, path: FieldPath) -> list[FieldError]:
    if isinstance(value, str) and not names.percent(value) and amount_of(value) > 100:
        return [invalid(path, value, "must not be greater than 100%")]
    return []


def _validate_selector(spec: Object, noun: str) -> list[FieldError]:
    selector, path = spec.get("selector"), _SPEC.child("selector")
    if selector is None:
        return [required(path)]
    errors = validate_label_selector(selector, path)
    if not selector.get("matchLabels") and not selector.get("matchExpressions"):
        errors.append(invalid(path, selector_form(selector), f"empty selector is invalid for {noun}"))
    return errors


def _is_empty(selector: Object | None) -> bool:
    return selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions")


def _shown_labels(template: Object) -> Any:
    labels = meta(template).get("labels")
    return dict(sorted(labels.items())) if labels else None


def validate_match(selector: Object | None, template: Object, path: FieldPath) -> list[FieldError]:
    """A complaint when the selector does not take the pods of the template."""
    if _is_empty(selector) or matches_labels(selector, meta(template).get("labels")):
        return []
    return [invalid(path.child("metadata", "labels"), _shown_labels(template), _NO_MATCH)]


def _validate_always(template: Object, path: FieldPath, noun: str) -> list[FieldError]:
    """Pods of these workloads restart for ever."""
    errors: list[FieldError] = []
    spec = template.get("spec") or {}
    if spec.get("restartPolicy") != "Always":
        errors.append(not_supported(path.child("spec", "restartPolicy"), spec.get("restartPolicy") or "", ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {noun} is not Supported"
        errors.append(forbidden(path.child("spec", "activeDeadlineSeconds"), text))
    return errors


def _validate_selected_template(spec: Object) -> list[FieldError]:
    """Selector and template of a deployment or replica set together."""
    selector, template, path = spec.get("selector"), spec.get("template") or {}, _SPEC.child("template")
    if selector is not None and not is_selector(selector):
        return [invalid(_SPEC.child("selector"), selector_form(selector), "invalid label selector")]
    errors = validate_match(selector, template, path) + validate_template(template, path)
    return errors + _validate_always(template, path, "ReplicaSet")


def _validate_numbers(spec: Object, *fields: str) -> list[FieldError]:
    return [error for field in fields for error in validate_nonnegative(spec.get(field), _SPEC.child(field))]


def validate_deployment(deployment: Object) -> list[FieldError]:
    spec = deployment.get("spec") or {}
    errors = _validate_numbers(spec, "replicas")
    errors += _validate_selector(spec, "deployment")
    errors += _validate_selected_template(spec)
    errors += _validate_deployment_strategy(spec.get("strategy") or {}, _SPEC.child("strategy"))
    errors += _validate_numbers(spec, "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    if deadline is not None and deadline <= ready:
        path = _SPEC.child("progressDeadlineSeconds")
        errors.append(invalid(path, deadline, "must be greater than minReadySeconds"))
    return errors


def _validate_deployment_strategy(strategy: Object, path: FieldPath) -> list[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    where = path.child("rollingUpdate")
    if kind == "Recreate":
        text = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden(where, text)] if rolling is not None else []
    if kind != "RollingUpdate":
        return [not_supported(path, internal("DeploymentStrategy", strategy), ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return [required(where, "this should be defaulted and never be nil")]
    down, up = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = validate_percent_or_count(down, where.child("maxUnavailable"))
    errors += validate_percent_or_count(up, where.child("maxSurge"))
    if amount_of(down) == 0 and amount_of(up) == 0:
        errors.append(invalid(where.child("maxUnavailable"), down, "may not be 0 when `maxSurge` is 0"))
    return errors + validate_at_most_all(down, where.child("maxUnavailable"))


def _validate_fixed_selector(new: Object, old: Object) -> list[FieldError]:
    after, before = (new.get("spec") or {}).get("selector"), (old.get("spec") or {}).get("selector")
    if same_value(after, before):
        return []
    return [invalid(_SPEC.child("selector"), selector_form(after), metadata.IMMUTABLE)]


def validate_deployment_update(new: Object, old: Object) -> list[FieldError]:
    return validate_deployment(new) + _validate_fixed_selector(new, old)


def validate_replica_set(replica_set: Object) -> list[FieldError]:
    spec = replica_set.get("spec") or {}
    errors = _validate_numbers(spec, "replicas", "minReadySeconds")
    return errors + _validate_selector(spec, "deployment") + _validate_selected_template(spec)


def validate_replica_set_update(new: Object, old: Object) -> list[FieldError]:
    return validate_replica_set(new) + _validate_fixed_selector(new, old)


def _validate_counts(status: Object, fields: Sequence[str], capped: Sequence[str], ready: str) -> list[FieldError]:
    """Complaints about counts below zero, above ``replicas``, and more available than ready pods."""
    errors = [error for field in fields for error in validate_nonnegative(status.get(field), _STATUS.child(field))]
    most = status.get("replicas") or 0
    for field in capped:
        count = status.get(field) or 0
        if count > most:
            errors.append(invalid(_STATUS.child(field), count, _ABOVE))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        errors.append(invalid(_STATUS.child("availableReplicas"), available, f"cannot be greater than {ready}"))
    return errors


def _validate_collisions(new: Object, old: Object) -> list[FieldError]:
    after, before = (new.get("status") or {}).get("collisionCount"), (old.get("status") or {}).get("collisionCount")
    if before is None or (after or 0) >= before:
        return []
    return [invalid(_STATUS.child("collisionCount"), after or 0, "cannot be decremented")]


def validate_deployment_status(new: Object, old: Object) -> list[FieldError]:
    fields = (
        "observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas",
        "unavailableReplicas", "terminatingReplicas", "collisionCount",
    )  # fmt: skip
    capped = ("updatedReplicas", "readyReplicas", "availableReplicas")
    errors = _validate_counts(new.get("status") or {}, fields, capped, "readyReplicas")
    return errors + _validate_collisions(new, old)


def validate_replica_set_status(new: Object, _old: Object) -> list[FieldError]:
    """Complaints about the status of a replica set or replication controller."""
    fields = (
        "replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration",
        "terminatingReplicas",
    )  # fmt: skip
    capped = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    return _validate_counts(new.get("status") or {}, fields, capped, "readyReplicas")


def validate_daemon_set(daemon_set: Object) -> list[FieldError]:
    spec = daemon_set.get("spec") or {}
    selector, template, path = spec.get("selector"), spec.get("template") or {}, _SPEC.child("template")
    errors = validate_label_selector(selector, _SPEC.child("selector"))
    if selector is None or (is_selector(selector) and not _is_empty(selector)):
        errors += validate_match(selector, template, path)
    if _is_empty(selector):
        text = "empty selector is invalid for daemonset"
        errors.append(invalid(_SPEC.child("selector"), selector_form(selector), text))
    errors += validate_template(template, path) + _validate_always(template, path, "DaemonSet")
    errors += _validate_numbers(spec, "minReadySeconds")
    errors += _validate_daemon_strategy(spec.get("updateStrategy") or {}, _SPEC.child("updateStrategy"))
    return errors + _validate_numbers(spec, "revisionHistoryLimit")


def _validate_daemon_strategy(strategy: Object, path: FieldPath) -> list[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [not_supported(path, internal("DaemonSetUpdateStrategy", strategy), ("RollingUpdate", "OnDelete"))]
    where = path.child("rollingUpdate")
    if rolling is None:
        return [required(where)]
    errors: list[FieldError] = []
    down, up = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    for rule in (validate_percent_or_count, validate_at_most_all):
        errors += rule(down, where.child("maxUnavailable")) + rule(up, where.child("maxSurge"))
    if amount_of(down) and amount_of(up):
        errors.append(invalid(where.child("maxSurge"), up, "may not be set when maxUnavailable is non-zero"))
    elif not amount_of(down) and not amount_of(up):
        errors.append(required(where.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
    return errors


def validate_daemon_set_update(new: Object, old: Object) -> list[FieldError]:
    return _validate_fixed_selector(new, old) + validate_daemon_set(new)


def validate_daemon_set_status(new: Object, old: Object) -> list[FieldError]:
    fields = (
        "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady", "observedGeneration",
        "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount",
    )  # fmt: skip
    status = new.get("status") or {}
    errors = [error for field in fields for error in validate_nonnegative(status.get(field), _STATUS.child(field))]
    return errors + _validate_collisions(new, old)


def _validate_set_strategy(strategy: Object, path: FieldPath) -> list[FieldError]:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    where = path.child("rollingUpdate")
    if not kind:
        return [required(path)]
    if kind == "OnDelete":
        if rolling is None:
            return []
        shown = internal("RollingUpdateStatefulSetStrategy", rolling)
        return [invalid(where, shown, "only allowed for updateStrategy 'RollingUpdate'")]
    if kind != "RollingUpdate":
        shown = internal("StatefulSetUpdateStrategy", strategy)
        return [invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'")]
    if rolling is None:
        return []
    errors = validate_nonnegative(rolling.get("partition"), where.child("partition"))
    down = rolling.get("maxUnavailable")
    if down is not None:
        at = where.child("maxUnavailable")
        errors += validate_percent_or_count(down, at)
        if not amount_of(down):
            errors.append(invalid(at, down, "cannot be 0"))
        errors += validate_at_most_all(down, at)
    return errors


def _with_claims(template: Object, claims: Sequence[Object]) -> Object:
    """The template as its pods will be: host names are the set's, each claim template makes a volume."""
    spec = without_fields(template.get("spec") or {}, ("subdomain", "hostname"))
    if claims:
        made = {name_of(each) for each in claims}
        volumes: list[Object] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in sorted(made)]
        volumes += [each for each in spec.get("volumes") or () if each.get("name") not in made]
        spec = {**spec, "volumes": volumes}
    return {**template, "spec": spec}


def validate_stateful_set(stateful_set: Object, *, changed: bool = False) -> list[FieldError]:
    """Complaints about a stateful set; ``changed``: leave alone what cannot change any more."""
    spec = stateful_set.get("spec") or {}
    errors: list[FieldError] = []
    policy = spec.get("podManagementPolicy") or ""
    if policy not in ("OrderedReady", "Parallel"):
        path = _SPEC.child("podManagementPolicy")
        text = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid(path, policy, text) if policy else required(path))
    errors += _validate_set_strategy(spec.get("updateStrategy") or {}, _SPEC.child("updateStrategy"))
    errors += _validate_retention(spec.get("persistentVolumeClaimRetentionPolicy"))
    claims = spec.get("volumeClaimTemplates") or ()
    if not changed:
        for at, claim in enumerate(claims):
            path = _SPEC.child("volumeClaimTemplates").index(at).child("spec")
            errors += validate_claim_spec(claim.get("spec") or {}, path)
    errors += _validate_numbers(spec, "replicas", "minReadySeconds")
    start = (spec.get("ordinals") or {}).get("start")
    errors += validate_nonnegative(start, _SPEC.child("ordinals", "start"))
    if spec.get("serviceName") and not changed:
        errors += metadata.validate_name(spec["serviceName"], _SPEC.child("serviceName"), metadata.label_name)
    errors += _validate_selector(spec, "statefulset")
    selector, template, path = spec.get("selector"), spec.get("template") or {}, _SPEC.child("template")
    if selector is not None and not is_selector(selector):
        errors.append(invalid(_SPEC.child("selector"), selector_form(selector), ""))
    else:
        errors += validate_match(selector, template, path)
        errors += validate_template(_with_claims(template, claims), path)
        errors += metadata.validate_labels(meta(template).get("labels"), path.child("labels"))
        errors += metadata.validate_annotations(meta(template).get("annotations"), path.child("annotations"))
    return errors + _validate_always(template, path, "StatefulSet")


def _validate_retention(policy: Object | None) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("whenDeleted", "whenScaled") if policy is not None else ():
        value = (policy or {}).get(field) or ""
        if value not in ("Retain", "Delete"):
            path = _SPEC.child("persistentVolumeClaimRetentionPolicy", field)
            errors.append(not_supported(path, value, ("Retain", "Delete")))
    return errors


_SET_MUTABLE = (
    "replicas", "template", "updateStrategy", "minReadySeconds", "ordinals", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
)  # fmt: skip


def validate_stateful_set_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_stateful_set(new, changed=True)
    after, before = new.get("spec") or {}, old.get("spec") or {}
    for field in _SET_MUTABLE:
        after = with_field(after, field, before.get(field))
    if after != before:
        text = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
            "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
        )
        errors.append(forbidden(_SPEC, text))
    return errors


def validate_stateful_set_status(new: Object, old: Object) -> list[FieldError]:
    fields = (
        "replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas", "observedGeneration",
        "collisionCount",
    )  # fmt: skip
    capped = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    errors = _validate_counts(new.get("status") or {}, fields, capped, "status.readyReplicas")
    return errors + _validate_collisions(new, old)


def validate_replication_controller(controller: Object) -> list[FieldError]:
    spec = controller.get("spec") or {}
    errors = _validate_numbers(spec, "minReadySeconds")
    selector, template, path = spec.get("selector") or {}, spec.get("template"), _SPEC.child("template")
    if not selector:
        errors.append(required(_SPEC.child("selector")))
    errors += _validate_numbers(spec, "replicas")
    if template is None:
        return [*errors, required(path)]
    if selector:
        errors += validate_match({"matchLabels": selector}, template, path)
    return errors + validate_template(template, path) + _validate_always(template, path, "ReplicationController")


def validate_controller_revision(revision: Object) -> list[FieldError]:
    errors = validate_nonnegative(revision.get("revision"), FieldPath("revision"))
    data = revision.get("data")
    if data is None:
        errors.append(required(FieldPath("data"), "data is mandatory"))
    elif not isinstance(data, dict):
        errors.append(required(FieldPath("data"), "data must be a valid JSON object"))
    return errors


def validate_controller_revision_update(new: Object, old: Object) -> list[FieldError]:
    errors = validate_nonnegative(new.get("revision"), FieldPath("revision"))
    if new.get("data") != old.get("data"):
        errors.append(invalid(FieldPath("data"), new.get("data"), metadata.IMMUTABLE))
    return errors
