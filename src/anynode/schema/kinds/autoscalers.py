"""Horizontal pod autoscalers, in both of their versions.

Source: kubernetes ``pkg/apis/autoscaling/validation/validation.go``, ``pkg/apis/autoscaling/{v1,v2}/defaults.go``,
``pkg/registry/autoscaling/horizontalpodautoscaler/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from anynode.api.formats import Quantity
from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, forbidden, invalid, not_supported, required
from anynode.schema.kinds import amounts, strategy
from anynode.schema.rules import KindRules

_V1 = "autoscaling/v1"
_SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_CPU: Object = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
}
_SCALE_UP: Object = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [
        {"type": "Pods", "value": 4, "periodSeconds": 15},
        {"type": "Percent", "value": 100, "periodSeconds": 15},
    ],
}
_SCALE_DOWN: Object = {
    "selectPolicy": "Max",
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
}


def default_autoscaler(autoscaler: Object) -> Object:
    spec = dict(autoscaler.get("spec") or {})
    if spec.get("minReplicas") is None:
        spec["minReplicas"] = 1
    spec.setdefault("maxReplicas", 0)
    if autoscaler.get("apiVersion") != _V1:
        if not spec.get("metrics"):
            spec["metrics"] = [_CPU]
        if spec.get("behavior") is not None:
            behavior = spec["behavior"]
            spec["behavior"] = {
                **behavior,
                "scaleUp": _default_scaling(behavior.get("scaleUp"), _SCALE_UP),
                "scaleDown": _default_scaling(behavior.get("scaleDown"), _SCALE_DOWN),
            }
    status = {**_no_status(autoscaler), **(autoscaler.get("status") or {})}
    return {**autoscaler, "spec": spec, "status": status}


def _default_scaling(scaling: Object | None, default: Object) -> Object:
    return {**default, **{field: value for field, value in (scaling or {}).items() if value is not None}}


def _no_status(autoscaler: Object) -> Object:
    if autoscaler.get("apiVersion") == _V1:
        return {"currentReplicas": 0, "desiredReplicas": 0}
    return {"desiredReplicas": 0, "currentMetrics": None}


def _prepare_create(autoscaler: Object) -> Object:
    return {**autoscaler, "status": _no_status(autoscaler)}


def _metrics_of(autoscaler: Object) -> Sequence[Object]:
    spec = autoscaler.get("spec") or {}
    if autoscaler.get("apiVersion") != _V1:
        return spec.get("metrics") or ()
    utilization = spec.get("targetCPUUtilizationPercentage")
    if utilization is None:
        return ()
    target = {"type": "Utilization", "averageUtilization": utilization}
    return ({"type": "Resource", "resource": {"name": "cpu", "target": target}},)


def validate_autoscaler(autoscaler: Object) -> list[FieldError]:
    target = (autoscaler.get("spec") or {}).get("scaleTargetRef") or {}
    if target.get("kind") == "ReplicationController":
        return _validate_spec(autoscaler, floor=1, versions="any")
    return _validate_spec(autoscaler, floor=1, versions="grouped")


def _validate_spec(autoscaler: Object, *, floor: int, versions: str) -> list[FieldError]:
    spec, path = autoscaler.get("spec") or {}, FieldPath("spec")
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    errors: list[FieldError] = []
    if least is not None and least < floor:
        errors.append(invalid(path.child("minReplicas"), least, f"must be greater than or equal to {floor}"))
    where = path.child("maxReplicas")
    if most == 0:
        errors.append(required(where, "must be set and greater than 0"))
    elif most < 0:
        errors.append(invalid(where, most, "must be greater than or equal to 1"))
    if least is not None and most < least:
        errors.append(invalid(where, most, "must be greater than or equal to `minReplicas`"))
    errors += _validate_target(spec.get("scaleTargetRef") or {}, path.child("scaleTargetRef"), versions)
    metrics, where = _metrics_of(autoscaler), path.child("metrics")
    for at, metric in enumerate(metrics):
        errors += _validate_metric(metric, where.index(at))
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        text = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(forbidden(where, text))
    behavior = spec.get("behavior") or {}
    for field in ("scaleUp", "scaleDown"):
        if behavior.get(field) is not None:
            errors += _validate_scaling(behavior[field], path.child("behavior", field))
    return errors


def _validate_target(reference: Object, path: FieldPath, versions: str) -> list[FieldError]:
    """``versions``: which API versions will do: ``grouped`` ones only, ``any``, or ``unjudged``."""
    errors: list[FieldError] = []
    for field in ("kind", "name"):
        value, where = reference.get(field) or "", path.child(field)
        if value:
            errors.extend(invalid(where, value, text) for text in metadata.path_segment_name(value))
        else:
            errors.append(required(where))
    version = reference.get("apiVersion") or ""
    if versions == "unjudged":
        return errors
    if version.count("/") > 1:
        errors.append(invalid(path.child("apiVersion"), version, f"unexpected GroupVersion string: {version}"))
    elif versions == "grouped" and not version.rpartition("/")[0]:
        errors.append(invalid(path.child("apiVersion"), version, "apiVersion must specify API group"))
    return errors


def _validate_metric(metric: Object, path: FieldPath) -> list[FieldError]:
    kind, errors, where = metric.get("type") or "", list[FieldError](), path.child("type")
    if not kind:
        errors.append(required(where, "must specify a metric source type"))
    unknown = [] if kind in _SOURCES else [not_supported(where, kind, sorted(_SOURCES))]
    errors += unknown
    given = [field for field in _SOURCES.values() if metric.get(field) is not None]
    if given:
        errors += _SOURCE_RULES[given[0]](metric[given[0]], path.child(given[0]))
    expected = _SOURCES.get(kind, "")
    if expected and expected not in given:
        errors.append(required(path.child(expected), "must populate information for the given metric source"))
    errors += unknown
    if len(given) > 1 or (given and expected not in given):
        text = "must populate the given metric source only"
        errors += [forbidden(path.child(field), text) for field in given if field != expected and len(given) > 1]
    return errors


def _validate_amounts(target: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    kind = target.get("type") or ""
    if not kind:
        errors.append(required(path.child("type"), "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        errors.append(invalid(path.child("type"), kind, "must be either Utilization, Value, or AverageValue"))
    errors += [
        invalid(path.child(field), target[field], "must be positive")
        for field in ("value", "averageValue")
        if target.get(field) is not None and Quantity.parse(target[field]).nano <= 0
    ]
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        errors.append(invalid(path.child("averageUtilization"), utilization, "must be greater than 0"))
    return errors


def _validate_identifier(source: Object, path: FieldPath) -> list[FieldError]:
    name, where = (source.get("metric") or {}).get("name") or "", path.child("metric", "name")
    if not name:
        return [required(where, "must specify a metric name")]
    return [invalid(where, name, text) for text in metadata.path_segment_name(name)]


def _validate_object(source: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_target(source.get("describedObject") or {}, path.child("describedObject"), "any")
    target, where = source.get("target") or {}, path.child("target")
    errors += _validate_identifier(source, path) + _validate_amounts(target, where)
    if target.get("value") is None and target.get("averageValue") is None:
        errors.append(required(where.child("averageValue"), "must set either a target value or averageValue"))
    return errors


def _validate_external(source: Object, path: FieldPath) -> list[FieldError]:
    target, where = source.get("target") or {}, path.child("target")
    errors = _validate_identifier(source, path) + _validate_amounts(target, where)
    value, average = target.get("value"), target.get("averageValue")
    if value is None and average is None:
        text = "must set either a target value for metric or a per-pod target"
        errors.append(required(where.child("averageValue"), text))
    if value is not None and average is not None:
        text = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden(where.child("value"), text))
    return errors


def _validate_pods(source: Object, path: FieldPath) -> list[FieldError]:
    target, where = source.get("target") or {}, path.child("target")
    errors = _validate_identifier(source, path) + _validate_amounts(target, where)
    if target.get("averageValue") is None:
        errors.append(required(where.child("averageValue"), "must specify a positive target averageValue"))
    return errors


def _validate_utilization(target: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_amounts(target, path)
    utilization, average = target.get("averageUtilization"), target.get("averageValue")
    if utilization is None and average is None:
        text = "must set either a target raw value or a target utilization"
        errors.append(required(path.child("averageUtilization"), text))
    if utilization is not None and average is not None:
        text = "may not set both a target raw value and a target utilization"
        errors.append(forbidden(path.child("averageValue"), text))
    return errors


def _validate_resource(source: Object, path: FieldPath) -> list[FieldError]:
    errors = [] if source.get("name") else [required(path.child("name"), "must specify a resource name")]
    return errors + _validate_utilization(source.get("target") or {}, path.child("target"))


def _validate_container_resource(source: Object, path: FieldPath) -> list[FieldError]:
    name, container = source.get("name") or "", source.get("container") or ""
    errors: list[FieldError] = []
    if name:
        errors += amounts.validate_container_resource_name(name, path.child("name"))
    else:
        errors.append(required(path.child("name"), "must specify a resource name"))
    if container:
        errors += metadata.validate_name(container, path.child("container"), metadata.label_name)
    else:
        errors.append(required(path.child("container"), "must specify a container"))
    return errors + _validate_utilization(source.get("target") or {}, path.child("target"))


_SOURCE_RULES: Mapping[str, Callable[[Object, FieldPath], list[FieldError]]] = {
    "object": _validate_object,
    "external": _validate_external,
    "pods": _validate_pods,
    "resource": _validate_resource,
    "containerResource": _validate_container_resource,
}


def _validate_scaling(scaling: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    window, chosen, where = (
        scaling.get("stabilizationWindowSeconds"),
        scaling.get("selectPolicy"),
        path.child("policies"),
    )
    if window is not None and window < 0:
        text = "must be greater than or equal to zero"
        errors.append(invalid(path.child("stabilizationWindowSeconds"), window, text))
    if window is not None and window > 3600:
        text = "must be less than or equal to 3600"
        errors.append(invalid(path.child("stabilizationWindowSeconds"), window, text))
    if chosen is not None and chosen not in ("Disabled", "Max", "Min"):
        errors.append(not_supported(path.child("selectPolicy"), chosen, ("Disabled", "Max", "Min")))
    if not scaling.get("policies"):
        errors.append(required(where, "must specify at least one Policy"))
    for at, policy in enumerate(scaling.get("policies") or ()):
        errors += _validate_policy(policy, where.index(at))
    if scaling.get("tolerance") is not None:
        tolerance = Quantity.parse(scaling["tolerance"])
        errors += amounts.validate_nonnegative_quantity(tolerance, path.child("tolerance"))
    return errors


def _validate_policy(policy: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    kind, seconds = policy.get("type") or "", policy.get("periodSeconds") or 0
    if kind not in ("Percent", "Pods"):
        errors.append(not_supported(path.child("type"), kind, ("Percent", "Pods")))
    if (policy.get("value") or 0) <= 0:
        errors.append(invalid(path.child("value"), policy.get("value") or 0, "must be greater than zero"))
    if seconds <= 0:
        errors.append(invalid(path.child("periodSeconds"), seconds, "must be greater than zero"))
    if seconds > 1800:
        errors.append(invalid(path.child("periodSeconds"), seconds, "must be less than or equal to 1800"))
    return errors


def validate_autoscaler_update(new: Object, old: Object) -> list[FieldError]:
    """Zero replicas and an odd version of the target stay allowed where they were before."""
    before = old.get("spec") or {}
    target, was = (new.get("spec") or {}).get("scaleTargetRef") or {}, before.get("scaleTargetRef") or {}
    floor = 0 if before.get("minReplicas") == 0 else 1
    if all((target.get(field) or "") == (was.get(field) or "") for field in ("apiVersion", "kind")):
        return _validate_spec(new, floor=floor, versions="unjudged")
    versions = "any" if target.get("kind") == "ReplicationController" else "grouped"
    return _validate_spec(new, floor=floor, versions=versions)


def validate_autoscaler_status(new: Object, _old: Object) -> list[FieldError]:
    status, path = new.get("status") or {}, FieldPath("status")
    errors = metadata.validate_nonnegative(status.get("currentReplicas"), path.child("currentReplicas"))
    return errors + metadata.validate_nonnegative(status.get("desiredReplicas"), path.child("desiredReplicas"))


AUTOSCALER = KindRules(
    default=default_autoscaler,
    prepare_create=_prepare_create,
    prepare_update=strategy.updated(counted=()),
    prepare_status=strategy.status_only(),
    validate=validate_autoscaler,
    validate_update=validate_autoscaler_update,
    validate_status=validate_autoscaler_status,
)

RULES: Sequence[tuple[str, str, KindRules]] = (("autoscaling", "HorizontalPodAutoscaler", AUTOSCALER),)
