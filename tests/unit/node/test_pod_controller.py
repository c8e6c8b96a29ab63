"""Pods of a node from the API to the provider and back: a fake server, simulated containers, virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pathlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests.unit.node.pods import container, pod

from anynode.aio.tasks import Supervisor
from anynode.api.errors import ServiceUnavailable
from anynode.api.objects import Object, ObjectKey, Uid, find_condition, meta
from anynode.api.resources import known
from anynode.api.wire import ApiRequest, ApiResponse
from anynode.client.api_client import ApiClient, PatchKind
from anynode.informers.informer import InformerFactory
from anynode.informers.recorder import EventRecorder
from anynode.node.pod_controller import PodController, PodSettings
from anynode.node.pod_engine import PodEngine
from anynode.node.pod_lookups import PodLookups
from anynode.node.status_patch import status_patch
from anynode.provider import ProviderSettings, Volume
from anynode.providers.sim import PREFIX, SimProvider
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

PODS, EVENTS, MAPS = known("pods"), known("events"), known("configmaps")
KEY = ObjectKey("default", "p")


class Harness:
    """A node whose backend outlives its controller."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.clock = FakeClock()
        self.api = FakeApi(now=self.clock.now)
        self.client = ApiClient(self.api)
        settings = ProviderSettings(node="node-1", cluster_id="c", data_dir=directory)
        self.sim = SimProvider(settings, clock=self.clock)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[PodController]:
        factory = InformerFactory(self.client, clock=self.clock)
        recorder = EventRecorder(self.client, component="kubelet", clock=self.clock)
        engine = PodEngine(self.client, clock=self.clock)
        controller = PodController(
            PodSettings(
                node_name="node-1",
                cluster_id="c",
                host_ip="127.0.0.1",
                allocatable={"cpu": "4", "memory": "8Gi", "pods": "20"},
                node_labels=dict,
            ),
            engine=engine,
            provider=self.sim,
            pods=factory.informer(PODS, field_selector="spec.nodeName=node-1"),
            lookups=PodLookups(self.client, clock=self.clock),
            recorder=recorder,
            clock=self.clock,
        )
        async with engine, Supervisor("test", clock=self.clock) as tasks:
            tasks.start("informers", factory.run)
            tasks.start("events", recorder.run)
            tasks.start("pods", controller.run)
            await self.clock.settle()
            yield controller

    async def create(self, obj: Object, name: str = "p", **annotations: str) -> Object:
        found = {PREFIX + key.replace("_", "-"): value for key, value in annotations.items()}
        metadata = {"name": name, "namespace": "default", "annotations": found}
        made = await self.client.create(PODS, {**obj, "metadata": metadata})
        await self.clock.advance(0.01)
        return made

    def pod(self, name: str = "p") -> Object:
        return next(each for each in self.api.objects(PODS) if each["metadata"]["name"] == name)

    def status(self, name: str = "p") -> Object:
        found: Object = self.pod(name)["status"]
        return found

    def main(self) -> Object:
        found: Object = self.status()["containerStatuses"][0]
        return found

    def reasons(self) -> list[str]:
        return [each["reason"] for each in self.api.objects(EVENTS)]

    def patches(self) -> int:
        return sum(each.method == "PATCH" and each.path.endswith("/status") for each in self.api.requests)


@pytest.fixture
def node(tmp_path: pathlib.Path) -> Harness:
    return Harness(tmp_path)


async def test_a_pod_runs_and_says_so_once(node: Harness) -> None:
    async with node.run():
        await node.create(pod())
        await node.clock.advance(60)
    status = node.status()
    assert status["phase"] == "Running"
    assert status["podIP"].startswith("127.")
    assert find_condition(status["conditions"], "Ready")["status"] == "True"  # type: ignore[index]
    assert node.reasons() == ["Pulled", "Created", "Started"]
    assert node.patches() == 1


async def test_a_pod_ends_when_its_containers_did(node: Harness) -> None:
    async with node.run():
        await node.create(pod(restartPolicy="Never"), run_for="5s", exit_code="3")
        await node.clock.advance(6)
        assert node.status()["phase"] == "Failed"
        assert node.main()["state"]["terminated"]["exitCode"] == 3
        await node.client.delete(PODS, KEY, grace_seconds=0)
        await node.clock.advance(1)
        assert await node.sim.list() == []


