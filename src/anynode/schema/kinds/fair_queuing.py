"""Flow schemas and priority levels.

Source: kubernetes ``pkg/apis/flowcontrol/validation/validation.go``, ``pkg/apis/flowcontrol/v1/defaults.go``,
``pkg/registry/flowcontrol/*/strategy.go``, 1.36.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, duplicate, forbidden, invalid, not_supported, required
from anynode.schema.kinds import strategy
from anynode.schema.kinds.fair_queuing_fixed import fixed_level_errors, fixed_schema_errors
from anynode.schema.rules import KindRules

_SPEC = FieldPath("spec")
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_SUBJECTS = {"ServiceAccount": "serviceAccount", "User": "user", "Group": "group"}
_NAMESPACE = "each member of this list must be '*' or a DNS-1123 label; "


def default_schema(schema: Object) -> Object:
    spec = schema.get("spec") or {}
    filled = {**spec, "matchingPrecedence": spec.get("matchingPrecedence") or 1000}
    return {**schema, "spec": filled, "status": schema.get("status") or {}}


def validate_schema(schema: Object) -> list[FieldError]:
    spec = schema.get("spec") or {}
    errors: list[FieldError] = []
    precedence, path = spec["matchingPrecedence"], _SPEC.child("matchingPrecedence")
    if precedence <= 0:
        errors.append(invalid(path, precedence, "must be a positive value"))
    if precedence > 10000:
        errors.append(invalid(path, precedence, "must not be greater than 10000"))
    if precedence == 1 and meta(schema).get("name") != "exempt":
        errors.append(invalid(path, precedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        shown = {"Type": method.get("type") or ""}
        errors.append(not_supported(_SPEC.child("distinguisherMethod", "type"), shown, ("ByNamespace", "ByUser")))
    level, path = (
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        _SPEC.child("priorityLevelConfiguration", "name"),
    )
    if level:
        errors += metadata.validate_name(level, path)
    else:
        errors.append(required(path, "must reference a priority level"))
    for at, rule in enumerate(spec.get("rules") or ()):
        errors += _validate_rule(rule, _SPEC.child("rules").index(at))
    return errors + fixed_schema_errors(schema) + validate_conditions(schema, schema)


def validate_conditions(new: Object, _old: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, condition in enumerate((new.get("status") or {}).get("conditions") or ()):
        kind, path = condition.get("type") or "", FieldPath("status.conditions").index(at).child("type")
        if kind in seen:
            errors.append(duplicate(path, kind))
        seen.add(kind)
        if not kind:
            errors.append(required(path))
    return errors


def _validate_rule(rule: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if not rule.get("subjects"):
        errors.append(required(path.child("subjects"), "subjects must contain at least one value"))
    for at, subject in enumerate(rule.get("subjects") or ()):
        errors += _validate_subject(subject, path.child("subjects").index(at))
    if not rule.get("resourceRules") and not rule.get("nonResourceRules"):
        text = "at least one of resourceRules and nonResourceRules has to be non-empty"
        errors.append(required(path, text))
    for at, each in enumerate(rule.get("resourceRules") or ()):
        errors += _validate_resource_rule(each, path.child("resourceRules").index(at))
    for at, each in enumerate(rule.get("nonResourceRules") or ()):
        errors += _validate_path_rule(each, path.child("nonResourceRules").index(at))
    return errors


def _validate_subject(subject: Object, path: FieldPath) -> list[FieldError]:
    kind = subject.get("kind") or ""
    if kind not in _SUBJECTS:
        return [not_supported(path.child("kind"), kind, sorted(_SUBJECTS))]
    field = _SUBJECTS[kind]
    errors = _validate_named(subject.get(field), kind, path.child(field))
    for other, unfit in _SUBJECTS.items():
        if other != kind and subject.get(unfit) is not None:
            errors.append(forbidden(path.child(unfit), f"{unfit} is forbidden when subject kind is not '{other}'"))
    return errors


def _validate_named(subject: Object | None, kind: str, path: FieldPath) -> list[FieldError]:
    if subject is None:
        return [required(path, f"{_SUBJECTS[kind]} is required when subject kind is '{kind}'")]
    name, namespace = subject.get("name") or "", subject.get("namespace") or ""
    errors: list[FieldError] = []
    if not name:
        errors.append(required(path.child("name")))
    elif kind == "ServiceAccount" and name != "*":
        errors += metadata.validate_name(name, path.child("name"))
    if kind != "ServiceAccount":
        return errors
    if namespace:
        return errors + metadata.validate_name(namespace, path.child("namespace"), metadata.label_name)
    return [*errors, required(path.child("namespace"), "must specify namespace for service account")]


def _validate_verbs(rule: Object, path: FieldPath) -> list[FieldError]:
    verbs, where = rule.get("verbs") or [], path.child("verbs")
    if not verbs:
        return [required(where, "verbs must contain at least one value")]
    if "*" in verbs:
        return [] if len(verbs) == 1 else [invalid(where, verbs, "if '*' is present, must not specify other verbs")]
    return [] if set(verbs) <= set(_VERBS) else [not_supported(where, verbs, _VERBS)]


def _validate_resource_rule(rule: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_verbs(rule, path)
    for field, one, many in (
        ("apiGroups", "api group", "api groups"),
        ("resources", "resource", "resources"),
    ):
        values, where = rule.get(field) or [], path.child(field)
        if not values:
            errors.append(required(where, f"resource rules must supply at least one {one}"))
        elif len(values) > 1 and "*" in values:
            errors.append(invalid(where, values, f"if '*' is present, must not specify other {many}"))
    namespaces, where = rule.get("namespaces") or [], path.child("namespaces")
    if not namespaces and not rule.get("clusterScope"):
        text = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(where, text))
    elif "*" in namespaces:
        if len(namespaces) > 1:
            errors.append(invalid(where, namespaces, "if '*' is present, must not specify other namespaces"))
    else:
        for at, name in enumerate(namespaces):
            errors.extend(invalid(where.index(at), name, _NAMESPACE + text) for text in metadata.label_name(name))
    return errors


def _validate_path_rule(rule: Object, path: FieldPath) -> list[FieldError]:
    errors = _validate_verbs(rule, path)
    addresses, where = rule.get("nonResourceURLs") or [], path.child("nonResourceURLs")
    if not addresses:
        errors.append(required(where, "nonResourceURLs must contain at least one value"))
    elif "*" in addresses:
        if len(addresses) > 1:
            text = "if '*' is present, must not specify other non-resource URLs"
            errors.append(invalid(where, addresses, text))
    else:
        for at, address in enumerate(addresses):
            wrong = _wrong_with_address(address)
            if wrong:
                errors.append(invalid(where.index(at), address, wrong))
    return errors


def _wrong_with_address(address: str) -> str:
    if not address:
        return "must not be empty"
    if not address.startswith("/"):
        return "must start with slash"
    if " " in address:
        return "must not contain white-space"
    if "//" in address:
        return "must not contain double slash"
    if address.count("*") > 1 or ("*" in address and not address.endswith("/*")):
        return "wildcard can only do suffix matching"
    return ""


FLOW_SCHEMA = KindRules(
    default=default_schema,
    prepare_create=strategy.created(status={}),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(keep_metadata=strategy.STATUS_METADATA),
    validate=validate_schema,
    validate_update=lambda new, _old: validate_schema(new),
    validate_status=validate_conditions,
)


def default_level(level: Object) -> Object:
    spec = dict(level.get("spec") or {})
    for field, shares in (("exempt", 0), ("limited", 30)):
        part = spec.get(field)
        if part is None:
            continue
        part = {**part}
        for share, value in (("nominalConcurrencyShares", shares), ("lendablePercent", 0)):
            if part.get(share) is None:
                part[share] = value
        response = part.get("limitResponse") or {}
        if response.get("queuing") is not None:
            part["limitResponse"] = {**response, "queuing": _default_queuing(response["queuing"])}
        spec[field] = part
    return {**level, "spec": spec, "status": level.get("status") or {}}


def _default_queuing(queuing: Object) -> Object:
    defaults = {"handSize": 8, "queues": 64, "queueLengthLimit": 50}
    return {**queuing, **{field: queuing.get(field) or value for field, value in defaults.items()}}


def validate_level(level: Object) -> list[FieldError]:
    spec, kind = level.get("spec") or {}, (level.get("spec") or {}).get("type") or ""
    errors: list[FieldError] = []
    if (meta(level).get("name") == "exempt") != (kind == "Exempt"):
        errors.append(invalid(_SPEC.child("type"), kind, "must be 'Exempt' if and only if `name` is 'exempt'"))
    exempt, limited = spec.get("exempt"), spec.get("limited")
    if kind == "Exempt":
        if limited is not None:
            errors.append(forbidden(_SPEC.child("limited"), "must be nil if the type is not Limited"))
        if exempt is not None:
            errors += _validate_shares(exempt, _SPEC.child("exempt"))
    elif kind == "Limited":
        if exempt is not None:
            errors.append(forbidden(_SPEC.child("exempt"), "must be nil if the type is Limited"))
        if limited is None:
            errors.append(required(_SPEC.child("limited"), "must not be empty when type is Limited"))
        else:
            errors += _validate_limited(limited, _SPEC.child("limited"))
    else:
        errors.append(not_supported(_SPEC.child("type"), kind, ("Exempt", "Limited")))
    return errors + fixed_level_errors(level) + validate_conditions(level, level)


def _validate_shares(part: Object, path: FieldPath) -> list[FieldError]:
    shares, percent = part.get("nominalConcurrencyShares") or 0, part.get("lendablePercent") or 0
    errors: list[FieldError] = []
    if shares < 0:
        errors.append(invalid(path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer"))
    if not 0 <= percent <= 100:
        errors.append(invalid(path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive"))
    return errors


def _validate_limited(limited: Object, path: FieldPath) -> list[FieldError]:
    judged = _validate_shares(limited, path)
    errors = [each for each in judged if not each.field.endswith("lendablePercent")]
    errors += _validate_response(limited.get("limitResponse") or {}, path.child("limitResponse"))
    errors += [each for each in judged if each.field.endswith("lendablePercent")]
    borrowed = limited.get("borrowingLimitPercent")
    if borrowed is not None and borrowed < 0:
        text = "if specified, must be a non-negative integer"
        errors.append(invalid(path.child("borrowingLimitPercent"), borrowed, text))
    return errors


def _validate_response(response: Object, path: FieldPath) -> list[FieldError]:
    kind, queuing, where = response.get("type") or "", response.get("queuing"), path.child("queuing")
    if kind == "Reject":
        text = "must be nil if limited.limitResponse.type is not Limited"
        return [] if queuing is None else [forbidden(where, text)]
    if kind != "Queue":
        return [not_supported(path.child("type"), kind, ("Queue", "Reject"))]
    if queuing is None:
        return [required(where, "must not be empty if limited.limitResponse.type is Limited")]
    return _validate_queuing(queuing, where)


def _validate_queuing(queuing: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    length, queues, hand = (queuing[field] for field in ("queueLengthLimit", "queues", "handSize"))
    if length <= 0:
        errors.append(invalid(path.child("queueLengthLimit"), length, "must be positive"))
    if queues <= 0:
        errors.append(invalid(path.child("queues"), queues, "must be positive"))
    elif queues > 10**7:
        errors.append(invalid(path.child("queues"), queues, "must not be greater than 10000000"))
    where = path.child("handSize")
    if hand <= 0:
        errors.append(invalid(where, hand, "must be positive"))
    elif hand > queues:
        errors.append(invalid(where, hand, f"should not be greater than queues ({queues})"))
    elif math.ceil(math.log2(queues) * hand) > 60:
        text = f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than 60"
        errors.append(invalid(where, hand, text))
    return errors


PRIORITY_LEVEL = KindRules(
    default=default_level,
    prepare_create=strategy.created(status={}),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(keep_metadata=strategy.STATUS_METADATA),
    validate=validate_level,
    validate_update=lambda new, _old: validate_level(new),
    validate_status=validate_conditions,
)

RULES: Sequence[tuple[str, str, KindRules]] = (
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", FLOW_SCHEMA),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", PRIORITY_LEVEL),
)
