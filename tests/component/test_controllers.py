"""All controllers together over a real API server, with a kubelet and scheduler of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from anynode.aio.clock import SystemClock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import ApiError, NotFound
from anynode.api.objects import Object, ObjectKey, annotations_of, condition_of, get_path, is_deleting, key_of, meta
from anynode.api.resources import Resource, known
from anynode.api.wire import User
from anynode.apiserver.assembly import Assembly
from anynode.apiserver.loopback import LoopbackTransport
from anynode.apiserver.process import ApiServerProcess
from anynode.client.api_client import ApiClient, PatchKind
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport
from anynode.controllers.manager import ControllerManager, ControllerSettings
from anynode.controllers.node_fit import target_node
from anynode.storage.memory import MemoryStorage

ADMIN = User(name="system:kube-controller-manager", groups=("system:masters", "system:authenticated"))
PODS, NODES, NAMESPACES, SERVICES = known("pods"), known("nodes"), known("namespaces"), known("services")
DEPLOYMENTS, REPLICA_SETS = known("deployments", "apps"), known("replicasets", "apps")
DAEMON_SETS, STATEFUL_SETS = known("daemonsets", "apps"), known("statefulsets", "apps")
JOBS, SLICES = known("jobs", "batch"), known("endpointslices", "discovery.k8s.io")
ENDPOINTS, EVENTS, CONFIG_MAPS = known("endpoints"), known("events"), known("configmaps")
KEY = ObjectKey("default", "web")


class World:
    """A client, and the part of a node that controllers care for."""

    def __init__(self, client: ApiClient) -> None:
        self.client = client
        self.exit_phase = ""
        self.address = 1

    async def kubelet(self) -> None:
        """Pods are bound, run and are ready at once; those being deleted go."""
        while True:
            for pod in (await self.client.list(PODS)).items:
                with contextlib.suppress(ApiError):
                    await self._live(pod)
            await asyncio.sleep(0.02)

    async def _live(self, pod: Object) -> None:
        key, phase = key_of(pod), get_path(pod, "status", "phase", default="Pending")
        if not get_path(pod, "spec", "nodeName"):
            target = {"kind": "Node", "name": target_node(pod) or "n1"}
            binding = {"metadata": {"name": key.name, "namespace": key.namespace}, "target": target}
            await self.client.create(PODS, binding, namespace=key.namespace, name=key.name, subresource="binding")
        elif is_deleting(pod):
            await self.client.delete(PODS, key, grace_seconds=0)
        elif phase == "Pending":
            self.address += 1
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ip = f"127.1.1.{self.address % 250}"
            status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [ready]}
            await self._set(key, status)
        elif phase == "Running" and self.exit_phase:
            await self._set(key, {"phase": self.exit_phase})

    async def _set(self, key: ObjectKey, status: Object) -> None:
        await self.client.patch(PODS, key, {"status": status}, kind=PatchKind.STRATEGIC, subresource="status")

    async def get(self, resource: Resource, name: str, namespace: str = "default") -> Object:
        return await self.client.get(resource, ObjectKey(namespace if resource.namespaced else "", name))

    async def pods(self, namespace: str = "default") -> list[Object]:
        return [*(await self.client.list(PODS, namespace)).items]

    async def gone(self, resource: Resource, name: str, namespace: str = "default") -> bool:
        try:
            await self.get(resource, name, namespace)
        except NotFound:
            return True
        return False

    async def until(self, condition: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(NotFound, KeyError):
                    if await condition():
                        return
                await asyncio.sleep(0.02)

    def status(self, resource: Resource, name: str, **wanted: Any) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            found = (await self.get(resource, name)).get("status", {})
            return all(found.get(field, 0) == value for field, value in wanted.items())

        return check


@contextlib.asynccontextmanager
async def worked(client: ApiClient, settings: ControllerSettings) -> AsyncIterator[World]:
    """Controllers at work over ``client``, with two nodes."""
    clock = SystemClock()
    async with Supervisor("test", clock=clock) as tasks:
        made = World(client)
        manager = ControllerManager(client, clock=clock, settings=settings, chance=random.Random(2))
        for name in ("n1", "n2"):
            await client.create(NODES, {"metadata": {"name": name}})
            ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
            await client.patch(NODES, ObjectKey("", name), {"status": {"conditions": [ready]}}, subresource="status")
        tasks.start("controllers", manager.run)
        tasks.start("kubelet", made.kubelet)
        await made.until(lambda: made.get(known("serviceaccounts"), "default"))
        yield made


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=SystemClock(), random=random.Random(1)) as assembly,
        worked(ApiClient(LoopbackTransport(assembly.server, ADMIN)), ControllerSettings(root_ca="CERTIFICATE")) as made,
    ):
        yield made


@pytest.fixture
async def far_world(tmp_path: pathlib.Path) -> AsyncIterator[World]:
    """The same over HTTPS, as one leader, collecting garbage by metadata."""
    clock = SystemClock()
    settings = ControllerSettings(root_ca="CERTIFICATE", metadata_only=True, identity="replica-1")
    async with (
        MemoryStorage() as storage,
        ApiServerProcess(storage, clock=clock, random=random.Random(1), directory=tmp_path) as process,
    ):
        path = tmp_path / "kubeconfig"
        path.write_text(process.kubeconfig())
        transport = HttpTransport(ClientConfig.from_kubeconfig(path), clock=clock)
        try:
            async with worked(ApiClient(transport), settings) as made:
                yield made
        finally:
            await transport.close()


def workload(kind: str, **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            **({} if kind == "Job" else {"selector": {"matchLabels": {"app": "web"}}}),
            "template": template("v1"),
            **spec,
        },
    }


def template(image: str, **spec: Any) -> Object:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "main", "image": image}], "terminationGracePeriodSeconds": 1, **spec},
    }


async def images(world: World) -> set[str]:
    return {each["spec"]["containers"][0]["image"] for each in await world.pods()}


async def test_a_namespace_has_its_account_and_certificate(world: World) -> None:
    await world.client.create(NAMESPACES, {"metadata": {"name": "new"}})
    await world.until(lambda: world.get(known("serviceaccounts"), "default", "new"))
    await world.until(lambda: world.get(CONFIG_MAPS, "kube-root-ca.crt", "new"))
    await world.client.patch(CONFIG_MAPS, ObjectKey("new", "kube-root-ca.crt"), {"data": {"ca.crt": "forged"}})

    async def repaired() -> bool:
        return (await world.get(CONFIG_MAPS, "kube-root-ca.crt", "new"))["data"] == {"ca.crt": "CERTIFICATE"}

    await world.until(repaired)


async def test_a_deployment_rolls_out_with_its_service(world: World) -> None:
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}
    await world.client.create(SERVICES, service, namespace="default")
    await world.client.create(DEPLOYMENTS, workload("Deployment", replicas=3))
    await world.until(world.status(DEPLOYMENTS, "web", availableReplicas=3, updatedReplicas=3))

    async def served() -> bool:
        found = (await world.client.list(SLICES, "default", label_selector="kubernetes.io/service-name=web")).items
        subsets = (await world.get(ENDPOINTS, "web")).get("subsets") or []
        ready = [each for part in found for each in part["endpoints"] or () if each["conditions"]["ready"]]
        return len(ready) == 3 and len(subsets) == 1 and len(subsets[0]["addresses"]) == 3

    await world.until(served)
    await world.client.patch(DEPLOYMENTS, KEY, {"spec": {"template": template("v2")}})

    async def rolled() -> bool:
        deployment = await world.get(DEPLOYMENTS, "web")
        progressing = condition_of(deployment, "Progressing") or {}
        return (
            await images(world) == {"v2"}
            and len(await world.pods()) == 3
            and progressing.get("reason") == "NewReplicaSetAvailable"
            and annotations_of(deployment)["deployment.kubernetes.io/revision"] == "2"
        )

    await world.until(rolled)
    sets = (await world.client.list(REPLICA_SETS, "default")).items
    assert sorted(each["spec"]["replicas"] for each in sets) == [0, 3]
    messages = {each["message"] for each in (await world.client.list(EVENTS, "default")).items}
    assert any(each.startswith("Scaled up replica set web-") for each in messages)
    await world.client.delete(DEPLOYMENTS, KEY, propagation="Foreground")
    await world.until(lambda: world.gone(DEPLOYMENTS, "web"))
    assert await world.pods() == []
    assert (await world.client.list(REPLICA_SETS, "default")).items == []


async def rolled_out(world: World) -> bool:
    """Whether the Deployment's last word, which follows the counts, was written."""
    status = (await world.get(DEPLOYMENTS, "web"))["status"]
    return any(each.get("reason") == "NewReplicaSetAvailable" for each in status.get("conditions", ()))