async def test_a_crashing_container_is_restarted_with_back_off(node: Harness) -> None:
    async with node.run():
        await node.create(pod(), run_for="1s", exit_code="1")
        seen = []
        for _ in range(65):
            await node.clock.advance(1)
            seen.append(node.main()["restartCount"])
        starts = [seen.index(count) + 1 for count in range(1, 4)]
        assert [later - earlier for earlier, later in itertools.pairwise(starts)] == [11, 21]
        waiting = node.main()["state"]["waiting"]
        assert waiting["reason"] == "CrashLoopBackOff"
        assert waiting["message"].startswith("back-off 40s restarting failed container=main pod=p_default(")
        assert node.status()["phase"] == "Running"
        assert "BackOff" in node.reasons()


async def test_init_containers_run_one_after_the_other(node: Harness) -> None:
    init = tuple(container(name, env=[{"name": "SIM_RUN_FOR", "value": "2s"}]) for name in ("one", "two"))
    async with node.run():
        await node.create(pod(init=init))
        await node.clock.advance(3)
        assert [next(iter(each["state"])) for each in node.status()["initContainerStatuses"]] == [
            "terminated",
            "running",
        ]
        assert node.main()["state"] == {"waiting": {"reason": "PodInitializing"}}
        await node.clock.advance(2)
        assert "running" in node.main()["state"]


async def test_deletion_is_graceful_and_tells_the_end_first(node: Harness) -> None:
    async with node.run():
        made = await node.create(pod(terminationGracePeriodSeconds=30), stop_delay="5s", stop_code="0")
        await node.client.delete(PODS, KEY)
        await node.clock.advance(4)
        assert node.status()["phase"] == "Running"
        phases = []
        stream = await node.client.watch(PODS, "default", resource_version=meta(node.pod())["resourceVersion"])
        await node.clock.advance(2)
        assert node.api.objects(PODS) == []
        assert await node.sim.list() == []
        async for batch in stream:
            phases += [(each.type, each.object["status"]["phase"]) for each in batch]
            if phases[-1][0] == "DELETED":
                break
        await stream.close()
        assert phases[-2:] == [("MODIFIED", "Succeeded"), ("DELETED", "Succeeded")]
        last = [each for each in node.api.requests if each.method == "DELETE"][-1]
        assert last.obj is not None
        assert (last.obj["gracePeriodSeconds"], last.obj["preconditions"]["uid"]) == (0, meta(made)["uid"])


async def test_the_object_stays_until_the_last_status_is_written(node: Harness) -> None:
    """The pod ends while an earlier status is on its way: that one must not be taken for the last."""
    write, held = node.api.send, asyncio.Event()

    async def slow(request: ApiRequest) -> ApiResponse:
        if request.method == "PATCH" and not held.is_set():
            held.set()
            await node.clock.sleep(5)
        return await write(request)

    node.api.send = slow  # type: ignore[method-assign]
    async with node.run():
        await node.create(pod(init=(container("one"),)))
        await node.client.delete(PODS, KEY)
        await node.clock.advance(4)
        assert held.is_set()
        assert node.pod()["metadata"]["name"] == "p"
        await node.clock.advance(2)
        about = [each for each in node.api.requests if each.path.startswith("/api/v1/namespaces/default/pods/p")]
        assert [each.method for each in about] == ["DELETE", "PATCH", "PATCH", "DELETE"]
        assert about[2].obj is not None
        assert about[2].obj["status"]["phase"] == "Failed"
        assert node.api.objects(PODS) == []


async def test_a_shorter_grace_period_is_kept(node: Harness) -> None:
    async with node.run():
        await node.create(pod(terminationGracePeriodSeconds=600), stop_delay="500s")
        await node.client.delete(PODS, KEY)
        await node.clock.advance(3)
        await node.client.delete(PODS, KEY, grace_seconds=2)
        await node.clock.advance(3)
        assert node.api.objects(PODS) == []


async def test_a_pod_removed_by_force_is_stopped(node: Harness) -> None:
    async with node.run():
        await node.create(pod())
        node.api.remove(PODS, KEY)
        await node.clock.advance(40)
        assert await node.sim.list() == []


