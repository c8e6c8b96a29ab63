"""What each verb puts on the wire, and what comes back."""

from __future__ import annotations

import pytest

from anynode.api.errors import Conflict, NotFound
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import known
from anynode.client.api_client import ApiClient, PatchKind
from anynode.testing.fake_api import FakeApi

PODS = known("pods")
NODES = known("nodes")
ROLES = known("clusterroles", "rbac.authorization.k8s.io")


def pod(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "namespace": "default", "labels": labels}, "spec": {"containers": []}}


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def client(api: FakeApi) -> ApiClient:
    return ApiClient(api, user_agent="test/1")


async def test_create_get_update_delete(client: ApiClient, api: FakeApi) -> None:
    made = await client.create(PODS, pod("a"), field_manager="me", dry_run=False)
    assert made["kind"] == "Pod"
    assert api.requests[-1].target == "/api/v1/namespaces/default/pods?fieldManager=me"
    assert api.requests[-1].headers["user-agent"] == "test/1"
    assert await client.get(PODS, ObjectKey("default", "a")) == made
    changed = await client.update(PODS, {**made, "metadata": {**made["metadata"], "labels": {"x": "y"}}})
    with pytest.raises(Conflict):
        await client.update(PODS, made)
    assert changed["metadata"]["labels"] == {"x": "y"}
    await client.delete(PODS, ObjectKey("default", "a"), uid=made["metadata"]["uid"], grace_seconds=0)
    assert api.requests[-1].obj == {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "gracePeriodSeconds": 0,
        "preconditions": {"uid": made["metadata"]["uid"]},
    }
    with pytest.raises(NotFound):
        await client.get(PODS, ObjectKey("default", "a"))


async def test_list_pages_and_puts_types_back(client: ApiClient, api: FakeApi) -> None:
    api.add(PODS, *[pod(f"p{number}", app="web") for number in range(5)], pod("other"))
    page = await client.list(PODS, "default", label_selector="app=web", limit=3)
    assert [item["metadata"]["name"] for item in page.items] == ["p0", "p1", "p2"]
    assert {(item["kind"], item["apiVersion"]) for item in page.items} == {("Pod", "v1")}
    assert page.remaining == 2
    rest = await client.list(PODS, "default", label_selector="app=web", limit=3, continue_token=page.continue_token)
    assert [item["metadata"]["name"] for item in rest.items] == ["p3", "p4"]
    assert rest.continue_token == ""


async def test_patch_kinds(client: ApiClient, api: FakeApi) -> None:
    api.add(PODS, pod("a", x="1", y="2"))
    key = ObjectKey("default", "a")
    merged = await client.patch(PODS, key, {"metadata": {"labels": {"x": None}}})
    assert merged["metadata"]["labels"] == {"y": "2"}
    operations = [{"op": "add", "path": "/metadata/labels/z", "value": "3"}]
    assert (await client.patch(PODS, key, operations, kind=PatchKind.JSON))["metadata"]["labels"] == {
        "y": "2",
        "z": "3",
    }
    ready = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    await client.patch(PODS, key, ready, kind=PatchKind.STRATEGIC, subresource="status")
    scheduled = {"status": {"conditions": [{"type": "PodScheduled", "status": "True"}]}}
    done = await client.patch(PODS, key, scheduled, kind=PatchKind.STRATEGIC, subresource="status")
    assert [each["type"] for each in done["status"]["conditions"]] == ["Ready", "PodScheduled"]
    assert api.requests[-1].path == "/api/v1/namespaces/default/pods/a/status"


async def test_names_are_escaped(client: ApiClient, api: FakeApi) -> None:
    with pytest.raises(NotFound):
        await client.get(ROLES, ObjectKey("", "system:a/b c"))
    assert api.requests[-1].path == "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:a%2Fb%20c"


async def test_binding_goes_to_the_named_pod(client: ApiClient, api: FakeApi) -> None:
    api.add(PODS, pod("a"))
    binding = {"metadata": {"name": "a", "namespace": "default"}, "target": {"kind": "Node", "name": "n1"}}
    await client.create(PODS, binding, name="a", subresource="binding")
    assert api.requests[-1].path == "/api/v1/namespaces/default/pods/a/binding"
    assert api.objects(PODS)[0]["spec"]["nodeName"] == "n1"


async def test_delete_collection_selects(client: ApiClient, api: FakeApi) -> None:
    api.add(PODS, pod("a", app="x"), pod("b", app="y"))
    await client.delete_collection(PODS, "default", label_selector="app=x", propagation="Background")
    assert [each["metadata"]["name"] for each in api.objects(PODS)] == ["b"]


async def test_watch_asks_for_what_was_said(client: ApiClient, api: FakeApi) -> None:
    stream = await client.watch(NODES, field_selector="metadata.name=n1", send_initial_events=True, timeout_seconds=5)
    assert api.requests[-1].query == {
        "watch": ["true"],
        "fieldSelector": ["metadata.name=n1"],
        "allowWatchBookmarks": ["true"],
        "timeoutSeconds": ["5"],
        "sendInitialEvents": ["true"],
        "resourceVersionMatch": ["NotOlderThan"],
    }
    await stream.close()
