"""Deployment: rollouts by walks and examples, and the controllers at work together."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.api.errors import Forbidden
from anynode.api.objects import (
    Object,
    ObjectKey,
    annotations_of,
    condition_of,
    labels_of,
    name_of,
    with_meta,
    with_path,
)
from anynode.controllers import deployment_rollout as rollout
from anynode.controllers.deployment import DeploymentController
from anynode.controllers.deployment_rollout import DEPLOYMENTS, REVISION
from anynode.controllers.replicaset import REPLICA_SETS, ReplicaSetController
from anynode.controllers.scaling import hashed_name, scaled, template_hash


def deployment(replicas: int = 3, image: str = "v1", **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": image}]},
            },
            **spec,
        },
    }


def replica_set(of: Object, uid: str, size: int, available: int = 0) -> Object:
    made = with_meta(rollout.new_replica_set(of, []), uid=uid, name=uid, creationTimestamp="2026-01-01T00:00:00Z")
    made = with_path(made, ("spec", "replicas"), size)
    return {**made, "status": {"replicas": size, "availableReplicas": available, "readyReplicas": available}}


@pytest.mark.parametrize(
    ("value", "total", "up", "down"),
    [("25%", 3, 1, 0), ("50%", 5, 3, 2), (2, 100, 2, 2), ("0%", 9, 0, 0), (None, 9, 0, 0)],
)
def test_percentages_round_as_told(value: Any, total: int, up: int, down: int) -> None:
    assert scaled(value, total, round_up=True) == up
    assert scaled(value, total, round_up=False) == down


def test_the_template_hash_is_stable_and_safe() -> None:
    template = deployment()["spec"]["template"]
    reordered = {key: template[key] for key in reversed(template)}
    assert template_hash(template) == template_hash(reordered)
    assert template_hash(template) != template_hash(template, 0) != template_hash(template, 1)
    assert set(template_hash(template)) <= set("bcdfghjklmnpqrstvwxz2456789")
    assert len(hashed_name("x" * 253, "abc")) == 253


@settings(max_examples=200, deadline=None)
@given(
    replicas=st.integers(1, 12),
    surge=st.one_of(st.integers(0, 4), st.sampled_from(["25%", "100%"])),
    unavailable=st.one_of(st.integers(0, 4), st.sampled_from(["25%", "50%"])),
    chance=st.randoms(use_true_random=False),
)
def test_a_rollout_ends_and_keeps_its_limits(replicas: int, surge: Any, unavailable: Any, chance: Any) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    old_one = deployment(replicas, "v1", strategy=strategy)
    wish = deployment(replicas, "v2", strategy=strategy)
    most_surge, most_unavailable = rollout.limits(wish)
    sets = {"old": replica_set(old_one, "old", replicas, replicas), "new": replica_set(wish, "new", 0)}
    sets["new"] = with_path(sets["new"], ("spec", "replicas"), rollout.new_size(wish, [*sets.values()], sets["new"]))
    for turn in range(200):
        for change in rollout.plan_rolling(wish, sets["new"], [sets["old"]]):
            sets[name_of(change.before)] = change.after
        assert rollout.sizes(sets.values()) <= replicas + most_surge
        for name, each in sets.items():
            size, available = rollout.size(each), each["status"]["availableReplicas"]
            available = (
                min(available, size)
                if available > size
                else min(size, available + chance.randint(0, 2) + (turn % 3 == 0))
            )
            sets[name] = {**each, "status": {"replicas": size, "availableReplicas": available}}
        assert rollout.count(sets.values(), "availableReplicas") >= replicas - most_unavailable
        if rollout.size(sets["old"]) == 0 and rollout.size(sets["new"]) == replicas:
            return
    pytest.fail("the rollout did not end")


def test_scaling_amid_a_rollout_is_proportional() -> None:
    wish = deployment(
        10, "v2", strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    )
    sized = {rollout.DESIRED_REPLICAS: "10", rollout.MAX_REPLICAS: "13"}
    new = with_meta(replica_set(wish, "new", 5, 3), annotations=sized)
    old = with_meta(replica_set(deployment(10, "v1"), "old", 8, 8), annotations=sized)
    grown = with_path(wish, ("spec", "replicas"), 15)
    assert rollout.is_scaling(grown, [new, old])
    sizes = {name_of(each.before): rollout.size(each.after) for each in rollout.plan_scaling(grown, new, [old])}
    assert sizes == {"old": 11, "new": 7}  # the documented example of upstream: 15 replicas, 18 at most


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_history_keeps_the_newest(limit: int) -> None:
    wish = deployment(3, "v9", revisionHistoryLimit=limit)
    old = [
        with_meta(replica_set(deployment(3, f"v{number}"), f"r{number}", 0), annotations={REVISION: str(number)})
        for number in (3, 1, 2)
    ]
    assert [name_of(each) for each in rollout.plan_history(wish, old)] == ["r1", "r2", "r3"][: 3 - limit]


async def start(cluster: Any) -> None:
    cluster.start(DeploymentController(cluster.context).run, ReplicaSetController(cluster.context).run)


async def rolled_out(cluster: Any, rounds: int = 12) -> None:
    for _ in range(rounds):
        await cluster.settle()
        cluster.run_pods()
    await cluster.settle()


KEY = ObjectKey("default", "web")


async def test_rolls_out_updates_and_undoes(cluster: Any) -> None:
    await start(cluster)
    cluster.api.add(DEPLOYMENTS, deployment(3))
    await cluster.settle()
    assert condition_of(cluster.get(DEPLOYMENTS, "web"), "Progressing")["reason"] in (
        "NewReplicaSetCreated",
        "ReplicaSetUpdated",
    )
    assert condition_of(cluster.get(DEPLOYMENTS, "web"), "Available")["status"] == "False"
    await rolled_out(cluster, 2)
    found = cluster.get(DEPLOYMENTS, "web")
    first = cluster.api.objects(REPLICA_SETS)[0]
    assert annotations_of(found)[REVISION] == "1"
    assert labels_of(cluster.pods()[0])["pod-template-hash"] == name_of(first).removeprefix("web-")
    progressing = condition_of(found, "Progressing")
    assert (progressing["reason"], progressing["message"]) == (
        "NewReplicaSetAvailable",
        f'ReplicaSet "{name_of(first)}" has successfully progressed.',
    )
    assert cluster.events.said[0] == f"Normal ScalingReplicaSet: Scaled up replica set {name_of(first)} from 0 to 3"

    container = [{"name": "main", "image": "v2"}]
    await cluster.client.patch(DEPLOYMENTS, KEY, {"spec": {"template": {"spec": {"containers": container}}}})
    await rolled_out(cluster)
    status = cluster.get(DEPLOYMENTS, "web")["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (3, 3, 3)
    assert {each["spec"]["containers"][0]["image"] for each in cluster.pods()} == {"v2"}
    assert annotations_of(cluster.get(DEPLOYMENTS, "web"))[REVISION] == "2"
    assert len(cluster.api.objects(REPLICA_SETS)) == 2

    container = [{"name": "main", "image": "v1"}]  # what kubectl rollout undo does
    await cluster.client.patch(DEPLOYMENTS, KEY, {"spec": {"template": {"spec": {"containers": container}}}})
    await rolled_out(cluster)
    revived = cluster.get(REPLICA_SETS, name_of(first))
    assert annotations_of(revived)[REVISION] == "3"
    assert annotations_of(revived)["deployment.kubernetes.io/revision-history"] == "1"
    assert len(cluster.api.objects(REPLICA_SETS)) == 2
    before = len(cluster.api.requests)
    await cluster.settle(30)
    assert all(each.method == "GET" for each in cluster.api.requests[before:])


async def test_recreate_waits_until_the_old_pods_are_gone(cluster: Any) -> None:
    await start(cluster)
    cluster.api.add(DEPLOYMENTS, deployment(2, strategy={"type": "Recreate"}))
    await rolled_out(cluster, 2)
    container = [{"name": "main", "image": "v2"}]
    await cluster.client.patch(DEPLOYMENTS, KEY, {"spec": {"template": {"spec": {"containers": container}}}})
    await cluster.settle()
    assert {each["spec"]["containers"][0]["image"] for each in cluster.pods()} == {"v1"}  # still terminating
    cluster.run_pods()
    await cluster.settle()
    assert [each["spec"]["containers"][0]["image"] for each in cluster.pods()] == ["v2", "v2"]


async def test_paused_does_not_roll_but_scales(cluster: Any) -> None:
    await start(cluster)
    cluster.api.add(DEPLOYMENTS, deployment(2))
    await rolled_out(cluster, 2)
    change = {"paused": True, "replicas": 4, "template": {"spec": {"containers": [{"name": "main", "image": "v2"}]}}}
    await cluster.client.patch(DEPLOYMENTS, KEY, {"spec": change})
    await rolled_out(cluster, 2)
    assert {each["spec"]["containers"][0]["image"] for each in cluster.pods()} == {"v1"}
    assert len(cluster.pods()) == 4
    assert condition_of(cluster.get(DEPLOYMENTS, "web"), "Progressing")["reason"] == "DeploymentPaused"
    await cluster.client.patch(DEPLOYMENTS, KEY, {"spec": {"paused": False}})
    await rolled_out(cluster)
    assert {each["spec"]["containers"][0]["image"] for each in cluster.pods()} == {"v2"}


async def test_a_rollout_that_stands_still_times_out(cluster: Any) -> None:
    await start(cluster)
    cluster.api.add(DEPLOYMENTS, deployment(1, progressDeadlineSeconds=60))
    await cluster.settle()
    await cluster.settle(55)
    assert condition_of(cluster.get(DEPLOYMENTS, "web"), "Progressing")["status"] == "True"
    await cluster.settle(10)
    found = condition_of(cluster.get(DEPLOYMENTS, "web"), "Progressing")
    assert (found["status"], found["reason"]) == ("False", "ProgressDeadlineExceeded")
    await rolled_out(cluster, 2)
    found = condition_of(cluster.get(DEPLOYMENTS, "web"), "Progressing")
    assert (found["status"], found["reason"]) == ("True", "NewReplicaSetAvailable")


async def test_a_taken_name_is_avoided(cluster: Any) -> None:
    await start(cluster)
    wish = deployment(1)
    foreign = with_meta(rollout.new_replica_set(wish, []), ownerReferences=None, labels={"else": "where"})
    foreign = with_path(foreign, ("spec", "replicas"), 0)
    cluster.api.add(REPLICA_SETS, foreign)
    cluster.api.add(DEPLOYMENTS, wish)
    await rolled_out(cluster, 2)
    assert cluster.get(DEPLOYMENTS, "web")["status"]["collisionCount"] == 1
    assert len(cluster.api.objects(REPLICA_SETS)) == 2
    assert len(cluster.pods()) == 1


async def test_a_replica_set_that_cannot_be_made_is_told(cluster: Any) -> None:
    await start(cluster)
    cluster.api.refuse(Forbidden("no more"), method="POST", path="/replicasets", times=1)
    cluster.api.add(DEPLOYMENTS, deployment(1))
    await rolled_out(cluster, 2)
    assert cluster.events.said[0].startswith('Warning ReplicaSetCreateError: Failed to create new replica set "web-')
    assert condition_of(cluster.get(DEPLOYMENTS, "web"), "Progressing")["reason"] == "NewReplicaSetAvailable"
