"""Every keyword in upstream's words; expectations are answers of a kube-apiserver 1.36."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.schema.custom import value_rules
from anynode.schema.custom.correlation import Correlated
from anynode.schema.custom.structural import structural
from anynode.schema.custom.value_schema import ValueSchema

TEXT = {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]*$"}
JUNCTION = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}}
EITHER = [{"required": ["a"]}, {"required": ["b"], "properties": {"b": {"minimum": 5}}}]


def said(schema: dict[str, Any], value: Any) -> list[str]:
    errors = value_rules.errors(ValueSchema({"type": "object", "properties": {"x": schema}}), {"x": value})
    return [f"{each.field}: {each.message}" for each in errors]


@pytest.mark.parametrize(
    ("schema", "value", "texts"),
    [
        (TEXT, "abc", []),
        (TEXT, "a", ["x: Invalid value: \"a\": x in body should be at least 2 chars long"]),
        (TEXT, "abcde", ["x: Too long: may not be more than 4 bytes"]),
        (TEXT, "AB", ["x: Invalid value: \"AB\": x in body should match '^[a-z]*$'"]),
        (TEXT, 1, ["x: Invalid value: \"integer\": x in body must be of type string: \"integer\""]),
        ({"type": "string"}, None, ["x: Invalid value: \"null\": x in body must be of type string: \"null\""]),
        ({"type": "string", "nullable": True}, None, []),
        ({"type": "string", "enum": ["a", "b"]}, "c", ['x: Unsupported value: "c": supported values: "a", "b"']),
        ({"type": "integer", "enum": [1, 2]}, 3, ['x: Unsupported value: 3: supported values: "1", "2"']),
        ({"type": "object", "enum": [{"a": 1}]}, {"a": 1.0},
         ['x: Unsupported value: {"a":1}: supported values: "{\\"a\\":1}"']),
        ({"type": "integer", "maximum": 2}, 3, ["x: Invalid value: 3: x in body should be less than or equal to 2"]),
        ({"type": "integer", "minimum": 2, "exclusiveMinimum": True}, 2,
         ["x: Invalid value: 2: x in body should be greater than 2"]),
        ({"type": "number", "maximum": 2.5, "exclusiveMaximum": True}, 2.5,
         ["x: Invalid value: 2.5: x in body should be less than 2.5"]),
        ({"type": "number", "maximum": 2.5}, 2, []),
        ({"type": "integer", "multipleOf": 3}, 4, ["x: Invalid value: 4: x in body should be a multiple of 3"]),
        ({"type": "number", "multipleOf": 0.1}, 0.3, []),
        ({"type": "number", "multipleOf": 0.1}, 0.35,
         ["x: Invalid value: 0.35: x in body should be a multiple of 0.1"]),
        ({"type": "integer", "multipleOf": 0}, 4,
         ["x: Invalid value: 0: factor MultipleOf declared for x must be positive: 0"]),
        ({"type": "number", "multipleOf": 0.5, "minimum": 0, "exclusiveMinimum": True}, -1,
         ["x: Invalid value: 0: factor MultipleOf declared for x must be positive: 0",
          "x: Invalid value: -1: x in body should be greater than 0"]),
        ({"type": "integer", "format": "int32"}, 2**31,
         ['<nil>: Invalid value: "": Checked value must be of type integer with format int32 in x']),
        ({"type": "integer"}, 1.0, []),
        ({"type": "boolean"}, "true", ["x: Invalid value: \"string\": x in body must be of type boolean: \"string\""]),
        ({"x-kubernetes-int-or-string": True}, 1.5,
         ["x: Invalid value: \"number\": x in body must be of type integer,string: \"number\""]),
        ({"type": "string", "format": "ipv4"}, "x",
         ["x: Invalid value: \"x\": x in body must be of type ipv4: \"x\""]),
        ({"type": "string", "format": "who-knows"}, "x", []),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, [],
         ["x: Invalid value: 0: x in body should have at least 1 items"]),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 1}, ["a", 2],
         ["x[1]: Invalid value: \"integer\": x[1] in body must be of type string: \"integer\"",
          "x: Too many: 2: must have at most 1 item"]),
        ({"type": "array", "uniqueItems": True}, [1, 1],
         ['x: Invalid value: "": x in body shouldn\'t contain duplicates']),
        ({"type": "object", "minProperties": 1}, {},
         ["x: Invalid value: 0: x in body should have at least 1 properties"]),
        ({"type": "object", "maxProperties": 1}, {"a": 1, "b": 2}, ["x: Too many: 2: must have at most 1 item"]),
        ({"type": "object", "additionalProperties": False}, {"a": 1},
         ['x: Invalid value: "a": x.a in body is a forbidden property']),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, {"a": "b"},
         ["x.a: Invalid value: \"string\": x.a in body must be of type integer: \"string\""]),
        ({"type": "object", "required": ["q"]}, {}, ["x.q: Required value"]),
        ({**JUNCTION, "anyOf": EITHER}, {"b": 1},
         ['<nil>: Invalid value: "": "x" must validate at least one schema (anyOf)',
          "x.b: Invalid value: 1: x.b in body should be greater than or equal to 5"]),
        ({**JUNCTION, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, {"a": "x", "b": 7},
         ['<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found 2 valid alternatives']),
        ({**JUNCTION, "oneOf": EITHER}, {},
         ['<nil>: Invalid value: "": "x" must validate one and only one schema (oneOf). Found none valid',
          "x.a: Required value"]),
        ({**JUNCTION, "allOf": EITHER}, {}, ["x.a: Required value", "x.b: Required value",
         '<nil>: Invalid value: "": "x" must validate all the schemas (allOf). None validated']),
        ({**JUNCTION, "not": {"required": ["a"]}}, {"a": "x"},
         ['<nil>: Invalid value: "": "x" must not validate the schema (not)']),
    ],
)  # fmt: skip
def test_keywords(schema: dict[str, Any], value: Any, texts: list[str]) -> None:
    assert said(schema, value) == texts


def test_what_was_wrong_before_and_is_the_same_is_let_pass() -> None:
    raw: dict[str, Any] = {
        "type": "object",
        "properties": {
            "a": {"type": "string", "maxLength": 1},
            "m": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"maximum": 1}}},
            },
            "l": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        },
    }
    old = {"a": "long", "m": [{"k": "x", "v": 5}, {"k": "y", "v": 6}], "l": ["long"]}
    schema, node = ValueSchema(raw), structural(raw)

    def fields(new: dict[str, Any]) -> list[str]:
        return [each.field for each in value_rules.errors(schema, new, correlated=Correlated(new, old, node))]

    assert fields({**old, "more": 1}) == []
    assert fields({**old, "a": "other"}) == ["a"]
    assert fields({**old, "m": [{"k": "y", "v": 6}, {"k": "x", "v": 7}]}) == ["m[1].v"]
    assert fields({**old, "l": ["long", "x"]}) == ["l[0]"]  # items of plain lists correlate with nothing


def test_a_pattern_that_makes_python_s_own_engine_hang_is_answered_at_once() -> None:
    assert said({"type": "string", "pattern": "^(a+)+$"}, "a" * 5000 + "!") != []


def test_enough_is_said_of_one_list_or_map() -> None:
    text = {"type": "string"}
    assert len(said({"type": "array", "items": text}, [1] * 5_000)) <= value_rules.MOST_COMPLAINTS + 4
    members = {f"k{at}": 1 for at in range(5_000)}
    assert len(said({"type": "object", "additionalProperties": text}, members)) <= value_rules.MOST_COMPLAINTS + 4