async def test_settled_controllers_write_nothing(world: World) -> None:
    await world.client.create(DEPLOYMENTS, workload("Deployment", replicas=2))
    await world.client.create(DAEMON_SETS, {**workload("DaemonSet"), "metadata": {"name": "d", "namespace": "default"}})
    await world.until(world.status(DEPLOYMENTS, "web", availableReplicas=2))
    await world.until(world.status(DAEMON_SETS, "d", numberAvailable=2, updatedNumberScheduled=2))
    await world.until(lambda: rolled_out(world))
    before = [(each["metadata"]["resourceVersion"]) for each in (await world.client.list(DEPLOYMENTS)).items]
    sets = [(each["metadata"]["resourceVersion"]) for each in (await world.client.list(REPLICA_SETS)).items]
    await asyncio.sleep(0.5)
    assert before == [(each["metadata"]["resourceVersion"]) for each in (await world.client.list(DEPLOYMENTS)).items]
    assert sets == [(each["metadata"]["resourceVersion"]) for each in (await world.client.list(REPLICA_SETS)).items]


async def test_controllers_work_over_a_network(far_world: World) -> None:
    world = far_world
    await world.client.create(DEPLOYMENTS, workload("Deployment", replicas=2))
    await world.until(world.status(DEPLOYMENTS, "web", availableReplicas=2))
    await world.client.patch(DEPLOYMENTS, KEY, {"spec": {"template": template("v2")}})

    async def rolled() -> bool:
        return await images(world) == {"v2"} and len(await world.pods()) == 2

    await world.until(rolled)
    await world.client.delete(DEPLOYMENTS, KEY, propagation="Foreground")
    await world.until(lambda: world.gone(DEPLOYMENTS, "web"))
    assert await world.pods() == []
    lease = await world.get(known("leases", "coordination.k8s.io"), "kube-controller-manager", "kube-system")
    assert lease["spec"]["holderIdentity"] == "replica-1"


