"""The server's own calls: which endpoint of a Service is chosen, and how failures are worded."""

from __future__ import annotations

import asyncio
import pathlib
import random
from collections.abc import AsyncIterator, Mapping

import pytest

from anynode.admission.webhooks_client import CallFailed, ClientConfig
from anynode.aio.clock import SystemClock
from anynode.aio.http_client import HttpAnswer
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.aio.tls import server_context
from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import Resource
from anynode.apiserver.outbound import Outbound, SlicesByService, refusal
from anynode.registry.items import CacheEvent, Item
from anynode.registry.watch_cache import ResourceCache
from anynode.security.pki import CertificateAuthority
from anynode.storage.types import Revision

SERVICE: Object = {"spec": {"type": "ClusterIP", "ports": [{"name": "web", "port": 443}, {"name": "x", "port": 9}]}}


def endpoint_slice(name: str, *addresses: str, ready: bool | None = True, family: str = "IPv4") -> Object:
    conditions = {} if ready is None else {"ready": ready}
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": family,
        "ports": [{"name": "web", "port": 8443}],
        "endpoints": [{"addresses": [address], "conditions": conditions} for address in addresses],
    }


class Slices(SlicesByService):
    def __init__(self, *slices: Object) -> None:
        super().__init__(ResourceCache("/registry/discovery.k8s.io/endpointslices/", SystemClock()))
        self.slices = slices

    def of(self, namespace: str, service: str) -> list[Object]:
        return list(self.slices) if (namespace, service) == ("ns", "s") else []


def outbound(*slices: Object, services: Mapping[str, Object] | None = None) -> Outbound:
    known = {"s": SERVICE} if services is None else services

    def lookup(_: Resource, key: ObjectKey) -> Object | None:
        return known.get(key.name)

    return Outbound(clock=SystemClock(), random=random.Random(1), lookup=lookup, slices=Slices(*slices))


def test_only_ready_endpoints_with_the_port_are_chosen() -> None:
    mixed = outbound(endpoint_slice("a", "127.1.1.1", ready=False), endpoint_slice("b", "127.2.2.2", ready=None))
    assert {mixed.resolve("s", "ns", 443) for _ in range(20)} == {("127.2.2.2", 8443)}
    with pytest.raises(CallFailed, match='no endpoints available for service "s"'):
        mixed.resolve("s", "ns", 9)


def test_the_services_own_family_comes_first() -> None:
    six = endpoint_slice("six", "fd00::1", family="IPv6")
    both = outbound(six, endpoint_slice("four", "127.1.1.1"))
    assert {both.resolve("s", "ns", 443) for _ in range(20)} == {("127.1.1.1", 8443)}


def test_what_cannot_be_resolved_is_told() -> None:
    with pytest.raises(CallFailed, match='service "t" not found'):
        outbound().resolve("t", "ns", 443)
    with pytest.raises(CallFailed, match='no service port 444 found for service "s"'):
        outbound().resolve("s", "ns", 444)
    named = outbound(services={"s": {"spec": {"type": "ExternalName", "externalName": "else.where"}}})
    assert named.resolve("s", "ns", 443) == ("else.where", 443)


