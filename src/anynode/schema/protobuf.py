"""Kubernetes' protobuf bodies: the ``k8s`` envelope and any message of the type table, as JSON objects.

Fields that hold Go's zero value come as Go would print them in JSON; ``check_fields`` brings the rest (absent structs,
``omitempty``) into shape. Source: apimachinery ``pkg/runtime/serializer/protobuf`` and ``generated.proto``, 1.36.
"""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from anynode.api import formats
from anynode.api.objects import Object
from anynode.schema.typed import DecodeError, UnreadableError, check_fields
from anynode.schema.types import SCALARS, Field, Types

MAGIC = b"k8s\x00"
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MOST_DEPTH = 100

JSON_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
# Go's "a schema or ..." types: the number of the schema, and what the other number holds many of.
EITHER = {
    "v1.JSONSchemaPropsOrArray": (1, "schemas"),
    "v1.JSONSchemaPropsOrBool": (2, ""),
    "v1.JSONSchemaPropsOrStringArray": (1, "texts"),
}

Wire = tuple[int, int, Any]
"""``(field number, wire type, int or bytes)``."""


def decode_protobuf(body: bytes, types: Types, kind: tuple[str, str] | None = None) -> Object:
    """The object in ``body``; ``kind`` is the ``(apiVersion, kind)`` taken where the envelope names none.

    Raises ``DecodeError`` for what is no envelope, a kind the table lacks, or a broken message.
    """
    if body[:4] != MAGIC:
        raise UnreadableError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    api_version = named = ""
    raw = b""
    for number, wire, value in fields(body[4:]):
        if number == 1 and wire == 2:
            for inner, inner_wire, text in fields(value):
                if inner_wire == 2 and inner == 1:
                    api_version = _text(text)
                elif inner_wire == 2 and inner == 2:
                    named = _text(text)
        elif number == 2 and wire == 2:
            raw = value
    if not named and kind is not None:
        api_version, named = kind
    name = types.of_kind(api_version, named)
    if not name:
        raise DecodeError(f'no kind "{named}" is registered for version "{api_version}"')
    found = decode_message(raw, name, types)
    checked, _ = check_fields(found, name, types)
    return {"kind": named, "apiVersion": api_version, **checked}


def decode_message(data: bytes, name: str, types: Types) -> Object:
    """One message of type ``name`` as a JSON object."""
    return _decoder(types)(data, name, 0)


def fields(data: bytes) -> Iterator[Wire]:
    """The fields of one message in order; raises ``DecodeError`` where the bytes end too early."""
    position, end = 0, len(data)
    while position < end:
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise DecodeError("proto: illegal tag 0")
        if wire == 0:
            value, position = _varint(data, position)
            yield number, wire, value
        elif wire == 2:
            size, position = _varint(data, position)
            if size > end - position:
                raise DecodeError("unexpected EOF")
            yield number, wire, data[position : position + size]
            position += size
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            if size > end - position:
                raise DecodeError("unexpected EOF")
            yield number, wire, data[position : position + size]
            position += size
        else:
            raise DecodeError(f"proto: illegal wireType {wire}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data):
            raise DecodeError("unexpected EOF")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
        if shift >= 64:
            raise DecodeError("proto: integer overflow")


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _time(value: bytes, micro: bool) -> str | None:
    """A ``Timestamp`` message; None for Go's zero time, which is sent as no bytes."""
    if not value:
        return None
    seconds = nanos = 0
    for number, _, found in fields(value):
        if number == 1:
            seconds = _signed(found, 64)
        elif number == 2:
            nanos = _signed(found, 32)
    try:
        moment = _EPOCH + datetime.timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise DecodeError("Time.MarshalJSON: year outside of range [0,9999]") from None
    return formats.format_micro_time(moment) if micro else formats.format_time(moment)


def _first(value: bytes, number: int, default: Any) -> Any:
    found = default
    for each, _, content in fields(value):
        if each == number:
            found = content
    return found


def _int_or_string(value: bytes) -> int | str:
    kind, number, text = 0, 0, ""
    for field, _, found in fields(value):
        if field == 1:
            kind = found
        elif field == 2:
            number = _signed(found, 32)
        elif field == 3:
            text = _text(found)
    return text if kind else number


def _raw_json(value: bytes) -> Any:
    raw = _first(value, 1, b"")
    if not raw:
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise DecodeError("json: error calling MarshalJSON for raw content") from None


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "s": _text,
    "b": bool,
    "y": lambda value: base64.b64encode(value).decode(),
    "i": lambda value: _signed(value, 32),
    "l": lambda value: _signed(value, 64),
    "u": lambda value: value & 0xFFFF_FFFF,
    "U": int,
    "d": lambda value: struct.unpack("<d", value)[0],
    "q": lambda value: _text(_first(value, 1, b"")) or "0",
    "t": lambda value: _time(value, micro=False),
    "T": lambda value: _time(value, micro=True),
    "D": lambda value: formats.format_duration(_signed(_first(value, 1, 0), 64)),
    "I": _int_or_string,
    "F": _raw_json,
    "R": _raw_json,
    "J": _raw_json,
}
_WIRES = {"b": 0, "i": 0, "l": 0, "u": 0, "U": 0, "d": 1}

