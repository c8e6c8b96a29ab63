"""Pods with volume claims: refused with the right words, tied to their volumes' nodes, waited for."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.unit.scheduler.objects import node, pod

from anynode.api.objects import Object, ObjectKey, annotations_of, get_path
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.informer import InformerFactory
from anynode.scheduler.scheduler import Scheduler
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

PODS, NODES, EVENTS = known("pods"), known("nodes"), known("events")
CLAIMS, VOLUMES = known("persistentvolumeclaims"), known("persistentvolumes")
CLASSES = known("storageclasses", "storage.k8s.io")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def api(clock: FakeClock) -> AsyncIterator[FakeApi]:
    api = FakeApi()
    api.add(NODES, node("a", labels={"disk": "x"}), node("b"))
    client = ApiClient(api)
    informers = InformerFactory(client, clock=clock, detect_mutation=True)
    scheduler = Scheduler(client, informers, clock=clock, chance=random.Random(1))
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
    await clock.settle()
    yield api
    informers.check_unchanged()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def with_claim(name: str = "p", claim: str = "data", **more: Any) -> Object:
    return pod(name, volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": claim}}], **more)


def claim(phase: str = "Pending", **spec: Any) -> Object:
    return {"metadata": {"namespace": "default", "name": "data"}, "spec": spec, "status": {"phase": phase}}


def volume(*terms: Object) -> Object:
    affinity = {"nodeAffinity": {"required": {"nodeSelectorTerms": list(terms)}}} if terms else {}
    return {"metadata": {"name": "vol"}, "spec": affinity}


def storage_class(mode: str = "WaitForFirstConsumer", **more: Any) -> Object:
    return {"metadata": {"name": "fast"}, "provisioner": "example.com/disk", "volumeBindingMode": mode, **more}


def where(api: FakeApi) -> str:
    return str(get_path(api.objects(PODS)[0], "spec", "nodeName", default=""))


def told(api: FakeApi) -> list[str]:
    return [each["message"] for each in api.objects(EVENTS) if each["reason"] == "FailedScheduling"]


ON_X = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["x"]}]}
HOPELESS = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."


async def test_a_missing_claim_is_named_and_waited_for(api: FakeApi, clock: FakeClock) -> None:
    api.add(PODS, with_claim())
    await clock.advance(1)
    assert told(api) == [f'0/2 nodes are available: persistentvolumeclaim "data" not found. {HOPELESS}']
    api.add(VOLUMES, volume())
    api.add(CLAIMS, claim("Bound", volumeName="vol"))
    await clock.advance(1)
    assert where(api) in ("a", "b")


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([(CLAIMS, claim())], "pod has unbound immediate PersistentVolumeClaims"),
        (
            [(CLASSES, storage_class("Immediate")), (CLAIMS, claim(storageClassName="fast"))],
            "pod has unbound immediate PersistentVolumeClaims",
        ),
        (
            [(CLAIMS, claim("Lost", volumeName="vol"))],
            'persistentvolumeclaim "data" bound to non-existent persistentvolume "vol"',
        ),
        (
            [
                (CLASSES, storage_class(provisioner="kubernetes.io/no-provisioner")),
                (CLAIMS, claim(storageClassName="fast")),
            ],
            "2 node(s) didn't find available persistent volumes to bind",
        ),
        (
            [
                (VOLUMES, volume({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["y"]}]})),
                (CLAIMS, claim("Bound", volumeName="vol")),
            ],
            "2 node(s) didn't match PersistentVolume's node affinity",
        ),
    ],
)
async def test_what_cannot_be_is_said(api: FakeApi, clock: FakeClock, objects: list[Any], why: str) -> None:
    for resource, each in objects:
        api.add(resource, each)
    await clock.settle()
    api.add(PODS, with_claim())
    await clock.advance(10)
    assert told(api) == [f"0/2 nodes are available: {why}. {HOPELESS}"]
    assert where(api) == ""


async def test_a_pod_goes_where_its_volume_is(api: FakeApi, clock: FakeClock) -> None:
    api.add(VOLUMES, volume(ON_X))
    api.add(CLAIMS, claim("Bound", volumeName="vol"))
    api.add(PODS, with_claim())
    await clock.advance(1)
    assert where(api) == "a"


async def test_a_claim_is_told_the_node_and_the_pod_waits_for_its_volume(api: FakeApi, clock: FakeClock) -> None:
    topology = {"matchLabelExpressions": [{"key": "disk", "values": ["x"]}]}
    api.add(CLASSES, storage_class(allowedTopologies=[topology]))
    api.add(CLAIMS, claim(storageClassName="fast"))
    api.add(PODS, with_claim(cpu="3"))
    await clock.advance(5)
    assert annotations_of(api.objects(CLAIMS)[0])["volume.kubernetes.io/selected-node"] == "a"
    assert where(api) == ""
    assert told(api) == []
    # its place is kept meanwhile
    api.add(PODS, pod("cheeky", cpu="3", nodeSelector={"disk": "x"}))
    await clock.advance(5)
    writes = [each for each in api.requests if each.method == "PATCH" and "persistentvolumeclaims" in each.path]
    assert len(writes) == 1
    made = api.objects(CLAIMS)[0]
    api.add(VOLUMES, volume(ON_X))
    api.put(CLAIMS, {**made, "spec": {**made["spec"], "volumeName": "vol"}, "status": {"phase": "Bound"}})
    await clock.advance(1)
    bound = {each["metadata"]["name"]: get_path(each, "spec", "nodeName", default="") for each in api.objects(PODS)}
    assert bound == {"p": "a", "cheeky": ""}
    api.remove(PODS, ObjectKey("default", "p"))
    await clock.advance(1)
    assert where(api) == "a"
