"""Virtual nodes put together: several in one group, each with its own pods and its own endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import Callable

from anynode.api.objects import Object
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.testing.fake_api import FakeApi
from anynode.virtual_node import NodeGroup, VirtualNode, VirtualNodeConfig

PODS, NODES, LEASES = known("pods"), known("nodes"), known("leases", "coordination.k8s.io")


def pod(name: str, node: str) -> Object:
    spec = {"nodeName": node, "containers": [{"name": "main", "image": "example"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the fake server tells nobody
            await asyncio.sleep(0.01)


def phases(api: FakeApi) -> dict[str, str]:
    return {each["metadata"]["name"]: (each.get("status") or {}).get("phase", "") for each in api.objects(PODS)}


async def test_nodes_of_a_group_run_their_own_pods(tmp_path: pathlib.Path) -> None:
    api = FakeApi()
    client = ApiClient(api)
    async with NodeGroup(client) as group, contextlib.AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                VirtualNode(
                    VirtualNodeConfig(name=f"n{number}", data_dir=tmp_path, provider="sim"), client, group=group
                )
            )
            for number in range(3)
        ]
        assert sorted(each["metadata"]["name"] for each in api.objects(NODES)) == ["n0", "n1", "n2"]
        assert len(api.objects(LEASES)) == 3
        for number in range(30):
            await client.create(PODS, pod(f"p{number}", f"n{number % 3}"))
        await client.create(PODS, pod("elsewhere", "somebody-elses"))
        await until(lambda: sum(phase == "Running" for phase in phases(api).values()) == 30)
        assert phases(api)["elsewhere"] == ""
        assert [len(await node.provider.list()) for node in nodes] == [10, 10, 10]
        ports = {each["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] for each in api.objects(NODES)}
        assert ports == {node.kubelet_port for node in nodes}
        assert len(ports) == 3


async def test_a_node_that_stops_leaves_the_others_and_its_pods(tmp_path: pathlib.Path) -> None:
    api = FakeApi()
    client = ApiClient(api)
    async with NodeGroup(client) as group:
        config = VirtualNodeConfig(name="first", data_dir=tmp_path, provider="sim")
        first = VirtualNode(config, client, group=group)
        async with VirtualNode(
            VirtualNodeConfig(name="second", data_dir=tmp_path, provider="sim"), client, group=group
        ):
            async with first:
                await client.create(PODS, pod("stays", "first"))
                await until(lambda: phases(api)["stays"] == "Running")
            await client.create(PODS, pod("later", "first"))
            await client.create(PODS, pod("other", "second"))
            await until(lambda: phases(api)["other"] == "Running")
            assert phases(api)["later"] == ""
            assert len(await first.provider.list()) == 1
            async with VirtualNode(config, client, group=group, provider=first.provider) as again:
                await until(lambda: phases(api)["later"] == "Running")
                assert len(await again.provider.list()) == 2


async def test_the_endpoint_speaks_tls_and_asks_who_is_there(tmp_path: pathlib.Path) -> None:
    client = ApiClient(FakeApi())
    config = VirtualNodeConfig(name="node-1", data_dir=tmp_path, provider="sim")
    async with VirtualNode(config, client) as node:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", node.kubelet_port, ssl=context)
        writer.write(b"GET /pods HTTP/1.1\r\nHost: node-1\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"401"
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()
