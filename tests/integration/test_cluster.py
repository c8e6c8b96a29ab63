"""A whole cluster in this process, through the fixture and the class that users are given."""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

import anynode
from anynode.api.errors import NotFound
from anynode.api.objects import Object, ObjectKey, condition_of, get_path
from anynode.api.resources import Resource, known
from anynode.api.wire import ApiRequest
from anynode.client.api_client import ApiClient
from anynode.cluster import Cluster, ClusterError, ClusterSettings

PODS, DEPLOYMENTS, JOBS, NODES = known("pods"), known("deployments", "apps"), known("jobs", "batch"), known("nodes")


async def until(client: ApiClient, resource: Resource, name: str, holds: Callable[[Object], Any]) -> Object:
    """The first state of an object that ``holds``, seen by a watch."""
    stream = await client.watch(resource, "default", field_selector=f"metadata.name={name}")
    try:
        async with asyncio.timeout(30):
            async for events in stream:
                for event in events:
                    if event.type in ("ADDED", "MODIFIED") and holds(event.object):
                        return event.object
    finally:
        await stream.close()
    pytest.fail(f"the watch of {name} ended")


def deployment(name: str, replicas: int) -> Object:
    labels = {"app": name}
    containers = [{"name": "c", "image": "registry.example/c", "command": ["sleep", "1000"]}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


async def test_a_job_runs_as_a_process_and_its_log_is_read(cluster: Cluster) -> None:
    container = {"name": "c", "image": "busybox", "command": ["sh", "-c", "echo $((6 * 7))"]}
    job = {
        "metadata": {"name": "sum"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }
    await cluster.client.create(JOBS, job, namespace="default")
    await until(cluster.client, JOBS, "sum", lambda obj: (condition_of(obj, "Complete") or {}).get("status") == "True")
    pods = await cluster.client.list(PODS, "default", label_selector="batch.kubernetes.io/job-name=sum")
    path = PODS.path("default", pods.items[0]["metadata"]["name"], "log")
    answer = await cluster.client.transport.send(ApiRequest(method="GET", path=path))
    assert answer.encoded() == b"42\n"


class TestSimulated:
    @pytest.fixture
    def cluster_settings(self) -> dict[str, Any]:
        return {"provider": "sim", "nodes": 3}

    async def test_a_deployment_becomes_available_on_simulated_nodes(self, cluster: Cluster) -> None:
        await cluster.client.create(DEPLOYMENTS, deployment("web", 30), namespace="default")
        await until(
            cluster.client,
            DEPLOYMENTS,
            "web",
            lambda obj: get_path(obj, "status", "availableReplicas", default=0) == 30,
        )
        pods = (await cluster.client.list(PODS, "default")).items
        assert {pod["spec"]["nodeName"] for pod in pods} == {"node-0", "node-1", "node-2"}

    async def test_a_deleted_node_registers_again(self, cluster: Cluster) -> None:
        before = await cluster.client.get(NODES, ObjectKey("", "node-1"))
        await cluster.client.delete(NODES, ObjectKey("", "node-1"))
        after = await until_node(cluster.client, "node-1", before["metadata"]["uid"])
        assert condition_of(after, "Ready") is not None


async def until_node(client: ApiClient, name: str, old_uid: str) -> Object:
    async with asyncio.timeout(30):
        while True:
            try:
                found = await client.get(NODES, ObjectKey("", name))
            except NotFound:
                found = {"metadata": {"uid": old_uid}}
            if found["metadata"]["uid"] != old_uid:
                return found
            await asyncio.sleep(0.05)


async def test_two_clusters_live_side_by_side_in_one_process() -> None:
    settings = ClusterSettings(ephemeral=True, nodes=0)
    async with anynode.Cluster(settings) as one, anynode.Cluster(settings) as two:
        assert one.url != two.url
        await one.client.create(known("configmaps"), {"metadata": {"name": "a"}}, namespace="default")
        with pytest.raises(NotFound):
            await two.client.get(known("configmaps"), ObjectKey("default", "a"))


async def test_state_outlives_the_cluster(tmp_path: pathlib.Path) -> None:
    settings = ClusterSettings(data_dir=tmp_path, nodes=0)
    async with Cluster(settings) as cluster:
        made = await cluster.client.create(known("configmaps"), {"metadata": {"name": "a"}}, namespace="default")
    async with Cluster(settings) as cluster:
        found = await cluster.client.get(known("configmaps"), ObjectKey("default", "a"))
    assert found == made


async def test_an_unknown_provider_is_one_sentence() -> None:
    with pytest.raises(ClusterError, match='there is no provider "nope"; installed are: process, sim'):
        async with Cluster(ClusterSettings(ephemeral=True, provider="nope")):
            pass


def test_a_durable_cluster_needs_a_directory() -> None:
    with pytest.raises(ValueError, match="data_dir"):
        ClusterSettings()


async def test_a_reset_leaves_the_cluster_as_it_began(cluster: Cluster) -> None:
    client, accounts = cluster.client, known("serviceaccounts")
    node = await client.get(NODES, ObjectKey("", "node-0"))
    began = {each["metadata"]["uid"] for each in (await client.list(accounts)).items}
    for name in ("first", "second"):
        await client.create(known("namespaces"), {"metadata": {"name": name, "finalizers": ["example.com/stay"]}})
        await client.create(DEPLOYMENTS, deployment("web", 2), namespace="default")
        await client.create(known("services"), {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}},
                            namespace="default")  # fmt: skip
        await client.patch(NODES, ObjectKey("", "node-0"), {"metadata": {"labels": {"test": name}}})
        await until(client, DEPLOYMENTS, "web", lambda obj: get_path(obj, "status", "readyReplicas") == 2)
        pods = {each["metadata"]["uid"] for each in (await client.list(PODS)).items}
        assert len(pods) == 2

        await cluster.reset()

        for resource in (PODS, DEPLOYMENTS, known("replicasets", "apps"), known("endpointslices", "discovery.k8s.io")):
            assert [each["metadata"]["name"] for each in (await client.list(resource, "default")).items] in (
                [],
                ["kubernetes"],
            )
        with pytest.raises(NotFound):
            await client.get(known("namespaces"), ObjectKey("", name))
        assert {each["metadata"]["uid"] for each in (await client.list(accounts)).items} == began
        again = await client.get(NODES, ObjectKey("", "node-0"))
        assert again["metadata"].get("labels") == node["metadata"].get("labels")
        await gone(cluster, pods)


async def gone(cluster: Cluster, uids: set[str]) -> None:
    """Return when no node keeps any of the pods."""
    for _ in range(400):
        if not uids & {record.identity.uid for node in cluster.nodes for record in await node.provider.list()}:
            return
        await asyncio.sleep(0.05)
    pytest.fail("pods of before the reset are still there")
