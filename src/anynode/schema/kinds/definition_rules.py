"""Which CustomResourceDefinitions are good, in upstream's words and order.

Source: apiextensions-apiserver ``pkg/apis/apiextensions/validation/validation.go``, ``pkg/apihelpers``, 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from anynode.api import names
from anynode.api.go_text import go_quoted
from anynode.api.objects import Object, meta
from anynode.schema import metadata
from anynode.schema.custom import addresses, schema_rules, wording
from anynode.schema.custom.definition_form import DefinitionForm, internal_form, versions_form
from anynode.schema.custom.field_paths import FieldPathError, valid_field_path
from anynode.schema.custom.schema_rules import Leniency
from anynode.schema.custom.structural import StructuralError, structural
from anynode.schema.custom.wording import duplicate, forbidden, invalid, not_supported, required, too_many
from anynode.schema.fields import FieldError, FieldPath
from anynode.schema.kinds import webhook_clients

MOST_SELECTABLE_FIELDS = 8
APPROVAL = "api-approved.kubernetes.io"
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
_REVIEW_VERSIONS = ("v1", "v1beta1")
_APPROVAL_PAGE = "see https://github.com/kubernetes/enhancements/pull/1111"

MOST_RULES = 2_000
MOST_RULE_CHARACTERS = 300_000

quoted = go_quoted


def schemas(crd: Object) -> Iterator[Object]:
    """The schemas of a definition: one where all versions have the same."""
    form = internal_form(crd.get("spec") or {})
    for each in (form.validation, *(version.get("schema") for version in form.versions)):
        schema = (each or {}).get("openAPIV3Schema")
        if schema is not None:
            yield schema


def validate(crd: Object) -> Sequence[FieldError]:
    spec = crd.get("spec") or {}
    plural, group = (spec.get("names") or {}).get("plural") or "", spec.get("group") or ""

    def valid_name(name: str) -> Sequence[str]:
        fits = name == f"{plural}.{group}"
        return [*metadata.subdomain_name(name), *([] if fits else ['must be spec.names.plural+"."+spec.group'])]

    errors = metadata.validate_create(crd, namespaced=False, valid_name=valid_name)
    errors += _validate_spec(internal_form(spec), Leniency())
    errors += _validate_status(crd)
    errors += _validate_approval(crd, None)
    return errors + _validate_preserving(crd, None)


def validate_update(new: Object, old: Object) -> Sequence[FieldError]:
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    leniency = schema_rules.leniency(internal_form(spec), internal_form(before), established=_is_established(old))
    errors = _validate_spec(internal_form(spec), leniency)
    after_names, old_names = spec.get("names") or {}, before.get("names") or {}
    if _is_established(old):
        errors += _unchanged(spec.get("scope"), before.get("scope"), "spec.scope")
        errors += _unchanged(after_names.get("kind"), old_names.get("kind"), "spec.names.kind")
    errors += _unchanged(spec.get("group"), before.get("group"), "spec.group")
    errors += _unchanged(after_names.get("plural"), old_names.get("plural"), "spec.names.plural")
    errors += _validate_status(new)
    errors += _validate_approval(new, old)
    return errors + _validate_preserving(new, old)


def validate_status(new: Object, _old: Object) -> Sequence[FieldError]:
    return _validate_names((new.get("status") or {}).get("acceptedNames") or {}, "status.acceptedNames")


def _unchanged(new: Any, old: Any, path: str) -> list[FieldError]:
    return [] if (new or "") == (old or "") else [invalid(path, new or "", "field is immutable")]


def _is_established(crd: Object) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Established" and each.get("status") == "True" for each in conditions)


# The spec


def _validate_spec(form: DefinitionForm, leniency: Leniency) -> list[FieldError]:
    spec = form.spec
    errors = _validate_group(spec.get("group") or "")
    errors += _enum(spec.get("scope") or "", ("Cluster", "Namespaced"), "spec.scope")
    errors += _missing_schemas(form, leniency)
    overlong = _rules_beyond_bounds(form)
    if overlong:
        return [*errors, *overlong]
    has_defaults = any(each.get("default") is not None for each in schema_rules.everything(form))
    if has_defaults and form.preserves:
        text = "must be false in order to use defaults in the schema"
        errors.append(invalid("spec.preserveUnknownFields", True, text))
    leniency = schema_rules.settled(leniency, form, has_defaults=has_defaults)
    errors += _validate_versions(form, leniency)
    errors += _validate_version_set(form)
    given = spec.get("names") or {}
    for field in ("plural", "singular", "kind", "listKind"):
        if not given.get(field):
            errors.append(required(f"spec.names.{field}"))
    errors += _validate_names(given, "spec.names")
    any_status = any(_has_status(each) for each in (form.subresources, *(v.get("subresources") for v in form.versions)))
    name = form.versions[0].get("name") or "" if form.versions else ""
    errors += schema_rules.validate(form.validation, "spec.validation", leniency, status=any_status, version=name)
    errors += _validate_subresources(form.subresources, "spec.subresources")
    for at, column in enumerate(form.columns):
        errors += _validate_column(column, f"spec.additionalPrinterColumns[{at}]")
    errors += _validate_top_selectable(form, leniency)
    return errors + _validate_conversion(spec, leniency)


def _rules_beyond_bounds(form: DefinitionForm) -> list[FieldError]:
    """A complaint about more rules than this process could compile without keeping everybody waiting."""
    rules = size = 0
    for each in schema_rules.everything(form):
        for rule in each.get("x-kubernetes-validations") or ():
            rules += 1
            size += len(rule.get("rule") or "") + len(rule.get("messageExpression") or "")
    if rules <= MOST_RULES and size <= MOST_RULE_CHARACTERS:
        return []
    text = f"x-kubernetes-validations of all versions may have {MOST_RULES} rules of {MOST_RULE_CHARACTERS} characters"
    return [forbidden("spec.versions", text)]


def _validate_group(group: str) -> list[FieldError]:
    if not group:
        return [required("spec.group")]
    wrong = names.dns1123_subdomain(group)
    if wrong:
        return [invalid("spec.group", group, ",".join(wrong))]
    return [] if "." in group else [invalid("spec.group", group, "should be a domain with at least one dot")]


def _enum(value: str, accepted: Sequence[str], path: str) -> list[FieldError]:
    if not value:
        return [required(path)]
    return [] if value in accepted else [not_supported(path, value, accepted)]


def _missing_schemas(form: DefinitionForm, leniency: Leniency) -> list[FieldError]:
    if _schema_of(form.validation) is not None:
        return []
    errors: list[FieldError] = []
    for at, version in enumerate(form.versions):
        if _schema_of(version.get("schema")) is not None:
            continue
        path = f"spec.versions[{at}].schema.openAPIV3Schema"
        if leniency.require_schema:
            errors.append(required(path))
        elif not form.preserves and version.get("served"):
            errors.append(required(path, "because otherwise all fields are pruned"))
    return errors


def _schema_of(validation: Object | None) -> Object | None:
    found: Object | None = (validation or {}).get("openAPIV3Schema")
    return found


def _has_status(subresources: Object | None) -> bool:
    return (subresources or {}).get("status") is not None


def _validate_versions(form: DefinitionForm, leniency: Leniency) -> list[FieldError]:
    errors: list[FieldError] = []
    per_version = any(each.get("subresources") is not None for each in form.versions)
    by_name = {each.get("name"): each.get("subresources") for each in reversed(form.versions)}
    for at, version in enumerate(form.versions):
        path, name = f"spec.versions[{at}]", version.get("name") or ""
        wrong = names.dns1035_label(name)
        if wrong:
            errors.append(invalid(f"{path}.name", name, ",".join(wrong)))
        subresources = by_name.get(name) if per_version else form.subresources
        errors += _validate_version(version, path, leniency, status=_has_status(subresources))
    return errors


def _validate_version(version: Object, path: str, leniency: Leniency, *, status: bool) -> list[FieldError]:
    warning, name = version.get("deprecationWarning"), version.get("name") or ""
    errors = [
        invalid(f"{path}.deprecationWarning", wording.Pointer(warning), text)
        for text in _deprecation(bool(version.get("deprecated")), warning)
    ]
    schema = version.get("schema")
    errors += schema_rules.validate(schema, f"{path}.schema", leniency, status=status, version=name)
    errors += _validate_subresources(version.get("subresources"), f"{path}.subresources")
    for at, column in enumerate(version.get("additionalPrinterColumns") or ()):
        errors += _validate_column(column, f"{path}.additionalPrinterColumns[{at}]")
    selectable = version.get("selectableFields") or ()
    if selectable:
        where, raw = f"{path}.selectableFields", _schema_of(schema)
        if raw is None:
            text = "may only be set when `version.schema.openAPIV3Schema` is not included"
            errors.append(invalid(where, "", text))
        else:
            errors += _validate_selectable(selectable, raw, where, f"{path}.schema", leniency, name)
    return errors


def _deprecation(deprecated: bool, warning: str | None) -> list[str]:
    if warning is None:
        return []
    if not deprecated:
        return ["can only be set for deprecated versions"]
    errors = ["must be <= 256 characters long"] if len(warning.encode()) > 256 else []
    if not warning:
        errors.append("must not be an empty string")
    offset = 0
    for char in warning:
        if not char.isprintable():
            text = "must only contain printable UTF-8 characters; non-printable character found at index"
            errors.append(f"{text} {offset}")
            break
        offset += len(char.encode())
    return errors


def _validate_version_set(form: DefinitionForm) -> list[FieldError]:
    errors: list[FieldError] = []
    versions, printed = form.versions, versions_form(form.versions)
    printed = printed if form.spec.get("versions") is not None else None
    for field, plural in (
        ("schema", "schemas"), ("subresources", "subresources"), ("additionalPrinterColumns",) * 2
    ):  # fmt: skip
        values = [each.get(field) for each in versions]
        if versions and values[0] is not None and all(each == values[0] for each in values):
            text = f"per-version {plural} may not all be set to identical values (top-level "
            what = "validation" if field == "schema" else field
            errors.append(invalid("spec.versions", printed, f"{text}{what} should be used instead)"))
    if len({each.get("name") for each in versions}) < len(versions):
        errors.append(invalid("spec.versions", printed, "must contain unique version names"))
    if sum(1 for each in versions if each.get("storage")) != 1:
        text = "must have exactly one version marked as storage version"
        errors.append(invalid("spec.versions", printed, text))
    if versions and versions[0].get("name"):
        wrong = names.dns1035_label(versions[0]["name"])
        if wrong:
            errors.append(invalid("spec.version", versions[0]["name"], ",".join(wrong)))
    return errors


def _validate_names(given: Object, path: str) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("plural", "singular"):
        errors += _label_errors(given.get(field) or "", f"{path}.{field}")
    for field in ("kind", "listKind"):
        value = given.get(field) or ""
        wrong = names.dns1035_label(value.lower()) if value else []
        if wrong:
            text = f"may have mixed case, but should otherwise match: {','.join(wrong)}"
            errors.append(invalid(f"{path}.{field}", value, text))
    for at, each in enumerate(given.get("shortNames") or ()):
        errors += _label_errors(each, f"{path}.shortNames[{at}]", empty=True)
    if given.get("kind") and given.get("kind") == given.get("listKind"):
        errors.append(invalid(f"{path}.listKind", given["listKind"], "kind and listKind may not be the same"))
    for at, each in enumerate(given.get("categories") or ()):
        errors += _label_errors(each, f"{path}.categories[{at}]", empty=True)
    return errors


def _label_errors(value: str, path: str, *, empty: bool = False) -> list[FieldError]:
    wrong = names.dns1035_label(value) if value or empty else []
    return [invalid(path, value, ",".join(wrong))] if wrong else []


# Subresources, columns, selectable fields


def _validate_subresources(subresources: Object | None, path: str) -> list[FieldError]:
    scale = (subresources or {}).get("scale")
    if scale is None:
        return []
    errors: list[FieldError] = []
    for field, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value, where = scale.get(field) or "", f"{path}.scale.{field}"
        if not value:
            errors.append(required(where))
            continue
        wrong = _simple_path(value, where)
        if not wrong and not value.startswith(prefix):
            wrong = [invalid(where, value, f"should be a json path under {prefix[:-1]}")]
        errors += wrong
    selector = scale.get("labelSelectorPath")
    if selector:
        where = f"{path}.scale.labelSelectorPath"
        wrong = _simple_path(selector, where)
        if not wrong and not selector.startswith((".spec.", ".status.")):
            wrong = [invalid(where, wording.Pointer(selector), "should be a json path under either .spec or .status")]
        errors += wrong
    return errors


def _simple_path(text: str, path: str) -> list[FieldError]:
    return [] if text.startswith(".") else [invalid(path, text, "must be a simple json path starting with .")]


def _validate_column(column: Object, path: str) -> list[FieldError]:
    errors = [] if column.get("name") else [required(f"{path}.name")]
    kind, format_, json_path = column.get("type") or "", column.get("format") or "", column.get("jsonPath") or ""
    choice = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        errors.append(required(f"{path}.type", choice))
    elif kind not in _COLUMN_TYPES:
        errors.append(invalid(f"{path}.type", kind, choice))
    if format_ and format_ not in _COLUMN_FORMATS:
        errors.append(invalid(f"{path}.format", format_, f"must be one of {','.join(_COLUMN_FORMATS)}"))
    if not json_path:
        errors.append(required(f"{path}.JSONPath"))
    else:
        errors += _simple_path(json_path, f"{path}.JSONPath")
    return errors


def _validate_top_selectable(form: DefinitionForm, leniency: Leniency) -> list[FieldError]:
    if not form.selectable:
        return []
    if form.validation is None:
        return [invalid("spec.selectableFields", "", "may only be set when validations.schema is included")]
    raw = _schema_of(form.validation) or {}
    return _validate_selectable(form.selectable, raw, "spec.selectableFields", "spec.schema", leniency, "")


def _validate_selectable(
    selectable: Sequence[Object], raw: Object, path: str, schema_path: str, leniency: Leniency, version: str
) -> list[FieldError]:
    errors: list[FieldError] = []
    node = None
    try:
        node = structural(raw)
    except StructuralError as error:
        errors.append(invalid(f"{schema_path}.openAPIV3Schema", "", str(error)))
    seen: set[str] = set()
    for at, each in enumerate(selectable):
        text, where = each.get("jsonPath") or "", f"{path}[{at}].jsonPath"
        if not text:
            errors.append(required(where))
            continue
        try:
            found = (
                valid_field_path(text, node or structural({}), arrays=False) if node or text[0] not in ".[" else None
            )
        except FieldPathError as error:
            errors.append(invalid(where, text, f"is an invalid path: {error}"))
            continue
        if found is None:  # nothing more can be said without a schema
            continue
        if found.root == "metadata":
            errors.append(invalid(where, text, "must not point to fields in metadata"))
        if found.node.type not in ("string", "boolean", "integer"):
            said = "must point to a field of type string, boolean or integer. "
            said += "Enum string fields and strings with formats are allowed."
            errors.append(invalid(where, text, said))
        if found.path in seen:
            errors.append(duplicate(where, text))
        seen.add(found.path)
    if len(seen) > MOST_SELECTABLE_FIELDS and version not in leniency.many_selectable:
        errors.append(too_many(path, len(seen), MOST_SELECTABLE_FIELDS))
    return errors


# Conversion, status, approval


def _validate_conversion(spec: Object, leniency: Leniency) -> list[FieldError]:
    conversion, path = spec.get("conversion"), "spec.conversion"
    if conversion is None:
        return []
    strategy, webhook = conversion.get("strategy") or "", conversion.get("webhook") or {}
    errors: list[FieldError] = []
    if strategy != "None" and spec.get("preserveUnknownFields"):
        errors.append(invalid(f"{path}.strategy", strategy, "must be None if spec.preserveUnknownFields is true"))
    errors += _enum(strategy, ("None", "Webhook"), f"{path}.strategy")
    config, versions = webhook.get("clientConfig"), webhook.get("conversionReviewVersions") or ()
    if strategy == "Webhook":
        errors += _validate_client(config, f"{path}.webhookClientConfig", leniency)
        return errors + _validate_reviews(versions, f"{path}.conversionReviewVersions", leniency)
    text = "should not be set when strategy is not set to Webhook"
    if config is not None:
        errors.append(forbidden(f"{path}.webhookClientConfig", text))
    if versions:
        errors.append(forbidden(f"{path}.conversionReviewVersions", text))
    return errors


def _validate_client(config: Object | None, path: str, leniency: Leniency) -> list[FieldError]:
    if config is None:
        return [required(path, "required when strategy is set to Webhook")]
    url, service = config.get("url"), config.get("service")
    errors: list[FieldError] = []
    if (url is None) == (service is None):
        errors.append(required(path, "exactly one of url or service is required"))
    elif url is not None:
        errors += webhook_clients.validate_url(url, FieldPath(f"{path}.url"))
    elif service is not None:
        errors += webhook_clients.validate_service(service, FieldPath(f"{path}.service"))
    bundle = config.get("caBundle")
    if bundle and not leniency.any_bundle and not has_certificates(bundle):
        text = "unable to load root certificates: unable to parse bytes as PEM block"
        errors.append(invalid(f"{path}.caBundle", bundle, text))
    return errors


def has_certificates(bundle: str) -> bool:
    """Whether a CA bundle, in base64, holds a certificate."""
    return schema_rules.bundle_is_readable(bundle)


def _validate_reviews(versions: Sequence[str], path: str, leniency: Leniency) -> list[FieldError]:
    if not versions:
        return [required(path)]
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, version in enumerate(versions):
        if version in seen:
            errors.append(invalid(f"{path}[{at}]", version, "duplicate version"))
            continue
        seen.add(version)
        errors += [invalid(f"{path}[{at}]", version, text) for text in names.dns1035_label(version)]
    if leniency.require_review_version and not seen & set(_REVIEW_VERSIONS):
        text = f"must include at least one of {', '.join(_REVIEW_VERSIONS)}"
        errors.append(invalid(path, list(versions), text))
    return errors


def _validate_status(crd: Object) -> list[FieldError]:
    status = crd.get("status") or {}
    errors = _validate_names(status.get("acceptedNames") or {}, "status.acceptedNames")
    path, stored = "status.storedVersions", status.get("storedVersions")
    if not stored:
        return [*errors, invalid(path, stored, "must have at least one stored version")]
    versions = (crd.get("spec") or {}).get("versions") or ()
    left = {name: at for at, name in enumerate(stored)}
    for each in versions:
        name = each.get("name") or ""
        if each.get("storage") and name not in left:
            errors.append(invalid(path, stored, f"must have the storage version {name}"))
        left.pop(name, None)
    for name, at in left.items():
        text = (
            f"missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions "
            f"until a storage migration ensures no data remains persisted in {name} and removes {name} from "
            "status.storedVersions"
        )
        errors.append(invalid(f"{path}[{at}]", name, text))
    return errors


def _approval(crd: Object) -> tuple[str, str]:
    """``(state, reason)`` of the annotation that protected groups must have."""
    said = (meta(crd).get("annotations") or {}).get(APPROVAL) or ""
    needs = f"protected groups must have approval annotation {quoted(APPROVAL)}"
    if not said:
        return "missing", f"{needs}, {_APPROVAL_PAGE}"
    if said.startswith("unapproved"):
        return "bypassed", ""
    if addresses.is_request_uri(said) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^/?#]+", said):
        return "approved", ""
    return "invalid", f'{needs} with either a URL or a reason starting with "unapproved", {_APPROVAL_PAGE}'


def _validate_approval(new: Object, old: Object | None) -> list[FieldError]:
    group = (new.get("spec") or {}).get("group") or ""
    if group not in ("k8s.io", "kubernetes.io") and not group.endswith((".k8s.io", ".kubernetes.io")):
        return []
    state, reason = _approval(new)
    if old is not None and _approval(old)[0] == state:
        return []
    path = f"metadata.annotations[{APPROVAL}]"
    if state == "invalid":
        return [invalid(path, (meta(new).get("annotations") or {}).get(APPROVAL), reason)]
    return [required(path, reason)] if state == "missing" else []


def _validate_preserving(new: Object, old: Object | None) -> list[FieldError]:
    if old is not None and (old.get("spec") or {}).get("preserveUnknownFields"):
        return []
    if not (new.get("spec") or {}).get("preserveUnknownFields"):
        return []
    text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    return [invalid("spec.preserveUnknownFields", True, text)]
