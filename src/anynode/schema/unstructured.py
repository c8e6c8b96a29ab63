"""What upstream says when the outcome of a strategic merge patch does not fit its type.

There the outcome is not read as JSON but copied field by field, and the messages name Go's kinds instead of fields.
Source: apimachinery ``pkg/runtime/converter.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anynode.schema.typed import json_kind
from anynode.schema.types import SCALARS, Field, Types

_KINDS = ((str, "string"), (bool, "bool"), (int, "int64"), (float, "float64"), (list, "slice"), (dict, "map"))
_BASE64 = "illegal base64"


def conversion_error(value: Any, type_name: str, types: Types, said: str) -> str:
    """The first complaint about ``value`` as a ``type_name``; ``said`` is what a reader of JSON says of it."""
    found = next(_struct(value, type_name, types), said)
    return f"error decoding from json: {said}" if said.startswith(_BASE64) else found


def _kind(value: Any) -> str:
    return next((kind for type_, kind in _KINDS if isinstance(value, type_)), "interface")


def _struct(value: Any, type_name: str, types: Types) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"cannot restore struct from: {_kind(value)}"
        return
    for name, field in types[type_name].fields.items():
        if value.get(name) is not None:
            yield from _whole(value[name], field, types)


def _whole(value: Any, field: Field, types: Types) -> Iterator[str]:
    if field.shape == "l":
        if not isinstance(value, list):
            yield f"cannot restore slice from {_kind(value)}"
            return
        items = value
    elif field.shape:
        if not isinstance(value, dict):
            yield f"cannot restore map from {_kind(value)}"
            return
        items = list(value.values()) if field.shape == "m" else []
    else:
        items = [value]
    for item in items:
        if item is not None:
            yield from _one(item, field, types)


def _one(value: Any, field: Field, types: Types) -> Iterator[str]:
    if field.kind == "m":
        yield from _struct(value, field.target, types)
    elif field.kind in "tT" and not isinstance(value, str):
        yield f"json: cannot unmarshal {json_kind(value)} into Go value of type string"
    elif field.kind == "I" and not isinstance(value, str | int):
        yield f"json: cannot unmarshal {json_kind(value)} into Go value of type int32"
    elif field.kind == "y":
        if not isinstance(value, str):
            yield f"cannot restore slice from {_kind(value)}"
    elif field.kind in SCALARS:
        yield from _scalar(value, field)


def _scalar(value: Any, field: Field) -> Iterator[str]:
    kind, wanted = _kind(value), SCALARS[field.kind]
    numeric = kind in ("int64", "float64")
    if kind == wanted or (numeric and wanted == "float64") or (kind == "int64" and wanted not in ("string", "bool")):
        return
    if kind == "int64" and wanted == "string":
        yield f"cannot convert int64 to {field.target or 'string'}"
    elif kind == "float64" and wanted not in ("string", "bool"):
        if value != int(value):
            yield f"cannot convert float64 to {field.target or wanted}"
    else:
        yield f"unrecognized type: {wanted}"