def test_the_slices_of_a_service_follow_the_cache() -> None:
    cache = ResourceCache("/registry/x/", SystemClock())
    slices = SlicesByService(cache)
    assert slices.of("ns", "s") == []

    def put(name: str, obj: Object | None, revision: int) -> None:
        old = cache.items.get(f"ns/{name}")
        new = obj if obj is not None else (old.object if old else {})
        item = Item(f"ns/{name}", b"", Revision(revision), stored=new)
        if obj is None:
            del cache.items[item.key]
        else:
            cache.items[item.key] = item
        for listener in cache.listeners:
            listener([CacheEvent(item, old, deleted=obj is None, moment=0.0)])

    put("a", endpoint_slice("a"), 1)
    put("b", endpoint_slice("b"), 2)
    assert [each["metadata"]["name"] for each in slices.of("ns", "s")] == ["a", "b"]
    other = endpoint_slice("a")
    put("a", {**other, "metadata": {**other["metadata"], "labels": {"kubernetes.io/service-name": "t"}}}, 3)
    assert [each["metadata"]["name"] for each in slices.of("ns", "t")] == ["a"]
    put("b", None, 4)
    assert slices.of("ns", "s") == []


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"", "the server could not find the requested resource"),
        (403, b"go away", "go away"),
        (406, b"", "the server was unable to respond with a content type that the client supports"),
        (418, b"tea", "the server responded with the status code 418 but did not return more information"),
        (502, b'say "hi"', 'an error on the server ("say \\"hi\\"") has prevented the request from succeeding'),
        (500, b'{"kind": "Status", "status": "Failure", "message": "mine"}', "mine"),
    ],
)
def test_refusals_are_worded_as_upstreams_client_does(status: int, body: bytes, said: str) -> None:
    assert refusal(HttpAnswer(status=status, headers={"content-type": "text/plain"}, body=body)) == said


@pytest.fixture
async def server(tmp_path: pathlib.Path) -> AsyncIterator[tuple[HttpServer, CertificateAuthority]]:
    ca = CertificateAuthority.load_or_create(tmp_path / "ca", SystemClock())
    pair = ca.server_certificate(["s.ns.svc"])
    stopped = asyncio.Event()

    async def handle(request: HttpRequest) -> HttpResponse:
        if request.path == "/slow":
            await stopped.wait()
        return HttpResponse(body=request.path.encode() + b"?" + request.query_string.encode())

    context = server_context(pair.certificate, pair.key)
    async with HttpServer(handle, ssl=context, clock=SystemClock(), stop_seconds=0.1) as listening:
        yield listening, ca
        stopped.set()


async def test_a_service_is_called_by_its_name_and_verified(
    server: tuple[HttpServer, CertificateAuthority],
) -> None:
    listening, ca = server
    where = {**endpoint_slice("a", "127.0.0.1"), "ports": [{"name": "web", "port": listening.port}]}
    calls = outbound(where)
    config = ClientConfig(namespace="ns", service="s", path="check", ca_bundle=ca.certificate)
    assert await calls.post_json(config, b"{}", 3) == b"/check?timeout=3s"
    elsewhere = ClientConfig(url=f"https://127.0.0.1:{listening.port}/x", ca_bundle=ca.certificate)
    with pytest.raises(CallFailed, match="certificate is not valid"):
        await calls.post_json(elsewhere, b"{}", 3)
    junk = ClientConfig(namespace="ns", service="s", ca_bundle=b"junk")
    with pytest.raises(CallFailed, match="unable to load root certificates"):
        await calls.post_json(junk, b"{}", 3)
    await calls.close()


async def test_who_does_not_answer_in_time_has_not_answered(server: tuple[HttpServer, CertificateAuthority]) -> None:
    listening, ca = server
    where = {**endpoint_slice("a", "127.0.0.1"), "ports": [{"name": "web", "port": listening.port}]}
    calls = outbound(where)
    config = ClientConfig(namespace="ns", service="s", path="/slow", ca_bundle=ca.certificate)
    with pytest.raises(CallFailed) as failed:
        await calls.post_json(config, b"{}", 0.05)
    assert str(failed.value) == 'Post "https://s.ns.svc:443/slow?timeout=50ms": context deadline exceeded'
    await calls.close()


def test_a_client_config_is_read() -> None:
    service = {"service": {"name": "s", "namespace": "ns", "path": "/p", "port": 8}, "caBundle": "QQ=="}
    assert ClientConfig.of(service) == ClientConfig(namespace="ns", service="s", path="/p", port=8, ca_bundle=b"A")
    assert ClientConfig.of({"url": "https://h/x"}) == ClientConfig(url="https://h/x")
