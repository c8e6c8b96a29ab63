"""Any object of any served kind means the same in protobuf as in JSON.

Objects are made up from the type table, brought into shape as JSON bodies are, written as Go's generated code writes
them (zero values of plain fields included, nothing for what is nil), and read back.
"""

from __future__ import annotations

import base64
import datetime
import random
import struct
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.api import resources
from anynode.schema import protobuf, types
from anynode.schema.decode import check_fields, decode_protobuf
from anynode.schema.types import Field

TYPES = types.builtin()
KINDS = sorted(
    {(str(each.group_version), each.kind) for each in resources.builtin()}
    | {("v1", "DeleteOptions"), ("autoscaling/v1", "Scale"), ("policy/v1", "Eviction"), ("v1", "Binding")}
    | {("authentication.k8s.io/v1", "TokenRequest"), ("authorization.k8s.io/v1", "SubjectAccessReview")}
)
SCHEMA = protobuf.JSON_SCHEMA
DEPTH = 5
TEXTS = ("", "a", "ns/name", "-1", "9", "true", "null", "é\U0001f600", "x" * 200, 'say "hi"\n')
JSONS = ({}, {"a": {"b": [1, None, "x"]}}, [1], "text", 3, True)
RAW = "runtime.RawExtension"
SOME_SCHEMA = {"type": "string", "maxLength": 3}
EITHER = {
    "v1.JSON": JSONS,
    "v1.JSONSchemaPropsOrBool": (True, False, SOME_SCHEMA),
    "v1.JSONSchemaPropsOrArray": (SOME_SCHEMA, [SOME_SCHEMA, {"type": "integer"}]),
    "v1.JSONSchemaPropsOrStringArray": (SOME_SCHEMA, ["a", "b"]),
}
QUANTITIES = ("0", "1", "100m", "1Gi", "1.5", "12e6", "-5", "3Ki")
NUMBERS = (0, 1, -1, 127, 128, 300, -300, 2**31 - 1, -(2**31))
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


# Making objects up


def made(name: str, chance: random.Random, depth: int) -> dict[str, Any]:
    """Any object of a type, as JSON."""
    share = chance.choice((0.15, 0.4, 0.9)) if depth < DEPTH else 0.1
    return {
        key: whole(field, chance, depth)
        for key, field in TYPES[name].fields.items()
        if field.number and chance.random() < share and not (depth >= DEPTH and field.kind == "m")
    }


def whole(field: Field, chance: random.Random, depth: int) -> Any:
    count = chance.randint(1, 3)
    if field.shape == "l":
        return [one(field, chance, depth) for _ in range(count)]
    if field.shape == "m":
        return {key: one(field, chance, depth) for key in chance.sample(TEXTS, count)}
    if field.shape == "M":
        return {key: chance.sample(TEXTS, count) for key in chance.sample(TEXTS, count)}
    return one(field, chance, depth)


def one(field: Field, chance: random.Random, depth: int) -> Any:
    match field.kind:
        case "m":
            return made(field.target, chance, depth + 1)
        case "s":
            return chance.choice(TEXTS)
        case "b":
            return chance.random() < 0.5
        case "y":
            return base64.b64encode(chance.randbytes(chance.randint(1, 9))).decode()
        case "i":
            return chance.choice(NUMBERS)
        case "l":
            return chance.choice((*NUMBERS, 2**63 - 1, -(2**63), 2**40))
        case "d":
            return chance.choice((0.5, -2.25, 3e20, 4.0))
        case "q":
            return chance.choice(QUANTITIES)
        case "t" | "T":
            moment = EPOCH + datetime.timedelta(seconds=chance.randint(-(10**9), 10**10))
            fraction = f".{chance.randrange(10**6):06d}" if field.kind == "T" else ""
            return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"
        case "I":
            return chance.choice((*NUMBERS, "http", "25%", ""))
        case "F":
            return {"f:a": {".": {}, "k:{}": {}}}
        case "R":
            return chance.choice(JSONS[:2]) if field.target == RAW else {}
        case "J":
            return chance.choice(EITHER[field.target])
    raise AssertionError(field)