@pytest.mark.parametrize("propagation", ["Background", "Orphan"])
async def test_deleting_an_owner(world: World, propagation: str) -> None:
    await world.client.create(REPLICA_SETS, workload("ReplicaSet", replicas=3))
    await world.until(world.status(REPLICA_SETS, "web", readyReplicas=3))
    await world.client.delete(REPLICA_SETS, KEY, propagation=propagation)
    await world.until(lambda: world.gone(REPLICA_SETS, "web"))
    if propagation == "Orphan":
        pods = await world.pods()
        assert len(pods) == 3
        assert not any(meta(each).get("ownerReferences") for each in pods)
    else:

        async def empty() -> bool:
            return not await world.pods()

        await world.until(empty)


async def test_a_replication_controller_scales_and_lets_go(world: World) -> None:
    controllers = known("replicationcontrollers")
    wish = {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template("v1")},
    }
    await world.client.create(controllers, wish)
    await world.until(world.status(controllers, "web", readyReplicas=2))
    one = (await world.pods())[0]
    await world.client.patch(PODS, key_of(one), {"metadata": {"labels": {"app": "free"}}})

    async def replaced() -> bool:
        owned = [pod for pod in await world.pods() if meta(pod).get("ownerReferences")]
        return len(owned) == 2 and len(await world.pods()) == 3

    await world.until(replaced)
    assert "terminatingReplicas" not in (await world.get(controllers, "web"))["status"]
    await world.client.delete(controllers, KEY, propagation="Foreground")
    await world.until(lambda: world.gone(controllers, "web"))
    assert [meta(pod)["name"] for pod in await world.pods()] == [meta(one)["name"]]


