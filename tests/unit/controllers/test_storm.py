"""Controllers in bad weather: refused requests, broken watches, lost history, restarts. What is true in the end."""

from __future__ import annotations

import random
from typing import Any

import pytest

from anynode.api.errors import Conflict, ServiceUnavailable, TooManyRequests
from anynode.api.objects import ObjectKey, annotations_of, condition_of, get_path, is_deleting, meta, uid_of
from anynode.api.wire import ApiRequest
from anynode.controllers.deployment import DeploymentController
from anynode.controllers.deployment_rollout import DEPLOYMENTS
from anynode.controllers.job import JobController
from anynode.controllers.job_indexes import INDEX
from anynode.controllers.job_step import JOBS
from anynode.controllers.pods import PODS
from anynode.controllers.replicaset import REPLICA_SETS, ReplicaSetController
from anynode.controllers.statefulset import STATEFUL_SETS, StatefulSetController

SEEDS = range(3)
TEMPLATE = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]},
}
SELECTOR = {"matchLabels": {"app": "web"}}
META = {"name": "web", "namespace": "default", "generation": 1}


class Storm:
    """Refuses a tenth of the writes until it is ``over``."""

    def __init__(self, cluster: Any, seed: int) -> None:
        self.cluster = cluster
        self.chance = random.Random(seed)
        self.over = False
        cluster.api.faults.append(self.fault)

    def fault(self, request: ApiRequest) -> BaseException | None:
        if self.over or request.method == "GET" or self.chance.random() > 0.1:
            return None
        return self.chance.choice(
            [
                Conflict("somebody was faster"),
                TooManyRequests("later"),
                ServiceUnavailable("not now"),
                ConnectionError(),
            ]
        )

    async def blow(self) -> None:
        """Some time passes; watches may break, history may be lost."""
        kind = self.chance.randrange(6)
        if kind == 0:
            self.cluster.api.break_watches()
        elif kind == 1:
            self.cluster.api.compact()
            self.cluster.api.break_watches()
        await self.cluster.settle(self.chance.choice([0.05, 0.3, 2.0]))

    async def calm(self) -> None:
        self.over = True
        for _ in range(6):
            await self.cluster.settle(20)


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_replica_set_ends_with_its_pods(cluster: Any, seed: int) -> None:
    storm = Storm(cluster, seed)
    cluster.start(ReplicaSetController(cluster.context).run)
    spec = {"replicas": 5, "selector": SELECTOR, "template": TEMPLATE}
    cluster.api.add(REPLICA_SETS, {"metadata": META, "spec": spec})
    for _ in range(25):
        current = cluster.get(REPLICA_SETS, "web")
        if storm.chance.random() < 0.3:
            cluster.api.put(REPLICA_SETS, {**current, "spec": {**spec, "replicas": storm.chance.randrange(12)}})
        for pod in cluster.pods():
            if storm.chance.random() < 0.1:
                cluster.finish_pod(pod, "Failed")
        cluster.run_pods()
        await storm.blow()
        # Never more alive than asked for at any time of this walk.
        assert sum(1 for pod in cluster.pods() if not is_deleting(pod)) <= 40
    await storm.calm()
    cluster.run_pods()
    await cluster.settle(5)
    found = cluster.get(REPLICA_SETS, "web")
    active = [pod for pod in cluster.pods() if not is_deleting(pod) and get_path(pod, "status", "phase") != "Failed"]
    assert len(active) == found["spec"]["replicas"] == found["status"]["replicas"]
    assert found["status"].get("readyReplicas", 0) == len(active)
    assert not found["status"].get("conditions")


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_rollout_ends(cluster: Any, seed: int) -> None:
    storm = Storm(cluster, seed)
    cluster.start(DeploymentController(cluster.context).run, ReplicaSetController(cluster.context).run)
    spec = {
        "replicas": 4,
        "selector": SELECTOR,
        "template": TEMPLATE,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 2,
    }
    cluster.api.add(DEPLOYMENTS, {"metadata": META, "spec": spec})
    image = 0
    for turn in range(30):
        if turn % 6 == 5:
            image += 1
            container = [{"name": "main", "image": f"v{image}"}]
            template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "containers": container}}
            changed = {**cluster.get(DEPLOYMENTS, "web")["spec"], "template": template, "replicas": 3 + turn % 4}
            cluster.api.put(DEPLOYMENTS, {**cluster.get(DEPLOYMENTS, "web"), "spec": changed})
        cluster.run_pods()
        await storm.blow()
    for _ in range(12):
        cluster.run_pods()
        await storm.calm()
    wish = cluster.get(DEPLOYMENTS, "web")
    pods = [pod for pod in cluster.pods() if not is_deleting(pod)]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {f"v{image}"}
    assert len(pods) == wish["spec"]["replicas"] == wish["status"]["availableReplicas"]
    assert condition_of(wish, "Progressing")["reason"] == "NewReplicaSetAvailable"
    assert len(cluster.api.objects(REPLICA_SETS)) <= 3


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
async def test_a_job_counts_every_pod_once(cluster: Any, seed: int, indexed: bool) -> None:
    storm = Storm(cluster, seed)
    controller = JobController(cluster.context)
    cluster.start(controller.run, controller.run_orphans)
    spec = {
        "completions": 6,
        "parallelism": 3,
        "backoffLimit": 1000,
        "selector": SELECTOR,
        "template": TEMPLATE,
        "completionMode": "Indexed" if indexed else "NonIndexed",
    }
    cluster.api.add(JOBS, {"metadata": META, "spec": spec})
    failed: set[str] = set()
    succeeded: set[str] = set()
    for _ in range(200):
        for pod in cluster.pods():
            running = get_path(pod, "status", "phase") not in ("Succeeded", "Failed") and not is_deleting(pod)
            if running and storm.chance.random() < 0.3:
                fails = storm.chance.random() < 0.3 and len(failed) < 5
                (failed if fails else succeeded).add(uid_of(pod))
                cluster.finish_pod(pod, "Failed" if fails else "Succeeded", exit_code=int(fails))
        await storm.blow()
        if condition_of(cluster.get(JOBS, "web"), "Complete"):
            break
        await cluster.settle(10)
    await storm.calm()
    status = cluster.get(JOBS, "web")["status"]
    assert condition_of(cluster.get(JOBS, "web"), "Complete")
    assert status["uncountedTerminatedPods"] == {}
    assert status.get("failed", 0) == len(failed)
    if indexed:
        assert (status["succeeded"], status["completedIndexes"]) == (6, "0-5")
        done = {annotations_of(pod)[INDEX] for pod in cluster.pods() if uid_of(pod) in succeeded}
        assert done == {str(number) for number in range(6)}
    else:
        assert status["succeeded"] == len(succeeded) == 6
    assert not any(meta(pod).get("finalizers") for pod in cluster.pods())


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_stateful_set_never_has_a_name_twice(cluster: Any, seed: int) -> None:
    storm = Storm(cluster, seed)
    cluster.start(StatefulSetController(cluster.context).run)
    spec = {
        "replicas": 3,
        "selector": SELECTOR,
        "template": TEMPLATE,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
    }
    cluster.api.add(STATEFUL_SETS, {"metadata": META, "spec": spec})
    for turn in range(25):
        if turn == 12:
            template = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "containers": [{"name": "main", "image": "v2"}]}}
            current = cluster.get(STATEFUL_SETS, "web")
            cluster.api.put(STATEFUL_SETS, {**current, "spec": {**spec, "template": template, "replicas": 4}})
        if storm.chance.random() < 0.1 and cluster.pods():
            cluster.api.remove(PODS, ObjectKey("default", meta(cluster.pods()[0])["name"]))
        cluster.run_pods()
        await storm.blow()
    for _ in range(12):
        cluster.run_pods()
        await storm.calm()
    assert [meta(pod)["name"] for pod in cluster.pods()] == [f"web-{number}" for number in range(4)]
    assert {pod["spec"]["containers"][0].get("image") for pod in cluster.pods()} == {"v2"}
    status = cluster.get(STATEFUL_SETS, "web")["status"]
    assert status["currentRevision"] == status["updateRevision"]
