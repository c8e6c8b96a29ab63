"""The OpenAPI v2 document as protobuf, the only form in which kubectl reads it.

kubectl asks for it where server-side validation does not reach: manifests of kind List. Older releases read the
paths too, to learn which resources take a dry run. Source: gnostic's ``openapiv2/OpenAPIv2.proto``
(field numbers), client-go ``discovery/discovery_client.go``, 1.36.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from anynode.api.objects import Object

MEDIA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED_FOR = ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", MEDIA_TYPE)
"""What clients write in Accept, the old form and the new."""

_VARINT, _BYTES = 0, 2


def encode(document: Object) -> bytes:
    """``Document`` with its version, title, paths and definitions."""
    definitions = _fields(1, (_named(name, _schema(value)) for name, value in document["definitions"].items()))
    info = document["info"]
    return b"".join(
        (
            _text(1, document["swagger"]),
            _field(2, _text(1, info["title"]) + _text(2, info["version"])),
            _field(8, _fields(2, (_named(path, _path_item(item)) for path, item in document["paths"].items()))),
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
    return _message(schema, _SCHEMA, extensions=31)


def _message(value: Object, writers: Mapping[str, Callable[[Any], bytes]], *, extensions: int) -> bytes:
    """``extensions``: the number under which the message keeps its ``x-`` keys."""
    parts = []
    for key, item in value.items():
        writer = writers.get(key)
        if writer is not None:
            parts.append(writer(item))
        elif key.startswith("x-"):
            parts.append(_field(extensions, _named(key, _any(item))))
    return b"".join(parts)


def _response(value: Object) -> bytes:
    return _field(1, _message(value, _RESPONSE, extensions=5))


def _responses(value: Mapping[str, Object]) -> bytes:
    return _fields(1, (_named(code, _response(each)) for code, each in value.items()))


def _parameter(value: Object) -> bytes:
    """``ParametersItem`` around a ``Parameter``, which is a body or one of the kinds that are none."""
    if value["in"] == "body":
        return _field(1, _field(1, _message(value, _BODY, extensions=6)))
    if value["in"] == "path":
        return _field(1, _field(2, _field(4, _message(value, _IN_PATH, extensions=22))))
    return _field(1, _field(2, _field(3, _message(value, _IN_QUERY, extensions=23))))


def _parameters(number: int) -> Callable[[Any], bytes]:
    return lambda value: _fields(number, (_parameter(each) for each in value))


def _texts(number: int) -> Callable[[Any], bytes]:
    return lambda value: _fields(number, (each.encode() for each in value))


def _operation(number: int) -> Callable[[Any], bytes]:
    return lambda value: _field(number, _message(value, _OPERATION, extensions=13))


def _path_item(value: Object) -> bytes:
    return _message(value, _PATH_ITEM, extensions=10)


_RESPONSE: Mapping[str, Callable[[Any], bytes]] = {
    "description": lambda value: _text(1, value),
    "schema": lambda value: _field(2, _field(1, _schema(value))),
}
_BODY: Mapping[str, Callable[[Any], bytes]] = {
    "description": lambda value: _text(1, value),
    "name": lambda value: _text(2, value),
    "in": lambda value: _text(3, value),
    "required": lambda value: _flag(4, value),
    "schema": lambda value: _field(5, _schema(value)),
}
_IN_PATH: Mapping[str, Callable[[Any], bytes]] = {
    "required": lambda value: _flag(1, value),
    "in": lambda value: _text(2, value),
    "description": lambda value: _text(3, value),
    "name": lambda value: _text(4, value),
    "type": lambda value: _text(5, value),
    "uniqueItems": lambda value: _flag(19, value),
}
_IN_QUERY: Mapping[str, Callable[[Any], bytes]] = {
    **_IN_PATH,
    "type": lambda value: _text(6, value),
    "uniqueItems": lambda value: _flag(20, value),
}
_OPERATION: Mapping[str, Callable[[Any], bytes]] = {
    "tags": _texts(1),
    "description": lambda value: _text(3, value),
    "operationId": lambda value: _text(5, value),
    "produces": _texts(6),
    "consumes": _texts(7),
    "parameters": _parameters(8),
    "responses": lambda value: _field(9, _responses(value)),
    "schemes": _texts(10),
}
_PATH_ITEM: Mapping[str, Callable[[Any], bytes]] = {
    "get": _operation(2),
    "put": _operation(3),
    "post": _operation(4),
    "delete": _operation(5),
    "options": _operation(6),
    "head": _operation(7),
    "patch": _operation(8),
    "parameters": _parameters(9),
}
