"""Selectors and everything a pod says about where it may run: affinity, tolerations, spreading.

Source: apimachinery ``pkg/apis/meta/v1/validation``, kubernetes ``pkg/apis/core/validation/validation.go``
(validateAffinity, ValidateTolerations, validateTopologySpreadConstraints), 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, duplicate, forbidden, invalid, not_supported, required
from anynode.schema.metadata import label_name, subdomain_name, validate_label_key, validate_labels

_NEEDED, _WISHED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
_NO_OPERATOR = "not a valid selector operator"
_TOPOLOGY_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate_label_selector(selector: Object | None, path: FieldPath) -> list[FieldError]:
    if not selector:
        return []
    errors = validate_labels(selector.get("matchLabels"), path.child("matchLabels"))
    for position, requirement in enumerate(selector.get("matchExpressions") or ()):
        errors += _validate_requirement(requirement, path.child("matchExpressions").index(position))
    return errors


def _validate_requirement(requirement: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(path.child("values"), text))
    else:
        errors.append(invalid(path.child("operator"), operator, _NO_OPERATOR))
    errors += validate_label_key(requirement.get("key") or "", path.child("key"))
    return errors + _validate_values(values, path.child("values"))


def _validate_values(values: Sequence[str], path: FieldPath) -> list[FieldError]:
    return [invalid(path.index(at), each, text) for at, each in enumerate(values) for text in names.label_value(each)]


def validate_node_requirement(requirement: Object, path: FieldPath, *, check_values: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(path.child("values"), text))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(path.child("values"), text))
    else:
        errors.append(invalid(path.child("operator"), operator, _NO_OPERATOR))
    errors += validate_label_key(requirement.get("key") or "", path.child("key"))
    return errors + (_validate_values(values, path.child("values")) if check_values else [])


def _validate_node_field(requirement: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    values, key = requirement.get("values") or (), requirement.get("key") or ""
    operator = requirement.get("operator") or ""
    if operator not in ("In", "NotIn"):
        errors.append(invalid(path.child("operator"), operator, _NO_OPERATOR))
    elif len(values) != 1:
        text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(required(path.child("values"), text))
    if key != "metadata.name":
        errors.append(invalid(path.child("key"), key, "not a valid field selector key"))
        return errors
    for at, value in enumerate(values):
        errors.extend(invalid(path.child("values").index(at), value, text) for text in subdomain_name(value))
    return errors


def validate_node_term(term: Object, path: FieldPath, *, check_values: bool = True) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, requirement in enumerate(term.get("matchExpressions") or ()):
        where = path.child("matchExpressions").index(at)
        errors += validate_node_requirement(requirement, where, check_values=check_values)
    for at, requirement in enumerate(term.get("matchFields") or ()):
        errors += _validate_node_field(requirement, path.child("matchFields").index(at))
    return errors


def validate_node_selector(selector: Object, path: FieldPath, *, check_values: bool = True) -> list[FieldError]:
    terms, where = selector.get("nodeSelectorTerms") or (), path.child("nodeSelectorTerms")
    if not terms:
        return [required(where, "must have at least one node selector term")]
    errors: list[FieldError] = []
    for at, term in enumerate(terms):
        errors += validate_node_term(term, where.index(at), check_values=check_values)
    return errors


def validate_affinity(affinity: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if affinity.get("nodeAffinity") is not None:
        errors += _validate_node_affinity(affinity["nodeAffinity"], path.child("nodeAffinity"))
    for kind in ("podAffinity", "podAntiAffinity"):
        if affinity.get(kind) is not None:
            errors += _validate_pod_affinity(affinity[kind], path.child(kind))
    return errors


def _validate_node_affinity(affinity: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    if affinity.get(_NEEDED) is not None:
        errors += validate_node_selector(affinity[_NEEDED], path.child(_NEEDED))
    for at, wished in enumerate(affinity.get(_WISHED) or ()):
        where = path.child(_WISHED).index(at)
        errors += _validate_weight(wished, where)
        errors += validate_node_term(wished.get("preference") or {}, where.child("preference"), check_values=False)
    return errors


def _validate_weight(wished: Object, path: FieldPath) -> list[FieldError]:
    weight = wished.get("weight") or 0
    return [] if 0 < weight <= 100 else [invalid(path.child("weight"), weight, "must be in the range 1-100")]


def _validate_pod_affinity(affinity: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, term in enumerate(affinity.get(_NEEDED) or ()):
        errors += _validate_pod_term(term, path.child(_NEEDED).index(at))
    for at, wished in enumerate(affinity.get(_WISHED) or ()):
        where = path.child(_WISHED).index(at)
        errors += _validate_weight(wished, where)
        errors += _validate_pod_term(wished.get("podAffinityTerm") or {}, where.child("podAffinityTerm"))
    return errors


def _validate_pod_term(term: Object, path: FieldPath) -> list[FieldError]:
    errors = validate_label_selector(term.get("labelSelector"), path.child("labelSelector"))
    errors += validate_label_selector(term.get("namespaceSelector"), path.child("namespaceSelector"))
    for namespace in term.get("namespaces") or ():
        errors.extend(invalid(path.child("namespace"), namespace, text) for text in label_name(namespace))
    errors += _validate_label_key_lists(
        path, term.get("matchLabelKeys") or (), term.get("mismatchLabelKeys") or (), term.get("labelSelector")
    )
    topology_key = term.get("topologyKey") or ""
    if not topology_key:
        errors.append(required(path.child("topologyKey"), "can not be empty"))
    return errors + validate_label_key(topology_key, path.child("topologyKey"))


def _validate_label_key_lists(
    path: FieldPath, match: Sequence[str], mismatch: Sequence[str], selector: Object | None
) -> list[FieldError]:
    errors = _validate_label_keys(path.child("matchLabelKeys"), match, selector)
    errors += _validate_label_keys(path.child("mismatchLabelKeys"), mismatch, selector)
    if selector is not None:
        places = {key: at for at, key in enumerate(match)}
        seen = set(selector.get("matchLabels") or ())
        for expression in selector.get("matchExpressions") or ():
            key = expression.get("key") or ""
            if key in places and key in seen:
                text = "exists in both matchLabelKeys and labelSelector"
                errors.append(invalid(path.index(places[key]), key, text))
            seen.add(key)
    for at, key in enumerate(match):
        if key in mismatch:
            text = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid(path.child("matchLabelKeys").index(at), key, text))
    return errors


def _validate_label_keys(path: FieldPath, keys: Sequence[str], selector: Object | None) -> list[FieldError]:
    if not keys:
        return []
    if selector is None:
        return [forbidden(path, "must not be specified when labelSelector is not set")]
    return [error for at, key in enumerate(keys) for error in validate_label_key(key, path.index(at))]


def validate_taint_effect(effect: str, path: FieldPath) -> list[FieldError]:
    if not effect:
        return [required(path)]
    return [] if effect in _EFFECTS else [not_supported(path, effect, _EFFECTS)]


def validate_tolerations(tolerations: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, toleration in enumerate(tolerations):
        errors += _validate_toleration(toleration, path.index(at))
    return errors


def _validate_toleration(toleration: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        errors += validate_label_key(key, path.child("key"))
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        errors.append(invalid(path.child("operator"), operator, text))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid(path.child("effect"), effect, text))
    if operator in ("Equal", ""):
        wrong = names.label_value(value) if value else ()
        if wrong:
            errors.append(invalid(path.child("operator"), value, ";".join(wrong)))
    elif operator == "Exists":
        if value:
            text = "value must be empty when `operator` is 'Exists'"
            errors.append(invalid(path.child("operator"), value, text))
    else:
        known = ("Equal", "Exists", "Lt", "Gt") if operator in ("Lt", "Gt") else ("Equal", "Exists")
        errors.append(not_supported(path.child("operator"), operator, known))
    if effect and effect not in _EFFECTS:
        errors.append(not_supported(path.child("effect"), effect, _EFFECTS))
    return errors


def validate_topology_spread(constraints: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, constraint in enumerate(constraints):
        errors += _validate_constraint(constraint, constraints[at + 1 :], path.index(at))
    return errors


def _validate_constraint(constraint: Object, rest: Sequence[Object], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    skew, key = constraint.get("maxSkew") or 0, constraint.get("topologyKey") or ""
    action = constraint.get("whenUnsatisfiable") or ""
    if skew <= 0:
        errors.append(invalid(path.child("maxSkew"), skew, "must be greater than zero"))
    if not key:
        errors.append(required(path.child("topologyKey"), "can not be empty"))
    if action not in _TOPOLOGY_ACTIONS:
        errors.append(not_supported(path.child("whenUnsatisfiable"), action, _TOPOLOGY_ACTIONS))
    if any((each.get("topologyKey") or "") == key and (each.get("whenUnsatisfiable") or "") == action for each in rest):
        errors.append(duplicate(path.child("{topologyKey, whenUnsatisfiable}"), f"{{{key}, {action}}}"))
    domains = constraint.get("minDomains")
    if domains is not None:
        if domains <= 0:
            errors.append(invalid(path.child("minDomains"), domains, "must be greater than zero"))
        if action != "DoNotSchedule":
            text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            errors.append(invalid(path.child("minDomains"), domains, text))
    for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policy = constraint.get(field)
        if policy is not None and policy not in ("Honor", "Ignore"):
            errors.append(not_supported(path.child(field), policy, ("Honor", "Ignore")))
    selector = constraint.get("labelSelector")
    errors += _validate_label_key_lists(path, constraint.get("matchLabelKeys") or (), (), selector)
    return errors + validate_label_selector(selector, path.child("labelSelector"))


def matches_labels(selector: Object | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a label selector takes an object with ``labels``; None takes nothing, an empty one everything."""
    if selector is None:
        return False
    labels = labels or {}
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_matches(each, labels) for each in selector.get("matchExpressions") or ())


def _matches(requirement: Object, labels: Mapping[str, str]) -> bool:
    operator, key, values = requirement.get("operator"), requirement.get("key") or "", requirement.get("values") or ()
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    return (key in labels) == (operator == "Exists")


def is_selector(selector: Object | None) -> bool:
    """Whether upstream can make a selector of it: operators known, keys and values well formed."""
    return not validate_label_selector(selector, FieldPath())