async def test_a_job_completes(world: World) -> None:
    world.exit_phase = "Succeeded"
    spec = {"completions": 5, "parallelism": 3, "template": template("v1", restartPolicy="Never")}
    await world.client.create(JOBS, workload("Job", **spec))
    await world.until(world.status(JOBS, "web", succeeded=5))

    async def complete() -> bool:
        return condition_of(await world.get(JOBS, "web"), "Complete") is not None

    await world.until(complete)
    assert not any(meta(each).get("finalizers") for each in await world.pods())
    await world.client.delete(JOBS, KEY, propagation="Background")

    async def empty() -> bool:
        return not await world.pods()

    await world.until(empty)


async def test_an_indexed_job_is_deleted_while_it_runs(world: World) -> None:
    spec = {"completions": 3, "parallelism": 3, "completionMode": "Indexed"}
    await world.client.create(JOBS, workload("Job", **spec, template=template("v1", restartPolicy="Never")))
    await world.until(world.status(JOBS, "web", ready=3))
    assert sorted(each["spec"]["hostname"] for each in await world.pods()) == ["web-0", "web-1", "web-2"]
    await world.client.delete(JOBS, KEY, propagation="Background")

    async def empty() -> bool:
        return not await world.pods()

    await world.until(empty)


async def test_daemons_run_everywhere_and_are_updated(world: World) -> None:
    await world.client.create(DAEMON_SETS, workload("DaemonSet"))
    await world.until(world.status(DAEMON_SETS, "web", numberAvailable=2, updatedNumberScheduled=2))
    await world.client.patch(DAEMON_SETS, KEY, {"spec": {"template": template("v2")}})

    async def updated() -> bool:
        return await images(world) == {"v2"} and len(await world.pods()) == 2

    await world.until(updated)
    await world.until(world.status(DAEMON_SETS, "web", numberAvailable=2, updatedNumberScheduled=2))


async def test_a_namespace_dies_with_its_contents(world: World) -> None:
    await world.client.create(NAMESPACES, {"metadata": {"name": "doomed"}})
    await world.until(lambda: world.get(known("serviceaccounts"), "default", "doomed"))
    wish = workload("Deployment", replicas=2)
    await world.client.create(DEPLOYMENTS, {**wish, "metadata": {"name": "web", "namespace": "doomed"}})

    async def running() -> bool:
        return len(await world.pods("doomed")) == 2

    await world.until(running)
    await world.client.delete(NAMESPACES, ObjectKey("", "doomed"))
    await world.until(lambda: world.gone(NAMESPACES, "doomed"))
    assert await world.pods("doomed") == []
    assert (await world.client.list(CONFIG_MAPS, "doomed")).items == []


async def test_no_execute_taints_evict(world: World) -> None:
    await world.client.create(REPLICA_SETS, workload("ReplicaSet", replicas=2))
    await world.until(world.status(REPLICA_SETS, "web", readyReplicas=2))
    before = {meta(each)["uid"] for each in await world.pods()}
    taint = {"key": "maintenance", "effect": "NoExecute"}
    await world.client.patch(NODES, ObjectKey("", "n1"), {"spec": {"taints": [taint]}})

    async def evicted() -> bool:
        return not before & {meta(each)["uid"] for each in await world.pods()}

    await world.until(evicted)


