"""Limit ranges and resource quotas.

Source: kubernetes ``pkg/apis/core/v1/defaults.go`` (SetDefaults_LimitRangeItem),
``pkg/apis/core/validation/validation.go`` (ValidateLimitRange, ValidateResourceQuota),
``pkg/registry/core/{limitrange,resourcequota}/strategy.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anynode.api.formats import Quantity
from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, duplicate, forbidden, invalid, required
from anynode.schema.kinds import amounts, strategy
from anynode.schema.rules import KindRules

_TYPES = ("Pod", "Container", "PersistentVolumeClaim")
_FIELDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
_COMPUTE = ("cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
_POD_SCOPES = ("Terminating", "NotTerminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity")
_SCOPES = (*_POD_SCOPES, "BestEffort", "VolumeAttributesClass")


def default_limit_range(limit_range: Object) -> Object:
    spec = limit_range.get("spec") or {}
    if not any(each.get("type") == "Container" for each in spec.get("limits") or ()):
        return limit_range
    limits = [_default_limit(each) if each.get("type") == "Container" else each for each in spec["limits"]]
    return {**limit_range, "spec": {**spec, "limits": limits}}


def _default_limit(limit: Object) -> Object:
    most = {**(limit.get("max") or {}), **(limit.get("default") or {})}
    wanted = {**(limit.get("min") or {}), **most, **(limit.get("defaultRequest") or {})}
    filled = dict(limit)
    if most:
        filled["default"] = most
    if wanted:
        filled["defaultRequest"] = wanted
    return filled


def _validate_name(kind: str, name: str, path: FieldPath) -> list[FieldError]:
    if kind in ("Pod", "Container"):
        return amounts.validate_container_resource_name(name, path)
    return amounts.validate_resource_name(name, path)


def validate_limit_range(limit_range: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, limit in enumerate((limit_range.get("spec") or {}).get("limits") or ()):
        path, kind = FieldPath("spec.limits").index(at), limit.get("type") or ""
        wrong = metadata.validate_label_key(kind, path.child("type"))
        if not wrong and "/" not in kind and kind not in _TYPES:
            wrong.append(invalid(path.child("type"), kind, "must be a standard limit type or fully qualified"))
        errors += wrong
        if kind in seen:
            errors.append(duplicate(path.child("type"), kind))
        seen.add(kind)
        errors += _validate_limit(limit, kind, path)
    return errors


def _validate_limit(limit: Object, kind: str, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    given: dict[str, dict[str, Quantity]] = {field: {} for field in _FIELDS}
    for field in _FIELDS:
        values: Mapping[str, str] = limit.get(field) or {}
        if kind == "Pod" and field in ("default", "defaultRequest"):
            if values:
                errors.append(forbidden(path.child(field), "may not be specified when `type` is 'Pod'"))
            continue
        if field == "maxLimitRequestRatio" and kind == "PersistentVolumeClaim":
            bounds = {**(limit.get("min") or {}), **(limit.get("max") or {})}
            if "storage" not in bounds:
                text = "either minimum or maximum storage value is required, but neither was provided"
                errors.append(required(path.child("limits"), text))
        for name, text in sorted(values.items()):
            errors += _validate_name(kind, name, path.child(field).key(name))
            given[field][name] = Quantity.parse(text)
    for name in sorted({name for values in given.values() for name in values}):
        errors += _validate_order(name, {field: values.get(name) for field, values in given.items()}, path)
    return errors


_ORDERS = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)


def _validate_order(name: str, given: Mapping[str, Quantity | None], path: FieldPath) -> list[FieldError]:
    """Complaints about one resource whose bounds and defaults are out of order."""
    errors: list[FieldError] = []
    for low, high, field, shown, text in _ORDERS:
        less, more = given[low], given[high]
        if less is not None and more is not None and less.nano > more.nano:
            errors.append(invalid(path.child(field).key(name), str(given[shown]), text.format(less, more)))
    ratio, least, most = given["maxLimitRequestRatio"], given["min"], given["max"]
    if ratio is not None:
        where = path.child("maxLimitRequestRatio").key(name)
        if ratio.nano < 10**9:
            errors.append(invalid(where, str(ratio), f"ratio {ratio} is less than 1"))
        if least is not None and most is not None and least.nano and ratio.nano * least.nano > most.nano * 10**9:
            millionths = (2 * most.nano * 10**6 + least.nano) // (2 * least.nano)
            shown = f"{millionths // 10**6}.{millionths % 10**6:06}"
            errors.append(invalid(where, str(ratio), f"ratio {ratio} is greater than max/min = {shown}"))
    default, wanted = given["default"], given["defaultRequest"]
    if default is not None and wanted is not None and default != wanted and not amounts.overcommit_allowed(name):
        text = f"default value {default} must equal to defaultRequest value {wanted} in {name}"
        errors.append(invalid(path.child("defaultRequest").key(name), str(wanted), text))
    return errors


def _create_limit_range(limits: Object) -> Object:
    """One without a name gets a random one."""
    found = meta(limits)
    return limits if found.get("name") else {**limits, "metadata": {**found, "name": found.get("uid", "")}}


LIMIT_RANGE = KindRules(
    default=default_limit_range,
    prepare_create=_create_limit_range,
    validate=validate_limit_range,
    validate_update=lambda new, _old: validate_limit_range(new),
)


def _scope_fits(scope: str, resource: str) -> bool:
    if scope in _POD_SCOPES:
        return resource == "pods" or resource in _COMPUTE
    if scope == "BestEffort":
        return resource == "pods"
    if scope == "VolumeAttributesClass":
        return resource in ("persistentvolumeclaims", "requests.storage")
    return True


def _validate_amounts(values: Mapping[str, str] | None, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for name, text in sorted((values or {}).items()):
        errors += amounts.validate_quota_resource_name(name, path.key(name))
        errors += amounts.validate_quantity(name, Quantity.parse(text), path.key(name))
    return errors


def _standard(name: str) -> bool:
    return not amounts.validate_quota_resource_name(name, FieldPath()) and "/" not in name


_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})


def _validate_scopes(spec: Object, path: FieldPath) -> list[FieldError]:
    scopes = spec.get("scopes") or []
    errors: list[FieldError] = []
    where, hard = path.child("scopes"), sorted(spec.get("hard") or ())
    for scope in scopes:
        if scope not in _SCOPES:
            errors.append(invalid(where, scopes, "unsupported scope"))
        unfit = (name for name in hard if _standard(name) and not _scope_fits(scope, name))
        errors.extend(invalid(where, scopes, "unsupported scope applied to resource") for _ in unfit)
    errors.extend(invalid(where, scopes, "conflicting scopes") for pair in _CONFLICTS if pair <= set(scopes))
    return errors


def _validate_scope_selector(spec: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for requirement in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        where, scope = path.child("scopeSelector", "matchExpressions"), requirement.get("scopeName") or ""
        operator, values = requirement.get("operator") or "", requirement.get("values") or []
        if scope not in _SCOPES:
            errors.append(invalid(where.child("scopeName"), scope, "unsupported scope"))
        fixed = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity")
        if scope in fixed and operator != "Exists":
            text = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                "ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            errors.append(invalid(where.child("operator"), operator, text))
        if operator in ("In", "NotIn"):
            if not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(where.child("values"), text))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
                errors.append(invalid(where.child("values"), values, text))
        else:
            errors.append(invalid(where.child("operator"), operator, "not a valid selector operator"))
        seen.add(scope)
    where = path.child("scopeSelector", "matchExpressions")
    scopes = spec.get("scopes")
    return errors + [invalid(where, scopes, "conflicting scopes") for pair in _CONFLICTS if pair <= seen]


def _validate_quota_spec(spec: Object) -> list[FieldError]:
    path = FieldPath("spec")
    errors = _validate_amounts(spec.get("hard"), path.child("hard"))
    return errors + _validate_scopes(spec, path) + _validate_scope_selector(spec, path)


def validate_quota(quota: Object) -> list[FieldError]:
    return _validate_quota_spec(quota.get("spec") or {}) + validate_quota_status(quota, quota)


def validate_quota_update(new: Object, old: Object) -> list[FieldError]:
    after, before = new.get("spec") or {}, old.get("spec") or {}
    errors = _validate_quota_spec(after)
    if set(after.get("scopes") or ()) != set(before.get("scopes") or ()):
        errors.append(invalid(FieldPath("spec.scopes"), after.get("scopes"), metadata.IMMUTABLE))
    return errors


def validate_quota_status(new: Object, _old: Object) -> list[FieldError]:
    status = new.get("status") or {}
    errors = _validate_amounts(status.get("hard"), FieldPath("status.hard"))
    return errors + _validate_amounts(status.get("used"), FieldPath("status.used"))


QUOTA = KindRules(
    default=lambda quota: {**quota, "spec": quota.get("spec") or {}, "status": quota.get("status") or {}},
    prepare_create=strategy.created(status={}, generation=False),
    prepare_update=strategy.updated(counted=()),
    prepare_status=strategy.status_only(),
    validate=validate_quota,
    validate_update=validate_quota_update,
    validate_status=validate_quota_status,
)

RULES: Sequence[tuple[str, str, KindRules]] = (("", "LimitRange", LIMIT_RANGE), ("", "ResourceQuota", QUOTA))
