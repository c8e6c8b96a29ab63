"""Objects as Kubernetes' protobuf: any message of the type table, and the ``k8s`` envelope around it.

A checked JSON object comes in, bytes go out; ``protobuf.decode_protobuf`` reads them again. What the object leaves out
is not written, which readers take as Go's zero value. Writers are made once per type. Source: apimachinery
``pkg/runtime/serializer/protobuf`` and ``generated.proto``, 1.36.
"""

from __future__ import annotations

import base64
import datetime
import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from anynode.api import formats
from anynode.api.objects import Object
from anynode.schema.protobuf import EITHER, JSON_SCHEMA, MAGIC
from anynode.schema.types import Field, Types

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
META = "io.k8s.apimachinery.pkg.apis.meta.v1."

Write = Callable[[Any], bytes]
"""A value -> the content of its field, without key and length."""


def number(value: int) -> bytes:
    """A varint; negative numbers as their two's complement."""
    if 0 <= value < 0x80:
        return _SMALL[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = [bytes((value,)) for value in range(0x80)]


def delimited(field: int, content: bytes) -> bytes:
    """A field of bytes: key, length, content."""
    return number(field << 3 | 2) + number(len(content)) + content


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    """A whole body: the magic number and ``runtime.Unknown``."""
    return envelope_start(api_version, kind, len(raw)) + raw


def envelope_start(api_version: str, kind: str, length: int) -> bytes:
    """What stands before the ``length`` bytes of the message in a body."""
    named = delimited(1, api_version.encode()) + delimited(2, kind.encode())
    return MAGIC + delimited(1, named) + number(2 << 3 | 2) + number(length)


def frame(kind: str, encoded: bytes) -> bytes:
    """One event of a watch stream: ``WatchEvent`` behind its length in four bytes."""
    event = delimited(1, kind.encode()) + delimited(2, delimited(1, encoded))
    return len(event).to_bytes(4, "big") + event


def encode_protobuf(obj: Object, types: Types) -> bytes:
    """``obj``, which names its kind, in an envelope; raises ``KeyError`` for a kind the table lacks."""
    api_version, kind = obj["apiVersion"], obj["kind"]
    return envelope(api_version, kind, writer(types).message(obj, types.of_kind(api_version, kind)))


def _text(value: str) -> bytes:
    return value.encode("utf-8", "replace")


def _seconds(value: str) -> bytes:
    moment = formats.parse_time(value)
    since = (moment - _EPOCH) // _MICROSECOND
    seconds, micros = divmod(since, 1_000_000)
    return b"\x08" + number(seconds) + b"\x10" + number(micros * 1000)


def _moment(value: str | None) -> bytes:
    return b"" if value is None else _seconds(value)


def _int_or_string(value: int | str) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + delimited(3, value.encode())
    return b"\x08\x00\x10" + number(value) + b"\x1a\x00"


def _raw(value: Any) -> bytes:
    return b"" if value is None else delimited(1, orjson.dumps(value))


_LENGTHS: Mapping[str, Write] = {
    "s": _text,
    "y": base64.b64decode,
    "q": lambda value: delimited(1, str(value).encode()),
    "t": _moment,
    "T": _moment,
    "D": lambda value: b"\x08" + number(formats.parse_duration(value)),
    "I": _int_or_string,
    "F": _raw,
    "R": _raw,
    "J": _raw,
}
_VARINTS = frozenset("bilUu")


class Writer:
    """The writers of one type table."""

    def __init__(self, types: Types) -> None:
        self._types = types
        self._rows: dict[str, dict[str, tuple[tuple[int, ...], Write]]] = {}

    def message(self, obj: Object, name: str) -> bytes:
        """The bytes of one message of type ``name``."""
        rows = self._rows.get(name)
        if rows is None:
            rows = self._rows[name] = self._compiled(name)
        parts: list[bytes] = []
        nested: dict[tuple[int, ...], list[bytes]] = {}
        for key, value in obj.items():
            row = rows.get(key)
            if row is None or value is None:
                continue
            path, write = row
            (nested.setdefault(path, []) if path else parts).append(write(value))
        if nested:
            _close(nested, parts)
        return b"".join(parts)

    def _compiled(self, name: str) -> dict[str, tuple[tuple[int, ...], Write]]:
        rows = {}
        for field in self._types[name].fields.values():
            path = field.number if isinstance(field.number, tuple) else (field.number,)
            if path[-1]:
                rows[field.name] = (path[:-1], self._whole(field, path[-1]))
        return rows

    def _whole(self, field: Field, at: int) -> Write:
        """The writer of all of a field, keys included."""
        one = self._one(field)
        if field.kind in _VARINTS or field.kind == "d":
            key = number(at << 3 | (1 if field.kind == "d" else 0))
            if field.shape == "l":
                return lambda value: b"".join([key + one(each) for each in value])
            if not field.shape:
                return lambda value: key + one(value)
            return self._entries(at, key[:0] + number(2 << 3 | (1 if field.kind == "d" else 0)), one, plain=True)
        key = number(at << 3 | 2)
        if field.shape == "l":
            return lambda value: b"".join([_keyed(key, one(each)) for each in value])
        if field.shape == "m":
            return self._entries(at, number(2 << 3 | 2), one, plain=False)
        if field.shape == "M":
            return self._entries(at, number(2 << 3 | 2), _texts, plain=False)
        return lambda value: _keyed(key, one(value))

    def _entries(self, at: int, value_key: bytes, one: Write, *, plain: bool) -> Write:
        """The writer of a map, its keys sorted as upstream sorts them."""
        key = number(at << 3 | 2)

        def write(value: Mapping[str, Any]) -> bytes:
            entries = []
            for name in sorted(value):
                content = one(value[name])
                said = value_key + content if plain else _keyed(value_key, content)
                entries.append(_keyed(key, delimited(1, name.encode()) + said))
            return b"".join(entries)

        return write

    def _one(self, field: Field) -> Write:
        kind = field.kind
        if kind == "m":
            target = field.target
            return lambda value: self.message(value, target)
        if kind == "b":
            return lambda value: b"\1" if value else b"\0"
        if kind in _VARINTS:
            return number
        if kind == "d":
            return lambda value: struct.pack("<d", value)
        if kind == "J" and field.target in EITHER:
            target = field.target
            return lambda value: self._either(target, value)
        if kind == "R" and field.target != "runtime.RawExtension":
            return lambda _: b""  # a message without fields
        return _LENGTHS[kind]

    def _either(self, target: str, value: Any) -> bytes:
        """A schema or something plainer: whichever is there."""
        at, many = EITHER[target]
        if isinstance(value, dict):
            schema = delimited(at, self.message(value, JSON_SCHEMA))
            return b"\x08\x01" + schema if not many else schema
        if not many:
            return b"\x08\x01" if value else b"\x08\x00"
        return b"".join(
            delimited(2, self.message(each, JSON_SCHEMA) if many == "schemas" else str(each).encode()) for each in value
        )


def _keyed(key: bytes, content: bytes) -> bytes:
    return key + number(len(content)) + content


def _texts(values: list[str] | None) -> bytes:
    return b"".join([delimited(1, each.encode()) for each in values or ()])


def _close(nested: dict[tuple[int, ...], list[bytes]], parts: list[bytes]) -> None:
    """Put messages that stand inline in JSON under their own field numbers."""
    while nested:
        path = max(nested, key=len)
        content = delimited(path[-1], b"".join(nested.pop(path)))
        (nested.setdefault(path[:-1], []) if len(path) > 1 else parts).append(content)


def writer(types: Types) -> Writer:
    """The writers of ``types``, made once."""
    memory = types.compiled("protobuf writing")
    found: Writer | None = memory.get("writer")
    if found is None:
        found = memory["writer"] = Writer(types)
    return found
