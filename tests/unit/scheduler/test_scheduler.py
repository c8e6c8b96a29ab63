"""The whole scheduler against a fake API server."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.scheduler.objects import node, pod

from anynode.api.errors import InternalError
from anynode.api.objects import Object, ObjectKey, condition_of, get_path
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.informer import InformerFactory
from anynode.scheduler.scheduler import Scheduler
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

PODS, NODES, EVENTS, NAMESPACES = (known(each) for each in ("pods", "nodes", "events", "namespaces"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
async def scheduler(api: FakeApi, clock: FakeClock) -> AsyncIterator[Scheduler]:
    client = ApiClient(api)
    informers = InformerFactory(client, clock=clock, detect_mutation=True)
    scheduler = Scheduler(client, informers, clock=clock, chance=random.Random(1))
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
    await clock.settle()
    yield scheduler
    informers.check_unchanged()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def where(api: FakeApi) -> dict[str, str]:
    return {each["metadata"]["name"]: get_path(each, "spec", "nodeName", default="") for each in api.objects(PODS)}


def get(api: FakeApi, name: str) -> Object:
    return next(each for each in api.objects(PODS) if each["metadata"]["name"] == name)


def events(api: FakeApi, reason: str) -> list[str]:
    return [each["message"] for each in api.objects(EVENTS) if each["reason"] == reason]


async def test_pods_are_bound_and_spread(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a"), node("b"))
    api.add(PODS, *[pod(f"p{number}", cpu="1", memory="1Gi") for number in range(6)])
    await clock.settle()
    bound = list(where(api).values())
    assert (bound.count("a"), bound.count("b")) == (3, 3)
    assert "Successfully assigned default/p0 to" in "".join(events(api, "Scheduled"))


async def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_it_can(
    scheduler: Scheduler, api: FakeApi, clock: FakeClock
) -> None:
    api.add(NODES, node("a", cpu="2"))
    api.add(PODS, pod("first", cpu="2"), pod("second", cpu="1"))
    await clock.settle()
    reason = (
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
        "1 No preemption victims found for incoming pod."
    )
    assert where(api) == {"first": "a", "second": ""}
    assert events(api, "FailedScheduling") == [reason]
    condition = condition_of(get(api, "second"), "PodScheduled")
    assert condition is not None
    assert (condition["status"], condition["reason"], condition["message"]) == ("False", "Unschedulable", reason)
    writes = len(api.requests)
    await clock.advance(120)
    assert len(api.requests) == writes  # nothing changed: nothing is tried
    api.remove(PODS, ObjectKey("default", "first"))
    await clock.advance(1)
    assert where(api) == {"second": "a"}


async def test_a_new_node_helps(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(PODS, *[pod(f"p{number}", cpu="1") for number in range(70)])
    await clock.settle()
    assert set(events(api, "FailedScheduling")) == {"no nodes available to schedule pods"}
    api.add(NODES, node("a", cpu="100"))
    await clock.advance(1)
    assert set(where(api).values()) == {"a"}


async def test_a_heartbeat_wakes_nobody(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a", cpu="1"))
    api.add(PODS, pod("p", cpu="2"))
    await clock.settle()
    before = len(events(api, "FailedScheduling"))
    beat = node("a", cpu="1")
    api.put(NODES, {**beat, "status": {**beat["status"], "conditions": [{"type": "Ready", "status": "True"}]}})
    await clock.advance(10)
    assert len(events(api, "FailedScheduling")) == before


async def test_a_failed_binding_is_taken_back_and_tried_again(
    scheduler: Scheduler, api: FakeApi, clock: FakeClock
) -> None:
    api.add(NODES, node("a"))
    api.refuse(InternalError("no"), path="/binding")
    api.add(PODS, pod("p", cpu="4"))
    await clock.settle()
    assert where(api) == {"p": ""}
    assert events(api, "FailedScheduling") == ["binding rejected: no"]
    await clock.advance(3)
    assert where(api) == {"p": "a"}


async def test_assumed_pods_count_before_they_are_bound(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a", cpu="1"), node("b", cpu="1"))
    api.add(PODS, pod("p", cpu="1"), pod("q", cpu="1"))
    await clock.settle()
    assert set(where(api).values()) == {"a", "b"}
    assert not scheduler._assumed


async def test_others_pods_and_gated_pods_are_left_alone(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a"))
    api.add(PODS, pod("theirs", schedulerName="mine"), pod("gated", schedulingGates=[{"name": "g"}]))
    await clock.settle()
    assert set(where(api).values()) == {""}
    api.put(PODS, pod("gated"))
    await clock.settle()
    assert where(api)["gated"] == "a"


async def test_finished_pods_free_their_room(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a", cpu="1"))
    api.add(PODS, pod("job", cpu="1"), pod("next", cpu="1"))
    await clock.settle()
    done = get(api, "job")
    api.put(PODS, {**done, "status": {"phase": "Succeeded"}})
    await clock.advance(1)
    assert where(api) == {"job": "a", "next": "a"}


async def test_anti_affinity_end_to_end(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    api.add(NODES, node("a"), node("b"))
    api.add(PODS, *[pod(f"p{number}", labels={"app": "x"}, affinity=affinity) for number in range(3)])
    await clock.settle()
    assert sorted(where(api).values()) == ["", "a", "b"]
    [message] = events(api, "FailedScheduling")
    assert "2 node(s) didn't match pod anti-affinity rules" in message
    api.add(NODES, node("c"))
    await clock.advance(1)
    assert sorted(where(api).values()) == ["a", "b", "c"]


async def test_a_more_important_pod_takes_the_place_of_a_lesser_one(
    scheduler: Scheduler, api: FakeApi, clock: FakeClock
) -> None:
    api.add(NODES, node("a", cpu="2"))
    api.add(PODS, pod("low", cpu="2", priority=0))
    await clock.settle()
    assert where(api) == {"low": "a"}
    api.add(PODS, pod("high", cpu="2", priority=100))
    await clock.advance(1)
    low, high = get(api, "low"), get(api, "high")
    assert low["metadata"]["deletionTimestamp"]
    target = condition_of(low, "DisruptionTarget")
    assert target is not None
    assert target["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
    assert events(api, "Preempted") == [f"Preempted by pod {high['metadata']['uid']} on node a"]
    assert events(api, "FailedScheduling") == ["0/1 nodes are available: 1 Insufficient cpu."]
    assert high["status"]["nominatedNodeName"] == "a"
    # the place is kept for it, also while its victim takes its time
    api.add(PODS, pod("cheeky", cpu="2", priority=0))
    await clock.advance(5)
    api.remove(PODS, ObjectKey("default", "low"))
    await clock.advance(1)
    assert where(api) == {"high": "a", "cheeky": ""}
    assert len(events(api, "Preempted")) == 1


async def test_a_pod_that_never_preempts_waits(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a", cpu="2"))
    api.add(PODS, pod("low", cpu="2"))
    await clock.settle()
    api.add(PODS, pod("polite", cpu="2", priority=100, preemptionPolicy="Never"))
    await clock.advance(1)
    assert where(api) == {"low": "a", "polite": ""}
    [message] = events(api, "FailedScheduling")
    assert message.endswith("1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.")


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_no_node_is_overfull_and_nobody_waits_in_vain(
    scheduler: Scheduler, api: FakeApi, clock: FakeClock, seed: int
) -> None:
    """A random walk over pods and nodes that come, change, fail to bind, finish and go."""
    chance = random.Random(seed)
    serial = 0
    for _ in range(150):
        pods, nodes = api.objects(PODS), api.objects(NODES)
        match chance.randrange(10):
            case 0 | 1 | 2 | 3:
                serial += 1
                more: dict[str, Any] = {"priority": chance.choice([0, 0, 0, 10])}
                if chance.random() < 0.3:
                    more["nodeSelector"] = {"disk": "ssd"}
                api.add(PODS, pod(f"p{serial}", cpu=chance.choice(["1", "2", "3"]), **more))
            case 4:
                labels = {"disk": "ssd"} if chance.random() < 0.5 else {}
                cordoned = chance.random() < 0.3
                api.put(NODES, node(f"n{chance.randrange(5)}", cpu="4", labels=labels, unschedulable=cordoned))
            case 5 if nodes and chance.random() < 0.3:
                api.remove(NODES, ObjectKey("", chance.choice(nodes)["metadata"]["name"]))
            case 6 if pods:
                key = ObjectKey("default", chance.choice(pods)["metadata"]["name"])
                api.remove(PODS, key)
            case 7 if pods:
                chosen = chance.choice(pods)
                if get_path(chosen, "spec", "nodeName"):
                    api.put(PODS, {**chosen, "status": {"phase": "Succeeded"}})
            case 8:
                error = chance.choice([InternalError("no"), ConnectionResetError()])
                api.refuse(error, path="/binding", times=chance.randrange(1, 4))
            case _:
                await clock.advance(chance.choice([0, 0.1, 2]))
    await clock.advance(15)
    for _ in range(20):
        for each in api.objects(PODS):
            if each["metadata"].get("deletionTimestamp"):  # preempted: its node agent ends it
                api.remove(PODS, ObjectKey("default", each["metadata"]["name"]))
        await clock.advance(2)
    free = {each["metadata"]["name"]: 4 for each in api.objects(NODES)}
    waiting: list[Object] = []
    for each in api.objects(PODS):
        cpu = int(each["spec"]["containers"][0]["resources"]["requests"]["cpu"])
        name = get_path(each, "spec", "nodeName", default="")
        if not name:
            waiting.append(each)
        elif name in free and get_path(each, "status", "phase") != "Succeeded":
            free[name] -= cpu
    assert min(free.values(), default=0) >= 0
    for each in waiting:
        cpu = int(each["spec"]["containers"][0]["resources"]["requests"]["cpu"])
        wanted = each["spec"].get("nodeSelector") or {}
        for there in api.objects(NODES):
            open_to_it = (
                not there["spec"].get("unschedulable") and wanted.items() <= there["metadata"]["labels"].items()
            )
            assert not open_to_it or free[there["metadata"]["name"]] < cpu
        condition = condition_of(each, "PodScheduled")
        assert condition is not None
        assert condition["reason"] == "Unschedulable"
    assert not scheduler._assumed
    snapshot = scheduler.snapshot
    used = {snapshot.names[row]: snapshot.requested.item(0, row) // 1000 for row in snapshot.rows()}
    assert used == {name: 4 - left for name, left in free.items()}
    assert not scheduler._nominated


async def test_uncordoning_and_labelling_help(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a", unschedulable=True))
    api.add(PODS, pod("p"), pod("choosy", nodeSelector={"disk": "ssd"}))
    await clock.settle()
    assert set(where(api).values()) == {""}
    api.put(NODES, node("a"))
    await clock.advance(1)
    assert where(api) == {"p": "a", "choosy": ""}
    api.put(NODES, node("a", labels={"disk": "ssd"}))
    await clock.advance(1)
    assert where(api) == {"p": "a", "choosy": "a"}


async def test_a_promise_outlives_the_scheduler(api: FakeApi, clock: FakeClock) -> None:
    api.add(NODES, node("a", cpu="2"))
    promised = {**pod("promised", cpu="2", priority=10), "status": {"phase": "Pending", "nominatedNodeName": "a"}}
    victim = pod("victim", cpu="2", nodeName="a")
    api.add(PODS, victim, promised, pod("cheeky", cpu="2"))
    client = ApiClient(api)
    await client.delete(PODS, ObjectKey("default", "victim"), grace_seconds=30)
    informers = InformerFactory(client, clock=clock)
    scheduler = Scheduler(client, informers, clock=clock, chance=random.Random(1))
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
    await clock.advance(1)
    api.remove(PODS, ObjectKey("default", "victim"))
    await clock.advance(1)
    assert where(api) == {"promised": "a", "cheeky": ""}
    assert events(api, "Preempted") == []
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_namespaces_that_are_gone_are_forgotten(scheduler: Scheduler, api: FakeApi, clock: FakeClock) -> None:
    client = ApiClient(api)
    for number in range(3):
        labels = {"team": "a"} if number else {}
        await client.create(NAMESPACES, {"metadata": {"name": f"n-{number}", "labels": labels}})
    await clock.settle()
    assert len(scheduler.snapshot.namespace_labels) == 3
    for number in range(3):
        await client.delete(NAMESPACES, ObjectKey("", f"n-{number}"))
    await clock.settle()
    assert not scheduler.snapshot.namespace_labels
