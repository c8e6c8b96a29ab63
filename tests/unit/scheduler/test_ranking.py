"""Filters and scores: kube-scheduler's numbers, and rows scored one by one agree with all scored at once."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from tests.unit.scheduler.objects import facts, node, pod

from anynode.api.objects import Object
from anynode.scheduler.pods import Shapes
from anynode.scheduler.ranking import Ranking, ScoreColumn
from anynode.scheduler.snapshot import NodeChange, Snapshot

GPU = "example.com/gpu"


def snapshot_of(*nodes: Object) -> Snapshot:
    snapshot = Snapshot()
    for each in nodes:
        snapshot.set_node(each)
    return snapshot


def choices(snapshot: Snapshot, each: Object) -> list[str]:
    """Every node that passes all filters; the one chosen is among them."""
    ranking, wanted = Ranking(snapshot, random.Random(1)), facts(each, Shapes())
    passes = (ranking.column(wanted.shape).scores() >= 0) & ranking.near(wanted).passes()
    found = sorted(snapshot.names[row] for row in np.flatnonzero(passes))
    best = ranking.best(wanted)
    assert best in found if found else best is None
    return found


def best(snapshot: Snapshot, each: Object) -> list[str]:
    """Every node that may be chosen."""
    ranking, wanted = Ranking(snapshot, random.Random(1)), facts(each)
    return sorted({str(ranking.best(wanted)) for _ in range(50)})


def scores(snapshot: Snapshot, each: Object) -> list[int]:
    return [int(score) for score in ScoreColumn(snapshot, facts(each).shape).scores()]


def taint(key: str, effect: str = "NoSchedule", value: str = "") -> Object:
    return {"key": key, "value": value, "effect": effect}


def required(*terms: Object) -> Object:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (pod("p"), ["big", "ssd"]),
        (pod("p", cpu="5"), ["big"]),
        (pod("p", nodeSelector={"disk": "ssd"}), ["ssd"]),
        (pod("p", nodeSelector={"disk": "none"}), []),
        (pod("p", affinity=required(expression("disk", "NotIn", "ssd"))), ["big"]),
        (pod("p", affinity=required(expression("disk", "Exists"), expression("size", "Gt", "5"))), ["big", "ssd"]),
        (pod("p", affinity=required(expression("size", "Gt", "50"))), []),
        (pod("p", affinity=required({})), []),
        (
            pod(
                "p", affinity=required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["ssd"]}]})
            ),
            ["ssd"],
        ),
        (pod("p", tolerations=[{"operator": "Exists"}]), ["big", "cordoned", "ssd", "tainted"]),
        (
            pod("p", tolerations=[{"key": "team", "value": "a"}], nodeSelector={"kubernetes.io/hostname": "tainted"}),
            ["tainted"],
        ),
        (
            pod("p", tolerations=[{"key": "team", "value": "b"}], nodeSelector={"kubernetes.io/hostname": "tainted"}),
            [],
        ),
        (pod("p", extended={GPU: "1"}), ["big"]),
    ],
)
def test_filters(wanted: Object, expected: list[str]) -> None:
    same: dict[str, Any] = {"cpu": "4", "memory": "8Gi"}
    snapshot = snapshot_of(
        node("big", cpu="8", memory="16Gi", labels={"size": "10"}, extended={GPU: "2"}),
        node("ssd", cpu="4", memory="8Gi", labels={"disk": "ssd"}),
        node("tainted", taints=[taint("team", value="a")], **same),
        node("cordoned", unschedulable=True, **same),
    )
    assert choices(snapshot, wanted) == expected


def test_scores_are_kube_schedulers() -> None:
    # cpu 1000 + 100 of 4000 -> (4000-1100)*100/4000 = 72; memory 1Gi + 1Gi of 8Gi -> 75; mean 73.
    # balance before |0.25-0.125|/2 = 0.0625 -> 93; after |0.275-0.25|/2 = 0.0125 -> 98; 50 + (50+98-93)/2 = 77.
    snapshot = snapshot_of(node("n", cpu="4", memory="8Gi"))
    snapshot.place(facts(pod("there", cpu="1", memory="1Gi")), "n")
    assert scores(snapshot, pod("p", cpu="100m", memory="1Gi")) == [3 * 100 + 73 + 77]
    # best effort: nothing asked for, 100m and 200 MB assumed for spreading, balance not scored
    free_cpu = (4000 - 1000 - 100) * 100 // 4000
    free_memory = (8 * 1024**3 - 1024**3 - 200 * 1024**2) * 100 // (8 * 1024**3)
    assert scores(snapshot, pod("p")) == [3 * 100 + (free_cpu + free_memory) // 2]


def test_preferred_affinity_and_preferred_taints_are_normalized() -> None:
    prefer = [
        {"weight": 10, "preference": expression("a", "Exists")},
        {"weight": 5, "preference": expression("b", "Exists")},
    ]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": prefer}}
    snapshot = snapshot_of(
        node("none"),
        node("a", labels={"a": ""}),
        node("b", labels={"b": ""}),
        node("disliked", taints=[taint("x", "PreferNoSchedule"), taint("y", "PreferNoSchedule")]),
        node("half", taints=[taint("x", "PreferNoSchedule")]),
    )
    base = scores(snapshot_of(node("n")), pod("p"))[0]
    got = scores(snapshot, pod("p", affinity=affinity))
    assert got == [base, base + 200, base + 100, base - 300, base - 150]


def test_an_emptier_node_is_preferred_and_ties_are_broken_by_chance() -> None:
    snapshot = snapshot_of(node("a"), node("b"), node("c"))
    snapshot.place(facts(pod("there", cpu="1", memory="2Gi")), "a")
    assert best(snapshot, pod("p", cpu="1", memory="2Gi")) == ["b", "c"]


def test_host_ports() -> None:
    def with_port(name: str, address: str = "") -> Object:
        port = {"containerPort": 80, "hostPort": 8080, **({"hostIP": address} if address else {})}
        return pod(name, ports=[port])

    snapshot = snapshot_of(node("a"), node("b"))
    snapshot.place(facts(with_port("x", "127.0.0.1")), "a")
    assert choices(snapshot, with_port("y")) == ["b"]
    assert "a" in choices(snapshot, with_port("y", "127.0.0.2"))
    assert choices(snapshot, with_port("y", "127.0.0.1")) == ["b"]
    snapshot.remove(facts(with_port("x")).uid)
    assert "a" in choices(snapshot, with_port("y"))


def test_nodes_come_change_and_go() -> None:
    snapshot = Snapshot()
    early = facts(pod("early", cpu="3"))
    snapshot.place(early, "a")
    assert snapshot.set_node(node("a")) == NodeChange.ADDED
    assert choices(snapshot, pod("p", cpu="2")) == []
    assert snapshot.set_node(node("a", cpu="8")) == NodeChange.ALLOCATABLE
    assert choices(snapshot, pod("p", cpu="2")) == ["a"]
    assert snapshot.set_node(node("a", cpu="8", taints=[taint("x")])) == NodeChange.TAINTS
    assert choices(snapshot, pod("p")) == []
    assert snapshot.set_node(node("a", cpu="8", labels={"x": "y"})) == NodeChange.LABELS | NodeChange.TAINTS
    assert choices(snapshot, pod("p", nodeSelector={"x": "y"})) == ["a"]
    snapshot.remove_node("a")
    assert len(snapshot) == 0
    assert choices(snapshot, pod("p")) == []
    snapshot.set_node(node("b"))
    assert choices(snapshot, pod("p", cpu="4")) == ["b"]


def zone_spread(name: str, skew: int = 1, **more: Any) -> Object:
    constraint = {
        "topologyKey": "zone",
        "maxSkew": skew,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **more,
    }
    return pod(name, labels={"app": "web"}, topologySpreadConstraints=[constraint])


def zoned() -> Snapshot:
    return snapshot_of(
        node("a1", labels={"zone": "a"}), node("a2", labels={"zone": "a"}), node("b1", labels={"zone": "b"}), node("x")
    )


def test_spreading_keeps_the_skew() -> None:
    snapshot = zoned()
    ranking, shapes = Ranking(snapshot, random.Random(1)), Shapes()
    zones = {"a": 0, "b": 0}
    for number in range(10):
        each = facts(zone_spread(f"p{number}"), shapes)
        chosen = ranking.best(each)
        assert chosen is not None
        assert chosen != "x"
        snapshot.place(each, chosen)
        zones[chosen[0]] += 1
        assert abs(zones["a"] - zones["b"]) <= 1
    other = facts(pod("other", namespace="elsewhere", labels={"app": "web"}))
    snapshot.place(other, "b1")
    assert ranking.best(facts(zone_spread("p11"), shapes)) is not None


def test_too_few_domains_count_as_empty_ones() -> None:
    snapshot = snapshot_of(node("a1", labels={"zone": "a"}))
    snapshot.place(facts(zone_spread("there")), "a1")
    assert choices(snapshot, zone_spread("p")) == ["a1"]
    assert choices(snapshot, zone_spread("p", minDomains=2)) == []


def near(key: str, anti: bool, app: str, **more: Any) -> Object:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}
    section = "podAntiAffinity" if anti else "podAffinity"
    return {section: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_affinity_follows_and_the_first_of_its_kind_may_go_anywhere() -> None:
    snapshot = zoned()
    follower = pod("f", labels={"app": "f"}, affinity=near("zone", False, "db"))
    assert choices(snapshot, follower) == []
    snapshot.place(facts(pod("db", labels={"app": "db"})), "b1")
    assert choices(snapshot, follower) == ["b1"]
    first = pod("s", labels={"app": "s"}, affinity=near("zone", False, "s"))
    assert choices(snapshot, first) == ["a1", "a2", "b1"]


def test_anti_affinity_holds_both_ways() -> None:
    snapshot = zoned()
    lonely = pod("l", labels={"app": "l"}, affinity=near("zone", True, "web"))
    snapshot.place(facts(pod("w", labels={"app": "web"})), "a1")
    assert "a2" not in choices(snapshot, lonely)
    snapshot.place(facts(lonely), "b1")
    assert choices(snapshot, pod("w2", labels={"app": "web"})) == ["a1", "a2", "x"]
    assert "b1" in choices(snapshot, pod("w3", namespace="other", labels={"app": "web"}))
    snapshot.remove(facts(lonely).uid)
    assert "b1" in choices(snapshot, pod("w2", labels={"app": "web"}))


def test_namespace_selectors() -> None:
    snapshot = zoned()
    snapshot.namespace_labels["team"] = {"kind": "prod"}
    snapshot.place(facts(pod("w", namespace="team", labels={"app": "web"})), "a1")
    everywhere = near("zone", False, "web", namespaceSelector={"matchLabels": {"kind": "prod"}})
    assert choices(snapshot, pod("p", affinity=near("zone", False, "web"))) == []
    assert choices(snapshot, pod("p", affinity=everywhere)) == ["a1", "a2"]


@pytest.mark.parametrize("seed", range(6))
def test_rows_scored_one_by_one_agree_with_all_at_once(seed: int) -> None:
    """A random walk over placements, removals and node changes."""
    chance = random.Random(seed)
    snapshot, shapes = Snapshot(), Shapes()
    for number in range(40):
        taints = [taint("t", chance.choice(["NoSchedule", "PreferNoSchedule"]))] if chance.random() < 0.3 else []
        cpu, memory = chance.choice(["0", "2", "3500m"]), chance.choice(["0", "4Gi", "7Gi"])
        snapshot.set_node(node(f"n{number}", cpu, memory, pods="9", taints=taints))
    kinds = [
        pod("a", "100m", "100Mi"),
        pod("b", "700m"),
        pod("c"),
        pod("d", memory="1Gi", tolerations=[{"operator": "Exists"}]),
        pod("e", ports=[{"hostPort": 80}]),
    ]
    ranking = Ranking(snapshot, chance)
    placed: list[Any] = []
    for step in range(600):
        kind = chance.choice(kinds)
        each = shapes.facts({**kind, "metadata": {**kind["metadata"], "uid": f"u{step}", "name": f"p{step}"}})
        chosen = ranking.best(each)
        fresh = ScoreColumn(snapshot, each.shape).scores()
        column = ranking.column(each.shape)
        assert column.scores().tolist() == fresh.tolist()
        if chosen is None:
            assert int(fresh.max()) == -1
        else:
            row = snapshot.row_of(chosen)
            assert row is not None
            assert fresh[row] == fresh.max()
            snapshot.place(each, chosen)
            placed.append(each)
        while placed and (chosen is None or chance.random() < 0.3):
            snapshot.remove(placed.pop(chance.randrange(len(placed))).uid)
            if chance.random() < 0.5:
                break
        if chance.random() < 0.02:
            snapshot.set_node(node(f"n{chance.randrange(40)}", chance.choice(["1", "6"]), "5Gi", pods="9"))
