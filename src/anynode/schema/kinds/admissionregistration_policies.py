"""Validating and mutating admission policies and their bindings: defaults and what is valid.

Source: kubernetes ``pkg/apis/admissionregistration/{v1/defaults.go,validation/validation.go}``,
``pkg/registry/admissionregistration/*admissionpolicy*/strategy.go``, 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from anynode.api import names
from anynode.api.objects import Object, meta
from anynode.cel import types as cel
from anynode.cel.environment import Environment
from anynode.cel.types import Type
from anynode.schema import admission_expressions as expressions
from anynode.schema import metadata
from anynode.schema.fields import FieldError, FieldPath, duplicate, forbidden, invalid, not_supported, required
from anynode.schema.kinds import strategy
from anynode.schema.kinds.admissionregistration_matching import (
    FAILURE_POLICIES,
    MUTATING_OPERATIONS,
    REINVOCATION_POLICIES,
    chosen,
    required_choice,
    validate_match_conditions,
    validate_match_resources,
)
from anynode.schema.kinds.admissionregistration_webhooks import default_rule, static_name_warnings
from anynode.schema.kinds.conditions import validate_conditions
from anynode.schema.kinds.selection import validate_label_selector
from anynode.schema.rules import KindRules

MOST_AUDIT_ANNOTATIONS = 20
MOST_VALUE_EXPRESSION_BYTES = 5 * 1024
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")
_SPEC = FieldPath("spec")
_RESERVED = frozenset({
    "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
    "loop", "package", "namespace", "return", "var", "void", "while",
})  # fmt: skip


# --- defaults


def _default_match(match: Object | None) -> Object | None:
    if match is None:
        return None
    filled = {
        **match,
        "namespaceSelector": match.get("namespaceSelector") or {},
        "objectSelector": match.get("objectSelector") or {},
    }
    if match.get("matchPolicy") is None:
        filled["matchPolicy"] = "Equivalent"
    for field in ("resourceRules", "excludeResourceRules"):
        if match.get(field):
            filled[field] = [default_rule(rule) for rule in match[field]]
    return filled


def _default_policy(policy: Object) -> Object:
    spec = {**(policy.get("spec") or {})}
    if spec.get("failurePolicy") is None:
        spec["failurePolicy"] = "Fail"
    match = _default_match(spec.get("matchConstraints"))
    if match is not None:
        spec["matchConstraints"] = match
    return {**policy, "spec": spec}


def _default_validating(policy: Object) -> Object:
    filled = _default_policy(policy)
    return filled if filled.get("status") is not None else {**filled, "status": {}}


def _default_binding(binding: Object) -> Object:
    spec = {**(binding.get("spec") or {})}
    match = _default_match(spec.get("matchResources"))
    if match is not None:
        spec["matchResources"] = match
    return {**binding, "spec": spec}


# --- policies


class _Expressions:
    """Compiles the expressions of one policy, each with the variables before it."""

    def __init__(self, spec: Object) -> None:
        self._params = spec.get("paramKind") is not None
        self._composes = bool(spec.get("variables"))
        self._types: dict[str, Type] = {}

    def environment(self, *, authorizer: bool = True, patch: bool = False) -> Environment:
        base = expressions.environment(params=self._params, authorizer=authorizer, patch=patch)
        return expressions.composed(base, self._types) if self._composes else base

    def add(self, name: str, text: str, path: FieldPath) -> list[FieldError]:
        """Compile a variable and let later expressions see it."""
        try:
            program = expressions.compiled(self.environment(), text, expressions.ANYTHING)
        except expressions.ExpressionError as error:
            self._types[name] = cel.DYN
            return [invalid(path, text, str(error))]
        self._types[name] = program.result_type
        return []


def _validate_common(spec: Object) -> list[FieldError]:
    """Failure policy, parameters, what is matched, and the match conditions."""
    errors = required_choice(spec.get("failurePolicy"), FAILURE_POLICIES, _SPEC.child("failurePolicy"))
    kind = spec.get("paramKind")
    if kind is not None:
        errors += _validate_param_kind(kind, _SPEC.child("paramKind"))
    match, path = spec.get("matchConstraints"), _SPEC.child("matchConstraints")
    if match is None:
        errors.append(required(path))
    else:
        errors += validate_match_resources(match, path)
        if not match.get("resourceRules"):
            errors.append(required(path.child("resourceRules")))
    return errors


def _validate_conditions(spec: Object) -> list[FieldError]:
    params = spec.get("paramKind") is not None
    return validate_match_conditions(spec.get("matchConditions") or (), _SPEC.child("matchConditions"), params=params)


def _validate_param_kind(kind: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    api_version, name = kind.get("apiVersion") or "", kind.get("kind") or ""
    where = path.child("apiVersion")
    group, _, version = api_version.rpartition("/")
    if not api_version:
        errors.append(required(where))
    elif api_version.count("/") > 1:
        errors.append(invalid(where, api_version, f"unexpected GroupVersion string: {api_version}"))
    else:
        wrong = names.dns1123_subdomain(group) if group else []
        if wrong:
            errors.append(invalid(where, group, ",".join(wrong)))
        if not version:
            errors.append(invalid(where, api_version, "version must be specified"))
        else:
            wrong = names.dns1035_label(version)
            if wrong:
                errors.append(invalid(where, version, ",".join(wrong)))
    if not name:
        errors.append(required(path.child("kind")))
    else:
        wrong = names.dns1035_label(name.lower())
        if wrong:
            text = f"may have mixed case, but should otherwise match: {','.join(wrong)}"
            errors.append(invalid(path.child("kind"), name, text))
    return errors


def _validate_variables(spec: Object, known: _Expressions) -> list[FieldError]:
    errors: list[FieldError] = []
    for at, variable in enumerate(spec.get("variables") or ()):
        path = _SPEC.child("variables").index(at)
        name, text = variable.get("name") or "", variable.get("expression") or ""
        if not name.strip():
            errors.append(required(path.child("name"), "name is not specified"))
        elif not re.fullmatch("[_a-zA-Z][_a-zA-Z0-9]*", name) or name in _RESERVED:
            errors.append(invalid(path.child("name"), name, "must be a valid CEL identifier"))
        if not text.strip():
            errors.append(required(path.child("expression"), "expression is not specified"))
        else:
            errors += known.add(name, text, path.child("expression"))
    return errors


def _has_overlong_expressions(spec: Object) -> bool:
    """Whether this process could not compile the expressions without keeping everybody waiting."""
    pending: list[object] = [spec]
    size = 0
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            pending += each.values()
            size += sum(len(text) for name, text in each.items() if name in _TEXTS and isinstance(text, str))
        elif isinstance(each, list):
            pending += each
    return size > MOST_CHARACTERS


MOST_CHARACTERS = 300_000
_TEXTS = ("expression", "messageExpression", "valueExpression")


def _validate_validating(policy: Object, *, conditions: bool = True) -> list[FieldError]:
    spec = policy.get("spec") or {}
    errors = _validate_common(spec)
    if _has_overlong_expressions(spec):
        return [*errors, forbidden(_SPEC, f"expressions may have {MOST_CHARACTERS} characters in all")]
    if conditions:
        errors += _validate_conditions(spec)
    known = _Expressions(spec)
    errors += _validate_variables(spec, known)
    validations, annotations = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not annotations:
        text = "validations or auditAnnotations must contain at least one item"
        return [*errors, *(required(_SPEC.child(field), text) for field in ("validations", "auditAnnotations"))]
    for at, validation in enumerate(validations):
        errors += _validate_validation(validation, known, _SPEC.child("validations").index(at))
    return errors + _validate_annotations(policy, annotations, known)


def _validate_validation(validation: Object, known: _Expressions, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    text, where = validation.get("expression") or "", path.child("expression")
    if not text.strip():
        errors.append(required(where, "expression is not specified"))
    else:
        errors += expressions.complaints(known.environment(), text, expressions.BOOLEAN, where)
    text, where = validation.get("messageExpression") or "", path.child("messageExpression")
    if text and not text.strip():
        errors.append(invalid(where, text, "must be non-empty if specified"))
    elif text:
        errors += expressions.complaints(known.environment(authorizer=False), text, expressions.MESSAGE, where)
    text, where = validation.get("message") or "", path.child("message")
    if text and not text.strip():
        errors.append(invalid(where, text, "must be non-empty if specified"))
    elif "\n" in text.strip() or "\r" in text.strip():
        errors.append(invalid(where, text, "must not contain line breaks"))
    return errors + chosen(validation.get("reason"), _REASONS, path.child("reason"))


def _validate_annotations(policy: Object, annotations: Sequence[Object], known: _Expressions) -> list[FieldError]:
    path, name = _SPEC.child("auditAnnotations"), str(meta(policy).get("name") or "")
    errors: list[FieldError] = []
    if len(annotations) > MOST_AUDIT_ANNOTATIONS:
        shown = [
            {"Key": each.get("key") or "", "ValueExpression": each.get("valueExpression") or ""} for each in annotations
        ]
        errors.append(invalid(path, shown, f"must not have more than {MOST_AUDIT_ANNOTATIONS} auditAnnotations"))
    seen: set[str] = set()
    for at, annotation in enumerate(annotations):
        where, key = path.index(at), annotation.get("key") or ""
        if name:
            errors += metadata.validate_label_key(f"{name}/{key}", where.child("key"))
        else:
            errors.append(invalid(where.child("key"), key, "requires metadata.name be non-empty"))
        errors += _validate_value(annotation.get("valueExpression") or "", known, where.child("valueExpression"))
        if key in seen:
            errors.append(duplicate(where.child("key"), key))
        seen.add(key)
    return errors


def _validate_value(written: str, known: _Expressions, path: FieldPath) -> list[FieldError]:
    text = written.strip()
    if not text:
        return [required(path, "valueExpression is not specified")]
    if len(text.encode()) > MOST_VALUE_EXPRESSION_BYTES:
        return [required(path, f"must not exceed {MOST_VALUE_EXPRESSION_BYTES} bytes in length")]
    return expressions.complaints(known.environment(), text, expressions.ANNOTATION, path, shown=written)


def _validate_mutating(policy: Object, *, conditions: bool = True) -> list[FieldError]:
    spec = policy.get("spec") or {}
    errors = _validate_common(spec)
    if _has_overlong_expressions(spec):
        return [*errors, forbidden(_SPEC, f"expressions may have {MOST_CHARACTERS} characters in all")]
    match = spec.get("matchConstraints")
    if match is not None:
        errors += _validate_mutable(match, _SPEC.child("matchConstraints"))
    if conditions:
        errors += _validate_conditions(spec)
    known = _Expressions({**spec, "variables": spec.get("variables") or [{}]})
    errors += _validate_variables(spec, known)
    mutations = spec.get("mutations") or ()
    if not mutations:
        errors.append(required(_SPEC.child("mutations"), "mutations must contain at least one item"))
    for at, mutation in enumerate(mutations):
        errors += _validate_mutation(mutation, known, _SPEC.child("mutations").index(at))
    policy_word = spec.get("reinvocationPolicy") or None
    return errors + required_choice(policy_word, REINVOCATION_POLICIES, _SPEC.child("reinvocationPolicy"))


def _validate_mutable(match: Object, path: FieldPath) -> list[FieldError]:
    """Deletions have nothing to mutate."""
    where = path.child("resourceRules", "operations")
    return [
        not_supported(where, operation, MUTATING_OPERATIONS)
        for rule in match.get("resourceRules") or ()
        for operation in rule.get("operations") or ()
        if operation not in MUTATING_OPERATIONS
    ]


def _validate_mutation(mutation: Object, known: _Expressions, path: FieldPath) -> list[FieldError]:
    kind = mutation.get("patchType") or ""
    if not kind:
        return [required(path.child("patchType"))]
    if kind not in _PATCH_TYPES:
        return [not_supported(path.child("patchType"), kind, _PATCH_TYPES)]
    if kind == "JSONPatch":
        field, other, returns = "jsonPatch", "applyConfiguration", (expressions.JSON_PATCHES,)
    else:
        field, other, returns = "applyConfiguration", "jsonPatch", (expressions.OBJECT,)
    errors: list[FieldError] = []
    said = mutation.get(field)
    if said is None:
        errors.append(required(path.child(field), f"must be specified when patchType is {kind}"))
    else:
        text, where = (said.get("expression") or "").strip(), path.child(field, "expression")
        if text:
            errors += expressions.complaints(known.environment(patch=True), text, returns, where)
        else:
            errors.append(required(where))
    if mutation.get(other) is not None:
        text = f"must not be specified when patchType is {kind}"
        errors.append(invalid(path.child(other), f"{{{other}}}", text))
    return errors


def _checks_conditions(new: Object, old: Object) -> bool:
    """Whether an update touches what match conditions depend on."""
    after, before = new.get("spec") or {}, old.get("spec") or {}
    return any(
        not strategy.same_value(after.get(field), before.get(field)) for field in ("paramKind", "matchConditions")
    )


# --- status


def _validate_status(new: Object, _old: Object) -> list[FieldError]:
    status, path = new.get("status") or {}, FieldPath("status")
    errors: list[FieldError] = []
    warnings = (status.get("typeChecking") or {}).get("expressionWarnings") or ()
    for at, warning in enumerate(warnings):
        where = path.child("typeChecking", "expressionWarnings").index(at)
        if not warning.get("warning"):
            errors.append(required(where.child("warning")))
        if not (warning.get("fieldRef") or "").strip():
            errors.append(required(where.child("fieldRef")))
    return errors + validate_conditions(status.get("conditions") or (), path.child("conditions"))


# --- bindings


def _validate_binding(binding: Object) -> list[FieldError]:
    spec = binding.get("spec") or {}
    name, path = spec.get("policyName") or "", _SPEC.child("policyName")
    errors = [invalid(path, name, why) for why in names.dns1123_subdomain(name)] if name else [required(path)]
    errors += _validate_param_ref(spec.get("paramRef"), _SPEC.child("paramRef"))
    return errors + validate_match_resources(spec.get("matchResources"), _SPEC.child("matchResources"))


def _validate_validating_binding(binding: Object) -> list[FieldError]:
    actions = (binding.get("spec") or {}).get("validationActions") or []
    path = _SPEC.child("validationActions")
    errors = _validate_binding(binding)
    seen: set[str] = set()
    for at, action in enumerate(actions):
        errors += chosen(action, _ACTIONS, path.index(at))
        if action in seen:
            errors.append(duplicate(path.index(at), action))
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        text = (
            "must not contain both Deny and Warn (repeating the same validation failure information in the API "
            "response and headers serves no purpose)"
        )
        errors.append(invalid(path, actions, text))
    if not actions:
        errors.append(required(path, "at least one validation action is required"))
    return errors


def _validate_mutating_binding(binding: Object) -> list[FieldError]:
    match = (binding.get("spec") or {}).get("matchResources")
    errors = _validate_binding(binding)
    return errors if match is None else errors + _validate_mutable(match, _SPEC.child("matchResources"))


def _validate_param_ref(reference: Object | None, path: FieldPath) -> list[FieldError]:
    if reference is None:
        return []
    errors: list[FieldError] = []
    name, selector = reference.get("name") or "", reference.get("selector")
    both = "name and selector are mutually exclusive"
    if name:
        errors += [invalid(path.child("name"), name, why) for why in names.path_segment_name(name)]
        if selector is not None:
            errors.append(forbidden(path.child("name"), both))
    if selector is not None:
        errors += validate_label_selector(selector, path.child("selector"))
        if name:
            errors.append(forbidden(path.child("selector"), both))
    if not name and selector is None:
        errors.append(required(path, "one of name or selector must be specified"))
    action, where = reference.get("parameterNotFoundAction") or None, path.child("parameterNotFoundAction")
    return errors + required_choice(action, ("Deny", "Allow"), where)


VALIDATING_POLICY = KindRules(
    default=_default_validating,
    prepare_create=strategy.created(status={}),
    prepare_update=strategy.updated(),
    prepare_status=strategy.status_only(keep_metadata=strategy.STATUS_METADATA),
    validate=_validate_validating,
    validate_update=lambda new, old: _validate_validating(new, conditions=_checks_conditions(new, old)),
    validate_status=_validate_status,
    update_warnings=static_name_warnings,
    warnings=lambda obj: static_name_warnings(obj, obj),
    allow_unconditional_update=False,
)
MUTATING_POLICY = KindRules(
    default=_default_policy,
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=_validate_mutating,
    validate_update=lambda new, old: _validate_mutating(new, conditions=_checks_conditions(new, old)),
    update_warnings=static_name_warnings,
    warnings=lambda obj: static_name_warnings(obj, obj),
    allow_unconditional_update=False,
)
VALIDATING_BINDING = KindRules(
    default=_default_binding,
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=_validate_validating_binding,
    validate_update=lambda new, _: _validate_validating_binding(new),
    update_warnings=static_name_warnings,
    warnings=lambda obj: static_name_warnings(obj, obj),
    allow_unconditional_update=False,
)
MUTATING_BINDING = KindRules(
    default=_default_binding,
    prepare_create=strategy.created(),
    prepare_update=strategy.updated(keep=()),
    validate=_validate_mutating_binding,
    validate_update=lambda new, _: _validate_mutating_binding(new),
    update_warnings=static_name_warnings,
    warnings=lambda obj: static_name_warnings(obj, obj),
    allow_unconditional_update=False,
)
