"""What webhooks and policies match: rules, match resources, match conditions.

Source: kubernetes ``pkg/apis/admissionregistration/validation/validation.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema import admission_expressions as expressions
from anynode.schema.fields import FieldError, FieldPath, duplicate, invalid, not_supported, required, too_many
from anynode.schema.kinds.selection import validate_label_selector
from anynode.schema.metadata import validate_label_key

FAILURE_POLICIES = ("Fail", "Ignore")
MATCH_POLICIES = ("Equivalent", "Exact")
REINVOCATION_POLICIES = ("IfNeeded", "Never")
OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
MUTATING_OPERATIONS = ("*", "CONNECT", "CREATE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_MOST_CONDITIONS = 64


def chosen(value: str | None, choices: Collection[str], path: FieldPath) -> list[FieldError]:
    """Wrong unless missing or one of ``choices``."""
    return [] if value is None or value in choices else [not_supported(path, value, choices)]


def required_choice(value: str | None, choices: Collection[str], path: FieldPath) -> list[FieldError]:
    return [required(path)] if value is None else chosen(value, choices, path)


def validate_rule(rule: Object, path: FieldPath) -> list[FieldError]:
    """A rule with operations."""
    operations: Sequence[str] = rule.get("operations") or []
    where = path.child("operations")
    errors: list[FieldError] = []
    if not operations:
        errors.append(required(where))
    if len(operations) > 1 and "*" in operations:
        errors.append(invalid(where, operations, "if '*' is present, must not specify other operations"))
    for at, operation in enumerate(operations):
        errors += chosen(operation, OPERATIONS, where.index(at))
    errors += _validate_words(rule.get("apiGroups") or [], path.child("apiGroups"), "API groups")
    versions = rule.get("apiVersions") or []
    where = path.child("apiVersions")
    errors += _validate_words(versions, where, "API versions")
    errors += [required(where.index(at)) for at, version in enumerate(versions) if not version]
    errors += _validate_resources(rule.get("resources") or [], path.child("resources"))
    return errors + chosen(rule.get("scope"), _SCOPES, path.child("scope"))


def _validate_words(words: Sequence[str], path: FieldPath, noun: str) -> list[FieldError]:
    if not words:
        return [required(path)]
    if len(words) > 1 and "*" in words:
        return [invalid(path, words, f"if '*' is present, must not specify other {noun}")]
    return []


def _validate_resources(resources: Sequence[str], path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = [] if resources else [required(path)]
    any_subresource: set[str] = set()
    any_resource: set[str] = set()
    plain = False
    for at, each in enumerate(resources):
        if not each:
            errors.append(required(path.index(at)))
            continue
        resource, slash, subresource = each.partition("/")
        if not slash:
            plain = each != "*"
            continue
        if resource in any_subresource:
            errors.append(invalid(path.index(at), each, f"if '{resource}/*' is present, must not specify {each}"))
        if subresource in any_resource:
            errors.append(invalid(path.index(at), each, f"if '*/{subresource}' is present, must not specify {each}"))
        if subresource == "*":
            any_subresource.add(resource)
        if resource == "*":
            any_resource.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        errors.append(invalid(path, resources, "if '*/*' is present, must not specify other resources"))
    if "*" in resources and plain:
        text = "if '*' is present, must not specify other resources without subresources"
        errors.append(invalid(path, resources, text))
    return errors


def validate_match_resources(match: Object | None, path: FieldPath) -> list[FieldError]:
    """``matchConstraints`` of a policy or ``matchResources`` of a binding."""
    if match is None:
        return []
    errors = required_choice(match.get("matchPolicy"), MATCH_POLICIES, path.child("matchPolicy"))
    for field in ("namespaceSelector", "objectSelector"):
        selector = match.get(field)
        where = path.child(field)
        errors += [required(where)] if selector is None else validate_label_selector(selector, where)
    for field in ("resourceRules", "excludeResourceRules"):
        for at, rule in enumerate(match.get(field) or ()):
            errors += _validate_named_rule(rule, path.child(field).index(at))
    return errors


def _validate_named_rule(rule: Object, path: FieldPath) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, name in enumerate(rule.get("resourceNames") or ()):
        where = path.child("resourceNames").index(at)
        errors += [invalid(where, name, why) for why in names.path_segment_name(name)]
        if name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
    return errors + validate_rule(rule, path)


def validate_match_conditions(conditions: Sequence[Object], path: FieldPath, *, params: bool) -> list[FieldError]:
    """Conditions in CEL; ``params``: whether they may speak of ``params``."""
    if not conditions:
        return []
    errors: list[FieldError] = []
    if len(conditions) > _MOST_CONDITIONS:
        errors.append(too_many(path, len(conditions), _MOST_CONDITIONS))
    seen: set[str] = set()
    environment = expressions.environment(params=params, authorizer=True)
    for at, condition in enumerate(conditions):
        where, name = path.index(at), condition.get("name") or ""
        text = (condition.get("expression") or "").strip()
        if text:
            errors += expressions.complaints(environment, text, expressions.BOOLEAN, where.child("expression"))
        else:
            errors.append(required(where.child("expression")))
        if not name:
            errors.append(required(where.child("name")))
            continue
        errors += validate_label_key(name, where.child("name"))
        if name in seen:
            errors.append(duplicate(where.child("name"), name))
        seen.add(name)
    return errors
