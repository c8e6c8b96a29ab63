"""Whatever a client sends, the schema machinery answers with its own errors: never a crash, never a changed input."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api import errors
from anynode.api.patches import PatchError, json_patch, merge_patch
from anynode.schema import decode, managed_fields, strategic, types
from anynode.schema.decode import DecodeError, check_fields

TYPES = types.builtin()
POD = "io.k8s.api.core.v1.Pod"
NOW = "2026-01-02T03:04:05Z"
LIVE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "uid": "u",
        "labels": {"a": "b"},
        "finalizers": ["x.io/a"],
        "managedFields": [
            {
                "manager": "m",
                "operation": "Update",
                "apiVersion": "v1",
                "time": NOW,
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:containers": {'k:{"name":"c"}': {".": {}, "f:image": {}}}}},
            }
        ],
    },
    "spec": {
        "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}], "resources": {}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "tolerations": [{"key": "k"}],
    },
    "status": {},
}
KEYS = st.sampled_from([
    "metadata", "spec", "status", "name", "labels", "finalizers", "containers", "volumes", "env", "ports", "image",
    "resources", "limits", "cpu", "tolerations", "conditions", "type", "x", "managedFields", "fieldsV1", "f:spec",
    "$patch", "$retainKeys", "$setElementOrder/containers", "$setElementOrder/finalizers",
    "$deleteFromPrimitiveList/finalizers", "$deleteFromPrimitiveList/containers", "containerPort", "operation",
])  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.floats(0, 2) | st.sampled_from(
    ["", "c", "delete", "replace", "merge", "Update", "1", "v1"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=14
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


def through(result: Any) -> None:
    """What a write does with an object it was given."""
    if not isinstance(result, dict):
        return
    try:
        new, _ = check_fields(result, POD, TYPES, known=LIVE)
    except DecodeError:
        return
    entries = managed_fields.updated(LIVE, new, manager="m2", api_version="v1", time=NOW, type_name=POD, types=TYPES)
    managed_fields.with_old_times(managed_fields.with_entries(new, entries), LIVE)
    json.dumps(entries)


@given(OBJECTS)
def test_strategic_merge_patches(patch: dict[str, Any]) -> None:
    before = json.dumps([LIVE, patch])
    with contextlib.suppress(strategic.StrategicError):
        through(strategic.merge(LIVE, patch, POD, TYPES))
    assert json.dumps([LIVE, patch]) == before


@given(OBJECTS)
def test_merge_patches(patch: dict[str, Any]) -> None:
    before = json.dumps([LIVE, patch])
    with contextlib.suppress(PatchError):
        through(merge_patch(LIVE, patch))
    assert json.dumps([LIVE, patch]) == before


@given(
    st.lists(
        OBJECTS
        | st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "remove", "replace", "copy", "move", "test"]),
                "path": st.sampled_from(
                    ["", "/spec", "/spec/containers/0", "/spec/containers/-", "/metadata/labels/a", "/x/y"]
                ),
            },
            optional={"from": st.sampled_from(["/spec", "/metadata", "/spec/containers/0"]), "value": VALUES},
        ),
        max_size=3,
    )
)
def test_json_patches(operations: list[dict[str, Any]]) -> None:  # fmt: skip
    before = json.dumps(LIVE)
    with contextlib.suppress(PatchError, DecodeError):
        read, _ = decode.decode_json_patch(json.dumps(operations).encode())
        through(json_patch(LIVE, read))
    assert json.dumps(LIVE) == before


@given(OBJECTS, st.booleans())
def test_applied_configs(config: dict[str, Any], force: bool) -> None:
    before = json.dumps([LIVE, config])
    config = {**config, "apiVersion": "v1", "kind": "Pod"}
    with contextlib.suppress(errors.ApiError):
        through(
            managed_fields.apply(
                LIVE, config, manager="m2", force=force, api_version="v1", kind="Pod", time=NOW, type_name=POD,
                types=TYPES,
            )
        )  # fmt: skip
    del config["apiVersion"], config["kind"]
    assert json.dumps(LIVE) == json.dumps(json.loads(before)[0])


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_bodies(body: bytes) -> None:
    for read in (decode.decode_json, decode.decode_yaml, decode.decode_json_patch):
        with contextlib.suppress(DecodeError):
            read(body)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("manager", [1], "json: cannot unmarshal array into Go struct field ManagedFieldsEntry.manager of type string"),
        ("apiVersion", {}, "cannot unmarshal object into Go struct field ManagedFieldsEntry.apiVersion of type string"),
        ("operation", 5, "ManagedFieldsEntry.operation of type v1.ManagedFieldsOperationType"),
        ("time", [], "cannot unmarshal array into Go struct field ManagedFieldsEntry.time of type string"),
        ("time", "noon", 'parsing time "noon" as'),
    ],
)
def test_owners_no_typed_client_could_read_are_refused(field: str, value: Any, said: str) -> None:
    entry = {**LIVE["metadata"]["managedFields"][0], field: value}
    with pytest.raises(DecodeError) as failed:
        check_fields({**LIVE, "metadata": {**LIVE["metadata"], "managedFields": [entry]}}, POD, TYPES)
    assert said.replace("Entry.", "Entry.metadata.managedFields.") in str(failed.value)
