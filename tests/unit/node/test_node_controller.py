"""Nodes kept alive: registered, renewed, registered again, adopted."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator

import pytest

from anynode.aio.tasks import Supervisor
from anynode.api.objects import Object, ObjectKey, find_condition, meta
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.informer import InformerFactory
from anynode.node.node_controller import NodeController
from anynode.node.node_object import Health, NodeSettings
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

NODES, LEASES = known("nodes"), known("leases", "coordination.k8s.io")
KEY = ObjectKey("", "node-1")


def settings(name: str = "node-1", **more: object) -> NodeSettings:
    return NodeSettings(name=name, capacity={"cpu": "4", "pods": "110"}, **more)  # type: ignore[arg-type]


class Harness:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(now=self.clock.now)
        client = ApiClient(self.api)
        self._factory = InformerFactory(client, clock=self.clock)
        nodes = self._factory.informer(NODES)
        self.controller = NodeController(client, nodes=nodes, clock=self.clock, chance=random.Random(1))

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with Supervisor("test", clock=self.clock) as tasks:
            tasks.start("informers", self._factory.run)
            tasks.start("nodes", self.controller.run)
            await self.clock.settle()
            yield

    def node(self, name: str = "node-1") -> Object:
        return next(each for each in self.api.objects(NODES) if each["metadata"]["name"] == name)

    def lease(self) -> Object:
        (found,) = self.api.objects(LEASES)
        return found

    def writes(self) -> list[str]:
        return [f"{each.method} {each.path.rsplit('/', 2)[-1]}" for each in self.api.requests if each.method != "GET"]


@pytest.fixture
def harness() -> Harness:
    return Harness()


async def test_a_node_is_registered_with_its_lease(harness: Harness) -> None:
    async with harness.run():
        taint = {"key": "virtual", "effect": "NoSchedule"}
        harness.controller.add(settings(labels={"tier": "burst"}, taints=[taint]))
        await harness.controller.wait_registered("node-1")
    node = harness.node()
    labels = node["metadata"]["labels"]
    assert (labels["tier"], labels["kubernetes.io/hostname"], labels["kubernetes.io/os"]) == (
        "burst",
        "node-1",
        "linux",
    )
    assert node["spec"]["taints"] == [taint]
    assert node["status"]["allocatable"] == {"cpu": "4", "pods": "110"}
    ready = find_condition(node["status"]["conditions"], "Ready")
    assert ready is not None
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "True", "KubeletReady", "kubelet is posting ready status",
    )  # fmt: skip
    assert node["status"]["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    lease = harness.lease()
    assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseDurationSeconds"]) == ("node-1", 40)
    (owner,) = lease["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Node", "node-1", meta(node)["uid"])


async def test_leases_beat_and_statuses_rest(harness: Harness) -> None:
    async with harness.run():
        harness.controller.add(settings())
        await harness.clock.advance(1)
        first = harness.lease()["spec"]["renewTime"]
        harness.api.requests.clear()
        await harness.clock.advance(60)
        assert 6 <= len(harness.writes()) <= 7
        assert all(each.startswith("PUT") for each in harness.writes())
        assert harness.lease()["spec"]["renewTime"] > first
        harness.api.requests.clear()
        await harness.clock.advance(300)
        assert sum(each.startswith("PATCH") for each in harness.writes()) == 1


async def test_amounts_are_spelled_as_the_api_server_spells_them(harness: Harness) -> None:
    async with harness.run():
        harness.controller.add(NodeSettings(name="node-1", capacity={"pods": "10000", "memory": "2048Mi", "cpu": "4"}))
        await harness.controller.wait_registered("node-1")
    assert harness.node()["status"]["capacity"] == {"pods": "10k", "memory": "2Gi", "cpu": "4"}
    assert harness.node()["status"]["allocatable"] == harness.node()["status"]["capacity"]


async def test_a_change_is_written_at_the_next_beat(harness: Harness) -> None:
    health = [Health()]
    async with harness.run():
        harness.controller.add(settings(), health=lambda: health[0])
        await harness.clock.advance(1)
        health[0] = Health(ready=False, reason="BackendUnreachable", message="no answer")
        await harness.clock.advance(11)
        ready = find_condition(harness.node()["status"]["conditions"], "Ready")
        assert ready is not None
        assert (ready["status"], ready["reason"]) == ("False", "BackendUnreachable")
        health[0] = Health()
        harness.controller.check("node-1")
        await harness.clock.settle()
        ready = find_condition(harness.node()["status"]["conditions"], "Ready")
        assert ready is not None
        assert ready["status"] == "True"


async def test_a_deleted_node_is_registered_again_and_owns_its_lease(harness: Harness) -> None:
    async with harness.run():
        harness.controller.add(settings())
        await harness.clock.advance(1)
        old = meta(harness.node())["uid"]
        harness.api.remove(NODES, KEY)
        await harness.clock.settle()
        new = meta(harness.node())["uid"]
        assert new != old
        assert harness.lease()["metadata"]["ownerReferences"][0]["uid"] == new


async def test_an_existing_node_is_adopted_with_what_others_gave_it(harness: Harness) -> None:
    harness.api.add(
        NODES,
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-1", "labels": {"theirs": "1"}},
            "spec": {"unschedulable": True},
            "status": {"conditions": [{"type": "NetworkUnavailable", "status": "False"}]},
        },
    )
    async with harness.run():
        harness.controller.add(settings(labels={"ours": "1"}))
        await harness.clock.advance(1)
    node = harness.node()
    assert node["metadata"]["labels"].items() >= {"theirs": "1", "ours": "1"}.items()
    assert node["spec"]["unschedulable"]
    assert find_condition(node["status"]["conditions"], "NetworkUnavailable") is not None
    assert find_condition(node["status"]["conditions"], "Ready") is not None


async def test_a_lease_of_somebody_else_is_taken_over(harness: Harness) -> None:
    async with harness.run():
        harness.controller.add(settings())
        await harness.clock.advance(1)
        lease = harness.lease()
        harness.api.put(LEASES, {**lease, "spec": {**lease["spec"], "holderIdentity": "intruder"}})
        await harness.clock.advance(11)
        assert harness.lease()["spec"]["holderIdentity"] == "node-1"
        harness.api.remove(LEASES, ObjectKey("kube-node-lease", "node-1"))
        await harness.clock.advance(11)
        assert harness.lease()["spec"]["holderIdentity"] == "node-1"


async def test_an_api_server_that_is_away_is_waited_for(harness: Harness) -> None:
    harness.api.refuse(ConnectionError("away"), path="/api/v1/nodes", method="POST", times=3)
    async with harness.run():
        harness.controller.add(settings())
        await harness.clock.advance(30)
        assert harness.lease()["spec"]["holderIdentity"] == "node-1"


async def test_many_nodes_share_one_queue(harness: Harness) -> None:
    async with harness.run():
        for number in range(200):
            harness.controller.add(settings(f"node-{number}"))
        await harness.clock.advance(5)
        assert len(harness.api.objects(LEASES)) == 200
        before = harness.clock.sleepers
        assert before < 40
        harness.controller.remove("node-7")
        harness.api.requests.clear()
        await harness.clock.advance(20)
        assert not any(each.path.endswith("/node-7") for each in harness.api.requests)