async def test_a_new_pod_of_the_same_name_is_another_pod(node: Harness) -> None:
    async with node.run():
        first = await node.create(pod())
        node.api.remove(PODS, KEY)
        second = await node.create(pod())
        await node.clock.advance(40)
        assert meta(first)["uid"] != meta(second)["uid"]
        assert [each.identity.uid for each in await node.sim.list()] == [meta(second)["uid"]]
        assert node.status()["phase"] == "Running"


async def test_after_a_restart_pods_are_taken_over(node: Harness) -> None:
    async with node.run():
        await node.create(pod(), name="stays")
        await node.create(pod(restartPolicy="Never"), name="ends", run_for="100s", exit_code="4")
        await node.create(pod(), name="removed")
        before = node.status("stays")["containerStatuses"][0]
    node.api.remove(PODS, ObjectKey("default", "removed"))
    ends = next(each for each in await node.sim.list() if each.identity.name == "ends")
    await node.sim.stop(ends.identity.uid, "main", 5)
    node.api.requests.clear()
    async with node.run():
        await node.clock.advance(5)
        assert node.status("stays")["containerStatuses"][0] == before
        assert node.status("ends")["phase"] == "Failed"
        assert sorted(each.identity.name for each in await node.sim.list()) == ["ends", "stays"]
        assert node.patches() == 1


async def test_what_ran_and_was_lost_is_not_run_twice(node: Harness) -> None:
    async with node.run():
        await node.create(pod(restartPolicy="Never"), name="once")
        await node.create(pod(), name="always")
    for record in await node.sim.list():
        await node.sim.delete(record.identity.uid)
    async with node.run():
        await node.clock.advance(5)
        once = node.status("once")
        assert once["phase"] == "Failed"
        assert once["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
        again = node.status("always")["containerStatuses"][0]
        assert ("running" in again["state"], again["restartCount"]) == (True, 1)


async def test_a_missing_config_map_is_waited_for(node: Harness) -> None:
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "a"}}}]
    async with node.run():
        await node.create(pod(container("main", env=env)))
        assert node.main()["state"]["waiting"] == {
            "reason": "CreateContainerConfigError",
            "message": 'configmap "m" not found',
        }
        node.api.add(MAPS, {"metadata": {"name": "m", "namespace": "default"}, "data": {"a": "1"}})
        await node.clock.advance(15)
        assert "running" in node.main()["state"]


async def test_a_missing_volume_keeps_the_pod_pending(node: Harness) -> None:
    async with node.run():
        await node.create(pod(volumes=[{"name": "v", "configMap": {"name": "m"}}]))
        await node.clock.advance(3)
        assert node.main()["state"]["waiting"]["reason"] == "ContainerCreating"
        assert set(node.reasons()) == {"FailedMount"}
        node.api.add(MAPS, {"metadata": {"name": "m", "namespace": "default"}})
        await node.clock.advance(10)
        assert node.status()["phase"] == "Running"


async def test_an_image_that_cannot_be_had_is_tried_again_with_back_off(node: Harness) -> None:
    async with node.run():
        await node.create(pod(), fail="ErrImagePull: no such image")
        assert node.main()["state"]["waiting"] == {"reason": "ErrImagePull", "message": "no such image"}
        await node.clock.advance(5)
        assert node.main()["state"]["waiting"] == {
            "reason": "ImagePullBackOff",
            "message": 'Back-off pulling image "example:1": ErrImagePull: no such image',
        }
        await node.clock.advance(100)
        assert node.status()["phase"] == "Pending"
        events = {each["message"]: each["count"] for each in node.api.objects(EVENTS)}
        assert events['Failed to pull image "example:1": no such image'] == 4  # after 0, 10, 30 and 70 seconds


