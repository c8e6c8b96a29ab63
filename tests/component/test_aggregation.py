"""Aggregated API servers behind a whole API server: a real TLS server on loopback, found through a Service."""

from __future__ import annotations

import asyncio
import base64
import pathlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.aio.tls import server_context
from anynode.api.errors import NotFound
from anynode.api.objects import Object
from anynode.api.wire import ApiRequest, ApiResponse, User, parse_query
from anynode.apiserver.aggregation import FrontProxy
from anynode.apiserver.assembly import Assembly
from anynode.apiserver.loopback import LoopbackTransport
from anynode.security.pki import CertificateAuthority
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="admin", groups=("system:masters", "extra"), uid="u1", extra={"Some/Key": ("a", "b")})
SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"
NAME = "v1alpha1.wardle.example.com"
HOST = "127.1.0.1"
"""No address of the host's own, which endpoints may not name."""
GROUP_VERSION = "wardle.example.com/v1alpha1"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
FLUNDERS: Object = {
    "name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder", "verbs": ["get", "list"],
}  # fmt: skip


class Backend:
    """An aggregated API server: what it was asked, and by whom."""

    def __init__(self, ca: CertificateAuthority, front: CertificateAuthority) -> None:
        pair = ca.server_certificate(["api.default.svc"])
        self.tls = server_context(pair.certificate, pair.key, client_ca=front.certificate)
        self.bundle = base64.b64encode(ca.certificate).decode()
        self.asked: list[HttpRequest] = []
        self.port = 0
        self.resources: Any = [FLUNDERS]

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.asked.append(request)
        headers = {"content-type": "application/json"}
        if request.path == f"/apis/{GROUP_VERSION}":
            listed = {"kind": "APIResourceList", "groupVersion": GROUP_VERSION, "resources": self.resources}
            return HttpResponse(headers=headers, body=orjson.dumps(listed))
        if request.path == "/openapi/v3":
            paths = {f"apis/{GROUP_VERSION}": {"serverRelativeURL": f"/openapi/v3/apis/{GROUP_VERSION}?hash=ABC"}}
            return HttpResponse(headers=headers, body=orjson.dumps({"paths": paths}))
        if request.path in ("/apis", "/version"):
            return HttpResponse(status=404, headers=headers, body=b"{}")
        if "watch=true" in request.query_string:
            events = [{"type": "ADDED", "object": {"metadata": {"name": name}}} for name in ("a", "b")]
            return HttpResponse(headers=headers, body=b"".join(orjson.dumps(each) + b"\n" for each in events))
        if request.path.endswith("/gone"):
            gone = {"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "no", "code": 404}
            return HttpResponse(status=404, headers=headers, body=orjson.dumps(gone))
        said = {"path": request.path, "query": request.query_string, "method": request.method}
        return HttpResponse(status=201, headers={**headers, "x-said": "so"}, body=orjson.dumps(said))


class Client:
    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly

    async def ask(self, method: str, target: str, body: Any = None, **headers: str) -> ApiResponse:
        path, _, query = target.partition("?")
        raw = b"" if body is None else orjson.dumps(body)
        return await self.assembly.server.handle(
            ApiRequest(method=method, path=path, query=parse_query(query), headers=headers, body=raw, user=ADMIN)
        )

    async def get(self, target: str, **headers: str) -> Any:
        return (await self.ask("GET", target, **headers)).decoded()

    async def until(self, target: str, wanted: Callable[[Object], bool], **headers: str) -> Object:
        async with asyncio.timeout(10):
            while not wanted(found := await self.get(target, **headers)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            return dict(found)

    async def available(self, reason: str) -> Object:
        """The APIService once its condition has the reason."""
        return await self.until(f"{SERVICES}/{NAME}", lambda found: condition(found).get("reason") == reason)


def condition(service: Object) -> Object:
    conditions = (service.get("status") or {}).get("conditions") or [{}]
    found: Object = conditions[0]
    return found


@pytest.fixture
async def backend(tmp_path: pathlib.Path) -> AsyncIterator[Backend]:
    clock = SystemClock()
    ca = CertificateAuthority.load_or_create(tmp_path / "ca", clock)
    found = Backend(ca, CertificateAuthority.load_or_create(tmp_path / "front", clock))
    async with HttpServer(found.handle, host=HOST, ssl=found.tls, clock=clock) as server:
        found.port = server.port
        yield found


@pytest.fixture
async def client(tmp_path: pathlib.Path) -> AsyncIterator[Client]:
    clock = SystemClock()
    authority = CertificateAuthority.load_or_create(tmp_path / "front", clock)
    pair = authority.client_certificate("front-proxy-client")
    front = FrontProxy(certificate=pair.certificate, key=pair.key, authority=authority.certificate)
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=clock, random=random.Random(1), front_proxy=front) as assembly,
    ):
        yield Client(assembly)


