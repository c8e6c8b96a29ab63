"""What is written as protobuf reads back as the object it was, and its frames are those of upstream."""

from __future__ import annotations

import random

import pytest
from tests.unit.schema.test_protobuf_kinds import KINDS, made

from anynode.schema import protobuf_writing, types
from anynode.schema.decode import check_fields, decode_protobuf

TYPES = types.builtin()


@pytest.mark.parametrize(("api_version", "kind"), KINDS)
def test_an_object_reads_back_as_it_was(api_version: str, kind: str) -> None:
    name = TYPES.of_kind(api_version, kind)
    for seed in range(4):
        checked, _ = check_fields(made(name, random.Random(seed), seed), name, TYPES)
        written = protobuf_writing.encode_protobuf({**checked, "apiVersion": api_version, "kind": kind}, TYPES)
        assert decode_protobuf(written, TYPES) == {**checked, "apiVersion": api_version, "kind": kind}


def test_a_pod_says_everything() -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"b": "1", "a": ""},
            "managedFields": [{"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}],
        },
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "resources": {"limits": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": -1},
                    "ports": [{"containerPort": 300}],
                }
            ],
            "volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 420}}],
        },
        "status": {},
    }
    name = TYPES.of_kind("v1", "Pod")
    checked, unknown = check_fields(pod, name, TYPES)
    assert not unknown
    assert decode_protobuf(protobuf_writing.encode_protobuf(checked, TYPES), TYPES) == checked


def test_a_frame_is_a_length_and_an_event() -> None:
    framed = protobuf_writing.frame("ADDED", b"k8s\0")
    assert framed == b"\0\0\0\x0f" + b"\x0a\x05ADDED" + b"\x12\x06" + b"\x0a\x04k8s\0"


def test_a_kind_the_table_lacks_is_no_protobuf() -> None:
    with pytest.raises(KeyError):
        protobuf_writing.encode_protobuf({"apiVersion": "a.b/v1", "kind": "C"}, TYPES)
