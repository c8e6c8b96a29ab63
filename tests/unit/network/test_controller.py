"""Services and slices come and go: listeners follow."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
from collections.abc import AsyncIterator

import pytest

from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.informer import InformerFactory
from anynode.informers.recorder import EventRecorder
from anynode.network.controller import ServiceProxy
from anynode.network.routing import Balancer, Listen
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

SERVICES, SLICES, EVENTS = known("services"), known("endpointslices", "discovery.k8s.io"), known("events")


def service(address: str, port: int) -> Object:
    spec = {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": port, "protocol": "TCP"}]}
    return {"metadata": {"namespace": "default", "name": "web"}, "spec": spec}


def endpoint_slice(*addresses: str) -> Object:
    return {
        "metadata": {"namespace": "default", "name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"name": "", "port": 9, "protocol": "TCP"}],
    }


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def services(api: FakeApi, clock: FakeClock) -> AsyncIterator[ServiceProxy]:
    client = ApiClient(api)
    informers = InformerFactory(client, clock=clock, detect_mutation=True)
    recorder = EventRecorder(client, component="service-proxy", clock=clock, chance=random.Random(1))
    services = ServiceProxy(informers, recorder, clock=clock)
    tasks = [asyncio.create_task(each()) for each in (informers.run, recorder.run, services.run)]
    await clock.settle()
    yield services
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_listens_while_there_are_endpoints(services: ServiceProxy, api: FakeApi, clock: FakeClock) -> None:
    port = free_port()
    api.add(SERVICES, service("127.0.0.1", port))
    await clock.settle()
    assert services.proxy.listening == frozenset()
    api.add(SLICES, endpoint_slice("127.1.0.1"))
    await clock.settle()
    assert services.proxy.listening == {Listen("127.0.0.1", port)}
    api.put(SLICES, endpoint_slice())
    await clock.settle()
    assert services.proxy.listening == frozenset()
    api.put(SLICES, endpoint_slice("127.1.0.2"))
    await clock.settle()
    other = free_port()
    api.put(SERVICES, service("127.0.0.1", other))
    await clock.settle()
    assert services.proxy.listening == {Listen("127.0.0.1", other)}
    api.remove(SERVICES, ObjectKey("default", "web"))
    await clock.settle()
    assert services.proxy.listening == frozenset()


async def test_a_taken_port_is_an_event_and_tried_again(services: ServiceProxy, api: FakeApi, clock: FakeClock) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        api.add(SERVICES, service("127.0.0.1", port))
        api.add(SLICES, endpoint_slice("127.1.0.1"))
        await clock.advance(40)
        [event] = api.objects(EVENTS)
        assert event["message"] == f"Cannot listen on 127.0.0.1:{port}: the port is in use by another program"
        assert event["count"] == 1
    await clock.advance(20)
    assert services.proxy.listening == {Listen("127.0.0.1", port)}


async def test_an_ordinary_user_gets_a_higher_port(
    services: ServiceProxy, api: FakeApi, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen = services.proxy.listen

    async def unprivileged(where: Listen, balancer: Balancer) -> None:
        if where.port < 1024:
            raise PermissionError(errno.EACCES, "Permission denied")
        await listen(where, balancer)

    monkeypatch.setattr(services.proxy, "listen", unprivileged)
    api.add(SERVICES, service("127.99.7.7", 80))
    api.add(SLICES, endpoint_slice("127.1.0.1"))
    await clock.advance(40)
    assert services.proxy.listening == {Listen("127.99.7.7", 10080)}
    [event] = api.objects(EVENTS)
    assert event["message"].startswith("Listening on 127.99.7.7:10080 instead of 127.99.7.7:80: ports below")
    api.remove(SERVICES, ObjectKey("default", "web"))
    await clock.settle()
    assert services.proxy.listening == frozenset()
