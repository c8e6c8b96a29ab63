"""A definition as upstream's server has it inside, and how it prints parts of it in messages.

What all versions say alike (schema, subresources, columns, selectable fields) stands once at the top there, and paths
in messages follow. Source: apiextensions-apiserver ``pkg/apis/apiextensions/{types,types_jsonschema}.go``,
``v1/conversion.go``, 1.36.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from anynode.api.go_text import Ordered
from anynode.api.objects import Object

_SHARED = ("subresources", "schema", "additionalPrinterColumns", "selectableFields")


@dataclasses.dataclass(frozen=True, slots=True)
class DefinitionForm:
    """The spec, with what all versions share apart; ``versions`` hold what they do not."""

    spec: Object
    validation: Object | None
    subresources: Object | None
    columns: Sequence[Object]
    selectable: Sequence[Object]
    versions: Sequence[Object]

    @property
    def preserves(self) -> bool:
        return bool(self.spec.get("preserveUnknownFields"))


def internal_form(spec: Object) -> DefinitionForm:
    versions: list[Object] = list(spec.get("versions") or ())
    shared: Object = {}
    for field in _SHARED:
        values = [each.get(field) or None if field != "subresources" else each.get(field) for each in versions]
        if versions and all(each == values[0] for each in values):
            shared[field] = values[0]
            versions = [{key: value for key, value in each.items() if key != field} for each in versions]
    return DefinitionForm(
        spec=spec,
        validation=shared.get("schema"),
        subresources=shared.get("subresources"),
        columns=shared.get("additionalPrinterColumns") or (),
        selectable=shared.get("selectableFields") or (),
        versions=versions,
    )


# Printing

_RULE = (("Rule", "rule", ""), ("Message", "message", ""), ("MessageExpression", "messageExpression", ""),
         ("Reason", "reason", None), ("FieldPath", "fieldPath", ""),
         ("OptionalOldSelf", "optionalOldSelf", None))  # fmt: skip
SCHEMA_FIELDS: Sequence[tuple[str, str, Any]] = (
    ("ID", "id", ""), ("Schema", "$schema", ""), ("Ref", "$ref", None), ("Description", "description", ""),
    ("Type", "type", ""), ("Nullable", "nullable", False), ("Format", "format", ""), ("Title", "title", ""),
    ("Default", "default", None), ("Maximum", "maximum", None), ("ExclusiveMaximum", "exclusiveMaximum", False),
    ("Minimum", "minimum", None), ("ExclusiveMinimum", "exclusiveMinimum", False), ("MaxLength", "maxLength", None),
    ("MinLength", "minLength", None), ("Pattern", "pattern", ""), ("MaxItems", "maxItems", None),
    ("MinItems", "minItems", None), ("UniqueItems", "uniqueItems", False), ("MultipleOf", "multipleOf", None),
    ("Enum", "enum", None), ("MaxProperties", "maxProperties", None), ("MinProperties", "minProperties", None),
    ("Required", "required", None), ("Items", "items", None), ("AllOf", "allOf", None), ("OneOf", "oneOf", None),
    ("AnyOf", "anyOf", None), ("Not", "not", None), ("Properties", "properties", None),
    ("AdditionalProperties", "additionalProperties", None), ("PatternProperties", "patternProperties", None),
    ("Dependencies", "dependencies", None), ("AdditionalItems", "additionalItems", None),
    ("Definitions", "definitions", None), ("ExternalDocs", "externalDocs", None), ("Example", "example", None),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields", None),
    ("XEmbeddedResource", "x-kubernetes-embedded-resource", False),
    ("XIntOrString", "x-kubernetes-int-or-string", False), ("XListMapKeys", "x-kubernetes-list-map-keys", None),
    ("XListType", "x-kubernetes-list-type", None), ("XMapType", "x-kubernetes-map-type", None),
    ("XValidations", "x-kubernetes-validations", None),
)  # fmt: skip
"""Of a schema: Go name, wire name, zero value."""
_COLUMN = (("Name", "name", ""), ("Type", "type", ""), ("Format", "format", ""), ("Description", "description", ""),
           ("Priority", "priority", 0), ("JSONPath", "jsonPath", ""))  # fmt: skip
_SCALE = (("SpecReplicasPath", "specReplicasPath", ""), ("StatusReplicasPath", "statusReplicasPath", ""),
          ("LabelSelectorPath", "labelSelectorPath", None))  # fmt: skip


def _struct(fields: Sequence[tuple[str, str, Any]], value: Object) -> Ordered:
    return Ordered({go: value.get(wire, zero) for go, wire, zero in fields})


def rule_form(rule: Object) -> Ordered:
    return _struct(_RULE, rule)


def schema_form(schema: Object | None) -> Ordered | None:
    if schema is None:
        return None
    found = _struct(SCHEMA_FIELDS, schema)
    for field in ("AllOf", "OneOf", "AnyOf"):
        if found[field]:
            found[field] = [schema_form(each) for each in found[field]]
    for field in ("Properties", "PatternProperties", "Definitions"):
        if found[field]:
            found[field] = {name: schema_form(each) for name, each in found[field].items()}
    found["Not"] = schema_form(found["Not"])
    items = found["Items"]
    if items is not None:
        found["Items"] = items_form(items)
    for field in ("AdditionalProperties", "AdditionalItems"):
        value = found[field]
        if value is not None:
            inner = schema_form(value) if isinstance(value, dict) else None
            found[field] = Ordered(Allows=value is not False, Schema=inner)
    if found["ExternalDocs"] is not None:
        docs = found["ExternalDocs"]
        found["ExternalDocs"] = Ordered(Description=docs.get("description", ""), URL=docs.get("url", ""))
    if found["XValidations"]:
        found["XValidations"] = [rule_form(each) for each in found["XValidations"]]
    return found


def items_form(items: Any) -> Ordered:
    if isinstance(items, list):
        return Ordered(Schema=None, JSONSchemas=[schema_form(each) for each in items])
    return Ordered(Schema=schema_form(items), JSONSchemas=None)


def versions_form(versions: Sequence[Object] | None) -> list[Ordered] | None:
    if versions is None:
        return None
    return [_version_form(each) for each in versions]


def _version_form(version: Object) -> Ordered:
    schema, subresources = version.get("schema"), version.get("subresources")
    columns, selectable = version.get("additionalPrinterColumns"), version.get("selectableFields")
    return Ordered(
        Name=version.get("name") or "",
        Served=bool(version.get("served")),
        Storage=bool(version.get("storage")),
        Deprecated=bool(version.get("deprecated")),
        DeprecationWarning=version.get("deprecationWarning"),
        Schema=None if schema is None else Ordered(OpenAPIV3Schema=schema_form(schema.get("openAPIV3Schema"))),
        Subresources=None if subresources is None else _subresources_form(subresources),
        AdditionalPrinterColumns=[_struct(_COLUMN, each) for each in columns] if columns else None,
        SelectableFields=[Ordered(JSONPath=each.get("jsonPath", "")) for each in selectable] if selectable else None,
    )


def _subresources_form(subresources: Object) -> Ordered:
    scale = subresources.get("scale")
    return Ordered(
        Status={} if subresources.get("status") is not None else None,
        Scale=None if scale is None else _struct(_SCALE, scale),
    )
