"""CustomResourceDefinitions; expectations are answers of a kube-apiserver 1.36."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from anynode.schema import decode, types
from anynode.schema.kinds.catalogue import rules_of

Json = dict[str, Any]
RULES = rules_of("apiextensions.k8s.io", "CustomResourceDefinition")
ROOT = "spec.validation.openAPIV3Schema"
OBJECT: Json = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": {"type": "string"}}}}}


def version(name: str = "v1", schema: Json | None = None, **more: Any) -> Json:
    found = {"name": name, "served": True, "storage": name == "v1", "schema": {"openAPIV3Schema": schema or OBJECT}}
    return {**found, **more}


def crd(schema: Json | None = None, *, name: str = "widgets.example.com", **spec: Any) -> Json:
    made = {
        "group": "example.com",
        "names": {"plural": "widgets", "kind": "Widget"},
        "scope": "Namespaced",
        "versions": [version(schema=schema)],
        **spec,
    }
    raw = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name}}
    table = types.builtin()
    read, _ = decode.check_fields(
        {**raw, "spec": made}, table.of_kind("apiextensions.k8s.io/v1", "CustomResourceDefinition"), table
    )
    return dict(RULES.prepare_create(RULES.default(read)))


def told(found: Any) -> list[str]:
    return [f"{each.field}: {each.message}" for each in found]


def property_errors(schema: Json) -> list[str]:
    whole = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": schema}}}}
    prefix = f"{ROOT}.properties[spec].properties[a]"
    return [each.replace(prefix, "A") for each in told(RULES.validate(crd(whole)))]


def test_names_conversion_and_the_storage_version_are_filled_in() -> None:
    made = crd()
    assert made["spec"]["names"] == {
        "plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList",
    }  # fmt: skip
    assert made["spec"]["conversion"] == {"strategy": "None"}
    assert made["status"] == {
        "conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": ["v1"],
    }  # fmt: skip
    assert made["metadata"]["generation"] == 1
    assert told(RULES.validate(made)) == []


def test_a_webhook_s_service_listens_on_443() -> None:
    webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"service": {"name": "a", "namespace": "b"}}}
    made = crd(conversion={"strategy": "Webhook", "webhook": webhook})
    assert made["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["port"] == 443


def test_an_update_counts_generations_and_adds_to_the_stored_versions() -> None:
    old = crd()
    new = copy.deepcopy(old)
    new["spec"]["versions"] = [version(storage=False), version("v2", storage=True)]
    new["status"] = {}
    prepared = RULES.prepare_update(new, old)
    assert prepared["status"]["storedVersions"] == ["v1", "v2"]
    assert prepared["metadata"]["generation"] == 2
    assert RULES.prepare_update(old, old)["metadata"]["generation"] == 1


def test_an_empty_definition_lacks_everything() -> None:
    assert told(RULES.validate({"metadata": {"name": "x"}, "spec": {}})) == [
        'metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group',
        "spec.group: Required value",
        "spec.scope: Required value",
        "spec.versions: Invalid value: null: must have exactly one version marked as storage version",
        "spec.names.plural: Required value",
        "spec.names.singular: Required value",
        "spec.names.kind: Required value",
        "spec.names.listKind: Required value",
        "status.storedVersions: Invalid value: null: must have at least one stored version",
    ]


def test_versions_are_printed_in_the_server_s_own_form() -> None:
    found = told(RULES.validate(crd(versions=[version(), version(storage=False)])))
    rest = '"Deprecated":false,"DeprecationWarning":null,"Schema":null,"Subresources":null,'
    rest += '"AdditionalPrinterColumns":null,"SelectableFields":null}'
    shown = ",".join(f'{{"Name":"v1","Served":true,"Storage":{each},{rest}' for each in ("true", "false"))
    assert found == [f"spec.versions: Invalid value: [{shown}]: must contain unique version names"]


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        ({"scope": "cluster"}, ['spec.scope: Unsupported value: "cluster": supported values: "Cluster", "Namespaced"']),
        ({"versions": [version(), {"name": "v2", "served": True, "storage": False}]},
         ["spec.versions[1].schema.openAPIV3Schema: Required value"]),
        ({"versions": [version(deprecationWarning="x")]},
         ['spec.versions[0].deprecationWarning: Invalid value: "x": can only be set for deprecated versions']),
        ({"versions": [version(deprecated=True, deprecationWarning="a\nb")]},
         ['spec.versions[0].deprecationWarning: Invalid value: "a\\nb": must only contain printable UTF-8 characters; '
          "non-printable character found at index 1"]),
        ({"versions": [version(additionalPrinterColumns=[{"name": "", "type": "text", "jsonPath": "x"}])]},
         ["spec.additionalPrinterColumns[0].name: Required value",
          'spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
          "boolean,date,integer,number,string",
          'spec.additionalPrinterColumns[0].JSONPath: Invalid value: "x": must be a simple json path starting with .']),
        ({"versions": [version(), version("v2", additionalPrinterColumns=[{"name": "a", "type": "x"}])]},
         ['spec.versions[1].additionalPrinterColumns[0].type: Invalid value: "x": must be one of '
          "boolean,date,integer,number,string",
          "spec.versions[1].additionalPrinterColumns[0].JSONPath: Required value"]),
        ({"versions": [version(subresources={"scale": {"specReplicasPath": ".x", "labelSelectorPath": ".y"}})]},
         ['spec.subresources.scale.specReplicasPath: Invalid value: ".x": should be a json path under .spec',
          "spec.subresources.scale.statusReplicasPath: Required value",
          'spec.subresources.scale.labelSelectorPath: Invalid value: ".y": should be a json path under either .spec or '
          ".status"]),
        ({"versions": [version(selectableFields=[{"jsonPath": each} for each in (".spec.a", ".spec", ".no")])]},
         ['spec.selectableFields[1].jsonPath: Invalid value: ".spec": must point to a field of type string, boolean or '
          "integer. Enum string fields and strings with formats are allowed.",
          'spec.selectableFields[2].jsonPath: Invalid value: ".no": is an invalid path: does not refer to a valid field'
          ]),
        ({"conversion": {"strategy": "Webhook"}},
         ["spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
          "spec.conversion.conversionReviewVersions: Required value"]),
        ({"preserveUnknownFields": True},
         ["spec.preserveUnknownFields: Invalid value: true: cannot set to true, set "
          "x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"]),
    ],
)  # fmt: skip
def test_the_spec(spec: Json, texts: list[str]) -> None:
    assert told(RULES.validate(crd(**spec))) == texts


@pytest.mark.parametrize(
    ("schema", "texts"),
    [
        ({}, ["A.type: Required value: must not be empty for specified object fields"]),
        ({"type": "array"}, ["A.items: Required value: must be specified"]),
        ({"type": "text"}, ['A.type: Unsupported value: "text": supported values: "array", "boolean", "integer", '
                            '"number", "object", "string"']),
        ({"type": "string", "pattern": "("},
         [
             'A.pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: error parsing regexp: '
             "missing closing ): `(`"
         ]),
        ({"type": "object", "anyOf": [{"properties": {"b": {"type": "string"}}}]},
         ["A.anyOf[0].properties[b].type: Forbidden: must be empty to be structural"]),
        ({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}, []),
        ({"type": "array", "items": [{"type": "string"}]},
         ["A.items: Forbidden: items must be a schema object and not an array"]),
        ({"type": "object", "x-kubernetes-embedded-resource": True},
         ["A.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without "
          "x-kubernetes-preserve-unknown-fields"]),
        ({"type": "string", "default": 5}, ['A.default: Invalid value: "integer":  in body must be of type string: '
                                            '"integer"']),
        ({"type": "object", "default": {"z": 1}, "properties": {"b": {"type": "string"}}},
         ['A.default: Invalid value: {"z":1}: must not have unknown fields']),
        ({"type": "string", "default": "x", "x-kubernetes-validations": [{"rule": "self == 'y'"}]},
         ['A.default: Invalid value: "x": failed rule: self == \'y\'']),
        ({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"},
         ["A.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with "
          "x-kubernetes-list-type=set"]),
        ({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}},
          "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]},
         ["A.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must "
          "have a default or be a required property"]),
        ({"type": "string", "x-kubernetes-validations": [{"rule": "self == 1"}]},
         ['A.x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self == 1","Message":"","MessageExpression":"",'
          '"Reason":null,"FieldPath":"","OptionalOldSelf":null}: compilation failed: ERROR: <input>:1:6: found no '
          "matching overload for '_==_' applied to '(string, int)'\n | self == 1\n | .....^"]),
        ({"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'", "optionalOldSelf": True}]},
         ["A.x-kubernetes-validations[0].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used "
          "in rule"]),
        ({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
          "maxItems": 2},
         ['A.items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": oldSelf cannot be used on the '
          "uncorrelatable portion of the schema within A"]),
    ],
)  # fmt: skip
def test_schemas(schema: Json, texts: list[str]) -> None:
    assert property_errors(schema) == texts


def test_dear_rules_are_refused_one_by_one_and_together() -> None:
    advice = (
        "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings "
        "are declared)"
    )
    rules = [{"rule": "self.all(x, self.exists(y, x == y))"}]
    found = property_errors({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": rules})
    assert found == [
        "A.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x"
        f" {advice}",
        "A.x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit "
        "for entire OpenAPIv3 schema",
        f"{ROOT}: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds "
        f"budget by factor of more than 100x {advice}",
    ]


def test_at_the_root_of_a_schema_with_status_little_may_stand() -> None:
    schema = {**OBJECT, "oneOf": [{"required": ["spec"]}]}
    found = told(RULES.validate(crd(versions=[version(schema=schema, subresources={"status": {}})])))
    assert len(found) == 1
    assert found[0].startswith(f'{ROOT}: Invalid value: {{"ID":"","Schema":"","Ref":null')
    assert found[0].endswith("fields are allowed at the root of the schema if the status subresource is enabled")


@pytest.mark.parametrize(
    ("annotation", "complains"),
    [(None, True), ("nope", True), ("unapproved, a try", False), ("https://github.com/k/k/pull/1", False)],
)
def test_groups_of_the_community_need_an_approval(annotation: str | None, complains: bool) -> None:
    made = crd(name="widgets.x.k8s.io", group="x.k8s.io")
    if annotation is not None:
        made["metadata"]["annotations"] = {"api-approved.kubernetes.io": annotation}
    assert bool(RULES.validate(made)) is complains
    assert not RULES.validate_update(made, made)


def test_what_may_not_change_once_names_are_accepted() -> None:
    old = crd()
    new = crd(scope="Cluster", names={"plural": "gadgets", "kind": "Gadget"})
    assert [each.field for each in RULES.validate_update(new, old)] == ["spec.names.plural"]
    old["status"]["conditions"] = [{"type": "Established", "status": "True"}]
    fields = [each.field for each in RULES.validate_update(new, old)]
    assert fields == ["spec.scope", "spec.names.kind", "spec.names.plural"]


def test_a_stored_version_has_to_stay() -> None:
    old = crd()
    new = RULES.prepare_update({**old, "spec": {**old["spec"], "versions": [version("v2", storage=True)]}}, old)
    assert told(RULES.validate_update(new, old)) == [
        'status.storedVersions[0]: Invalid value: "v1": missing from spec.versions; v1 was previously a storage '
        "version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 "
        "and removes v1 from status.storedVersions"
    ]


def test_an_update_may_keep_what_was_wrong_before() -> None:
    dear = {"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "self.all(x, x.matches('^[a-z]+(x|y)$'))"}]}  # fmt: skip
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": dear}}}}
    old = crd(schema)
    assert any("estimated rule cost exceeds" in each for each in told(RULES.validate(old)))
    assert not any("estimated rule cost exceeds" in each for each in told(RULES.validate_update(old, old)))


def test_formats_that_count_for_nothing_are_warned_of() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "format": "foo"}, "b": {"type": "integer", "format": "int16"}},
    }
    made = crd(schema)
    assert list(RULES.warnings(made)) == ['unrecognized format "foo"', 'unrecognized format "int16"']
    assert list(RULES.update_warnings(made, made)) == []


def test_schemas_inside_of_items_are_read_as_go_reads_them() -> None:
    items = {"type": "array", "items": {"type": "string", "nullable": False, "unheard-of": 1, "title": ""}}
    made = crd({"type": "object", "properties": {"a": items}})
    read = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"]
    assert read == {"type": "array", "items": {"type": "string"}}
    with pytest.raises(decode.DecodeError, match="boolean or JSON schema expected"):
        crd({"type": "object", "additionalProperties": 3})
    said = r"field JSONSchemaProps.spec.versions.schema.openAPIV3Schema.items.x-kubernetes-validations.rule of type"
    with pytest.raises(decode.DecodeError, match=said):
        crd({"type": "array", "items": {"x-kubernetes-validations": [{"rule": 1}]}})


def test_the_name_is_judged_before_the_rest_of_the_metadata() -> None:
    made = crd()
    made["metadata"] = {"generateName": "w-", "name": "x", "labels": {"a": "c d"}}
    text = 'must be spec.names.plural+"."+spec.group'
    assert told(RULES.validate(made))[:2] == [
        f'metadata.generateName: Invalid value: "w-": {text}',
        f'metadata.name: Invalid value: "x": {text}',
    ]
    assert told(RULES.validate(made))[2].startswith('metadata.labels: Invalid value: "c d"')


def test_a_webhook_that_says_nothing_is_none() -> None:
    assert crd(conversion={"strategy": "None", "webhook": {}})["spec"]["conversion"] == {"strategy": "None"}


def test_selectable_fields_of_a_schema_that_is_not_structural_are_read_as_far_as_they_go() -> None:
    schema = {"type": "object", "properties": {"f": {"type": "array", "items": [{"type": "string"}]}}}
    fields = [{"jsonPath": "f"}, {"jsonPath": ".f"}, {}]
    found = told(
        RULES.validate(crd(versions=[{**version(), "schema": {"openAPIV3Schema": schema}, "selectableFields": fields}]))
    )
    assert found[-3:] == [
        "spec.schema.openAPIV3Schema: Invalid value: \"\": OpenAPIV3Schema 'items' must be a schema, but is an array",
        'spec.selectableFields[0].jsonPath: Invalid value: "f": is an invalid path: expected [ or . but got: f',
        "spec.selectableFields[2].jsonPath: Required value",
    ]


@pytest.mark.parametrize(("rules", "length"), [(2_001, 10), (20, 20_000)])
def test_rules_that_would_take_long_to_compile_are_refused_unread(rules: int, length: int) -> None:
    rule = {"rule": "self.a > 1".ljust(length)}
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [rule] * rules}
    (error,) = told(RULES.validate(crd({"type": "object", "properties": {"spec": schema}})))
    assert error.startswith("spec.versions: Forbidden: x-kubernetes-validations of all versions may have 2000 rules")
