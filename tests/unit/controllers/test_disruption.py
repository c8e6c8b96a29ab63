"""Budgets: how many pods may go, and what an eviction that came to nothing leaves."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.objects import Object, condition_of, key_of, meta
from anynode.api.resources import known
from anynode.controllers.disruption import BUDGETS, DELETION_SECONDS, DisruptionController
from anynode.controllers.pods import PODS

REPLICA_SETS = known("replicasets", "apps")
DEPLOYMENTS = known("deployments", "apps")


def start(cluster: Any) -> None:
    cluster.start(DisruptionController(cluster.context).run)


def budget(**spec: Any) -> Object:
    spec.setdefault("selector", {"matchLabels": {"app": "a"}})
    return {"metadata": {"name": "b", "namespace": "default", "generation": 1}, "spec": spec}


def pod(name: str, *, ready: bool = True, owner: Object | None = None, **metadata: Any) -> Object:
    references = {"ownerReferences": [owner]} if owner else {}
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"app": "a"}, **references, **metadata},
        "spec": {},
        "status": {"phase": "Running", "conditions": [condition]},
    }


def owned_by(kind: str, name: str, version: str = "apps/v1") -> Object:
    return {"apiVersion": version, "kind": kind, "name": name, "uid": f"uid-{name}", "controller": True}


def workload(name: str, replicas: int, owner: Object | None = None) -> Object:
    references = {"ownerReferences": [owner]} if owner else {}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", **references},
        "spec": {"replicas": replicas},
    }


def numbers(cluster: Any) -> tuple[int, int, int, int]:
    status = cluster.get(BUDGETS, "b")["status"]
    fields = ("expectedPods", "desiredHealthy", "currentHealthy", "disruptionsAllowed")
    return tuple(status[field] for field in fields)  # type: ignore[return-value]


async def test_a_number_that_must_be_available(cluster: Any) -> None:
    start(cluster)
    for each in (pod("a"), pod("b"), pod("c", ready=False), pod("d", deletionTimestamp="2026-01-01T00:00:00Z")):
        cluster.api.add(PODS, each)
    cluster.api.add(BUDGETS, budget(minAvailable=1))
    await cluster.settle()
    assert numbers(cluster) == (4, 1, 2, 1)
    found = cluster.get(BUDGETS, "b")
    assert found["status"]["observedGeneration"] == 1
    condition = condition_of(found, "DisruptionAllowed")
    assert condition is not None
    assert (condition["status"], condition["reason"], condition["observedGeneration"]) == ("True", "SufficientPods", 1)
    cluster.api.remove(PODS, key_of(pod("a")))
    await cluster.settle()
    assert numbers(cluster) == (3, 1, 1, 0)
    assert condition_of(cluster.get(BUDGETS, "b"), "DisruptionAllowed")["reason"] == "InsufficientPods"


async def test_a_budget_without_pods_allows_nothing(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(BUDGETS, budget(minAvailable=0))
    await cluster.settle()
    assert numbers(cluster) == (0, 0, 0, 0)
    assert set(cluster.events.said) == {"Normal NoPods: No matching pods found"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": "50%"}, (5, 3, 2, 0)),
        ({"maxUnavailable": "50%"}, (5, 2, 2, 0)),
        ({"maxUnavailable": 4}, (5, 1, 2, 1)),
        ({"maxUnavailable": 9}, (5, 0, 2, 2)),
    ],
)
async def test_shares_are_of_what_the_owners_are_scaled_to(
    cluster: Any, spec: Object, expected: tuple[int, ...]
) -> None:
    start(cluster)
    cluster.api.add(DEPLOYMENTS, workload("deployment", 5))
    cluster.api.add(REPLICA_SETS, workload("set", 4, owned_by("Deployment", "deployment")))
    for name in "ab":
        cluster.api.add(PODS, pod(name, owner=owned_by("ReplicaSet", "set")))
    cluster.api.add(BUDGETS, budget(**spec))
    await cluster.settle()
    assert numbers(cluster) == expected


async def test_pods_of_nobody_are_told_of_where_the_owners_count(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(PODS, pod("a"))
    cluster.api.add(BUDGETS, budget(maxUnavailable=1))
    await cluster.settle()
    assert numbers(cluster) == (0, 0, 1, 0)
    assert cluster.events.said[0].startswith("Warning UnmanagedPods: Pods selected by this PodDisruptionBudget")


async def test_what_cannot_be_worked_out_allows_nothing_and_says_why(cluster: Any) -> None:
    start(cluster)
    cluster.api.add(PODS, pod("a", owner=owned_by("ReplicaSet", "gone")))
    cluster.api.add(BUDGETS, budget(maxUnavailable=1))
    await cluster.settle()
    found = cluster.get(BUDGETS, "b")
    assert found["status"]["disruptionsAllowed"] == 0
    condition = condition_of(found, "DisruptionAllowed")
    assert condition is not None
    assert (condition["reason"], condition["message"]) == ("SyncFailed", 'found no controllers for pod "a"')
    assert cluster.events.said[0].startswith("Warning CalculateExpectedPodCountFailed")


async def test_an_evicted_pod_counts_as_gone_until_it_turns_out_to_stay(cluster: Any) -> None:
    start(cluster)
    for name in "ab":
        cluster.api.add(PODS, pod(name))
    cluster.api.add(BUDGETS, budget(minAvailable=1))
    await cluster.settle()
    told = {"a": cluster.context.timestamp(), "gone": cluster.context.timestamp()}
    cluster.set_status(budget(), BUDGETS, disruptedPods=told, disruptionsAllowed=0)
    await cluster.settle()
    status = cluster.get(BUDGETS, "b")["status"]
    assert (numbers(cluster), list(status["disruptedPods"])) == ((2, 1, 1, 0), ["a"])
    await cluster.settle(DELETION_SECONDS + 5)
    assert numbers(cluster) == (2, 1, 2, 1)
    assert "disruptedPods" not in cluster.get(BUDGETS, "b")["status"]
    assert any(said.startswith("Warning NotDeleted") for said in cluster.events.said)


async def test_a_pod_that_stays_is_no_longer_a_target(cluster: Any) -> None:
    start(cluster)
    condition = {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": cluster.context.timestamp()}
    marked = pod("a")
    marked["status"]["conditions"].append(condition | {"reason": "EvictionByEvictionAPI"})
    kubelet = pod("k")
    kubelet["status"]["conditions"].append(condition | {"reason": "TerminationByKubelet"})
    for each in (marked, kubelet):
        cluster.api.add(PODS, each)
    await cluster.settle(60)
    assert condition_of(cluster.get(PODS, "a"), "DisruptionTarget")["status"] == "True"
    await cluster.settle(DELETION_SECONDS)
    found = condition_of(cluster.get(PODS, "a"), "DisruptionTarget")
    assert (found["status"], "reason" in found) == ("False", False)
    assert condition_of(cluster.get(PODS, "k"), "DisruptionTarget")["status"] == "True"
    assert meta(cluster.get(PODS, "a"))["labels"] == {"app": "a"}