def api_service(**spec: Any) -> Object:
    return {
        "metadata": {"name": NAME},
        "spec": {
            "group": "wardle.example.com",
            "version": "v1alpha1",
            "groupPriorityMinimum": 2000,
            "versionPriority": 200,
            "service": {"name": "api", "namespace": "default", "port": 443},
            **spec,
        },
    }


async def lead_to(client: Client, backend: Backend) -> None:
    """A Service and its endpoints."""
    port = {"name": "https", "port": 443, "targetPort": backend.port}
    await client.ask(
        "POST", "/api/v1/namespaces/default/services", {"metadata": {"name": "api"}, "spec": {"ports": [port]}}
    )
    await client.ask(
        "POST",
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
        {
            "metadata": {"name": "api", "labels": {"kubernetes.io/service-name": "api"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [HOST]}],
            "ports": [{"name": "https", "port": backend.port}],
        },
    )


async def test_built_in_groups_are_registered_and_come_back(client: Client) -> None:
    listed = await client.get(SERVICES)
    names = {item["metadata"]["name"] for item in listed["items"]}
    assert {"v1.", "v1.apps", "v2.autoscaling", "v1.authorization.k8s.io"} <= names
    assert "v1.apiregistration.k8s.io" not in names
    core = await client.get(f"{SERVICES}/v1.")
    assert core["metadata"]["labels"] == {"kube-aggregator.kubernetes.io/automanaged": "onstart"}
    assert core["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    assert condition(core)["reason"] == "Local"


async def test_requests_go_to_the_server_under_the_users_name(client: Client, backend: Backend) -> None:
    await lead_to(client, backend)
    await client.ask("POST", SERVICES, api_service(caBundle=backend.bundle))
    service = await client.available("Passed")
    assert condition(service)["message"] == "all checks passed"
    backend.asked.clear()
    target = f"/apis/{GROUP_VERSION}/namespaces/default/flunders"
    answer = await client.ask("POST", f"{target}?a=b", {"x": 1}, **{"x-remote-user": "root", "authorization": "secret"})
    assert answer.stream is not None
    body = b""
    while data := await answer.stream.read():
        body += data
    assert orjson.loads(body) == {"path": target, "query": "a=b", "method": "POST"}
    assert (answer.status, answer.headers["x-said"]) == (201, "so")
    (asked,) = [each for each in backend.asked if each.method == "POST"]
    assert asked.headers["x-remote-user"] == "admin"
    assert asked.headers["x-remote-group"] == "system:masters, extra, system:authenticated"
    assert asked.headers["x-remote-uid"] == "u1"
    assert asked.headers["x-remote-extra-some%2Fkey".lower()] == "a, b"
    assert "authorization" not in asked.headers
    assert asked.body == b'{"x":1}'


async def test_controllers_in_this_process_reach_it_too(client: Client, backend: Backend) -> None:
    await lead_to(client, backend)
    await client.ask("POST", SERVICES, api_service(caBundle=backend.bundle))
    await client.available("Passed")
    transport = LoopbackTransport(client.assembly.server, ADMIN)
    path = f"/apis/{GROUP_VERSION}/flunders"
    made = await transport.send(ApiRequest(method="POST", path=path, obj={"metadata": {"name": "a"}}))
    assert made.decoded()["path"] == path
    assert [each.body for each in backend.asked if each.method == "POST"] == [b'{"metadata":{"name":"a"}}']
    watch = await transport.watch(ApiRequest(method="GET", path=path, query={"watch": ["true"]}))
    told = [(event.type, event.object["metadata"]["name"]) async for batch in watch for event in batch]
    assert told == [("ADDED", "a"), ("ADDED", "b")]
    with pytest.raises(NotFound, match="no"):
        await transport.send(ApiRequest(method="GET", path=f"{path}/gone"))
    await transport.close()


async def test_what_it_serves_is_told_with_everything_else(client: Client, backend: Backend) -> None:
    await lead_to(client, backend)
    await client.ask("POST", SERVICES, api_service(caBundle=backend.bundle))
    await client.available("Passed")
    told = await client.get("/apis", accept=DISCOVERY)
    (group,) = [each for each in told["items"] if each["metadata"]["name"] == "wardle.example.com"]
    (version,) = group["versions"]
    assert version["freshness"] == "Current"
    assert version["resources"] == [
        {
            "resource": "flunders",
            "responseKind": {"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"},
            "scope": "Namespaced",
            "singularResource": "flunder",
            "verbs": ["get", "list"],
        }
    ]
    assert told["items"].index(group) == len(told["items"]) - 1
    document = await client.get("/openapi/v3")
    address = document["paths"][f"apis/{GROUP_VERSION}"]["serverRelativeURL"]
    assert address == f"/openapi/v3/apis/{GROUP_VERSION}?hash=ABC"
    answer = await client.ask("GET", address)
    assert (answer.status, answer.headers["x-said"]) == (201, "so")
    await client.ask("DELETE", f"{SERVICES}/{NAME}")
    await client.until("/openapi/v3", lambda found: f"apis/{GROUP_VERSION}" not in found["paths"])
    assert (await client.ask("GET", f"/apis/{GROUP_VERSION}")).body == b"404 page not found\n"


async def test_why_a_server_cannot_be_reached(client: Client, backend: Backend) -> None:
    await client.ask("POST", SERVICES, api_service(insecureSkipTLSVerify=True))
    found = await client.available("ServiceNotFound")
    assert condition(found)["message"] == 'service/api in "default" is not present'
    answer = await client.ask("GET", f"/apis/{GROUP_VERSION}/flunders")
    assert (answer.status, answer.body) == (503, b"service unavailable\n")
    told = await client.get("/apis", accept=DISCOVERY)
    (group,) = [each for each in told["items"] if each["metadata"]["name"] == "wardle.example.com"]
    assert group["versions"] == [{"version": "v1alpha1", "resources": [], "freshness": "Stale"}]
    port = {"name": "https", "port": 80}
    service = {"metadata": {"name": "api"}, "spec": {"ports": [port]}}
    await client.ask("POST", "/api/v1/namespaces/default/services", service)
    found = await client.available("ServicePortError")
    assert condition(found)["message"] == 'service/api in "default" is not listening on port 443'
    await client.ask(
        "PATCH", "/api/v1/namespaces/default/services/api", {"spec": {"ports": [{"name": "https", "port": 443}]}},
        **{"content-type": "application/merge-patch+json"},
    )  # fmt: skip
    await client.available("EndpointsNotFound")
    await lead_to(client, backend)
    await client.available("Passed")


async def test_a_server_with_another_certificate_is_not_believed(client: Client, backend: Backend) -> None:
    await lead_to(client, backend)
    await client.ask("POST", SERVICES, api_service())
    found = await client.available("FailedDiscoveryCheck")
    said = condition(found)["message"]
    assert said.startswith(f"failing or missing response from https://{HOST}:{backend.port}/apis/{GROUP_VERSION}: ")


async def test_aggregated_servers_are_told_whom_to_believe(client: Client) -> None:
    found = await client.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
    assert found["data"]["requestheader-allowed-names"] == '["front-proxy-client"]'
    assert found["data"]["requestheader-username-headers"] == '["X-Remote-User"]'
    assert found["data"]["requestheader-client-ca-file"].startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"metadata": {"name": "v1.x"}}, "metadata.name", 'must be `spec.version+"."+spec.group`: "v1alpha1.wardle'),
        ({"spec": {"versionPriority": 0}}, "spec.versionPriority", "must be positive and less than 1000"),
        (
            {"spec": {"groupPriorityMinimum": 20001}},
            "spec.groupPriorityMinimum",
            "must be positive and less than 20000",
        ),
        ({"spec": {"service": None, "insecureSkipTLSVerify": True}}, "spec.insecureSkipTLSVerify", "local APIServices"),
        ({"spec": {"service": {"name": "", "namespace": "x"}}}, "spec.service.name", "Required value"),
    ],
)
async def test_what_an_api_service_must_not_say(client: Client, change: Object, field: str, message: str) -> None:
    wanted = api_service()
    wanted = {**wanted, **change, "spec": {**wanted["spec"], **change.get("spec", {})}}
    refused = (await client.ask("POST", SERVICES, wanted)).decoded()
    (cause,) = refused["details"]["causes"]
    assert cause["field"] == field
    assert message in cause["message"]


