"""The OpenAPI v2 document as protobuf, the only form in which kubectl reads it.

kubectl asks for it where server-side validation does not reach: manifests of kind List. What it reads are the
definitions; paths are left out. Source: gnostic's ``openapiv2/OpenAPIv2.proto`` (field numbers), client-go
``discovery/discovery_client.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from anynode.api.objects import Object

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED_FOR = ("com.github.proto-openapi.spec.v2@v1.0+protobuf", "com.github.proto-openapi.spec.v2.v1.0+protobuf")
"""What clients write in Accept, the old form and the new."""

_VARINT, _BYTES = 0, 2


def encode(document: Object) -> bytes:
    """``Document`` with its version, title and definitions."""
    definitions = _fields(1, (_named(name, _schema(value)) for name, value in document["definitions"].items()))
    info = document["info"]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _field(2, _text(1, info["title"]) + _text(2, info["version"])),
            _field(8, b""),
            _field(9, definitions),
        )
    )


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | _BYTES) + _number(len(content)) + content


def _fields(number: int, contents: Iterable[bytes]) -> bytes:
    return b"".join(_field(number, content) for content in contents)


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode()) if text else b""


def _flag(number: int, value: bool) -> bytes:
    return _number(number << 3 | _VARINT) + b"\1" if value else b""


def _any(value: Any) -> bytes:
    """``Any`` carries YAML, and JSON is YAML."""
    return _field(2, orjson.dumps(value))


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _field(2, value)


def _additional(value: Any) -> bytes:
    return _flag(2, value) if isinstance(value, bool) else _field(1, _schema(value))


def _types(value: Any) -> bytes:
    return _fields(1, (each.encode() for each in ([value] if isinstance(value, str) else value)))


def _properties(value: Mapping[str, Object]) -> bytes:
    return _fields(1, (_named(name, _schema(each)) for name, each in value.items()))


_SCHEMA: Mapping[str, Callable[[Any], bytes]] = {
    "$ref": lambda value: _text(1, value),
    "format": lambda value: _text(2, value),
    "title": lambda value: _text(3, value),
    "description": lambda value: _text(4, value),
    "default": lambda value: _field(5, _any(value)),
    "pattern": lambda value: _text(13, value),
    "required": lambda value: _fields(19, (each.encode() for each in value)),
    "enum": lambda value: _fields(20, (_any(each) for each in value)),
    "additionalProperties": lambda value: _field(21, _additional(value)),
    "type": lambda value: _field(22, _types(value)),
    "items": lambda value: _field(23, _field(1, _schema(value))),
    "allOf": lambda value: _fields(24, (_schema(each) for each in value)),
    "properties": lambda value: _field(25, _properties(value)),
}


def _schema(schema: Object) -> bytes:
    parts = []
    for key, value in schema.items():
        writer = _SCHEMA.get(key)
        if writer is not None:
            parts.append(writer(value))
        elif key.startswith("x-"):
            parts.append(_field(31, _named(key, _any(value))))
    return b"".join(parts)
