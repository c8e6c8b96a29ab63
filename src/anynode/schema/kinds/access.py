"""Roles and who is given them.

Source: kubernetes ``pkg/apis/rbac/validation/validation.go``, ``pkg/apis/rbac/v1/defaults.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, invalid, not_supported, required
from anynode.schema.kinds import selection
from anynode.schema.rules import KindRules

_GROUP = "rbac.authorization.k8s.io"
_SUBJECTS = ("ServiceAccount", "User", "Group")


def default_role(role: Object) -> Object:
    """Rules are always shown, be they none."""
    return role if "rules" in role else {**role, "rules": None}


def default_binding(binding: Object) -> Object:
    reference = binding.get("roleRef") or {}
    filled = dict(binding)
    filled["roleRef"] = {
        **reference,
        "apiGroup": reference.get("apiGroup") or _GROUP,
        "kind": reference.get("kind") or "",
        "name": reference.get("name") or "",
    }
    if binding.get("subjects"):
        filled["subjects"] = [_default_subject(each) for each in binding["subjects"]]
    return filled


def _default_subject(subject: Object) -> Object:
    if subject.get("apiGroup") or subject.get("kind") not in ("User", "Group"):
        return subject
    return {**subject, "apiGroup": _GROUP}


def _validate_rule(rule: Object, path: FieldPath, *, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    if not rule.get("verbs"):
        errors.append(required(path.child("verbs"), "verbs must contain at least one value"))
    addresses = rule.get("nonResourceURLs")
    if addresses:
        where = path.child("nonResourceURLs")
        if namespaced:
            errors.append(invalid(where, addresses, "namespaced rules cannot apply to non-resource URLs"))
        if rule.get("apiGroups") or rule.get("resources") or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
            errors.append(invalid(where, addresses, text))
        return errors
    if not rule.get("apiGroups"):
        errors.append(required(path.child("apiGroups"), "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        errors.append(required(path.child("resources"), "resource rules must supply at least one resource"))
    return errors


def _validate_rules(role: Object, *, namespaced: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, rule in enumerate(role.get("rules") or ()):
        errors += _validate_rule(rule, FieldPath("rules").index(at), namespaced=namespaced)
    return errors


def validate_role(role: Object) -> list[FieldError]:
    return _validate_rules(role, namespaced=True)


def validate_cluster_role(role: Object) -> list[FieldError]:
    errors = _validate_rules(role, namespaced=False)
    aggregation, path = role.get("aggregationRule"), FieldPath("aggregationRule.clusterRoleSelectors")
    if aggregation is None:
        return errors
    selectors = aggregation.get("clusterRoleSelectors") or ()
    if not selectors:
        text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        errors.append(required(path, text))
    for at, selector in enumerate(selectors):
        wrong = selection.validate_label_selector(selector, path.index(at))
        errors += wrong
        if wrong:
            errors.append(invalid(path.index(at), None, "invalid label selector."))
    return errors


def _binding_validator(kinds: Sequence[str], *, namespaced: bool) -> Callable[[Object], list[FieldError]]:
    def validate(binding: Object) -> list[FieldError]:
        reference, path = binding.get("roleRef") or {}, FieldPath("roleRef")
        group, kind, name = (reference.get(field) or "" for field in ("apiGroup", "kind", "name"))
        errors: list[FieldError] = []
        if group != _GROUP:
            errors.append(not_supported(path.child("apiGroup"), group, (_GROUP,)))
        if kind not in kinds:
            errors.append(not_supported(path.child("kind"), kind, kinds))
        if not name:
            errors.append(required(path.child("name")))
        errors += metadata.validate_name(name, path.child("name"), metadata.path_segment_name)
        for at, subject in enumerate(binding.get("subjects") or ()):
            errors += _validate_subject(subject, FieldPath("subjects").index(at), namespaced=namespaced)
        return errors

    return validate


def _validate_subject(subject: Object, path: FieldPath, *, namespaced: bool) -> list[FieldError]:
    name, kind, group = (subject.get(field) or "" for field in ("name", "kind", "apiGroup"))
    errors: list[FieldError] = [] if name else [required(path.child("name"))]
    if kind == "ServiceAccount":
        if name:
            errors += metadata.validate_name(name, path.child("name"))
        if group:
            errors.append(not_supported(path.child("apiGroup"), group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(path.child("namespace")))
    elif kind not in _SUBJECTS:
        errors.append(not_supported(path.child("kind"), kind, _SUBJECTS))
    elif group != _GROUP:
        errors.append(not_supported(path.child("apiGroup"), group, (_GROUP,)))
    return errors


def _role_rules(validate: Callable[[Object], list[FieldError]]) -> KindRules:
    return KindRules(
        default=default_role,
        validate=validate,
        validate_update=lambda new, _old: validate(new),
        valid_name=metadata.path_segment_name,
        allow_create_on_update=True,
    )


def _binding_rules(kinds: Sequence[str], *, namespaced: bool) -> KindRules:
    validate = _binding_validator(kinds, namespaced=namespaced)

    def validate_update(new: Object, old: Object) -> list[FieldError]:
        errors = validate(new)
        reference, before = new.get("roleRef") or {}, old.get("roleRef") or {}
        fields = (("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name"))
        if any((reference.get(field) or "") != (before.get(field) or "") for _, field in fields):
            shown = {told: reference.get(field) or "" for told, field in fields}
            errors.append(invalid(FieldPath("roleRef"), shown, "cannot change roleRef"))
        return errors

    return KindRules(
        default=default_binding,
        validate=validate,
        validate_update=validate_update,
        valid_name=metadata.path_segment_name,
        allow_create_on_update=True,
    )


RULES: Sequence[tuple[str, str, KindRules]] = (
    (_GROUP, "Role", _role_rules(validate_role)),
    (_GROUP, "ClusterRole", _role_rules(validate_cluster_role)),
    (_GROUP, "RoleBinding", _binding_rules(("Role", "ClusterRole"), namespaced=True)),
    (_GROUP, "ClusterRoleBinding", _binding_rules(("ClusterRole",), namespaced=False)),
)
