"""Nodes: silence, taints, evictions, lost pods."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.api.formats import format_micro_time, format_time
from anynode.api.objects import Object, ObjectKey, condition_of, get_path, meta, name_of
from anynode.controllers import node_health as health
from anynode.controllers.node_lifecycle import LEASES, NODES, NodeLifecycleController
from anynode.controllers.pod_gc import PodGarbageCollector, surplus
from anynode.controllers.pods import PODS
from anynode.controllers.taint_eviction import TaintEvictionController, seconds_tolerated


def node(name: str = "n1", ready: str = "True", *taints: Object, **spec: Any) -> Object:
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}] if ready else []
    return {
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {**spec, **({"taints": list(taints)} if taints else {})},
        "status": {"conditions": conditions},
    }


def taint(key: str, effect: str) -> Object:
    return {"key": f"node.kubernetes.io/{key}", "effect": effect}


def pod(name: str, where: str = "n1", *tolerations: Object, **status: Any) -> Object:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": name, "namespace": "default", "uid": name},
        "spec": {"nodeName": where, "tolerations": list(tolerations)} if where else {},
        "status": {"phase": "Running", "conditions": [ready], **status},
    }


@pytest.mark.parametrize(
    ("before", "execute", "expected"),
    [
        (node(), True, None),
        (node("n", "False"), False, [("not-ready", "NoSchedule")]),
        (node("n", "Unknown"), True, [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")]),
        (node("n", "True", taint("not-ready", "NoSchedule"), taint("not-ready", "NoExecute")), False, []),
        (
            node("n", "Unknown", taint("not-ready", "NoSchedule"), taint("not-ready", "NoExecute")),
            False,
            [("unreachable", "NoExecute"), ("unreachable", "NoSchedule")],
        ),
        (node("n", "True", {"key": "mine", "effect": "NoSchedule"}), False, None),
        (node("n", "True", unschedulable=True), False, [("unschedulable", "NoSchedule")]),
        (node("n", ""), True, None),
    ],
)
def test_taints_follow_conditions(before: Object, execute: bool, expected: Any) -> None:
    found = health.plan_taints(before, execute=execute, now=0.0)
    shown = found and [(each["key"].split("/")[-1], each["effect"]) for each in found]
    assert (shown if found is not None else None) == expected or (found == [] and expected == [])


@pytest.mark.parametrize(
    ("ready", "not_ready", "rate"), [(3, 0, 0.1), (1, 2, 0.1), (1, 3, 0.0), (0, 3, 0.1), (20, 40, 0.01), (40, 20, 0.1)]
)
def test_zones_in_trouble_are_tainted_slowly(ready: int, not_ready: int, rate: float) -> None:
    assert health.taints_per_second(ready, not_ready) == rate


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"operator": "Exists", "tolerationSeconds": 300}], 300.0),
        ([{"operator": "Exists", "tolerationSeconds": -1}], 0.0),
        ([{"key": "other", "operator": "Exists"}], 0.0),
    ],
)
def test_tolerated_time(tolerations: list[Object], expected: float | None) -> None:
    assert seconds_tolerated(tolerations, [taint("not-ready", "NoExecute")]) == expected


def lease(cluster: Any, name: str) -> None:
    renewed = {"renewTime": format_micro_time(cluster.clock.now())}
    cluster.api.put(LEASES, {"metadata": {"name": name, "namespace": "kube-node-lease"}, "spec": renewed})


def ready_of(cluster: Any, name: str) -> str:
    return health.ready_status(cluster.get(NODES, name))


async def test_a_silent_node_is_unknown_after_its_grace(cluster: Any) -> None:
    cluster.start(NodeLifecycleController(cluster.context).run)
    cluster.api.add(NODES, node("alive"), node("silent"))
    cluster.api.add(PODS, pod("p", "silent"))
    for _ in range(9):
        lease(cluster, "alive")
        await cluster.settle(5)
    assert ready_of(cluster, "silent") == "True"
    for _ in range(3):
        lease(cluster, "alive")
        await cluster.settle(5)
    assert ready_of(cluster, "silent") == "Unknown"
    assert ready_of(cluster, "alive") == "True"
    found = condition_of(cluster.get(NODES, "silent"), "Ready")
    assert (found["reason"], found["message"]) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert condition_of(cluster.get(NODES, "silent"), "PIDPressure")["reason"] == "NodeStatusNeverUpdated"
    taints = [(each["key"], each["effect"]) for each in cluster.get(NODES, "silent")["spec"]["taints"]]
    assert sorted(taints) == [(health.UNREACHABLE, "NoExecute"), (health.UNREACHABLE, "NoSchedule")]
    assert condition_of(cluster.get(PODS, "p"), "Ready")["status"] == "False"
    assert "Normal NodeNotReady: Node silent status is now: NodeNotReady" in cluster.events.said
    assert "Normal RegisteredNode: Node alive event: Registered Node alive in Controller" in cluster.events.said
    heard = {"type": "Ready", "status": "True", "lastHeartbeatTime": format_time(cluster.clock.now())}
    cluster.api.put(NODES, {**cluster.get(NODES, "silent"), "status": {"conditions": [heard]}})
    await cluster.settle()
    assert not cluster.get(NODES, "silent")["spec"].get("taints")


async def test_nothing_is_evicted_while_no_node_is_ready(cluster: Any) -> None:
    cluster.start(NodeLifecycleController(cluster.context).run)
    cluster.api.add(NODES, node("n1"), node("n2"))
    await cluster.settle(70)
    assert [ready_of(cluster, name) for name in ("n1", "n2")] == ["Unknown", "Unknown"]
    for name in ("n1", "n2"):
        effects = {each["effect"] for each in cluster.get(NODES, name)["spec"]["taints"]}
        assert effects == {"NoSchedule"}


async def test_no_execute_taints_come_one_by_one(cluster: Any) -> None:
    cluster.start(NodeLifecycleController(cluster.context).run)
    cluster.api.add(NODES, *(node(f"n{number}") for number in range(6)))
    await cluster.settle()
    for number in range(2):
        cluster.api.put(NODES, node(f"n{number}", "False"))
    await cluster.settle()
    assert executing(cluster) == 1
    await cluster.settle(16)
    assert executing(cluster) == 2


def executing(cluster: Any) -> int:
    taints = [each for found in cluster.api.objects(NODES) for each in get_path(found, "spec", "taints", default=())]
    return sum(1 for each in taints if each["effect"] == "NoExecute")


async def test_pods_leave_tainted_nodes_in_their_time(cluster: Any) -> None:
    cluster.start(TaintEvictionController(cluster.context).run)
    patient = {"key": health.NOT_READY, "operator": "Exists", "tolerationSeconds": 60}
    forever = {"operator": "Exists"}
    cluster.api.add(NODES, node())
    cluster.api.add(PODS, pod("at-once"), pod("later", "n1", patient), pod("never", "n1", forever), pod("else", "n2"))
    await cluster.settle()
    cluster.api.put(NODES, node("n1", "False", taint("not-ready", "NoExecute")))
    await cluster.settle()
    leaving = [name_of(each) for each in cluster.pods() if meta(each).get("deletionTimestamp")]
    assert leaving == ["at-once"]
    disruption = condition_of(cluster.get(PODS, "at-once"), "DisruptionTarget")
    assert disruption["reason"] == "DeletionByTaintManager"
    assert "Normal TaintManagerEviction: Marking for deletion Pod default/at-once" in cluster.events.said
    await cluster.settle(30)
    cluster.api.put(NODES, node())
    await cluster.settle(60)
    assert not meta(cluster.get(PODS, "later")).get("deletionTimestamp")
    assert "Normal TaintManagerEviction: Cancelling deletion of Pod default/later" in cluster.events.said
    cluster.api.put(NODES, node("n1", "False", taint("not-ready", "NoExecute")))
    await cluster.settle(59)
    assert not meta(cluster.get(PODS, "later")).get("deletionTimestamp")
    await cluster.settle(2)
    assert meta(cluster.get(PODS, "later"))["deletionTimestamp"]
    assert not meta(cluster.get(PODS, "never")).get("deletionTimestamp")


async def test_lost_pods_are_removed(cluster: Any) -> None:
    cluster.start(PodGarbageCollector(cluster.context).run)
    cluster.api.add(NODES, node())
    unscheduled = pod("unscheduled", "")
    unscheduled["metadata"].update(deletionTimestamp="2026-01-01T00:00:00Z", deletionGracePeriodSeconds=30)
    cluster.api.add(PODS, pod("kept"), pod("lost", "gone"), unscheduled)
    await cluster.settle()
    assert [name_of(each) for each in cluster.pods()] == ["kept", "lost"]
    await cluster.settle(30)
    assert [name_of(each) for each in cluster.pods()] == ["kept", "lost"]
    await cluster.settle(40)
    assert [name_of(each) for each in cluster.pods()] == ["kept"]


async def test_a_node_that_came_back_keeps_its_pods(cluster: Any) -> None:
    cluster.start(PodGarbageCollector(cluster.context).run)
    cluster.api.add(PODS, pod("p", "n1"))
    await cluster.settle(30)
    cluster.api.add(NODES, node())
    await cluster.settle(60)
    assert [name_of(each) for each in cluster.pods()] == ["p"]


def test_only_the_surplus_of_finished_pods_goes() -> None:
    pods = [pod(f"p{number}", phase="Succeeded") for number in range(4)]
    pods.append(pod("evicted", phase="Failed", reason="Evicted"))
    assert [name_of(each) for each in surplus(pods, 3)] == ["evicted", "p0"]
    assert surplus(pods, 5) == []


async def test_a_new_node_has_longer_to_report(cluster: Any) -> None:
    cluster.start(NodeLifecycleController(cluster.context).run)
    cluster.api.add(NODES, node("fresh", ""), node("other"))
    for _ in range(11):
        lease(cluster, "other")
        await cluster.settle(5)
    assert ready_of(cluster, "fresh") == ""
    for _ in range(3):
        lease(cluster, "other")
        await cluster.settle(5)
    assert ready_of(cluster, "fresh") == "Unknown"
    assert ready_of(cluster, "other") == "True"
    assert cluster.get(NODES, "fresh")["metadata"]["name"] == ObjectKey("", "fresh").name
