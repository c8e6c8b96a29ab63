"""A custom resource's schema as the OpenAPI documents publish it, in version 3 and brought down to version 2.

What version 2 cannot say goes: junctors, nullable, fields beside unknown ones. Source: apiextensions-apiserver
``pkg/apiserver/schema/{kubeopenapi,unfold}.go``, ``pkg/controller/openapi/v2/conversion.go``,
``pkg/controller/openapi/builder/builder.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anynode.api.objects import Object
from anynode.schema.types import META

V3, V2 = "#/components/schemas/", "#/definitions/"
_INT_OR_STRING: list[Object] = [{"type": "integer"}, {"type": "string"}]
_JUNCTORS = ("allOf", "oneOf", "anyOf", "not")
_MARKERS = {
    "x-kubernetes-preserve-unknown-fields": False, "x-kubernetes-embedded-resource": False,
    "x-kubernetes-int-or-string": False, "nullable": False, "uniqueItems": False, "exclusiveMaximum": False,
    "exclusiveMinimum": False,
}  # fmt: skip


def model_name(group: str, version: str, kind: str) -> str:
    """``("stable.example.com", "v1", "Foo")`` -> ``com.example.stable.v1.Foo``."""
    return ".".join((*reversed(group.split(".")), version, kind))


def published(raw: Object, texts: Mapping[str, str], *, v2: bool) -> Object:
    """The schema of whole objects; ``texts``: what Kubernetes says of apiVersion, kind and metadata."""
    if v2 and raw.get("x-kubernetes-preserve-unknown-fields"):
        return {"type": "object"}
    found = _unfolded(raw)
    found = _plain(found, v2=v2)
    properties = {**(found.get("properties") or {}), **_meta_properties(texts, v2=v2)}
    return _with_embedded({**found, "properties": properties}, texts, v2=v2, root=True)


def _meta_properties(texts: Mapping[str, str], *, v2: bool) -> Object:
    return {
        "apiVersion": {"description": texts["apiVersion"], "type": "string"},
        "kind": {"description": texts["kind"], "type": "string"},
        "metadata": reference(f"{META}ObjectMeta", texts["metadata"], v2=v2),
    }


def reference(name: str, description: str, *, v2: bool) -> Object:
    if v2:
        return {"description": description, "$ref": f"{V2}{name}"}
    return {"description": description, "allOf": [{"$ref": f"{V3}{name}"}]}


def _unfolded(raw: Object) -> Object:
    """The schema with int-or-string said by a junctor too, empty fields gone."""
    found = {key: value for key, value in raw.items() if value is not None and _MARKERS.get(key, ...) is not value}
    if found.get("x-kubernetes-int-or-string") and not _says_either(found):
        if found.get("anyOf"):
            found["allOf"] = [{"anyOf": _INT_OR_STRING}, *(found.get("allOf") or ())]
        else:
            found["anyOf"] = _INT_OR_STRING
    if isinstance(found.get("properties"), dict):
        found["properties"] = {name: _unfolded(each) for name, each in found["properties"].items()}
    for field in ("items", "additionalProperties"):
        if isinstance(found.get(field), dict):
            found[field] = _unfolded(found[field])
    return found


def _says_either(raw: Object) -> bool:
    every = raw.get("allOf") or [{}]
    return raw.get("anyOf") == _INT_OR_STRING or every[0].get("anyOf") == _INT_OR_STRING


def _plain(schema: Object, *, v2: bool) -> Object:
    """The schema, in version 2 without what that cannot say."""
    if not v2:
        return schema
    found = {key: value for key, value in schema.items() if key not in (*_JUNCTORS, "nullable")}
    if schema.get("nullable"):
        for field in ("type", "items", "properties"):
            found.pop(field, None)
    preserves = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if preserves:
        found.pop("items", None)
        found.pop("properties", None)
    if (found.get("type") == "array" and "items" not in found) or (preserves and found.get("type") == "object"):
        del found["type"]
    properties: Mapping[str, Any] = found.get("properties") or {}
    additional = found.get("additionalProperties")
    required = [name for name in found.get("required") or () if not (properties.get(name) or {}).get("nullable")]
    if isinstance(additional, dict) and additional.get("nullable"):
        required = []
    found.pop("required", None)
    if required:
        found["required"] = required
    if properties:
        found["properties"] = {name: _plain(each, v2=True) for name, each in properties.items()}
    for field in ("items", "additionalProperties"):
        if isinstance(found.get(field), dict):
            found[field] = _plain(found[field], v2=True)
    return found


def _with_embedded(schema: Object, texts: Mapping[str, str], *, v2: bool, root: bool = False) -> Object:
    """The schema with apiVersion, kind and metadata among the fields of embedded objects."""
    found = dict(schema)
    if isinstance(found.get("properties"), dict):
        found["properties"] = {name: _with_embedded(each, texts, v2=v2) for name, each in found["properties"].items()}
    for field in ("items", "additionalProperties"):
        if isinstance(found.get(field), dict):
            found[field] = _with_embedded(found[field], texts, v2=v2)
    if root or not found.get("x-kubernetes-embedded-resource"):
        return found
    if v2 and found.get("x-kubernetes-preserve-unknown-fields"):
        return found
    described = {**texts, "apiVersion": texts["embeddedApiVersion"], "kind": texts["embeddedKind"]}
    found["properties"] = {**(found.get("properties") or {}), **_meta_properties(described, v2=v2)}
    required = list(found.get("required") or ())
    found["required"] = [*required, *(name for name in ("kind", "apiVersion") if name not in required)]
    return found
