"""Validating and mutating webhook configurations: defaults and what is valid.

Source: kubernetes ``pkg/apis/admissionregistration/{v1/defaults.go,validation/validation.go}``,
``pkg/registry/admissionregistration/*webhookconfiguration/strategy.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from anynode.api import names
from anynode.api.objects import Object
from anynode.schema.fields import FieldError, FieldPath, duplicate, invalid, not_supported, required
from anynode.schema.kinds import strategy, webhook_clients
from anynode.schema.kinds.admissionregistration_matching import (
    FAILURE_POLICIES,
    MATCH_POLICIES,
    REINVOCATION_POLICIES,
    chosen,
    validate_match_conditions,
    validate_rule,
)
from anynode.schema.kinds.selection import is_selector, validate_label_selector
from anynode.schema.rules import KindRules

DEFAULT_TIMEOUT_SECONDS = 10
_HARMLESS = ("None", "NoneOnDryRun")
_SIDE_EFFECTS = ("None", "NoneOnDryRun", "Some", "Unknown")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_WEBHOOKS = FieldPath("webhooks")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Strictness:
    """What an update need not mend because the old object had it, too."""

    conditions: bool = True
    harmless: bool = True
    known_version: bool = True
    unique_names: bool = True
    label_values: bool = True


def default_rule(rule: Object) -> Object:
    return rule if rule.get("scope") is not None else {**rule, "scope": "*"}


def _default_webhook(hook: Object, *, mutating: bool) -> Object:
    filled = {
        **hook,
        "failurePolicy": hook.get("failurePolicy") or "Fail",
        "matchPolicy": hook.get("matchPolicy") or "Equivalent",
        "namespaceSelector": hook.get("namespaceSelector") or {},
        "objectSelector": hook.get("objectSelector") or {},
    }
    if hook.get("failurePolicy") == "":
        filled["failurePolicy"] = ""
    if hook.get("matchPolicy") == "":
        filled["matchPolicy"] = ""
    if hook.get("timeoutSeconds") is None:
        filled["timeoutSeconds"] = DEFAULT_TIMEOUT_SECONDS
    if mutating and hook.get("reinvocationPolicy") is None:
        filled["reinvocationPolicy"] = "Never"
    if hook.get("rules"):
        filled["rules"] = [default_rule(rule) for rule in hook["rules"]]
    client = hook.get("clientConfig") or {}
    service = client.get("service")
    if service is not None and service.get("port") is None:
        filled["clientConfig"] = {**client, "service": {**service, "port": 443}}
    return filled


def _defaulter(*, mutating: bool) -> Callable[[Object], Object]:
    def default(configuration: Object) -> Object:
        hooks = configuration.get("webhooks")
        if not hooks:
            return configuration
        return {**configuration, "webhooks": [_default_webhook(hook, mutating=mutating) for hook in hooks]}

    return default


def _validate_webhook(hook: Object, strict: _Strictness, path: FieldPath, *, mutating: bool) -> list[FieldError]:
    errors = _validate_name(hook.get("name") or "", path.child("name"))
    for at, rule in enumerate(hook.get("rules") or ()):
        errors += validate_rule(rule, path.child("rules").index(at))
    errors += chosen(hook.get("failurePolicy"), FAILURE_POLICIES, path.child("failurePolicy"))
    errors += chosen(hook.get("matchPolicy"), MATCH_POLICIES, path.child("matchPolicy"))
    errors += _validate_side_effects(hook.get("sideEffects"), strict, path.child("sideEffects"))
    timeout = hook.get("timeoutSeconds")
    if timeout is not None and not 1 <= timeout <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid(path.child("timeoutSeconds"), timeout, text))
    for field in ("namespaceSelector", "objectSelector"):
        if hook.get(field) is not None:
            errors += _validate_selector(hook[field], path.child(field), strict)
    if mutating:
        errors += chosen(hook.get("reinvocationPolicy"), REINVOCATION_POLICIES, path.child("reinvocationPolicy"))
    errors += _validate_client(hook.get("clientConfig") or {}, path.child("clientConfig"))
    if strict.conditions:
        conditions = hook.get("matchConditions") or ()
        errors += validate_match_conditions(conditions, path.child("matchConditions"), params=False)
    return errors + _validate_versions(hook.get("admissionReviewVersions") or [], strict, path)


def _validate_name(name: str, path: FieldPath) -> list[FieldError]:
    if not name:
        return [required(path)]
    wrong = names.dns1123_subdomain(name)
    if wrong:
        return [invalid(path, name, ",".join(wrong))]
    if name.count(".") < 2:
        return [invalid(path, name, "should be a domain with at least three segments separated by dots")]
    return []


def _validate_side_effects(effects: str | None, strict: _Strictness, path: FieldPath) -> list[FieldError]:
    allowed = _HARMLESS if strict.harmless else _SIDE_EFFECTS
    if effects is None:
        return [required(path, f"must specify one of {', '.join(allowed)}")]
    return [] if effects in allowed else [not_supported(path, effects, allowed)]


def _validate_selector(selector: Object, path: FieldPath, strict: _Strictness) -> list[FieldError]:
    errors = validate_label_selector(selector, path)
    if strict.label_values:
        return errors
    return [error for error in errors if ".values" not in error.field and ".matchLabels" not in error.field]


def _validate_client(client: Object, path: FieldPath) -> list[FieldError]:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [required(path, "exactly one of url or service is required")]
    if url is not None:
        return webhook_clients.validate_url(url, path.child("url"))
    assert service is not None
    return webhook_clients.validate_service(service, path.child("service"))


def _validate_versions(versions: Sequence[str], strict: _Strictness, path: FieldPath) -> list[FieldError]:
    where, known = path.child("admissionReviewVersions"), ", ".join(_REVIEW_VERSIONS)
    if not versions:
        return [required(where, f"must specify one of {known}")]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, version in enumerate(versions):
        if version in seen:
            errors.append(invalid(where.index(at), version, "duplicate version"))
            continue
        seen.add(version)
        errors += [invalid(where.index(at), version, why) for why in names.dns1035_label(version)]
    if strict.known_version and not seen.intersection(_REVIEW_VERSIONS):
        errors.append(invalid(where, versions, f"must include at least one of {known}"))
    return errors


def _validate(configuration: Object, strict: _Strictness, *, mutating: bool) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, hook in enumerate(configuration.get("webhooks") or ()):
        path, name = _WEBHOOKS.index(at), hook.get("name") or ""
        errors += _validate_webhook(hook, strict, path, mutating=mutating)
        if strict.unique_names and name:
            if name in seen:
                errors.append(duplicate(path.child("name"), name))
            seen.add(name)
    return errors


def _strictness(new: Object, old: Object) -> _Strictness:
    before: Sequence[Object] = old.get("webhooks") or ()
    after: Sequence[Object] = new.get("webhooks") or ()
    unchanged = len(before) == len(after) and all(
        (one.get("matchConditions") or []) == (other.get("matchConditions") or [])
        for one, other in zip(after, before, strict=True)
    )
    return _Strictness(
        conditions=not unchanged,
        harmless=all(hook.get("sideEffects") in _HARMLESS for hook in before),
        known_version=all(
            not hook.get("admissionReviewVersions")
            or bool(set(hook["admissionReviewVersions"]).intersection(_REVIEW_VERSIONS))
            for hook in before
        ),
        unique_names=len({hook.get("name") or "" for hook in before}) == len(before),
        label_values=all(
            is_selector(hook.get(field)) for hook in before for field in ("namespaceSelector", "objectSelector")
        ),
    )


def _rules(*, mutating: bool) -> KindRules:
    return KindRules(
        default=_defaulter(mutating=mutating),
        prepare_create=strategy.created(),
        prepare_update=strategy.updated(keep=(), counted=("webhooks",)),
        validate=lambda new: _validate(new, _Strictness(), mutating=mutating),
        validate_update=lambda new, old: _validate(new, _strictness(new, old), mutating=mutating),
        update_warnings=static_name_warnings,
        allow_unconditional_update=False,
    )


def static_name_warnings(new: Object, _old: Object) -> list[str]:
    """What upstream says of names it will keep for configurations from files."""
    if not str((new.get("metadata") or {}).get("name") or "").endswith(".static.k8s.io"):
        return []
    return [
        'metadata.name: names ending with ".static.k8s.io" are reserved for static manifest-based configurations and '
        "cannot be managed via the API"
    ]


VALIDATING = dataclasses.replace(_rules(mutating=False), warnings=lambda obj: static_name_warnings(obj, obj))
MUTATING = dataclasses.replace(_rules(mutating=True), warnings=lambda obj: static_name_warnings(obj, obj))
