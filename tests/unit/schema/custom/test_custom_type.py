"""One version of a definition as rules, end to end; expectations are answers of a kube-apiserver 1.36."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Sequence
from typing import Any

import pytest

from anynode.api.errors import ApiError
from anynode.schema import managed_fields
from anynode.schema.custom.custom_type import CustomType
from anynode.schema.rules import Findings
from anynode.schema.typed import DecodeError

Json = dict[str, Any]


def definition(spec: Json | None = None, *, raw: Json | None = None, **version: Any) -> Json:
    schema = raw or {"type": "object", "properties": {"spec": spec or {"type": "object"}}}
    return {
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [
                {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, **version}
            ],
        },
    }


def custom(spec: Json | None = None, **more: Any) -> CustomType:
    return CustomType.build(definition(spec, **more), "v1")


def widget(spec: Any = None, **more: Any) -> Json:
    found: Json = {"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}
    return {**found, **({} if spec is None else {"spec": spec}), **more}


def told(errors: Sequence[Any]) -> list[str]:
    return [f"{each.field}: {each.message}" for each in errors]


SIMPLE = {
    "type": "object",
    "required": ["a"],
    "properties": {"a": {"type": "string", "maxLength": 5}, "n": {"type": "integer", "default": 3}},
}


def test_the_resource_is_served_with_its_subresources() -> None:
    made = custom(subresources={"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".s.n"}})
    assert made.resource.path("ns", "w") == "/apis/example.com/v1/namespaces/ns/widgets/w"
    assert [each.name for each in made.resource.subresources] == ["status", "scale"]
    assert custom().resource.subresources == ()


def test_a_version_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        CustomType.build(definition(), "v2")


def test_an_object_is_read_defaulted_and_judged() -> None:
    made = custom(SIMPLE)
    obj, complaints = made.checked(widget({"a": "x", "q": 1}, metadata={"name": "w", "zz": 1}))
    assert complaints == ['unknown field "metadata.zz"', 'unknown field "spec.q"']
    obj = made.defaulted(obj)
    assert obj["spec"] == {"a": "x", "n": 3}
    assert told(made.rules.validate(obj)) == []
    assert told(made.rules.validate(widget({"a": "toolong"}))) == ["spec.a: Too long: may not be more than 5 bytes"]
    assert told(made.rules.validate(widget({}))) == ["spec.a: Required value"]


def test_another_kind_is_refused() -> None:
    assert told(custom().rules.validate(widget(kind="Gadget", apiVersion="v2"))) == [
        'kind: Invalid value: "Gadget": must be Widget',
        'apiVersion: Invalid value: "v2": must be example.com/v1',
    ]


def test_metadata_that_cannot_be_read_is_an_error_in_a_request_and_gone_when_stored() -> None:
    made = custom()
    bad = widget(metadata={"name": "w", "labels": 1})
    with pytest.raises(DecodeError):
        made.checked(bad)
    assert made.restored(bad)["metadata"] == {"name": "w", "generation": 1}


def test_writes_keep_status_apart_where_it_is_a_subresource() -> None:
    apart, plain = custom(SIMPLE, subresources={"status": {}}).rules, custom(SIMPLE).rules
    assert apart.prepare_create(widget({}, status={"a": 1})) == widget({}, metadata={"name": "w", "generation": 1})
    assert plain.prepare_create(widget({}, status={"a": 1}))["status"] == {"a": 1}
    old = widget({"a": "x"}, status={"a": 1}, metadata={"name": "w", "generation": 2})
    new = widget({"a": "x"}, status={"a": 2})
    assert apart.prepare_update(new, old) == old
    assert plain.prepare_update(new, old)["metadata"]["generation"] == 3
    assert apart.prepare_update(widget({"a": "y"}), old)["metadata"]["generation"] == 3
    entries = [{"manager": "m"}]
    sent = widget({"a": "z"}, status={"a": 5}, metadata={"name": "w", "labels": {"x": "y"}, "managedFields": entries})
    expected = {**old, "status": {"a": 5}, "metadata": {"name": "w", "generation": 2, "managedFields": entries}}
    assert apart.prepare_status(sent, old) == expected


def test_scale_paths_must_hold_numbers() -> None:
    scale = {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".status.s"}
    made = custom(raw={"type": "object", "x-kubernetes-preserve-unknown-fields": True}, subresources={"scale": scale})
    assert told(made.rules.validate(widget({"n": -1}, status={"n": 2**31, "s": [1]}))) == [
        ".spec.n: Invalid value: -1: should be a non-negative integer",
        ".status.n: Invalid value: 2147483648: should be less than or equal to 2147483647",
        '.status.s: Invalid value: "": .status.s accessor error: [1] is of the type []interface {}, expected string',
    ]
    assert told(made.rules.validate(widget("x"))) == [
        ".spec.n: Invalid value: 0: .spec.n accessor error: x is of the type string, expected map[string]interface{}"
    ]


def test_rules_are_not_asked_when_the_schema_is_broken() -> None:
    made = custom({**SIMPLE, "x-kubernetes-validations": [{"rule": "self.n < 3", "message": "n is small"}]})
    assert told(made.rules.validate(widget({"a": "x", "n": 5}))) == ["spec: Invalid value: n is small"]
    assert told(made.rules.validate(widget({"n": 5}))) == [
        "spec.a: Required value",
        "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct "
        "the existing errors to complete validation",
    ]


RULED = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5", "message": "small n"}]},
        "g": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "grows"}]},
        "c": {"type": "string"},
        "o": {
            "type": "integer",
            "x-kubernetes-validations": [
                {"rule": "oldSelf.hasValue() ? self > oldSelf.value() : self == 0", "optionalOldSelf": True}
            ],
        },
        "l": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"],
            "items": {
                "type": "object",
                "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "messageExpression": "'v ' + self.k"}],
            },
        },
    },
    "x-kubernetes-validations": [{"rule": "self.n != 9", "fieldPath": ".n", "reason": "FieldValueForbidden"}],
}


def test_what_rules_refuse_on_an_update_was_not_so_before() -> None:
    rules = custom(RULED).rules
    old = widget({"n": 9, "g": 3})
    found = rules.validate_update(widget({"n": 9, "g": 3}, metadata={"name": "w", "labels": {}}), old)
    assert isinstance(found, Findings)
    assert told(found) == []
    assert list(found.warnings) == ["spec.n: Forbidden: failed rule: self.n != 9", "spec.n: Invalid value: 9: small n"]
    found = rules.validate_update(widget({"n": 9, "g": 2, "c": "x"}), old)
    assert isinstance(found, Findings)
    assert told(found) == ["spec.n: Forbidden: failed rule: self.n != 9", "spec.g: Invalid value: 2: grows"]
    assert list(found.warnings) == ["spec.n: Invalid value: 9: small n"]


def test_transition_rules_find_the_old_item_by_its_keys() -> None:
    rules = custom(RULED).rules
    old = widget({"n": 1, "l": [{"k": "a", "v": 3}, {"k": "b", "v": 4}]})
    new = widget({"n": 1, "l": [{"k": "b", "v": 4}, {"k": "a", "v": 2}, {"k": "new", "v": 0}]})
    assert told(rules.validate_update(new, old)) == ["spec.l[1]: Invalid value: v a"]
    assert told(rules.validate(new)) == []


def test_an_optional_old_value_is_asked_for_on_create_too() -> None:
    rules = custom(RULED).rules
    assert told(rules.validate(widget({"n": 1, "o": 0}))) == []
    failed = "failed rule: oldSelf.hasValue() ? self > oldSelf.value() : self == 0"
    assert told(rules.validate(widget({"n": 1, "o": 1}))) == [f"spec.o: Invalid value: 1: {failed}"]
    assert told(rules.validate_update(widget({"n": 1, "o": 2}), widget({"n": 1, "o": 1}))) == []


def test_a_rule_that_cannot_be_evaluated_says_why() -> None:
    made = custom({"type": "object", "properties": {"n": {"type": "integer"}},
                   "x-kubernetes-validations": [{"rule": "self.n > 1"}]})  # fmt: skip
    assert told(made.rules.validate(widget({}))) == [
        'spec: Invalid value: "object": no such key: n evaluating rule: self.n > 1'
    ]


def test_rules_stop_when_their_budget_is_spent() -> None:
    rule = {"rule": "self.l.all(x, self.l.all(y, self.l.all(z, x + y + z != 'no')))"}
    made = custom({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"}}},
                   "x-kubernetes-validations": [rule]})  # fmt: skip
    found = told(made.rules.validate(widget({"l": [str(each) for each in range(200)]})))
    assert len(found) == 1
    assert "no further validation rules will be run due to call cost exceeds limit for rule" in found[0]


def test_lists_are_judged_on_an_update_only_where_they_were_good() -> None:
    made = custom({"type": "object", "properties": {
        "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}}})  # fmt: skip
    bad, worse = widget({"s": ["a", "a"]}), widget({"s": ["b", "b"]})
    assert told(made.rules.validate(bad)) == ['spec.s[1]: Duplicate value: "a"']
    assert told(made.rules.validate_update(worse, bad)) == []
    assert told(made.rules.validate_update(bad, widget({"s": ["a"]}))) == ['spec.s[1]: Duplicate value: "a"']


def test_finalizers_without_a_domain_are_warned_of() -> None:
    rules = custom().rules
    named = widget(metadata={"name": "w", "finalizers": ["x", "a.b", "x/y", "kubernetes"]})
    end = "to avoid accidental conflicts with other finalizer writers"
    assert list(rules.warnings(named)) == [
        f'metadata.finalizers: "a.b": prefer a domain-qualified finalizer name including a path (/) {end}',
        f'metadata.finalizers: "x": prefer a domain-qualified finalizer name {end}',
    ]
    assert list(rules.update_warnings(named, named)) == []


def test_fields_are_owned_by_the_schema_s_lists_and_maps() -> None:
    made = custom({
        "type": "object",
        "properties": {
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                  "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}, "v": {}}}},
            "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "p": {"type": "array", "items": {"type": "string"}},
            "at": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"x": {"type": "integer"}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    })  # fmt: skip
    spec = {"m": [{"k": "a", "v": 1}], "s": ["x"], "p": ["y"], "at": {"x": 1}, "open": {"a": {"b": [1]}}}
    entries = managed_fields.updated(
        None, widget(spec, metadata={"name": "w", "labels": {"l": "1"}}), manager="me", api_version="example.com/v1",
        time="2024-01-01T00:00:00Z", type_name="", types=made.owned_type,
    )  # fmt: skip
    assert entries[0]["fieldsV1"] == {
        "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
        "f:spec": {
            ".": {}, "f:at": {}, "f:m": {".": {}, 'k:{"k":"a"}': {".": {}, "f:k": {}, "f:v": {}}},
            "f:open": {".": {}, "f:a": {".": {}, "f:b": {}}}, "f:p": {}, "f:s": {".": {}, 'v:"x"': {}},
        },
    }  # fmt: skip


def test_ownership_is_forgotten_where_another_version_does_not_know_a_field() -> None:
    crd = definition({"type": "object", "properties": {"a": {"type": "string"}}})
    second = copy.deepcopy(crd["spec"]["versions"][0])
    second.update(name="v2", storage=False)
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["b"] = {"type": "string"}
    crd["spec"]["versions"].append(second)
    made = CustomType.build(crd, "v2")

    def entries(spec: Json, owner: str) -> list[Json]:
        known = {"manager": "m", "operation": "Update", "apiVersion": owner, "fieldsType": "FieldsV1",
                 "fieldsV1": {"f:spec": {"f:a": {}}}}  # fmt: skip
        live = {"metadata": {"uid": "u", "managedFields": [known]}, "spec": {"a": "1"}}
        return managed_fields.updated(
            live, {**live, "spec": spec}, manager="n", api_version="example.com/v2", time="t", type_name="",
            types=made.owned_type,
        )  # fmt: skip

    assert [each["manager"] for each in entries({"a": "1", "b": "2"}, "example.com/v1")] == []
    assert [each["manager"] for each in entries({"a": "2"}, "example.com/v1")] == ["n"]
    assert [each["manager"] for each in entries({"a": "1", "b": "2"}, "example.com/v2")] == ["m", "n"]
    assert [each["manager"] for each in entries({"a": "1", "b": "2"}, "example.com/v0")] == ["n"]


def test_columns_show_what_the_definition_lists() -> None:
    listed = [
        {"name": "A", "type": "string", "jsonPath": ".spec.a", "description": "the a"},
        {"name": "N", "type": "integer", "jsonPath": ".spec.n", "priority": 1},
        {"name": "F", "type": "number", "jsonPath": ".spec.n"},
        {"name": "B", "type": "boolean", "jsonPath": ".spec.a"},
        {"name": "When", "type": "date", "jsonPath": ".spec.t"},
        {"name": "Obj", "type": "string", "jsonPath": ".spec"},
    ]
    columns = custom(SIMPLE, additionalPrinterColumns=listed).columns
    now = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    obj = widget({"a": "x", "n": 2, "t": "2024-01-01T00:00:00Z"})
    assert columns.cells(obj, now) == ["w", "x", 2, 2.0, None, "24h", '{"a":"x","n":2,"t":"2024-01-01T00:00:00Z"}']
    assert columns.cells(widget({"t": "never"}), now) == ["w", None, None, None, None, "<invalid>", '{"t":"never"}']
    assert [each["name"] for each in columns.definitions] == ["Name", "A", "N", "F", "B", "When", "Obj"]
    assert columns.definitions[2]["description"] == "Custom resource definition column (in JSONPath format): .spec.n"


def test_without_columns_the_age_is_shown() -> None:
    columns = custom().columns
    assert [each["name"] for each in columns.definitions] == ["Name", "Age"]
    obj = widget(metadata={"name": "w", "creationTimestamp": "2024-01-01T00:00:00Z"})
    assert columns.cells(obj, datetime.datetime(2024, 1, 1, 0, 1, tzinfo=datetime.UTC)) == ["w", "60s"]


def test_selectable_fields_are_labels() -> None:
    assert custom(SIMPLE, selectableFields=[{"jsonPath": ".spec.a"}]).selectable_fields == ("spec.a",)


def owners(made: CustomType, live: Json | None, new: Json) -> list[Json]:
    return managed_fields.updated(
        live, new, manager="me", api_version="example.com/v1", time="t", type_name="", types=made.owned_type
    )


def test_nobody_owns_an_object_with_a_set_of_maps() -> None:
    """Upstream cannot tell the items of such a set by their values."""
    items = {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"a": {"type": "integer"}}}
    made = custom(
        {"type": "object", "properties": {"s": {"type": "array", "x-kubernetes-list-type": "set", "items": items}}}
    )
    assert owners(made, None, widget({"s": [{"a": 1}]})) == []
    live = widget({"s": [{"a": 1}]}, metadata={"name": "w", "namespace": "n", "uid": "u"})
    with pytest.raises(ApiError) as refused:
        managed_fields.apply(
            live, widget({}), manager="me", api_version="example.com/v1", kind="Widget", time="t", type_name="",
            types=made.owned_type,
        )  # fmt: skip
    assert str(refused.value) == (
        "failed to create manager for existing fields: failed to convert new object (n/w; example.com/v1, Kind=Widget) "
        "to smd typed: .spec.s: element 0: associative list without keys has an element that's a map type"
    )


def test_owners_are_forgotten_when_the_schema_does_not_fit_any_more() -> None:
    made = custom({"type": "object", "properties": {"a": {"type": "string"}}})
    known = owners(made, None, widget({"a": "x"}))
    live = widget({"a": 1}, metadata={"name": "w", "uid": "u", "managedFields": known})
    assert owners(made, live, {**live, "spec": {"a": "x"}}) == []
    fitting = {**live, "spec": {"a": "y"}}
    assert [each["manager"] for each in owners(made, fitting, {**fitting, "spec": {"a": "x"}})] == ["me"]


def test_whole_numbers_are_shown_as_they_come_back_from_the_store() -> None:
    listed = [{"name": "N", "type": "string", "jsonPath": ".spec.n"}]
    columns = custom(additionalPrinterColumns=listed).columns
    now = datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC)
    assert columns.cells(widget({"n": 1e8}), now) == ["w", "100000000"]
    assert columns.cells(widget({"n": 1e20}), now) == ["w", "1e+20"]
    assert columns.cells(widget({"n": 1.5}), now) == ["w", "1.5"]


def test_owners_stay_where_items_of_a_set_occur_twice() -> None:
    made = custom(
        {
            "type": "object",
            "properties": {"s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}},
        }
    )
    live = widget(
        {"s": ["a", "a"]}, metadata={"name": "w", "uid": "u", "managedFields": owners(made, None, widget({"s": ["a"]}))}
    )
    changed = {**live, "spec": {"s": ["a", "a", "b"]}}
    assert [each["manager"] for each in owners(made, live, changed)] == ["me"]
