"""Both transports onto a real API server pass the transport suite; the scheduler and the proxy work over them."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object, ObjectKey, get_path, is_deleting
from anynode.api.resources import known
from anynode.api.wire import ApiRequest, User
from anynode.apiserver.loopback import LoopbackTransport
from anynode.apiserver.process import ApiServerProcess
from anynode.client.api_client import ApiClient
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport
from anynode.client.transport import Transport
from anynode.informers.informer import InformerFactory
from anynode.informers.recorder import EventRecorder
from anynode.network.controller import ServiceProxy
from anynode.scheduler.scheduler import Scheduler
from anynode.storage.memory import MemoryStorage
from anynode.testing.transport_suite import TransportSuite

NODES, PODS, SERVICES = known("nodes"), known("pods"), known("services")
EVENTS, SLICES = known("events"), known("endpointslices", "discovery.k8s.io")
ADMIN = User(name="admin", groups=("system:masters", "system:authenticated"))


@contextlib.asynccontextmanager
async def server(directory: pathlib.Path) -> AsyncIterator[ApiServerProcess]:
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=SystemClock(), random=random.Random(1), directory=directory) as process,
    ):
        client = ApiClient(LoopbackTransport(process.assembly.server, ADMIN))
        default = {"metadata": {"name": "default", "namespace": "default"}}
        await client.create(known("serviceaccounts"), default)
        yield process


@contextlib.asynccontextmanager
async def over_https(process: ApiServerProcess, directory: pathlib.Path) -> AsyncIterator[HttpTransport]:
    path = directory / "kubeconfig"
    path.write_text(process.kubeconfig())
    transport = HttpTransport(ClientConfig.from_kubeconfig(path), clock=SystemClock())
    try:
        yield transport
    finally:
        await transport.close()


async def test_json_ends_with_a_line_feed(tmp_path: pathlib.Path) -> None:
    """As Go's encoder ends it: clients that show or join raw answers rely on it."""
    partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    asked = [(path, "*/*") for path in ("/api/v1/namespaces/default", "/api/v1/namespaces", "/apis")]
    async with server(tmp_path) as process, over_https(process, tmp_path) as transport:
        for path, accept in [*asked, ("/api/v1/namespaces/default", partial)]:
            response = await transport.send(ApiRequest(method="GET", path=path, headers={"accept": accept}))
            assert response.encoded().endswith(b"}\n")


class TestLoopback(TransportSuite):
    @pytest.fixture
    async def transport(self, tmp_path: pathlib.Path) -> AsyncIterator[Transport]:
        async with server(tmp_path) as process:
            yield LoopbackTransport(process.assembly.server, ADMIN)


class TestHttps(TransportSuite):
    @pytest.fixture
    async def transport(self, tmp_path: pathlib.Path) -> AsyncIterator[Transport]:
        async with server(tmp_path) as process, over_https(process, tmp_path) as transport:
            yield transport


def pod(name: str, cpu: str = "100m") -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": {"namespace": "default", "name": name, "labels": {"app": "web"}},
        "spec": {"containers": [container]},
    }