@pytest.mark.parametrize(
    "resources",
    [5, [5], [{"name": "a", "verbs": [1]}], [{"name": "a", "kind": [1]}], [{"name": "a", "shortNames": 1}], [{}], {}],
)
async def test_a_server_that_tells_nonsense_spoils_nobodys_discovery(
    client: Client, backend: Backend, resources: Any
) -> None:
    backend.resources = resources
    await lead_to(client, backend)
    await client.ask("POST", SERVICES, api_service(caBundle=backend.bundle))
    await client.available("Passed")
    async with asyncio.timeout(10):
        while not any(each.path == "/openapi/v3" for each in backend.asked) and len(backend.asked) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    found = await client.get("/apis", accept=DISCOVERY)
    for group in found["items"]:
        for version in group["versions"]:
            assert all(isinstance(verb, str) for each in version["resources"] for verb in each["verbs"])
    assert not [
        each for each in found["items"] if "wardle" in each["metadata"]["name"] and each["versions"][0]["resources"]
    ]


async def test_documents_of_other_servers_are_read_with_no_rights_of_this_one(client: Client, backend: Backend) -> None:
    await lead_to(client, backend)
    await client.ask("POST", SERVICES, api_service(caBundle=backend.bundle))
    await client.until("/openapi/v3", lambda found: f"apis/{GROUP_VERSION}" in found["paths"])
    await client.ask("GET", f"/openapi/v3/apis/{GROUP_VERSION}")
    groups = [each.headers.get("x-remote-group") for each in backend.asked if each.path.startswith("/openapi/v3/apis")]
    assert groups == ["system:authenticated"]