async def test_volumes_are_looked_at_again(node: Harness, tmp_path: pathlib.Path) -> None:
    shown: list[bytes] = []

    class Live(SimProvider):
        async def update_volumes(self, uid: Uid, volumes: Sequence[Volume]) -> None:
            shown.extend(file.content for each in volumes for file in each.files or ())

    node.sim = Live(ProviderSettings(node="node-1", cluster_id="c", data_dir=tmp_path), clock=node.clock)
    (made,) = node.api.add(MAPS, {"metadata": {"name": "m", "namespace": "default"}, "data": {"k": "old"}})
    async with node.run():
        await node.create(pod(volumes=[{"name": "v", "configMap": {"name": "m"}}]))
        node.api.put(MAPS, {**made, "data": {"k": "new"}})
        await node.clock.advance(59)
        assert shown == []
        await node.clock.advance(2)
        assert shown == [b"new"]
    shown.clear()
    async with node.run():  # a node that was restarted goes on with it
        await node.clock.advance(1)
        assert shown == [b"new"]


async def test_volumes_show_changed_labels_at_once(node: Harness, tmp_path: pathlib.Path) -> None:
    shown: list[bytes] = []

    class Live(SimProvider):
        async def update_volumes(self, uid: Uid, volumes: Sequence[Volume]) -> None:
            shown.extend(file.content for each in volumes for file in each.files or ())

    node.sim = Live(ProviderSettings(node="node-1", cluster_id="c", data_dir=tmp_path), clock=node.clock)
    label = {"path": "l", "fieldRef": {"fieldPath": "metadata.labels['a']"}}
    async with node.run():
        await node.create(pod(volumes=[{"name": "v", "downwardAPI": {"items": [label]}}]))
        await node.clock.advance(5)
        assert shown == []
        await node.client.patch(PODS, KEY, {"metadata": {"labels": {"a": "b"}}})
        await node.clock.advance(1)
        assert shown == [b"b"]
        await node.clock.advance(58)
        assert shown == [b"b"]
        await node.clock.advance(2)
        assert shown == [b"b", b"b"]


async def test_resources_of_a_running_pod_are_written_with_the_next_news(node: Harness) -> None:
    asks = {"requests": {"cpu": "100m", "memory": "1Mi"}}
    async with node.run():
        await node.create(pod(container("main", resources=asks), restartPolicy="Never"), run_for="100s")
        await node.client.patch(PODS, KEY, {"metadata": {"labels": {"a": "b"}}})
        await node.clock.advance(10)
        assert node.status()["resources"] == asks
        assert node.patches() == 1
        await node.clock.advance(100)
        assert node.status()["resources"] == {"requests": {"memory": "1Mi"}}


async def test_a_pod_on_the_hosts_network_has_its_address(node: Harness) -> None:
    async with node.run():
        await node.create(pod(hostNetwork=True))
        assert node.status()["podIP"] == node.status()["hostIP"] == "127.0.0.1"


async def test_the_deadline_of_a_pod_ends_it(node: Harness) -> None:
    async with node.run():
        await node.create(pod(activeDeadlineSeconds=10))
        await node.clock.advance(9)
        assert node.status()["phase"] == "Running"
        await node.clock.advance(2)
        assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "DeadlineExceeded")
        assert "DeadlineExceeded" in node.reasons()


async def test_a_pod_this_node_cannot_run_is_refused(node: Harness) -> None:
    async with node.run():
        await node.create(pod(nodeSelector={"disk": "ssd"}))
        assert (node.status()["phase"], node.status()["reason"]) == ("Failed", "NodeAffinity")
        big = container("main", resources={"requests": {"cpu": "3"}})
        await node.create(pod(big), name="first")
        await node.create(pod(big), name="second")
        assert [node.status(name)["phase"] for name in ("first", "second")] == ["Running", "Failed"]
        await node.client.delete(PODS, ObjectKey("default", "first"))
        await node.clock.advance(1)
        await node.create(pod(big), name="third")
        assert node.status("third")["phase"] == "Running"


async def test_failed_liveness_restarts_and_readiness_only_tells(node: Harness) -> None:
    main = container("main", livenessProbe={"exec": {"command": ["false"]}, "periodSeconds": 2, "failureThreshold": 2})
    async with node.run():
        await node.create(pod(main))
        await node.clock.advance(5)
        assert node.main()["restartCount"] == 1
        assert {"Unhealthy", "Killing"} <= set(node.reasons())
        ready = container("main", readinessProbe={"exec": {"command": ["false"]}, "periodSeconds": 1})
        await node.create(pod(ready), name="unready")
        await node.clock.advance(10)
        status = node.status("unready")
        assert (status["phase"], status["containerStatuses"][0]["ready"]) == ("Running", False)
        assert status["containerStatuses"][0]["restartCount"] == 0


