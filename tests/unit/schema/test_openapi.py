"""OpenAPI documents hold what kubectl reads of them, and nothing refers to what is not there."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from anynode.api import resources
from anynode.api.resources import GroupVersion
from anynode.schema import openapi, openapi_paths

CATALOGUE = resources.builtin()
APPS = GroupVersion("apps", "v1")


def document(group_version: GroupVersion) -> Any:
    found = openapi.document(group_version, CATALOGUE)
    assert found is not None
    return orjson.loads(found.body)


def test_the_root_names_every_group_and_version_with_the_hash_of_its_document() -> None:
    paths = orjson.loads(openapi.root(CATALOGUE))["paths"]
    assert {f"apis/{each}" if each.group else "api/v1" for each in (r.group_version for r in CATALOGUE)} == set(paths)
    found = openapi.document(APPS, CATALOGUE)
    assert found is not None
    assert paths["apis/apps/v1"]["serverRelativeURL"] == f"/openapi/v3/apis/apps/v1?hash={found.hash}"
    fewer = resources.Catalogue(each for each in CATALOGUE if each.plural != "deployments")
    other = openapi.document(APPS, fewer)
    assert other is not None
    assert other.hash != found.hash
    assert openapi.document(GroupVersion("nope", "v1"), CATALOGUE) is None


def test_the_patch_operation_says_what_kubectl_looks_for() -> None:
    patch = document(APPS)["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "kind": "Deployment", "version": "v1"}
    assert patch["x-kubernetes-action"] == "patch"
    assert {"dryRun", "fieldManager", "fieldValidation", "force"} == {each["name"] for each in patch["parameters"]}
    assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]
    assert patch["operationId"] == "patchAppsV1NamespacedDeployment"


def test_subresources_carry_the_kind_of_their_body() -> None:
    paths = document(GroupVersion("", "v1"))["paths"]
    eviction = paths["/api/v1/namespaces/{namespace}/pods/{name}/eviction"]["post"]
    assert eviction["x-kubernetes-group-version-kind"] == {"group": "policy", "kind": "Eviction", "version": "v1"}
    assert paths["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["get"]["x-kubernetes-action"] == "connect"
    assert "text/plain" in paths["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]["responses"]["200"]["content"]


def test_schemas_are_those_of_a_real_server() -> None:
    schemas = document(GroupVersion("", "v1"))["components"]["schemas"]
    container = schemas["io.k8s.api.core.v1.Container"]["properties"]
    plain = {
        name: {key: value for key, value in item.items() if key != "description"} for name, item in container.items()
    }
    assert plain["name"] == {"default": "", "type": "string"}
    assert plain["args"] == {"items": {"type": "string"}, "type": "array", "x-kubernetes-list-type": "atomic"}
    assert plain["resources"] == {
        "allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.ResourceRequirements"}],
        "default": {},
    }
    port = schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]
    assert (port["default"], port["type"]) == ("TCP", "string")
    assert schemas["io.k8s.api.core.v1.Pod"]["properties"]["kind"]["type"] == "string"
    assert "enum" not in schemas["io.k8s.api.core.v1.Pod"]["properties"]["kind"]
    assert schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"] == "int-or-string"


@pytest.mark.parametrize("group_version", sorted({str(each.group_version) for each in CATALOGUE}))
def test_every_reference_is_there(group_version: str) -> None:
    found = document(GroupVersion.parse(group_version))
    assert openapi_paths.references(found) <= set(found["components"]["schemas"])


def test_the_v2_document_is_closed_too() -> None:
    found = orjson.loads(openapi.v2(CATALOGUE).body)
    assert found["swagger"] == "2.0"
    assert openapi_paths.references(found) <= set(found["definitions"])
    patch = found["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"]
    assert patch["parameters"][0]["in"] == "body"
    assert {"fieldValidation", "dryRun"} <= {each["name"] for each in patch["parameters"]}
    assert "application/strategic-merge-patch+json" in patch["consumes"]