async def test_a_stateful_set_is_built_and_updated_in_order(world: World) -> None:
    await world.client.create(STATEFUL_SETS, workload("StatefulSet", replicas=3, serviceName="web"))
    await world.until(world.status(STATEFUL_SETS, "web", readyReplicas=3, currentReplicas=3))
    names = sorted(meta(each)["name"] for each in await world.pods())
    assert names == ["web-0", "web-1", "web-2"]
    await world.client.patch(STATEFUL_SETS, KEY, {"spec": {"template": template("v2")}})

    async def updated() -> bool:
        status = (await world.get(STATEFUL_SETS, "web"))["status"]
        return await images(world) == {"v2"} and status["currentRevision"] == status["updateRevision"]

    await world.until(updated)


@pytest.mark.parametrize("seed", range(3))
async def test_controllers_that_die_are_followed_by_others(seed: int) -> None:
    """Whatever a manager had begun when it was cut off, the next one brings to its end, and nothing twice."""
    clock, chance = SystemClock(), random.Random(seed)
    async with (
        MemoryStorage() as storage,
        Assembly(storage, clock=clock, random=random.Random(1)) as assembly,
        Supervisor("test", clock=clock) as tasks,
    ):
        client = ApiClient(LoopbackTransport(assembly.server, ADMIN))
        world = World(client)
        tasks.start("kubelet", world.kubelet)
        await client.create(NODES, {"metadata": {"name": "n1"}})
        await client.create(DEPLOYMENTS, workload("Deployment", replicas=4))
        spec = {"completions": 7, "parallelism": 3, "template": template("v1", restartPolicy="Never")}
        job = workload("Job", **spec)
        job["spec"]["template"]["metadata"]["labels"] = {"job": "yes"}
        await client.create(JOBS, {**job, "metadata": {"name": "work", "namespace": "default"}})
        for turn in range(12):
            settings = ControllerSettings(root_ca="CERTIFICATE")
            manager = ControllerManager(client, clock=clock, settings=settings, chance=random.Random(turn))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(chance.choice([0.02, 0.05, 0.1, 0.3])):
                    await manager.run()
            for pod in await world.pods():
                tracked = "job" in (meta(pod).get("labels") or {})
                if tracked and get_path(pod, "status", "phase") == "Running" and chance.random() < 0.5:
                    await client.patch(PODS, key_of(pod), {"status": {"phase": "Succeeded"}}, subresource="status")
            image = f"v{turn}"
            await client.patch(DEPLOYMENTS, KEY, {"spec": {"template": template(image)}})
        last = ControllerManager(client, clock=clock, settings=ControllerSettings(root_ca="CERTIFICATE"))
        tasks.start("controllers", last.run)

        async def done() -> bool:
            world.exit_phase = ""
            for pod in await world.pods():
                if "job" in meta(pod)["labels"] and get_path(pod, "status", "phase") == "Running":
                    await client.patch(PODS, key_of(pod), {"status": {"phase": "Succeeded"}}, subresource="status")
            deployment, job = await world.get(DEPLOYMENTS, "web"), await world.get(JOBS, "work")
            pods = [pod for pod in await world.pods() if "job" not in meta(pod)["labels"]]
            return (
                condition_of(job, "Complete") is not None
                and deployment["status"].get("availableReplicas") == 4
                and {pod["spec"]["containers"][0]["image"] for pod in pods} == {"v11"}
                and len(pods) == 4
            )

        await world.until(done, seconds=20)
        status = (await world.get(JOBS, "work"))["status"]
        assert (status["succeeded"], status.get("failed", 0)) == (7, 0)
        assert status["uncountedTerminatedPods"] == {}
