"""ReplicaSet: sizes, choice of victims, adoption, failures, status."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anynode.api.errors import Cause, Forbidden
from anynode.api.objects import Object, ObjectKey, controller_of, name_of, uid_of, with_path
from anynode.controllers.pods import BURST, PODS
from anynode.controllers.replicaset import REPLICA_SETS, ReplicaSetController, plan_replicas, plan_status

PODS_PATH = "/pods"
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def replica_set(replicas: int = 3, **spec: Any) -> Object:
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main"}]}},
            **spec,
        },
    }


def pod(name: str, *, node: str = "node-1", phase: str = "Running", ready: bool = True, **more: Any) -> Object:
    condition = {**READY, "status": "True" if ready else "False"}
    return {
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"app": "web"},
            **more,
        },
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": [condition]},
    }


NOW = 1_800_000_000.0


@given(wanted=st.integers(0, 1200), have=st.integers(0, 40))
def test_plan_moves_towards_the_wish_in_bounded_steps(wanted: int, have: int) -> None:
    pods = [pod(f"p{number}") for number in range(have)]
    plan = plan_replicas(wanted, pods, {}, NOW)
    assert have + plan.create - len(plan.delete) == max(min(wanted, have + BURST), have - BURST)
    assert not (plan.create and plan.delete)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (pod("a"), pod("b", node="")),
        (pod("a"), pod("b", phase="Pending")),
        (pod("a"), pod("b", ready=False)),
        (pod("a"), pod("b", annotations={"controller.kubernetes.io/pod-deletion-cost": "-1"})),
        (pod("a", node="n2"), pod("b", node="crowded")),
        (
            with_path(pod("a"), ("status", "containerStatuses"), [{"name": "x", "restartCount": 0}]),
            with_path(pod("b"), ("status", "containerStatuses"), [{"name": "x", "restartCount": 4}]),
        ),
        (
            with_path(pod("a"), ("status", "conditions"), [{**READY, "lastTransitionTime": "2020-01-01T00:00:00Z"}]),
            pod("b"),
        ),
    ],
)
def test_the_less_useful_pod_goes_first(better: Object, worse: Object) -> None:
    for order in ([better, worse], [worse, better]):
        assert plan_replicas(1, order, {"crowded": 3}, NOW).delete == (worse,)


def test_status_counts_and_says_no_zeros() -> None:
    pods = [pod("a"), pod("b", ready=False), pod("c", labels={"app": "web", "extra": "1"})]
    found = plan_status(replica_set(), pods, terminating=0, failure=None, now=NOW)
    assert found == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "terminatingReplicas": 0,
    }
    assert plan_status(replica_set(), [], terminating=0, failure=None, now=NOW) == {
        "replicas": 0,
        "terminatingReplicas": 0,
    }


def test_a_ready_pod_is_available_only_after_min_ready_seconds() -> None:
    young = 1_767_225_600.0 + 9  # nine seconds after it became ready
    assert "availableReplicas" not in plan_status(
        replica_set(minReadySeconds=10), [pod("a")], terminating=0, failure=None, now=young
    )
    later = plan_status(replica_set(minReadySeconds=10), [pod("a")], terminating=0, failure=None, now=young + 1)
    assert later["availableReplicas"] == 1


async def test_creates_scales_and_reports(cluster: Any) -> None:
    controller = ReplicaSetController(cluster.context)
    cluster.start(controller.run)
    cluster.api.add(REPLICA_SETS, replica_set(3))
    await cluster.settle()
    assert len(cluster.pods()) == 3
    owner = cluster.get(REPLICA_SETS, "web")
    assert all(controller_of(each)["uid"] == uid_of(owner) for each in cluster.pods())
    assert sum(1 for each in cluster.events.said if "SuccessfulCreate: Created pod: web-" in each) == 3
    cluster.run_pods()
    await cluster.settle()
    status = cluster.get(REPLICA_SETS, "web")["status"]
    assert (status["readyReplicas"], status["availableReplicas"], status["observedGeneration"]) == (3, 3, 1)
    await cluster.client.patch(REPLICA_SETS, ObjectKey("default", "web"), {"spec": {"replicas": 1}})
    await cluster.settle()
    cluster.run_pods()
    await cluster.settle()
    assert len(cluster.pods()) == 1
    assert cluster.get(REPLICA_SETS, "web")["status"]["replicas"] == 1
    assert any("SuccessfulDelete: Deleted pod: web-" in each for each in cluster.events.said)


async def test_writes_nothing_when_nothing_changes(cluster: Any) -> None:
    cluster.start(ReplicaSetController(cluster.context).run)
    cluster.api.add(REPLICA_SETS, replica_set(2))
    await cluster.settle()
    cluster.run_pods()
    await cluster.settle()
    before = len(cluster.api.requests)
    await cluster.settle(60)
    assert [each.method for each in cluster.api.requests[before:] if each.method != "GET"] == []


async def test_adopts_orphans_and_releases_what_no_longer_matches(cluster: Any) -> None:
    cluster.start(ReplicaSetController(cluster.context).run)
    cluster.api.add(PODS, pod("stray"))
    cluster.api.add(REPLICA_SETS, replica_set(2))
    await cluster.settle()
    assert len(cluster.pods()) == 2
    stray = cluster.get(PODS, "stray")
    assert controller_of(stray)["name"] == "web"
    await cluster.client.patch(PODS, ObjectKey("default", "stray"), {"metadata": {"labels": {"app": "other"}}})
    await cluster.settle()
    assert controller_of(cluster.get(PODS, "stray")) is None
    assert len(cluster.pods()) == 3


async def test_a_refused_creation_becomes_a_condition_and_goes_when_it_works(cluster: Any) -> None:
    cluster.start(ReplicaSetController(cluster.context).run)
    cluster.api.refuse(Forbidden("pods is forbidden: exceeded quota"), method="POST", path=PODS_PATH, times=3)
    cluster.api.add(REPLICA_SETS, replica_set(8))
    for _ in range(4):
        await cluster.clock.advance(0.001)
    status = cluster.get(REPLICA_SETS, "web")["status"]
    assert [(each["type"], each["reason"]) for each in status["conditions"]] == [("ReplicaFailure", "FailedCreate")]
    await cluster.settle()
    assert len(cluster.pods()) == 8
    assert cluster.get(REPLICA_SETS, "web")["status"].get("conditions", []) == []
    assert "Warning FailedCreate: Error creating: pods is forbidden: exceeded quota" in cluster.events.said


async def test_a_dying_namespace_is_no_failure(cluster: Any) -> None:
    error = Forbidden("forbidden", causes=[Cause(reason="NamespaceTerminating", message="")])
    cluster.start(ReplicaSetController(cluster.context).run)
    cluster.api.refuse(error, method="POST", path=PODS_PATH, times=10_000)
    cluster.api.add(REPLICA_SETS, replica_set(2))
    await cluster.settle()
    assert "conditions" not in cluster.get(REPLICA_SETS, "web")["status"]
    assert cluster.events.said == []


async def test_no_pod_is_made_twice_while_the_cache_lags(cluster: Any) -> None:
    cluster.start(ReplicaSetController(cluster.context).run)
    cluster.api.add(REPLICA_SETS, replica_set(5))
    await cluster.clock.settle()
    cluster.api.break_watches()
    for number in range(5):
        cluster.set_status(replica_set(), REPLICA_SETS, note=number)
    await cluster.settle()
    assert len(cluster.pods()) == 5
    assert len({name_of(each) for each in cluster.pods()}) == 5
