"""Why a pod fits nowhere, in kube-scheduler's words."""

from __future__ import annotations

from tests.unit.scheduler.objects import facts, node, pod

from anynode.api.objects import Object
from anynode.scheduler.diagnosis import NEVER, FitError, explain
from anynode.scheduler.snapshot import Snapshot
from anynode.scheduler.topology import NearRules


def why(wanted: Object, *nodes: Object) -> FitError:
    snapshot = Snapshot()
    for each in nodes:
        snapshot.set_node(each)
    wanted_facts = facts(wanted)
    return explain(snapshot, wanted_facts, NearRules(snapshot, wanted_facts))


def test_no_nodes() -> None:
    assert why(pod("p")).message == "no nodes available to schedule pods"


def test_each_node_counts_for_the_first_that_refuses_it() -> None:
    error = why(
        pod("p", cpu="6", memory="10Gi", nodeSelector={"disk": "ssd"}),
        node("tainted", taints=[{"key": "k", "effect": "NoSchedule"}]),
        node("cordoned", unschedulable=True),
        node("hdd"),
        node("small", labels={"disk": "ssd"}),
        node("full", cpu="8", memory="16Gi", pods="0", labels={"disk": "ssd"}),
    )
    assert error.message == (
        "0/5 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Too many pods, "
        "1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), "
        "1 node(s) were unschedulable. preemption: 0/5 nodes are available: "
        "1 No preemption victims found for incoming pod, 4 Preemption is not helpful for scheduling."
    )
    assert error.plugins == {"NodeResourcesFit", "NodeAffinity", "TaintToleration", "NodeUnschedulable"}


def test_used_up_nodes_could_be_helped_by_preemption() -> None:
    snapshot = Snapshot()
    for name in ("a", "b", "c"):
        snapshot.set_node(node(name))
        snapshot.place(facts(pod(f"on-{name}", cpu="3")), name)
    wanted = facts(pod("p", cpu="2"))
    assert explain(snapshot, wanted, NearRules(snapshot, wanted)).message == (
        "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: "
        "3 No preemption victims found for incoming pod."
    )
    error = explain(snapshot, wanted, NearRules(snapshot, wanted))
    assert error.without_preemption(NEVER).endswith(
        "3 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    )


def test_a_daemon_pod_speaks_of_its_node_only() -> None:
    field = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [field]}]}
        }
    }
    assert why(pod("p", cpu="9", affinity=affinity), node("a"), node("b")).message == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )


def test_spreading_and_affinity() -> None:
    spread = {
        "topologyKey": "zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }
    error = why(pod("p", topologySpreadConstraints=[spread]), node("a"))
    assert "1 node(s) didn't match pod topology spread constraints (missing required label)." in error.message
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    error = why(pod("p", affinity=affinity), node("a", labels={"zone": "z"}))
    assert "1 node(s) didn't match pod affinity rules." in error.message
    assert error.plugins == {"InterPodAffinity"}
