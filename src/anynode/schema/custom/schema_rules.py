"""Which schemas may stand in a definition: structural ones, good defaults, list keys that exist, rules that compile.

``Leniency`` is what an update may keep though a new definition may not have it. Source: apiextensions-apiserver
``pkg/apis/apiextensions/validation/{validation,cel_validation}.go``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Iterator

from cryptography import x509

from anynode.api.objects import Object
from anynode.schema.custom import default_rules, structure_rules
from anynode.schema.custom.cost_rules import CelContext, cost_error
from anynode.schema.custom.definition_form import SCHEMA_FIELDS, DefinitionForm, schema_form
from anynode.schema.custom.keyword_rules import TYPES, KeywordRules, map_key_errors
from anynode.schema.custom.pruning import pruned
from anynode.schema.custom.structural import Structural, StructuralError, structural, subschemas
from anynode.schema.custom.wording import forbidden, invalid
from anynode.schema.fields import FieldError

MOST_TOTAL_COST = 100_000_000
_AT_ROOT = (
    "Description", "Type", "Format", "Title", "Maximum", "ExclusiveMaximum", "Minimum", "ExclusiveMinimum", "MaxLength",
    "MinLength", "Pattern", "MaxItems", "MinItems", "UniqueItems", "MultipleOf", "Required", "Items", "Properties",
    "ExternalDocs", "Example", "XPreserveUnknownFields", "XValidations",
)  # fmt: skip
_ROOT_OF_STATUS = "at the root of the schema if the status subresource is enabled"
_EXTENSIONS = (
    "x-kubernetes-embedded-resource", "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
)  # fmt: skip
_EXTENSIONS_EVEN_FALSE = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-list-type")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Leniency:
    """What is asked of a definition. ``unchanged``: versions whose schemas are those of before, so that the cost of
    each rule is let pass; ``many_selectable``: versions that had too many selectable fields before."""

    require_schema: bool = True
    require_structural: bool = True
    require_types: bool = True
    require_pruned_defaults: bool = True
    require_atomic_sets: bool = True
    require_map_keys: bool = True
    require_review_version: bool = True
    any_bundle: bool = True
    unchanged: frozenset[str] = frozenset()
    many_selectable: frozenset[str] = frozenset()


def _schemas(form: DefinitionForm) -> Iterator[Object]:
    for each in (form.validation, *(version.get("schema") for version in form.versions)):
        schema = (each or {}).get("openAPIV3Schema")
        if schema is not None:
            yield schema


def everything(form: DefinitionForm) -> Iterator[Object]:
    """Every schema in the definition, nested ones included."""
    for schema in _schemas(form):
        yield from subschemas(schema)


def settled(leniency: Leniency, form: DefinitionForm, *, has_defaults: bool) -> Leniency:
    """``leniency`` with structural schemas asked for where the definition cannot do without."""
    needed = not form.preserves or has_defaults
    return dataclasses.replace(leniency, require_structural=needed or _extended(form) or leniency.require_structural)


def _extended(form: DefinitionForm) -> bool:
    return any(
        any(each.get(field) for field in _EXTENSIONS) or any(field in each for field in _EXTENSIONS_EVEN_FALSE)
        for each in everything(form)
    )


def leniency(new: DefinitionForm, old: DefinitionForm, *, established: bool) -> Leniency:
    """What an update of ``old``, which is ``established`` or not yet, may keep."""
    conversion = old.spec.get("conversion") or {}
    reviews = (conversion.get("webhook") or {}).get("conversionReviewVersions") or ()
    bundle = ((conversion.get("webhook") or {}).get("clientConfig") or {}).get("caBundle")
    before = list(everything(old))
    roots = list(_schemas(old))
    versions = [each.get("schema") for each in old.versions]
    complete = old.validation is not None or all((each or {}).get("openAPIV3Schema") is not None for each in versions)
    return Leniency(
        require_schema=complete,
        require_structural=not any(_is_unstructured(each) for each in roots),
        require_types=all(not each.get("type") or each["type"] in TYPES for each in before),
        require_pruned_defaults=not any(_has_unpruned_defaults(each) for each in roots),
        require_atomic_sets=not any(_has_merging_set(each) for each in before),
        require_map_keys=not any(map_key_errors(each, "") for each in before),
        require_review_version=not reviews or bool({"v1", "v1beta1"} & set(reviews)),
        any_bundle=not established or (bool(bundle) and not bundle_is_readable(bundle or "")),
        unchanged=frozenset(_same_schemas(new, old)),
        many_selectable=frozenset(_same_selectable(new, old)),
    )


def bundle_is_readable(bundle: str) -> bool:
    """Whether a CA bundle, PEM in base64, holds a certificate and nothing that is none."""
    try:
        return bool(x509.load_pem_x509_certificates(base64.b64decode(bundle)))
    except (ValueError, binascii.Error):
        return False


def _same_schemas(new: DefinitionForm, old: DefinitionForm) -> Iterator[str]:
    before = {each.get("name"): each.get("schema") for each in old.spec.get("versions") or ()}
    for each in new.spec.get("versions") or ():
        if each.get("name") in before and before[each.get("name")] == each.get("schema"):
            yield each.get("name") or ""


def _same_selectable(new: DefinitionForm, old: DefinitionForm) -> Iterator[str]:
    if len(old.selectable) > 8 and list(new.selectable) == list(old.selectable):
        yield ""
    before = {each.get("name"): each.get("selectableFields") or [] for each in old.versions}
    for each in new.versions:
        fields = before.get(each.get("name")) or []
        if len(fields) > 8 and fields == each.get("selectableFields"):
            yield each.get("name") or ""


def _is_unstructured(schema: Object) -> bool:
    try:
        return bool(structure_rules.validate(structural(schema), ""))
    except StructuralError:
        return True


def _has_unpruned_defaults(schema: Object) -> bool:
    if all(each.get("default") is None for each in subschemas(schema)) or _is_unstructured(schema):
        return False
    node = structural(schema)
    return any(_is_unpruned(each) for each in _nodes(node))


def _nodes(node: Structural) -> Iterator[Structural]:
    yield node
    for each in node.below():
        yield from _nodes(each)


def _is_unpruned(node: Structural) -> bool:
    return node.default is not None and bool(pruned(node.default, node, whole=node.embedded)[1])


def _has_merging_set(schema: Object) -> bool:
    items = schema.get("items")
    if schema.get("x-kubernetes-list-type") != "set" or not isinstance(items, dict):
        return False
    if items.get("type") == "array":
        return items.get("x-kubernetes-list-type") not in (None, "atomic")
    return items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic"


# One schema


def validate(
    validation: Object | None, path: str, leniency: Leniency, *, status: bool, version: str
) -> list[FieldError]:
    """What is wrong with ``validation`` at ``path``; ``status``: there is a status subresource."""
    schema = (validation or {}).get("openAPIV3Schema")
    if schema is None:
        return []
    where = f"{path}.openAPIV3Schema"
    errors = _root_errors(schema, where) if status else []
    if schema.get("nullable"):
        errors.append(forbidden(f"{where}.nullable", "nullable cannot be true at the root"))
    found, context, unbuilt = _structure(schema, where, leniency)
    errors += found
    rules = KeywordRules(leniency=leniency, suppress_cost=version in leniency.unchanged)
    errors += rules.errors(schema, where, context)
    if not errors and unbuilt:
        errors += unbuilt
    if context is not None:
        errors += _total_errors(context, where)
    return errors


def _structure(
    schema: Object, path: str, leniency: Leniency
) -> tuple[list[FieldError], CelContext | None, list[FieldError]]:
    """``(complaints, where rules are judged if at all, complaints that count when there are no others)``."""
    if not leniency.require_structural:
        return [], None, []
    try:
        node = structural(schema)
    except StructuralError as error:
        return [], None, [invalid(path, "", str(error))]
    errors = structure_rules.validate(node, path)
    if not errors:
        errors = default_rules.validate(node, path, require_pruned=leniency.require_pruned_defaults)
    return (errors, None, []) if errors else ([], CelContext.root(node), [])


def _root_errors(schema: Object, path: str) -> list[FieldError]:
    """Complaints about what may not stand at the root of a schema with a status subresource; upstream stops at one."""
    for field, wire, zero in SCHEMA_FIELDS:
        if schema.get(wire, zero) == zero and schema.get(wire, zero).__class__ is zero.__class__:
            continue
        if field == "Type":
            if schema["type"] != "object":
                text = f'only "object" is allowed as the type {_ROOT_OF_STATUS}'
                return [invalid(f"{path}.type", schema["type"], text)]
        elif field not in _AT_ROOT:
            text = f"only [{' '.join(_AT_ROOT)}] fields are allowed {_ROOT_OF_STATUS}"
            return [invalid(path, schema_form(schema), text)]
    return []


def _total_errors(context: CelContext, path: str) -> list[FieldError]:
    total = context.total
    if total.cost <= MOST_TOTAL_COST:
        return []
    text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    errors = [forbidden(each, text) for each in total.expensive()]
    said = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
    return [*errors, forbidden(path, cost_error(said, total.cost, MOST_TOTAL_COST))]