async def add_node(client: ApiClient, name: str) -> None:
    await client.create(NODES, {"metadata": {"name": name}})
    status = {"status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "20"}}}
    await client.patch(NODES, ObjectKey("", name), status, subresource="status")
    await client.patch(NODES, ObjectKey("", name), {"spec": {"taints": None}})


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    clock = SystemClock()
    async with asyncio.timeout(10):
        while not await condition():
            await clock.sleep(0.01)


@pytest.mark.parametrize("remote", [False, True])
async def test_schedules_on_a_real_api_server(tmp_path: pathlib.Path, remote: bool) -> None:
    async with server(tmp_path) as process, over_https(process, tmp_path) as https:
        clock = SystemClock()
        client = ApiClient(https if remote else LoopbackTransport(process.assembly.server, ADMIN))
        informers = InformerFactory(client, clock=clock, detect_mutation=True)
        scheduler = Scheduler(client, informers, clock=clock, chance=random.Random(1))
        tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
        for name in ("a", "b"):
            await add_node(client, name)
        for number in range(10):
            await client.create(PODS, pod(f"p{number}"))
        await client.create(PODS, pod("huge", cpu="64"))

        async def settled() -> bool:
            pods = (await client.list(PODS, "default")).items
            bound = [each for each in pods if get_path(each, "spec", "nodeName")]
            huge = next(each for each in pods if each["metadata"]["name"] == "huge")
            conditions = get_path(huge, "status", "conditions", default=[])
            return len(bound) == 10 and any(each.get("reason") == "Unschedulable" for each in conditions)

        async def told() -> bool:
            events = (await client.list(EVENTS, "default")).items
            reasons = [each["reason"] for each in events]
            return reasons.count("Scheduled") == 10 and "FailedScheduling" in reasons

        await until(settled)
        await until(told)
        informers.check_unchanged()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_a_service_is_reachable(tmp_path: pathlib.Path) -> None:
    async with server(tmp_path) as process:
        clock = SystemClock()
        client = ApiClient(LoopbackTransport(process.assembly.server, ADMIN))
        informers = InformerFactory(client, clock=clock, detect_mutation=True)
        recorder = EventRecorder(client, component="service-proxy", clock=clock)
        services = ServiceProxy(informers, recorder, clock=clock)
        tasks = [asyncio.create_task(each()) for each in (informers.run, recorder.run, services.run)]

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"pod says " + await reader.read())
            writer.close()

        backend = await asyncio.start_server(answer, "127.1.0.1", 0)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        spec = {"ports": [{"name": "http", "port": port, "targetPort": 80}], "selector": {"app": "web"}}
        made = await client.create(SERVICES, {"metadata": {"namespace": "default", "name": "web"}, "spec": spec})
        await client.create(
            SLICES,
            {
                "metadata": {
                    "namespace": "default",
                    "name": "web-1",
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["127.1.0.1"]}],
                "ports": [{"name": "http", "port": backend.sockets[0].getsockname()[1]}],
            },
        )

        async def listening() -> bool:
            return bool(services.proxy.listening)

        await until(listening)
        reader, writer = await asyncio.open_connection(made["spec"]["clusterIP"], port)
        writer.write(b"hi")
        writer.write_eof()
        assert await reader.read() == b"pod says hi"
        writer.close()
        backend.close()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        informers.check_unchanged()


@pytest.mark.slow
async def test_informers_survive_a_restart_of_the_server(tmp_path: pathlib.Path) -> None:
    clock, names = SystemClock(), []
    async with MemoryStorage() as storage, contextlib.AsyncExitStack() as stack:
        first = ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path)
        async with first:
            port = first.port
            transport = await stack.enter_async_context(over_https(first, tmp_path))
            client = ApiClient(transport)
            informers = InformerFactory(client, clock=clock)
            informers.informer(NODES).subscribe(lambda delta: names.append((delta.kind, delta.obj["metadata"]["name"])))
            task = asyncio.create_task(informers.run())
            await informers.wait_synced()
            await client.create(NODES, {"metadata": {"name": "before"}})

            async def before() -> bool:
                return ("added", "before") in names

            await until(before)
        with pytest.raises(ConnectionError):
            await client.list(NODES)
        second = ApiServerProcess(storage, clock=clock, random=random.Random(2), directory=tmp_path, port=port)
        async with second:
            await client.create(NODES, {"metadata": {"name": "after"}})

            async def after() -> bool:
                return ("added", "after") in names

            await until(after)
            assert [name for name in names if name[0] == "added"] == [("added", "before"), ("added", "after")]
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_preempts_on_a_real_api_server(tmp_path: pathlib.Path) -> None:
    async with server(tmp_path) as process:
        clock = SystemClock()
        client = ApiClient(LoopbackTransport(process.assembly.server, ADMIN))
        informers = InformerFactory(client, clock=clock, detect_mutation=True)
        scheduler = Scheduler(client, informers, clock=clock, chance=random.Random(1))
        tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
        await add_node(client, "a")
        await client.create(PODS, pod("low", cpu="2"))

        async def low_is_bound() -> bool:
            return bool(get_path(await client.get(PODS, ObjectKey("default", "low")), "spec", "nodeName"))

        await until(low_is_bound)
        classes = known("priorityclasses", "scheduling.k8s.io")
        await client.create(classes, {"metadata": {"name": "high"}, "value": 1000})
        wanted = pod("high", cpu="2")
        await client.create(PODS, {**wanted, "spec": {**wanted["spec"], "priorityClassName": "high"}})

        async def promised() -> bool:
            high = await client.get(PODS, ObjectKey("default", "high"))
            return get_path(high, "status", "nominatedNodeName") == "a"

        async def leaving() -> bool:
            low = await client.get(PODS, ObjectKey("default", "low"))
            conditions = get_path(low, "status", "conditions", default=[])
            return is_deleting(low) and any(each["type"] == "DisruptionTarget" for each in conditions)

        await until(promised)
        await until(leaving)
        await client.delete(PODS, ObjectKey("default", "low"), grace_seconds=0)

        async def high_is_bound() -> bool:
            return bool(get_path(await client.get(PODS, ObjectKey("default", "high")), "spec", "nodeName"))

        await until(high_is_bound)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        informers.check_unchanged()