async def test_a_failing_post_start_hook_ends_the_container(node: Harness) -> None:
    main = container("main", lifecycle={"postStart": {"exec": {"command": ["false"]}}})
    async with node.run():
        await node.create(pod(main, restartPolicy="Never"))
        await node.clock.advance(2)
        assert node.status()["phase"] == "Failed"
        assert "FailedPostStartHook" in node.reasons()


async def test_pre_stop_takes_from_grace(node: Harness) -> None:
    main = container("main", lifecycle={"preStop": {"sleep": {"seconds": 5}}})
    async with node.run():
        await node.create(pod(main), stop_code="0")
        await node.client.delete(PODS, KEY)
        await node.clock.advance(4)
        assert node.status()["phase"] == "Running"
        await node.clock.advance(2)
        assert node.api.objects(PODS) == []


async def test_statuses_are_written_when_the_server_is_back(node: Harness) -> None:
    async with node.run():
        node.api.refuse(ServiceUnavailable("away"), method="PATCH", times=3)
        await node.create(pod())
        await node.clock.advance(30)
        assert node.status()["phase"] == "Running"


async def test_what_others_write_into_conditions_stays_and_counts(node: Harness) -> None:
    async with node.run():
        await node.create(pod(readinessGates=[{"conditionType": "x/gate"}]))
        assert find_condition(node.status()["conditions"], "Ready")["status"] == "False"  # type: ignore[index]
        gate = {"status": {"conditions": [{"type": "x/gate", "status": "True"}]}}
        await node.client.patch(PODS, KEY, gate, kind=PatchKind.STRATEGIC, subresource="status")
        await node.clock.advance(1)
        conditions = node.status()["conditions"]
        assert find_condition(conditions, "Ready")["status"] == "True"  # type: ignore[index]
        assert find_condition(conditions, "x/gate") == {"type": "x/gate", "status": "True"}


async def test_pods_are_found_with_the_status_the_node_knows(node: Harness) -> None:
    async with node.run() as controller:
        await node.create(pod())
        found = controller.find("default", "p")
        assert found is not None
        assert found["status"]["phase"] == "Running"
        assert [each["metadata"]["name"] for each in controller.list()] == ["p"]
        assert controller.find("default", "other") is None


@pytest.mark.parametrize(
    ("current", "wanted", "patch"),
    [
        ({}, {"phase": "Pending"}, {"phase": "Pending"}),
        ({"phase": "Pending"}, {"phase": "Pending"}, {}),
        ({"phase": "Failed", "reason": "x"}, {"phase": "Failed"}, {"reason": None}),
        (
            {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1", "memory": "1"}}},
            {"resources": {"requests": {"memory": "1"}}},
            {"resources": {"limits": None, "requests": {"cpu": None}}},
        ),
        (
            {"conditions": [{"type": "Ready", "status": "False", "reason": "r"}, {"type": "x/y", "status": "True"}]},
            {"conditions": [{"type": "Ready", "status": "True"}]},
            {"conditions": [{"status": "True", "reason": None, "type": "Ready"}]},
        ),
        (
            {"conditions": [{"type": "AllContainersRestarting", "status": "True"}]},
            {"conditions": []},
            {"conditions": [{"$patch": "delete", "type": "AllContainersRestarting"}]},
        ),
    ],
)
def test_patches_say_only_what_differs(current: dict[str, Any], wanted: dict[str, Any], patch: dict[str, Any]) -> None:
    assert status_patch(current, wanted) == patch


async def test_a_host_port_is_free_again_when_its_pod_has_ended(node: Harness) -> None:
    wants = pod(container("main", ports=[{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}]))
    async with node.run():
        await node.create({**wants, "spec": {**wants["spec"], "restartPolicy": "Never"}}, name="first", run_for="10s")
        await node.create(wants, name="second")
        assert (node.status("second")["phase"], node.status("second")["reason"]) == ("Failed", "NodePorts")
        await node.clock.advance(15)
        await node.create(wants, name="third")
        assert node.status("third")["phase"] == "Running"
