"""What rules may ask of a value, and how large it can be."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.cel import types
from anynode.schema.custom.cel_types import MOST_REQUEST_BYTES, declared
from anynode.schema.custom.structural import structural


@pytest.mark.parametrize(
    ("schema", "text", "size"),
    [
        ({"type": "string"}, "string", MOST_REQUEST_BYTES - 2), ({"type": "string", "maxLength": 3}, "string", 12),
        ({"type": "string", "enum": ["a", "éé"]}, "string", 4), ({"type": "string", "format": "date"}, "timestamp", 12),
        ({"type": "string", "format": "byte", "maxLength": 3}, "bytes", 3),
        ({"type": "string", "format": "duration"}, "duration", 32), ({"type": "integer"}, "int", 0),
        ({"type": "number"}, "double", 0), ({"x-kubernetes-int-or-string": True}, "dyn", MOST_REQUEST_BYTES - 2),
        ({"type": "array", "maxItems": 4, "items": {"type": "boolean"}}, "list(bool)", 4),
        ({"type": "array", "items": {"type": "string"}}, "list(string)", (MOST_REQUEST_BYTES - 2) // 3),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "map(string, int)",
         (MOST_REQUEST_BYTES - 2) // 7),
    ],
)  # fmt: skip
def test_types_and_sizes(schema: dict[str, Any], text: str, size: int) -> None:
    found = declared(structural(schema), root=False)
    assert found is not None
    assert (str(found), found.max_size) == (text, size)


@pytest.mark.parametrize("schema", [{"x-kubernetes-preserve-unknown-fields": True}, {"type": "array"}])
def test_what_cel_does_not_see(schema: dict[str, Any]) -> None:
    assert declared(structural(schema), root=False) is None


def test_an_object_has_the_fields_cel_can_name() -> None:
    properties = {"a-b": {"type": "string"}, "if": {"type": "string"}, "1x": {"type": "string"}, "u": {}}
    found = declared(structural({"type": "object", "required": ["a-b"], "properties": properties}), root=False)
    assert isinstance(found, types.ObjectType)
    assert [found.field(name) is not None for name in ("a__dash__b", "__if__", "1x", "u")] == [True, True, False, False]
    assert found.min_serialized_size == 2 + 3 + 2 + 4


def test_a_whole_object_always_has_its_kind_and_names() -> None:
    found = declared(structural({"type": "object", "properties": {"spec": {"type": "object"}}}), root=True)
    assert isinstance(found, types.ObjectType)
    metadata = found.field("metadata")
    assert isinstance(metadata, types.ObjectType)
    assert metadata.field("name") is not None
    assert metadata.field("labels") is None
    assert found.field("kind") is not None
