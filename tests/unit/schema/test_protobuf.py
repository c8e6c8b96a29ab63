"""Protobuf bodies: every built-in type survives being written by an encoder made from the same table."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api import formats
from anynode.schema import protobuf, types
from anynode.schema.decode import DecodeError, decode_protobuf
from anynode.schema.types import Field

TYPES = types.builtin()


def varint(value: int) -> bytes:
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def one(field: Field, value: Any) -> int | bytes:
    if field.kind == "m":
        return message(field.target, value)
    if field.kind in "il":
        return int(value)
    if field.kind == "b":
        return int(value)
    if field.kind == "y":
        return base64.b64decode(value)
    if field.kind == "q":
        return put(1, value.encode())
    if field.kind in "tT":
        moment = formats.parse_time(value)
        return put(1, int(moment.timestamp())) + put(2, moment.microsecond * 1000)
    if field.kind == "I":
        return put(1, 0) + put(2, value) if isinstance(value, int) else put(1, 1) + put(3, value.encode())
    assert field.kind == "s"
    return str(value).encode()


def message(name: str, obj: dict[str, Any]) -> bytes:
    out = b""
    for key, value in obj.items():
        field = TYPES[name].fields[key]
        path = field.number if isinstance(field.number, tuple) else (field.number,)
        items: list[int | bytes]
        if field.shape == "l":
            items = [one(field, each) for each in value]
        elif field.shape == "m":
            items = []
            for entry, each in value.items():
                content = one(field, each)
                items.append(put(1, entry.encode()) + put(2, content))
        else:
            items = [one(field, value)]
        for item in items:
            encoded = put(path[-1], item)
            for number in reversed(path[:-1]):
                encoded = put(number, encoded)
            out += encoded
    return out


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + put(1, put(1, api_version.encode()) + put(2, kind.encode())) + put(2, raw)


POD: dict[str, Any] = {
    "metadata": {
        "name": "p",
        "labels": {"a": "b", "c": ""},
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": False}],
    },
    "spec": {
        "volumes": [{"name": "v", "configMap": {"name": "m", "defaultMode": 420}}, {"name": "e", "emptyDir": {}}],
        "containers": [
            {
                "name": "c",
                "image": "i",
                "args": ["", "x"],
                "resources": {"limits": {"cpu": "100m"}},
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}}],
                "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": -3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
            }
        ],
        "terminationGracePeriodSeconds": 0,
    },
    "status": {},
}


def test_a_pod() -> None:
    found = decode_protobuf(envelope("v1", "Pod", message("io.k8s.api.core.v1.Pod", POD)), TYPES)
    assert found == {"kind": "Pod", "apiVersion": "v1", **POD}


def test_zero_values_follow_gos_rules() -> None:
    raw = message("io.k8s.api.core.v1.Pod", {"metadata": {"name": "", "generation": 0}, "spec": {"hostNetwork": False}})
    found = decode_protobuf(envelope("v1", "Pod", raw), TYPES)
    assert found == {"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {"containers": None}, "status": {}}


def test_owned_fields_come_without_what_go_leaves_out() -> None:
    entry = {"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "", "subresource": ""}
    raw = message("io.k8s.api.core.v1.ConfigMap", {"metadata": {"managedFields": [entry]}})
    found = decode_protobuf(envelope("v1", "ConfigMap", raw), TYPES)
    assert found["metadata"] == {"managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1"}]}


def test_a_message_without_fields_is_there() -> None:
    raw = put(1, b"")
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresources"
    assert protobuf.decode_message(raw, name, TYPES) == {"status": {}}


def test_bytes_micro_times_and_raw_json() -> None:
    secret = envelope("v1", "Secret", message("io.k8s.api.core.v1.Secret", {"data": {"k": "AAE="}}))
    assert decode_protobuf(secret, TYPES)["data"] == {"k": "AAE="}
    spec = {"holderIdentity": "h", "renewTime": "2026-01-02T03:04:05.000006Z", "leaseDurationSeconds": 40}
    lease = envelope("coordination.k8s.io/v1", "Lease", message("io.k8s.api.coordination.v1.Lease", {"spec": spec}))
    assert decode_protobuf(lease, TYPES)["spec"] == spec
    raw = put(2, put(1, b'{"spec":null}')) + put(3, 4)
    revision = decode_protobuf(envelope("apps/v1", "ControllerRevision", raw), TYPES)
    assert revision["data"] == {"spec": None}
    assert revision["revision"] == 4


def test_schemas_of_custom_resources() -> None:
    text = put(5, b"string")  # type
    boolean = put(1, 1)
    properties = put(29, put(1, b"a") + put(2, text))
    items = put(24, put(1, text))
    additional = put(30, boolean)
    default = put(8, put(1, b'{"x":null}'))
    schema = protobuf.decode_message(properties + items + additional + default, protobuf.JSON_SCHEMA, TYPES)
    assert schema == {
        "properties": {"a": {"type": "string"}},
        "items": {"type": "string"},
        "additionalProperties": True,
        "default": {"x": None},
    }


def test_refusals() -> None:
    with pytest.raises(DecodeError, match="does not appear to be a protobuf message"):
        decode_protobuf(b'{"metadata":{"name":"a"}}', TYPES)
    with pytest.raises(DecodeError, match='no kind "Nope" is registered for version "v1"'):
        decode_protobuf(envelope("v1", "Nope", b""), TYPES)
    with pytest.raises(DecodeError, match="unexpected EOF"):
        decode_protobuf(envelope("v1", "Pod", b"\x0a\x7f"), TYPES)


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_decode_error(raw: bytes) -> None:
    try:
        found = decode_protobuf(envelope("v1", "Pod", raw), TYPES)
    except DecodeError:
        return
    assert found["kind"] == "Pod"


def test_every_field_of_every_type_has_a_decoder() -> None:
    for name in TYPES:
        assert protobuf.decode_message(b"", name, TYPES) == {}
