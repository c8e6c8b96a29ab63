from __future__ import annotations

import urllib.parse

import pytest

from anynode.api.wire import ApiRequest, parse_query
from anynode.apiserver.requestinfo import BadPath, parse


def read(method: str, target: str) -> tuple[str, ...]:
    path, _, query = target.partition("?")
    info = parse(ApiRequest(method=method, path=path, query=parse_query(query)))
    if not info.is_resource:
        return (info.verb, info.path)
    return (info.verb, info.group, info.version, info.namespace, info.plural, info.name, info.subresource)


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/pods", ("list", "", "v1", "", "pods", "", "")),
        ("GET", "/api/v1/namespaces/n/pods/p", ("get", "", "v1", "n", "pods", "p", "")),
        ("POST", "/api/v1/namespaces/n/pods/", ("create", "", "v1", "n", "pods", "", "")),
        ("PATCH", "/api/v1/namespaces/n/pods/p/status", ("patch", "", "v1", "n", "pods", "p", "status")),
        ("GET", "/api/v1/namespaces/n", ("get", "", "v1", "n", "namespaces", "n", "")),
        ("PUT", "/api/v1/namespaces/n/finalize", ("update", "", "v1", "n", "namespaces", "n", "finalize")),
        ("GET", "/apis/apps/v1/deployments?watch=1", ("watch", "apps", "v1", "", "deployments", "", "")),
        ("GET", "/apis/apps/v1/deployments?watch=false", ("list", "apps", "v1", "", "deployments", "", "")),
        ("GET", "/api/v1/watch/namespaces/n/pods/p", ("watch", "", "v1", "n", "pods", "p", "")),
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name=x", ("list", "", "v1", "", "nodes", "x", "")),
        ("DELETE", "/api/v1/namespaces/n/pods", ("deletecollection", "", "v1", "n", "pods", "", "")),
        ("GET", "/api/v1/namespaces/n/configmaps/%41", ("get", "", "v1", "n", "configmaps", "A", "")),
        ("GET", "/api/v1", ("get", "/api/v1")),
        ("GET", "/apis/apps/v1", ("get", "/apis/apps/v1")),
        ("POST", "/version", ("post", "/version")),
    ],
)
def test_a_request_is_read_from_method_and_url(method: str, target: str, expected: tuple[str, ...]) -> None:
    assert read(method, target) == expected


def test_what_follows_a_subresource_is_kept_for_proxies() -> None:
    info = parse(ApiRequest(method="GET", path="/api/v1/namespaces/n/pods/p:80/proxy/a/b//c"))
    assert (info.name, info.subresource, info.rest) == ("p:80", "proxy", "/a/b//c")


@pytest.mark.parametrize("path", ["/api/v1/namespaces/n//pods", "/api/v1/namespaces/n/pods/a%2Fb"])
def test_doubled_and_encoded_slashes_lead_nowhere(path: str) -> None:
    with pytest.raises(BadPath):
        parse(ApiRequest(method="GET", path=path))


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "POST"])
@pytest.mark.parametrize("path", ["/api/v1/namespaces/mine/namespaces/other", "/api/v1/namespaces/mine/namespaces"])
def test_rights_in_one_namespace_lead_to_no_other(method: str, path: str) -> None:
    with pytest.raises(BadPath):
        parse(ApiRequest(method=method, path=path))


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("metadata.name==x", "x"),
        ("spec.a=b,metadata.name=x", "x"),
        ("metadata.name!=x", ""),
        (r"metadata.namespace!=y\,metadata.name=x", ""),
        ("no selector", ""),
    ],
)
def test_a_name_counts_only_where_the_selector_really_pins_it(selector: str, name: str) -> None:
    query = parse_query(urllib.parse.urlencode({"fieldSelector": selector}))
    assert parse(ApiRequest(method="GET", path="/api/v1/namespaces/n/secrets", query=query)).name == name