# Writing them as Go does


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def put(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def scalar(field: Field, value: Any) -> int | float | bytes:
    match field.kind:
        case "m":
            return message(field.target, value)
        case "s":
            return str(value).encode()
        case "y":
            return base64.b64decode(value)
        case "q":
            return put(1, str(value).encode())
        case "t" | "T":
            return timestamp(value)
        case "I":
            number, text = (0, value) if isinstance(value, str) else (value, "")
            return put(1, int(isinstance(value, str))) + put(2, number) + put(3, text.encode())
        case "F" | "R":
            return put(1, orjson.dumps(value)) if field.kind == "F" or field.target == RAW else b""
        case "J":
            return either(field.target, value)
        case "d":
            return float(value)
    return int(value)


def timestamp(value: str | None) -> bytes:
    if value is None:
        return b""
    moment = datetime.datetime.fromisoformat(value)
    seconds = (moment.replace(microsecond=0) - EPOCH) // datetime.timedelta(seconds=1)
    return put(1, seconds) + put(2, moment.microsecond * 1000)


def either(target: str, value: Any) -> bytes:
    if target == "v1.JSON":
        return put(1, orjson.dumps(value))
    if target == "v1.JSONSchemaPropsOrBool":
        return put(1, int(bool(value))) + (put(2, message(SCHEMA, value)) if isinstance(value, dict) else b"")
    if isinstance(value, dict):
        return put(1, message(SCHEMA, value))
    return b"".join(put(2, each.encode() if isinstance(each, str) else message(SCHEMA, each)) for each in value)


def zero(field: Field) -> Any:
    """What Go holds in a field that was not said, None where it writes nothing of it."""
    if field.pointer or field.shape:
        return None
    zeros = {"s": "", "b": False, "i": 0, "l": 0, "q": "0", "I": 0, "m": {}}
    return zeros.get(field.kind)


def message(name: str, obj: dict[str, Any]) -> bytes:
    """The fields by number; those of inlined messages stand under the message's own, which is always written."""
    tree: dict[int, Any] = {}
    for key, field in TYPES[name].fields.items():
        if not field.number:
            continue
        path = field.number if isinstance(field.number, tuple) else (field.number,)
        below = tree
        for number in path[:-1]:
            below = below.setdefault(number, {})
        below[path[-1]] = list(contents(field, obj.get(key)))
    return b"".join(written(tree))


def written(tree: dict[int, Any]) -> Iterator[bytes]:
    for number, value in tree.items():
        if isinstance(value, dict):
            yield put(number, b"".join(written(value)))
        else:
            yield from (put(number, each) for each in value)


def contents(field: Field, value: Any) -> Iterator[int | float | bytes]:
    """What is written under the field's number, once or more often."""
    if value is None:
        value = zero(field)
        if value is None:
            if field.kind in "tT" and not field.pointer and not field.shape:
                yield b""
            return
    if field.shape == "l":
        yield from (scalar(field, each) for each in value)
    elif field.shape == "m":
        yield from (put(1, key.encode()) + put(2, scalar(field, each)) for key, each in value.items())
    elif field.shape == "M":
        for key, items in value.items():
            yield put(1, key.encode()) + put(2, b"".join(put(1, each.encode()) for each in items))
    else:
        yield scalar(field, value)


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + put(1, put(1, api_version.encode()) + put(2, kind.encode())) + put(2, raw)


# Reading them back


def compare(api_version: str, kind: str, chance: random.Random, depth: int) -> None:
    name = TYPES.of_kind(api_version, kind)
    said, unknown = check_fields(made(name, chance, depth), name, TYPES)
    assert not unknown
    body = envelope(api_version, kind, message(name, said))
    assert decode_protobuf(body, TYPES) == {**said, "apiVersion": api_version, "kind": kind}


@pytest.mark.parametrize(("api_version", "kind"), KINDS)
def test_every_kind(api_version: str, kind: str) -> None:
    assert TYPES.of_kind(api_version, kind)
    for seed in range(4):
        compare(api_version, kind, random.Random(seed), DEPTH - 2)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, 2**32))
def test_any_object(kind: tuple[str, str], seed: int) -> None:
    compare(*kind, random.Random(seed), 0)
