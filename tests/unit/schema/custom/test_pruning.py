"""What is kept of an object: known fields, readable metadata, defaults."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.errors import RequestEntityTooLarge
from anynode.schema.custom.pruning import coerced, defaulted, pruned, read_metadata
from anynode.schema.custom.structural import structural
from anynode.schema.typed import DecodeError

SCHEMA = structural(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "a": {"type": "string"},
                    "n": {"type": "string", "nullable": True},
                    "d": {"type": "integer", "default": 3},
                    "l": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "integer"}}}},
                    "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"y": {}}}},
                    "open": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                        "properties": {"k": {"type": "object", "properties": {"v": {"type": "string"}}}},
                    },
                    "pod": {
                        "type": "object",
                        "x-kubernetes-embedded-resource": True,
                        "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}},
                    },
                },
            }
        },
    }
)


def test_unknown_fields_go_and_are_told_in_order() -> None:
    obj = {
        "apiVersion": "v1",
        "kind": "W",
        "metadata": {"anything": 1},
        "status": {},
        "spec": {"zz": 1, "a": "x", "l": [{"x": 1, "q": 2}, 5], "m": {"k": {"y": {"deep": 1}, "z": 2}}},
    }
    found, unknown = pruned(obj, SCHEMA, whole=True)
    assert found["spec"] == {"a": "x", "l": [{"x": 1}, 5], "m": {"k": {"y": {}}}}
    assert found["metadata"] == {"anything": 1}
    assert unknown == ["spec.l[0].q", "spec.m.k.y.deep", "spec.m.k.z", "spec.zz", "status"]


def test_what_is_open_keeps_all_but_what_its_known_fields_do_not_know() -> None:
    found, unknown = pruned({"spec": {"open": {"u": {"w": 1}, "k": {"v": "x", "no": 1}}}}, SCHEMA, whole=True)
    assert found == {"spec": {"open": {"u": {"w": 1}, "k": {"v": "x"}}}}
    assert unknown == ["spec.open.k.no"]


def test_embedded_objects_keep_their_type_and_metadata() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"x": 1}, "spec": {"a": "b", "c": 1}, "d": 1}
    found, unknown = pruned({"spec": {"pod": pod}}, SCHEMA, whole=True)
    assert found["spec"]["pod"] == {"apiVersion": "v1", "kind": "Pod", "metadata": {"x": 1}, "spec": {"a": "b"}}
    assert unknown == ["spec.pod.d", "spec.pod.spec.c"]


def test_nulls_go_unless_allowed_or_defaulted() -> None:
    found, unknown = pruned({"spec": {"a": None, "n": None, "d": None}}, SCHEMA, whole=True)
    assert found == {"spec": {"n": None, "d": None}}
    assert unknown == []
    assert defaulted(found, SCHEMA) == {"spec": {"n": None, "d": 3}}


def test_nothing_to_do_gives_the_same_object() -> None:
    obj = {"spec": {"a": "x", "d": 1, "l": [{"x": 1}], "open": {"z": [1]}}}
    assert pruned(obj, SCHEMA, whole=True)[0] is obj
    assert defaulted(obj, SCHEMA) is obj


def test_without_a_schema_only_the_type_and_metadata_stay() -> None:
    assert pruned({"kind": "W", "spec": {"a": 1}}, None, whole=True) == ({"kind": "W"}, ["spec"])


def test_defaults_fill_what_is_there_and_do_not_change_what_came_in() -> None:
    node = structural(
        {
            "type": "object",
            "properties": {
                "l": {"type": "array", "items": {"type": "object", "properties": {"e": {"default": True}}}},
                "m": {"type": "object", "additionalProperties": {"type": "string", "default": "q"}},
                "o": {"type": "object", "default": {}, "properties": {"i": {"type": "integer", "default": 1}}},
            },
        }
    )
    obj: dict[str, Any] = {"l": [{}, {"e": False}], "m": {"a": None, "b": "c"}}
    expected = {"l": [{"e": True}, {"e": False}], "m": {"a": "q", "b": "c"}, "o": {"i": 1}}
    assert defaulted(obj, node) == expected
    assert obj == {"l": [{}, {"e": False}], "m": {"a": None, "b": "c"}}


def test_defaults_that_multiply_are_stopped_before_they_fill_the_memory() -> None:
    item = {"type": "object", "properties": {"e": {"type": "string", "default": "x" * 100_000}}}
    node = structural({"type": "object", "properties": {"l": {"type": "array", "items": item}}})
    assert len(defaulted({"l": [{}] * 80}, node)["l"]) == 80
    with pytest.raises(RequestEntityTooLarge, match="defaults add more than"):
        defaulted({"l": [{}] * 100_000}, node)


def test_metadata_is_read_as_go_reads_it() -> None:
    found, unknown = read_metadata({"name": "a", "namespace": "", "foo": 1, "labels": {"a": None}}, lenient=False)
    assert found == {"name": "a", "labels": {"a": ""}}
    assert unknown == ["foo"]
    with pytest.raises(DecodeError, match=r"json: cannot unmarshal number into Go struct field ObjectMeta.labels"):
        read_metadata({"labels": {"a": 1}}, lenient=False)


def test_stored_metadata_that_cannot_be_read_is_left_out() -> None:
    assert read_metadata({"name": "a", "labels": 5, "generation": 2}, lenient=True)[0] == {"name": "a", "generation": 2}


def test_embedded_metadata_is_refused_or_dropped() -> None:
    bad = {"spec": {"pod": {"apiVersion": 1, "kind": "Pod"}}}
    with pytest.raises(DecodeError, match=r"^spec.pod.apiVersion: Invalid value: 1: must be a string$"):
        coerced(bad, SCHEMA, "", [], lenient=False)
    assert coerced(bad, SCHEMA, "", [], lenient=True) == {"spec": {"pod": {"kind": "Pod"}}}
    unknown: list[str] = []
    coerced({"spec": {"pod": {"metadata": {"x": 1}}}}, SCHEMA, "", unknown, lenient=False)
    assert unknown == ["spec.pod.metadata.x"]


def test_whole_numbers_of_integer_fields_lose_their_fraction() -> None:
    schema = structural(
        {
            "type": "object",
            "properties": {
                "i": {"type": "integer"},
                "f": {"type": "number"},
                "l": {"type": "array", "items": {"type": "integer"}},
            },
        }
    )
    found, _ = pruned({"i": 1.0, "f": 1.0, "l": [2.0, 2.5, 1e20]}, schema, whole=False)
    assert repr(found) == repr({"i": 1, "f": 1.0, "l": [2, 2.5, 1e20]})


def test_unknown_fields_of_metadata_are_told_in_the_order_of_their_names() -> None:
    owners = [{"manager": "a", "foo": 1}]
    references = [{"apiVersion": "v1", "kind": "X", "name": "n", "uid": "u", "bar": 1}]
    sent = {"name": "a", "foo": 1, "ownerReferences": references, "managedFields": owners, "Labels": {}}
    _, unknown = read_metadata(sent, lenient=False)
    assert unknown == ["Labels", "foo", "managedFields[0].foo", "ownerReferences[0].bar"]


def test_an_empty_list_of_owners_is_as_good_as_none() -> None:
    assert read_metadata({"name": "a", "managedFields": []}, lenient=False) == ({"name": "a"}, [])
    assert read_metadata({"managedFields": [{}]}, lenient=False) == ({"managedFields": [{}]}, [])


def test_nulls_may_be_kept_to_be_complained_about() -> None:
    sent = {"spec": {"a": None, "n": None}}
    assert pruned(sent, SCHEMA, whole=True)[0] == {"spec": {"n": None}}
    assert pruned(sent, SCHEMA, whole=True, keep_nulls=True)[0] == sent
