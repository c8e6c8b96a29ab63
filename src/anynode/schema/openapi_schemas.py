"""The OpenAPI schemas of the built-in types, rebuilt from the definitions that ``kubernetes-validate`` carries.

That package stores JSON Schema made for validation: every ``type`` may also be null, ``kind`` and ``apiVersion`` are
pinned by one-value enums, and Quantity and IntOrString lost their descriptions. Here that is turned back, and what
OpenAPI v3 adds (``default``, ``allOf`` around a ``$ref`` with siblings) is put in from the type table. The definitions
are read anew for each document and not kept. Source: kube-openapi ``pkg/{openapiconv,generators}``, 1.36.
"""

from __future__ import annotations

import importlib.util
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from anynode.api.objects import Object
from anynode.schema.types import Field, Types

_VERSION = "v1.36.0-local"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY_TEXT = (
    "An exact amount: a decimal number with an optional suffix. Suffixes are n, u, m, k, M, G, T, P, E (powers of "
    "1000), Ki, Mi, Gi, Ti, Pi, Ei (powers of 1024), or an exponent such as e3. Printed with the largest suffix that "
    'loses nothing: 1.5 becomes "1500m", 1.5Gi becomes "1536Mi".'
)
_INT_OR_STRING_TEXT = "A number or a string, as in a port that is named or numbered."


def definitions() -> Mapping[str, Any]:
    """The JSON Schema definitions of 1.36 by type name; raises ``FileNotFoundError`` without the package."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("kubernetes-validate is not installed")
    root = pathlib.Path(spec.submodule_search_locations[0])
    text = (root / "kubernetes-json-schema" / _VERSION / "_definitions.json").read_bytes()
    found: Mapping[str, Any] = orjson.loads(text)["$defs"]
    return found


def schemas(names: Iterable[str], types: Types, *, v2: bool = False) -> dict[str, Object]:
    """The schemas of these types and of all they refer to, sorted by name."""
    source = definitions()
    found: dict[str, Object] = {}
    todo = [name for name in names if name in source]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found[name] = _v2(name, source[name]) if v2 else _v3(name, source[name], types)
        todo.extend(each for each in _references(source[name]) if each not in found and each in source)
    return {name: found[name] for name in sorted(found)}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref" and isinstance(item, str):
                yield item.rpartition("/")[2]
            else:
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _plain_type(value: Any) -> Any:
    """``["string", "null"]`` -> ``"string"``."""
    if isinstance(value, list):
        return next((each for each in value if each != "null"), "object")
    return value


def _v3(name: str, schema: Object, types: Types) -> Object:
    special = _special(name, schema, v2=False)
    if special is not None:
        return special
    fields = types[name].fields if name in types else {}
    result = _converted(schema, "#/components/schemas/", wrap=True)
    if "properties" in result:
        result["properties"] = {
            field: _with_default(item, fields.get(field)) for field, item in result["properties"].items()
        }
    return result


def _v2(name: str, schema: Object) -> Object:
    return _special(name, schema, v2=True) or _converted(schema, "#/definitions/", wrap=False)


def _special(name: str, schema: Object, *, v2: bool) -> Object | None:
    if name == _QUANTITY:
        if v2:
            return {"description": _QUANTITY_TEXT, "type": "string"}
        return {"description": _QUANTITY_TEXT, "oneOf": [{"type": "string"}, {"type": "number"}]}
    if name == _INT_OR_STRING:
        if v2:
            return {"description": _INT_OR_STRING_TEXT, "format": "int-or-string", "type": "string"}
        either = [{"type": "integer"}, {"type": "string"}]
        return {"description": _INT_OR_STRING_TEXT, "format": "int-or-string", "oneOf": either}
    if (not v2 and name.rpartition(".")[2].startswith("JSONSchemaPropsOr")) or name.endswith(".apiextensions.v1.JSON"):
        return {key: item for key, item in schema.items() if key == "description"}
    return None


def _converted(schema: Object, prefix: str, *, wrap: bool) -> Object:
    """One schema with plain types and references under ``prefix``; keys are those of a schema, not of a type."""
    result: Object = {}
    for key, value in schema.items():
        if key == "type":
            result[key] = _plain_type(value)
        elif key == "$ref":
            result[key] = prefix + value.rpartition("/")[2]
        elif key == "properties":
            result[key] = {name: _property(name, item, prefix, wrap=wrap) for name, item in value.items()}
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            result[key] = _converted(value, prefix, wrap=wrap)
        elif key in ("oneOf", "anyOf", "allOf"):
            result[key] = [_converted(each, prefix, wrap=wrap) for each in value]
        else:
            result[key] = value
    if wrap and "$ref" in result and len(result) > 1:
        reference = result.pop("$ref")
        return {"allOf": [{"$ref": reference}], **result}
    return result


def _property(name: str, schema: Object, prefix: str, *, wrap: bool) -> Object:
    if name in ("kind", "apiVersion") and "enum" in schema:
        schema = {key: value for key, value in schema.items() if key != "enum"}
    return _converted(schema, prefix, wrap=wrap)


def _with_default(schema: Object, field: Field | None) -> Object:
    """``schema`` with the default that OpenAPI v3 gives a field Go always writes."""
    if field is None or field.shape or "default" in schema:
        return schema
    if field.default is not None:
        default: Any = field.default
    elif field.pointer:
        return schema
    elif field.kind == "m":
        default = {}
    elif field.omitempty or field.kind not in "sbilduU":
        return schema
    else:
        default = {"s": "", "b": False}.get(field.kind, 0)
    if "$ref" in schema:
        return {"allOf": [{"$ref": schema["$ref"]}], "default": default}
    return {**schema, "default": default}