Decoder = Callable[[bytes, str, int], Object]


def _decoder(types: Types) -> Decoder:
    """The function ``(bytes, type name, depth) -> object``; field tables are made once per type."""
    tables: dict[str, dict[int, Any]] = types.compiled("protobuf")

    def table(name: str) -> dict[int, Any]:
        found = tables.get(name)
        if found is None:
            found = tables[name] = {}
            for field in types[name].fields.values():
                _place(found, field, field.number if isinstance(field.number, tuple) else (field.number,))
        return found

    def message(data: bytes, name: str, depth: int) -> Object:
        if depth > _MOST_DEPTH:
            raise DecodeError("proto: exceeded max depth")
        result: Object = {}
        fill(result, data, table(name), depth)
        return result

    def fill(result: Object, data: bytes, rows: dict[int, Any], depth: int) -> None:
        for number, wire, value in fields(data):
            row = rows.get(number)
            if isinstance(row, dict):
                if wire == 2:
                    fill(result, value, row, depth)
            elif row is not None:
                put(result, row, wire, value, depth)

    def one(field: Field, value: Any, depth: int) -> Any:
        if field.kind == "m":
            return message(value, field.target, depth + 1)
        if field.kind == "J" and field.target in EITHER:
            return either(field.target, value, depth)
        if field.kind == "R" and field.target != "runtime.RawExtension":
            return {}  # a message without fields
        return _SCALARS[field.kind](value)

    def either(target: str, data: bytes, depth: int) -> Any:
        """A schema or something plainer: whichever is there."""
        schema: Any = None
        plain: Any = None
        schema_number, many = EITHER[target]
        for number, wire, value in fields(data):
            if number == schema_number and wire == 2:
                schema = message(value, JSON_SCHEMA, depth + 1)
            elif not many:
                plain = bool(value)
            elif wire == 2:
                item = message(value, JSON_SCHEMA, depth + 1) if many == "schemas" else _text(value)
                plain = [*(plain or ()), item]
        return plain if schema is None else schema

    def put(result: Object, field: Field, wire: int, value: Any, depth: int) -> None:
        expected = _WIRES.get(field.kind, 2)
        if field.shape in ("m", "M"):
            if wire == 2:
                key, content = _entry(value, expected)
                if field.shape == "M":
                    items = [_text(each) for number, _, each in fields(content or b"") if number == 1]
                    result.setdefault(field.name, {})[key] = items
                else:
                    made = _absent(field, expected) if content is None else one(field, content, depth)
                    result.setdefault(field.name, {})[key] = made
        elif field.shape == "l":
            if wire == expected:
                result.setdefault(field.name, []).append(one(field, value, depth))
            elif wire == 2 and expected == 0:
                position = 0
                while position < len(value):
                    number, position = _varint(value, position)
                    result.setdefault(field.name, []).append(one(field, number, depth))
        elif wire == expected:
            content = one(field, value, depth)
            if content or field.pointer or not field.omitempty or field.kind not in SCALARS:
                result[field.name] = content
            else:  # Go writes zero values, its JSON leaves them out
                result.pop(field.name, None)

    def _absent(field: Field, expected: int) -> Any:
        return one(field, 0 if expected == 0 else b"", 0)

    return message


def _entry(data: bytes, _: int) -> tuple[str, Any]:
    """Key and value of a map entry; the value is None when the entry lacks one."""
    key, content = "", None
    for number, _wire, value in fields(data):
        if number == 1:
            key = _text(value)
        elif number == 2:
            content = value
    return key, content


def _place(rows: dict[int, Any], field: Field, path: tuple[int, ...]) -> None:
    """Put ``field`` where ``path`` leads: fields of an inlined message stand in a table under its number."""
    if len(path) == 1:
        if path[0]:
            rows[path[0]] = field
        return
    _place(rows.setdefault(path[0], {}), field, path[1:])
