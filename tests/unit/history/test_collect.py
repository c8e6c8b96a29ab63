"""A cluster's state is read at one revision, in pages, from whatever the server says it serves."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.errors import BadRequest, Expired, NotFound
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.client.api_client import ApiClient
from anynode.history import collect as collecting
from anynode.history.collect import collect
from anynode.history.state import ObjectId

VERBS = ["get", "list"]


def row(name: str, kind: str, *, namespaced: bool = True, verbs: list[str] = VERBS) -> dict[str, Any]:
    return {"name": name, "kind": kind, "namespaced": namespaced, "verbs": verbs}


class Server:
    """Answers discovery and lists; remembers what was asked."""

    def __init__(self, *rows: dict[str, Any], oldest: int = 0) -> None:
        self.rows = rows
        self.oldest = oldest
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.names = {"configmaps": ["a", "b", "c"], "namespaces": ["shop"], "events": ["e"]}

    async def send(self, request: ApiRequest) -> ApiResponse:
        query = {key: values[0] for key, values in request.query.items()}
        if request.path == "/api":
            return ApiResponse(obj={"kind": "APIVersions", "versions": ["v1"]})
        if request.path == "/apis":
            return ApiResponse(obj={"kind": "APIGroupList", "groups": []})
        if request.path == "/api/v1":
            return ApiResponse(obj={"kind": "APIResourceList", "resources": list(self.rows)})
        self.asked.append((request.path, query))
        if int(query.get("resourceVersion") or 99) < self.oldest:
            raise Expired("The resourceVersion for the provided list is too old.")
        plural = request.path.rpartition("/")[2]
        if plural not in self.names:
            raise NotFound("the server could not find the requested resource")
        start = int(query.get("continue") or 0)
        end = start + int(query["limit"])
        items = [{"metadata": {"name": name, "namespace": "shop"}} for name in self.names[plural][start:end]]
        metadata = {"resourceVersion": "42", "continue": str(end) if end < len(self.names[plural]) else ""}
        return ApiResponse(obj={"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})

    async def watch(self, request: ApiRequest) -> Any:
        raise AssertionError

    open = upgrade = watch

    async def close(self) -> None: ...


async def test_everything_is_read_at_one_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "PAGE", 2)
    server = Server(
        row("namespaces", "Namespace", namespaced=False),
        row("configmaps", "ConfigMap"),
        row("events", "Event"),
        row("bindings", "Binding", verbs=["create"]),
        row("widgets", "Widget"),
    )
    found = await collect(ApiClient(server))
    assert found.revision == "42"
    assert sorted(found.objects) == [
        ObjectId("", "ConfigMap", "shop", "a"),
        ObjectId("", "ConfigMap", "shop", "b"),
        ObjectId("", "ConfigMap", "shop", "c"),
        ObjectId("", "Namespace", "shop", "shop"),
    ]
    lists = [query for _, query in server.asked[1:]]
    assert all(query.get("resourceVersion") == "42" or "continue" in query for query in lists)
    assert all(query.get("resourceVersionMatch") == "Exact" or "continue" in query for query in lists)
    assert {path for path, _ in server.asked} == {"/api/v1/namespaces", "/api/v1/configmaps", "/api/v1/widgets"}


async def test_one_namespace_leaves_out_what_has_none() -> None:
    server = Server(row("namespaces", "Namespace", namespaced=False), row("configmaps", "ConfigMap"))
    found = await collect(ApiClient(server), revision="40", namespace="shop")
    assert {each.kind for each in found.objects} == {"ConfigMap"}
    assert [path for path, _ in server.asked] == ["/api/v1/namespaces", "/api/v1/namespaces/shop/configmaps"]


async def test_a_revision_that_is_forgotten_is_said() -> None:
    with pytest.raises(Expired):
        await collect(ApiClient(Server(row("configmaps", "ConfigMap"), oldest=50)), revision="40")


async def test_a_revision_of_the_future_is_not_waited_for() -> None:
    server = Server(row("configmaps", "ConfigMap"))
    with pytest.raises(BadRequest, match="revision 43 is yet to come, the newest is 42"):
        await collect(ApiClient(server), revision="43")
    assert [path for path, _ in server.asked] == ["/api/v1/namespaces"]
