"""CustomResourceDefinitions: what is filled in, what a write may change and which definitions are good.

Source: apiextensions-apiserver ``pkg/apis/apiextensions/v1/defaults.go``, ``pkg/registry/customresourcedefinition``,
1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from anynode.api.objects import Object
from anynode.schema import metadata
from anynode.schema.custom import formats
from anynode.schema.custom.structural import subschemas
from anynode.schema.kinds import definition_rules, strategy
from anynode.schema.rules import KindRules

_NO_NAMES: Object = {"plural": "", "kind": ""}
_WEBHOOK_PORT = 443


def default_definition(crd: Object) -> Object:
    """``crd`` with names made from its kind, without conversion, and the storage version among the stored ones."""
    spec = dict(crd.get("spec") or {})
    names = dict(spec.get("names") or _NO_NAMES)
    kind = names.get("kind") or ""
    if not names.get("singular") and kind:
        names["singular"] = kind.lower()
    if not names.get("listKind") and kind:
        names["listKind"] = f"{kind}List"
    spec["names"] = names
    spec["conversion"] = _default_conversion(spec.get("conversion"))
    status = {"conditions": None, "acceptedNames": _NO_NAMES, "storedVersions": None, **(crd.get("status") or {})}
    if not status.get("storedVersions"):
        status["storedVersions"] = _storage_versions(spec) or None
    return {**crd, "spec": spec, "status": status}


def _default_conversion(conversion: Object | None) -> Object:
    if conversion is None:
        return {"strategy": "None"}
    hook = conversion.get("webhook")
    if hook is not None and hook.get("clientConfig") is None and hook.get("conversionReviewVersions") is None:
        conversion = {field: value for field, value in conversion.items() if field != "webhook"}
    service = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service is None or service.get("port") is not None:
        return conversion
    webhook = conversion["webhook"]
    config = {**webhook["clientConfig"], "service": {**service, "port": _WEBHOOK_PORT}}
    return {**conversion, "webhook": {**webhook, "clientConfig": config}}


def _storage_versions(spec: Object) -> list[str]:
    return [each.get("name") or "" for each in spec.get("versions") or () if each.get("storage")][:1]


def _prepare_create(crd: Object) -> Object:
    stored = _storage_versions(crd.get("spec") or {})
    status = {"conditions": None, "acceptedNames": _NO_NAMES, "storedVersions": stored or None}
    return strategy.with_generation({**crd, "status": status}, 1)


def _prepare_update(new: Object, old: Object) -> Object:
    prepared = strategy.updated()(new, old)
    status = prepared.get("status") or {}
    stored = status.get("storedVersions") or []
    added = [each for each in _storage_versions(prepared.get("spec") or {}) if each not in stored]
    if not added:
        return prepared
    return {**prepared, "status": {**status, "storedVersions": [*stored, *added]}}


def unrecognized_formats(crd: Object) -> list[str]:
    """Formats in the definition's schemas that count for nothing, each as often as it occurs."""
    found: list[str] = []
    for schema in definition_rules.schemas(crd):
        for each in subschemas(schema):
            name, kind = each.get("format") or "", each.get("type") or ""
            known = formats.recognized(name, (kind,)) if name else True
            if not known:
                found.append(name)
    return found


def _warnings(crd: Object) -> Sequence[str]:
    return [f"unrecognized format {definition_rules.quoted(each)}" for each in unrecognized_formats(crd)]


def _update_warnings(new: Object, old: Object) -> Sequence[str]:
    before = set(unrecognized_formats(old))
    fresh = [each for each in unrecognized_formats(new) if each not in before]
    return [f"unrecognized format {definition_rules.quoted(each)}" for each in fresh]


DEFINITION = KindRules(
    default=default_definition,
    prepare_create=_prepare_create,
    prepare_update=_prepare_update,
    prepare_status=strategy.status_only(),
    validate=definition_rules.validate,
    validate_update=definition_rules.validate_update,
    validate_status=definition_rules.validate_status,
    warnings=_warnings,
    update_warnings=_update_warnings,
    valid_name=metadata.subdomain_name,
    allow_unconditional_update=False,
)

RULES: Sequence[tuple[str, str, KindRules]] = (("apiextensions.k8s.io", "CustomResourceDefinition", DEFINITION),)
