"""DaemonSet: where daemons fit, and how they are kept and updated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anynode.api.objects import Object, ObjectKey, get_path, labels_of, meta, name_of
from anynode.controllers import daemonset_plan as plan
from anynode.controllers import node_fit
from anynode.controllers.daemonset import DAEMON_SETS, NODES, DaemonSetController
from anynode.controllers.pods import PODS
from anynode.controllers.revisions import CONTROLLER_REVISIONS, HASH_LABEL

KEY = ObjectKey("default", "agent")


def daemon_set(image: str = "v1", strategy: Object | None = None, **pod_spec: Any) -> Object:
    return {
        "metadata": {"name": "agent", "namespace": "default", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "updateStrategy": strategy or {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "revisionHistoryLimit": 10,
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "main", "image": image}], **pod_spec},
            },
        },
    }


def node(name: str, *taints: Object, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)} if taints else {}}


def taint(key: str, effect: str, value: str = "") -> Object:
    return {"key": key, "effect": effect, "value": value}


@pytest.mark.parametrize(
    ("spec", "where", "expected"),
    [
        ({}, node("n"), (True, True)),
        ({"nodeName": "other"}, node("n"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("n"), (False, False)),
        ({"nodeSelector": {"disk": "ssd"}}, node("n", disk="ssd"), (True, True)),
        ({}, node("n", taint("mine", "NoSchedule")), (False, True)),
        ({}, node("n", taint("mine", "NoExecute")), (False, False)),
        ({}, node("n", taint("mine", "PreferNoSchedule")), (True, True)),
        ({"tolerations": [{"key": "mine", "operator": "Exists"}]}, node("n", taint("mine", "NoExecute")), (True, True)),
        ({}, node("n", taint("node.kubernetes.io/not-ready", "NoExecute")), (True, True)),
        ({}, node("n", taint("node.kubernetes.io/unschedulable", "NoSchedule")), (True, True)),
        ({}, node("n", taint("node.kubernetes.io/network-unavailable", "NoSchedule")), (False, True)),
        ({"hostNetwork": True}, node("n", taint("node.kubernetes.io/network-unavailable", "NoSchedule")), (True, True)),
    ],
)
def test_fit(spec: Object, where: Object, expected: tuple[bool, bool]) -> None:
    assert plan.fit(daemon_set(**spec), where) == expected


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "k", "value": "v"}, True),
        ({"key": "k", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration: Object, expected: bool) -> None:
    assert node_fit.tolerates(toleration, taint("k", "NoSchedule", "v")) is expected


def test_a_pod_is_pinned_and_keeps_its_other_affinity() -> None:
    given_affinity = {"podAffinity": {"x": 1}, "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    pinned = node_fit.pinned(given_affinity, "n1")
    assert pinned["podAffinity"] == {"x": 1}
    assert node_fit.target_node({"spec": {"affinity": pinned}}) == "n1"


@settings(max_examples=100, deadline=None)
@given(
    count=st.integers(1, 8),
    rolling=st.sampled_from(
        [{"maxUnavailable": 1}, {"maxUnavailable": "50%"}, {"maxUnavailable": 0, "maxSurge": 1}, {"maxSurge": "100%"}]
    ),
)
def test_an_update_ends_and_keeps_its_limits(count: int, rolling: Object) -> None:
    wish = daemon_set("v2", {"type": "RollingUpdate", "rollingUpdate": rolling})
    nodes = [node(f"n{number}") for number in range(count)]
    surge, unavailable = plan.limits(wish, count)
    pods = {f"{name_of(each)}-old": _pod(name_of(each), "old", ready=True) for each in nodes}
    for turn in range(100):
        placed = plan.by_node(pods.values())
        for steps in (
            plan.plan_nodes(wish, nodes, placed, "new", 0.0),
            plan.plan_update(wish, nodes, plan.by_node(pods.values()), "new", 0.0),
        ):
            for doomed in steps.delete:
                pods.pop(name_of(doomed), None)
            for where in steps.create:
                pods[f"{where}-{turn}"] = _pod(where, "new", ready=False, name=f"{where}-{turn}")
        running = [each for each in pods.values() if get_path(each, "status", "conditions")[0]["status"] == "True"]
        covered = {each["spec"]["nodeName"] for each in running}
        assert len(covered) >= count - max(unavailable, 0 if surge else 1)
        assert len(pods) <= count + surge
        for name, each in list(pods.items()):
            if turn % 2:
                pods[name] = _pod(each["spec"]["nodeName"], labels_of(each)[HASH_LABEL], ready=True, name=name)
        if all(labels_of(each)[HASH_LABEL] == "new" for each in pods.values()) and len(pods) == count:
            return
    pytest.fail("the update did not end")


def _pod(where: str, name_hash: str, *, ready: bool, name: str = "") -> Object:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": name or f"{where}-{name_hash}", "namespace": "default", "labels": {HASH_LABEL: name_hash}},
        "spec": {"nodeName": where},
        "status": {"phase": "Running", "conditions": [condition]},
    }


async def start(cluster: Any, wish: Object) -> None:
    cluster.start(DaemonSetController(cluster.context).run)
    cluster.api.add(NODES, node("n1"), node("n2"), node("tainted", taint("mine", "NoSchedule")))
    cluster.api.add(DAEMON_SETS, wish)
    await cluster.settle()


def bind(cluster: Any) -> None:
    """What scheduler and nodes do."""
    for each in cluster.pods():
        target = node_fit.target_node(each)
        if not each["spec"].get("nodeName"):
            cluster.api.put(PODS, {**each, "spec": {**each["spec"], "nodeName": target}})
    cluster.run_pods()


async def test_runs_on_fitting_nodes_and_follows_them(cluster: Any) -> None:
    await start(cluster, daemon_set())
    assert sorted(node_fit.target_node(each) for each in cluster.pods()) == ["n1", "n2"]
    assert len(cluster.pods()[0]["spec"]["tolerations"]) == 6
    bind(cluster)
    await cluster.settle()
    status = cluster.get(DAEMON_SETS, "agent")["status"]
    assert (status["desiredNumberScheduled"], status["currentNumberScheduled"], status["numberReady"]) == (2, 2, 2)
    assert (status["updatedNumberScheduled"], status["numberAvailable"], status["numberMisscheduled"]) == (2, 2, 0)
    cluster.api.add(NODES, node("n3"))
    cluster.api.put(NODES, node("n1", taint("mine", "NoExecute")))
    await cluster.settle()
    bind(cluster)
    await cluster.settle()
    assert sorted(node_fit.target_node(each) for each in cluster.pods()) == ["n2", "n3"]


async def test_updates_one_node_at_a_time_and_keeps_revisions(cluster: Any) -> None:
    await start(cluster, daemon_set("v1"))
    bind(cluster)
    await cluster.settle()
    container = [{"name": "main", "image": "v2"}]
    await cluster.client.patch(DAEMON_SETS, KEY, {"spec": {"template": {"spec": {"containers": container}}}})
    await cluster.settle()
    assert sum(1 for each in cluster.pods() if meta(each).get("deletionTimestamp")) == 1
    for _ in range(6):
        bind(cluster)
        await cluster.settle()
    assert {each["spec"]["containers"][0]["image"] for each in cluster.pods()} == {"v2"}
    revisions = sorted(cluster.api.objects(CONTROLLER_REVISIONS), key=lambda each: each["revision"])
    assert [each["revision"] for each in revisions] == [1, 2]
    assert revisions[0]["data"]["spec"]["template"]["$patch"] == "replace"
    container = [{"name": "main", "image": "v1"}]
    await cluster.client.patch(DAEMON_SETS, KEY, {"spec": {"template": {"spec": {"containers": container}}}})
    for _ in range(6):
        await cluster.settle()
        bind(cluster)
    await cluster.settle()
    assert sorted(each["revision"] for each in cluster.api.objects(CONTROLLER_REVISIONS)) == [2, 3]


async def test_failed_daemons_are_replaced_with_back_off(cluster: Any) -> None:
    await start(cluster, daemon_set())
    bind(cluster)
    await cluster.settle()
    cluster.finish_pod(cluster.pods()[0], "Failed", exit_code=1)
    await cluster.settle()
    assert any("FailedDaemonPod: Found failed daemon pod default/agent-" in each for each in cluster.events.said)
    bind(cluster)
    await cluster.settle()
    assert len(cluster.pods()) == 2
