"""Classes other objects name (priority, runtime, storage, volume attributes), and disruption budgets.

Source: kubernetes ``pkg/apis/{scheduling,node,storage,policy}/validation/validation.go`` and their defaults,
``pkg/registry/{scheduling,node,storage,policy}/*/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anynode.api import names
from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.fields import (
    FieldError,
    FieldPath,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from anynode.schema.kinds import amounts, selection, strategy, volume_warnings
from anynode.schema.kinds.conditions import validate_conditions
from anynode.schema.kinds.internal_form import selector_form, sorted_map
from anynode.schema.kinds.workload_rules import validate_at_most_all, validate_percent_or_count
from anynode.schema.rules import KindRules

_SYSTEM_PREFIX = "system-"
_SYSTEM_CLASSES = {"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}
_HIGHEST_PRIORITY = 1000000000


def default_priority(priority: Object) -> Object:
    filled = dict(priority)
    filled.setdefault("value", 0)
    if filled.get("preemptionPolicy") is None:
        filled["preemptionPolicy"] = "PreemptLowerPriority"
    return filled


def validate_priority(priority: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    name, value, policy = meta(priority).get("name") or "", priority.get("value") or 0, priority["preemptionPolicy"]
    if name.startswith(_SYSTEM_PREFIX):
        wrong = _unlike_system_class(name, value, bool(priority.get("globalDefault")))
        if wrong:
            text = (
                f"priority class names with '{_SYSTEM_PREFIX}' prefix are reserved for system use only. error: {wrong}"
            )
            errors.append(forbidden(FieldPath("metadata.name"), text))
    elif value > _HIGHEST_PRIORITY:
        text = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
        errors.append(forbidden(FieldPath("value"), text))
    if not policy:
        errors.append(required(FieldPath("preemptionPolicy")))
    elif policy not in ("PreemptLowerPriority", "Never"):
        errors.append(not_supported(FieldPath("preemptionPolicy"), policy, ("PreemptLowerPriority", "Never")))
    return errors


def _unlike_system_class(name: str, value: int, is_default: bool) -> str:
    if name not in _SYSTEM_CLASSES:
        return f"{name} is not a known system priority class"
    if value != _SYSTEM_CLASSES[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM_CLASSES[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if is_default else ""


def validate_priority_update(new: Object, old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if (new.get("value") or 0) != (old.get("value") or 0):
        errors.append(forbidden(FieldPath("value"), "may not be changed in an update."))
    path = FieldPath("preemptionPolicy")
    return errors + metadata.validate_immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), path)


PRIORITY_CLASS = KindRules(
    default=default_priority,
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=(), counted=("nothing",)),
    validate=validate_priority,
    validate_update=validate_priority_update,
)


def validate_runtime(runtime: Object) -> list[FieldError]:
    handler, path = runtime.get("handler") or "", FieldPath("handler")
    errors = metadata.validate_name(handler, path, metadata.label_name) if handler else [required(path)]
    overhead, scheduling = runtime.get("overhead"), runtime.get("scheduling")
    if overhead is not None:
        limits = {"limits": overhead.get("podFixed") or {}}
        errors += amounts.validate_requirements(limits, FieldPath("overhead"))
    if scheduling is not None:
        where = FieldPath("scheduling")
        errors += metadata.validate_labels(scheduling.get("nodeSelector"), where.child("nodeSelector"))
        errors += _validate_tolerations(scheduling.get("tolerations") or (), where.child("tolerations"))
    return errors


def _validate_tolerations(tolerations: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors = selection.validate_tolerations(tolerations, path)
    seen: set[tuple[str, ...]] = set()
    for at, toleration in enumerate(tolerations):
        key = tuple(toleration.get(field) or "" for field in ("key", "operator", "value", "effect"))
        if key in seen:
            fields = ("Key", "Operator", "Value", "Effect")
            shown = {**dict(zip(fields, key, strict=True)), "TolerationSeconds": toleration.get("tolerationSeconds")}
            errors.append(duplicate(path.index(at), shown))
        seen.add(key)
    return errors


RUNTIME_CLASS = KindRules(
    validate=validate_runtime,
    validate_update=lambda new, old: [
        *validate_runtime(new),
        *metadata.validate_immutable(new.get("handler"), old.get("handler"), FieldPath("handler")),
    ],
    allow_create_on_update=True,
    allow_unconditional_update=False,
)


def default_storage_class(storage: Object) -> Object:
    absent = {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}  # text that is empty is not absent
    filled = {**storage, **{field: value for field, value in absent.items() if storage.get(field) is None}}
    filled.setdefault("provisioner", "")
    return filled


def _validate_provisioner(name: str, path: FieldPath) -> list[FieldError]:
    if not name:
        return [required(path)]
    return [invalid(path, name.lower(), text) for text in names.label_key(name.lower())]


def _validate_parameters(parameters: Mapping[str, str], path: FieldPath, *, needed: bool) -> list[FieldError]:
    if len(parameters) > 512:
        return [too_long(path, 512)]
    errors: list[FieldError] = []
    if "" in parameters:
        errors.append(invalid(path, "", "field can not be empty."))
    if sum(len(key.encode()) + len(value.encode()) for key, value in parameters.items()) > 256 * 1024:
        errors.append(too_long(path, 256 * 1024))
    if needed and not parameters:
        errors.append(required(path, "must contain at least one key/value pair"))
    return errors


def validate_storage_class(storage: Object) -> list[FieldError]:
    errors = _validate_provisioner(storage.get("provisioner") or "", FieldPath("provisioner"))
    errors += _validate_parameters(storage.get("parameters") or {}, FieldPath("parameters"), needed=False)
    for field, known in (
        ("reclaimPolicy", ("Delete", "Retain")),
        ("volumeBindingMode", ("Immediate", "WaitForFirstConsumer")),
    ):
        if storage[field] not in known:
            errors.append(not_supported(FieldPath(field), storage[field], known))
    return errors + _validate_topologies(storage.get("allowedTopologies") or ())


def _validate_topologies(topologies: Sequence[Object]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: list[Mapping[str, set[str]]] = [{} for _ in topologies]  # upstream compares with as many empty terms too
    for at, term in enumerate(topologies):
        path = FieldPath("allowedTopologies").index(at).child("matchLabelExpressions")
        meant: dict[str, set[str]] = {}
        for place, requirement in enumerate(term.get("matchLabelExpressions") or ()):
            errors += _validate_topology(requirement, meant, path.index(place))
        errors.extend(duplicate(path, "") for each in seen if each == meant)
        seen.append(meant)
    return errors


def _validate_topology(requirement: Object, meant: dict[str, set[str]], path: FieldPath) -> list[FieldError]:
    key, values = requirement.get("key") or "", requirement.get("values") or ()
    errors: list[FieldError] = [] if values else [required(path.child("values"))]
    for at, value in enumerate(values):
        if value in values[:at]:
            errors.append(duplicate(path.child("values").index(at), value))
    errors += metadata.validate_label_key(key, path.child("key"))
    if key in meant:
        errors.append(duplicate(path.child("key"), key))
    meant[key] = set(values)
    return errors


def validate_storage_class_update(new: Object, old: Object) -> list[FieldError]:
    return validate_storage_class(new) + [
        invalid(FieldPath(field), sorted_map(new.get(field)), metadata.IMMUTABLE)
        for field in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
        if not strategy.same_value(new.get(field), old.get(field))
    ]


STORAGE_CLASS = KindRules(
    default=default_storage_class,
    validate=validate_storage_class,
    validate_update=validate_storage_class_update,
    warnings=volume_warnings.class_warnings,
    update_warnings=lambda new, _old: volume_warnings.class_warnings(new),
)


def validate_attributes_class(attributes: Object) -> list[FieldError]:
    errors = _validate_provisioner(attributes.get("driverName") or "", FieldPath("driverName"))
    return errors + _validate_parameters(attributes.get("parameters") or {}, FieldPath("parameters"), needed=True)


def validate_attributes_class_update(new: Object, old: Object) -> list[FieldError]:
    errors = [
        forbidden(FieldPath(field), f"updates to {field} are forbidden.")
        for field in ("driverName", "parameters")
        if not strategy.same_value(new.get(field), old.get(field))
    ]
    return errors + validate_attributes_class(new)


ATTRIBUTES_CLASS = KindRules(validate=validate_attributes_class, validate_update=validate_attributes_class_update)

_BUDGET_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def default_budget(budget: Object) -> Object:
    status = {**dict.fromkeys(_BUDGET_COUNTS, 0), **(budget.get("status") or {})}
    return {**budget, "spec": budget.get("spec") or {}, "status": status}


def validate_budget(budget: Object) -> list[FieldError]:
    spec, path = budget.get("spec") or {}, FieldPath("spec")
    errors: list[FieldError] = []
    least, most, policy = spec.get("minAvailable"), spec.get("maxUnavailable"), spec.get("unhealthyPodEvictionPolicy")
    if least is not None and most is not None:
        shown = {
            "MinAvailable": least,
            "Selector": selector_form(spec.get("selector")),
            "MaxUnavailable": most,
            "UnhealthyPodEvictionPolicy": policy,
        }
        errors.append(invalid(path, shown, "minAvailable and maxUnavailable cannot be both set"))
    for field in ("minAvailable", "maxUnavailable"):
        if spec.get(field) is not None:
            errors += validate_percent_or_count(spec[field], path.child(field))
            errors += validate_at_most_all(spec[field], path.child(field))
    errors += selection.validate_label_selector(spec.get("selector"), path.child("selector"))
    if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        where = path.child("unhealthyPodEvictionPolicy")
        errors.append(not_supported(where, policy, ("AlwaysAllow", "IfHealthyBudget")))
    return errors


def validate_budget_status(new: Object, _old: Object) -> list[FieldError]:
    status, path = new.get("status") or {}, FieldPath("status")
    errors = validate_conditions(status.get("conditions") or (), path.child("conditions"))
    for field in _BUDGET_COUNTS:
        errors += metadata.validate_nonnegative(status.get(field), path.child(field))
    return errors


DISRUPTION_BUDGET = KindRules(
    valid_name=metadata.path_segment_name,
    default=default_budget,
    prepare_create=strategy.created(status=dict.fromkeys(_BUDGET_COUNTS, 0)),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(),
    validate=validate_budget,
    validate_update=lambda new, _old: validate_budget(new),
    validate_status=validate_budget_status,
    allow_unconditional_update=False,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("scheduling.k8s.io", "PriorityClass", PRIORITY_CLASS),
    ("node.k8s.io", "RuntimeClass", RUNTIME_CLASS),
    ("storage.k8s.io", "StorageClass", STORAGE_CLASS),
    ("storage.k8s.io", "VolumeAttributesClass", ATTRIBUTES_CLASS),
    ("policy", "PodDisruptionBudget", DISRUPTION_BUDGET),
)
