"""What the OpenAPI documents tell of custom resources."""

from __future__ import annotations

from typing import Any

import orjson

from anynode.api.resources import GroupVersion, builtin
from anynode.schema import openapi
from anynode.schema.custom import openapi as custom_openapi
from anynode.schema.custom.custom_type import CustomType
from anynode.schema.custom.openapi_schema import V2, V3, model_name

SPEC: dict[str, Any] = {
    "type": "object",
    "required": ["n", "s"],
    "properties": {
        "p": {"x-kubernetes-int-or-string": True},
        "n": {"type": "string", "nullable": True},
        "s": {"type": "string", "anyOf": [{"minLength": 1}], "default": "x"},
        "open": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"a": {"type": "string"}},
        },
        "list": {"type": "array", "x-kubernetes-preserve-unknown-fields": True, "items": {"type": "string"}},
        "pod": {"type": "object", "x-kubernetes-embedded-resource": True, "properties": {"spec": {"type": "object"}}},
    },
}


def made(spec: dict[str, Any] = SPEC, **version: Any) -> CustomType:
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    names = {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema, **version}]
    spec = {"group": "stable.example.com", "scope": "Namespaced", "names": names, "versions": versions}
    return CustomType.build({"spec": spec}, "v1")


def test_names_are_reversed_groups() -> None:
    assert model_name("stable.example.com", "v1", "Foo") == "com.example.stable.v1.Foo"


def test_the_v3_document_has_paths_schemas_and_what_they_refer_to() -> None:
    part = made(subresources={"status": {}, "scale": {}}, selectableFields=[{"jsonPath": ".spec.s"}]).published
    document = orjson.loads(custom_openapi.document([part]))
    base = "/apis/stable.example.com/v1"
    one = f"{base}/namespaces/{{namespace}}/widgets/{{name}}"
    assert list(document["paths"]) == [
        f"{base}/namespaces/{{namespace}}/widgets", one, f"{one}/scale", f"{one}/status", f"{base}/widgets",
    ]  # fmt: skip
    patch = document["paths"][one]["patch"]
    assert list(patch["requestBody"]["content"]) == [
        "application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json",
    ]  # fmt: skip
    assert patch["x-kubernetes-action"] == "patch"
    kind = {"group": "stable.example.com", "version": "v1", "kind": "Widget"}
    assert patch["x-kubernetes-group-version-kind"] == kind
    assert patch["operationId"] == "patchStableExampleComV1NamespacedWidget"
    schemas = document["components"]["schemas"]
    own = schemas["com.example.stable.v1.Widget"]
    assert own["x-kubernetes-group-version-kind"] == [kind]
    assert own["x-kubernetes-selectable-fields"] == [{"fieldPath": "spec.s"}]
    spec = own["properties"]["spec"]["properties"]
    assert spec["p"] == {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert spec["n"] == {"type": "string", "nullable": True}
    assert spec["pod"]["required"] == ["kind", "apiVersion"]
    assert spec["pod"]["properties"]["metadata"]["allOf"] == [
        {"$ref": f"{V3}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    ]
    text = orjson.dumps(document).decode()
    assert {each.split('"')[0] for each in text.split(V3)[1:]} <= schemas.keys()


def test_version_2_goes_without_what_it_cannot_say() -> None:
    paths, definitions = custom_openapi.v2_parts([made().published])
    spec = definitions["com.example.stable.v1.Widget"]["properties"]["spec"]
    assert spec["required"] == ["s"]
    assert spec["properties"]["p"] == {"x-kubernetes-int-or-string": True}
    assert spec["properties"]["n"] == {}
    assert spec["properties"]["s"] == {"type": "string", "default": "x"}
    assert spec["properties"]["open"] == {"x-kubernetes-preserve-unknown-fields": True}
    assert spec["properties"]["list"] == {"x-kubernetes-preserve-unknown-fields": True}
    items = definitions["com.example.stable.v1.WidgetList"]["properties"]["items"]["items"]
    assert items == {"$ref": f"{V2}com.example.stable.v1.Widget"}
    assert "/apis/stable.example.com/v1/widgets" in paths


def test_what_is_not_structural_is_told_as_any_object() -> None:
    definitions = custom_openapi.definitions(made({"properties": {"a": {}}}).published, v2=False)
    assert definitions["com.example.stable.v1.Widget"]["type"] == "object"
    assert "properties" not in definitions["com.example.stable.v1.Widget"]


def test_the_documents_of_the_server_name_and_hold_custom_resources() -> None:
    part = made().published
    document = openapi.custom_document([part])
    root = orjson.loads(openapi.root(builtin(), {GroupVersion("stable.example.com", "v1"): document.hash}))
    address = root["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"]
    assert address == f"/openapi/v3/apis/stable.example.com/v1?hash={document.hash}"
    assert "apis/apps/v1" in root["paths"]
    whole = openapi.v2(builtin(), [part])
    assert whole.hash != openapi.v2(builtin()).hash
    assert "com.example.stable.v1.Widget" in orjson.loads(whole.body)["definitions"]
    assert openapi.custom_document([made({"type": "object"}).published]).hash != document.hash
