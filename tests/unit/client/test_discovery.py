"""Discovery, aggregated and in pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from anynode.api.errors import NotFound
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.client.api_client import ApiClient
from anynode.client.discovery import StaleGroup, discover, look
from anynode.testing.fake_api import FakeApi

VERBS = ["delete", "list"]


class Documents(FakeApi):
    """A server that serves documents."""

    def __init__(self, documents: Mapping[str, Any]) -> None:
        super().__init__()
        self._documents = documents

    async def send(self, request: ApiRequest) -> ApiResponse:
        if request.path not in self._documents:
            raise NotFound("the server could not find the requested resource")
        return ApiResponse(obj=self._documents[request.path])


def aggregated(*groups: tuple[str, list[tuple[str, list[str]]]], freshness: str = "Current") -> dict[str, Any]:
    def version(name: str, plurals: list[str]) -> dict[str, Any]:
        rows = [
            {"resource": each, "responseKind": {"kind": each.title()}, "scope": "Namespaced", "verbs": VERBS}
            for each in plurals
        ]
        return {"version": name, "resources": rows, "freshness": freshness}

    items = [{"metadata": {"name": name}, "versions": [version(*each) for each in found]} for name, found in groups]
    return {"kind": "APIGroupDiscoveryList", "items": items}


async def test_the_preferred_version_wins() -> None:
    documents = {
        "/api": aggregated(("", [("v1", ["pods"])])),
        "/apis": aggregated(("x.io", [("v2", ["things"]), ("v1", ["things", "others"])])),
    }
    found = await discover(ApiClient(Documents(documents)))
    assert [(each.qualified, each.version, each.namespaced, each.verbs) for each in found] == [
        ("pods", "v1", True, ("delete", "list")),
        ("things.x.io", "v2", True, ("delete", "list")),
        ("others.x.io", "v1", True, ("delete", "list")),
    ]


async def test_a_group_that_is_away_is_an_error() -> None:
    documents = {"/api": aggregated(), "/apis": aggregated(("x.io", [("v1", [])]), freshness="Stale")}
    with pytest.raises(StaleGroup, match=r"stale GroupVersion discovery: x\.io/v1"):
        await discover(ApiClient(Documents(documents)))
    assert [*await discover(ApiClient(Documents(documents)), ignore_stale=True)] == []


async def test_older_servers_are_asked_group_by_group() -> None:
    def rows(*names: str) -> dict[str, Any]:
        return {
            "kind": "APIResourceList",
            "resources": [{"name": each, "kind": "K", "namespaced": True, "verbs": VERBS} for each in names],
        }

    group = {
        "name": "x.io",
        "versions": [{"groupVersion": "x.io/v1"}, {"groupVersion": "x.io/v2"}],
        "preferredVersion": {"groupVersion": "x.io/v2"},
    }
    documents = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/api/v1": rows("pods", "pods/status"),
        "/apis": {"kind": "APIGroupList", "groups": [group]},
        "/apis/x.io/v2": rows("things"),
        "/apis/x.io/v1": rows("things", "others"),
    }
    found = await discover(ApiClient(Documents(documents)))
    assert [(each.qualified, each.version) for each in found] == [
        ("pods", "v1"),
        ("things.x.io", "v2"),
        ("others.x.io", "v1"),
    ]


async def test_what_is_known_and_what_failed_are_told_together() -> None:
    stale = aggregated(("x.io", [("v1", [])]), freshness="Stale")["items"]
    fresh = aggregated(("y.io", [("v1", ["things"])]))
    documents = {"/api": aggregated(), "/apis": {**fresh, "items": [*fresh["items"], *stale]}}
    found = await look(ApiClient(Documents(documents)))
    assert [each.qualified for each in found.resources] == ["things.y.io"]
    assert found.failure == (
        "unable to retrieve the complete list of server APIs: x.io/v1: stale GroupVersion discovery: x.io/v1"
    )
