"""Whom to remove for a more important pod; and what the scheduler does about it."""

from __future__ import annotations

import random
from typing import Any

import pytest
from tests.unit.scheduler.objects import facts, node, pod

from anynode.api.objects import Object
from anynode.api.selectors import of_labels
from anynode.scheduler.diagnosis import explain
from anynode.scheduler.nominations import Nominations
from anynode.scheduler.pods import PodFacts, Shapes
from anynode.scheduler.preemption import Budget, Preemption, find_preemption
from anynode.scheduler.ranking import Ranking
from anynode.scheduler.snapshot import Snapshot

SHAPES = Shapes()


def placed(snapshot: Snapshot, where: str, name: str, cpu: str, priority: int = 0, **more: Any) -> PodFacts:
    found = SHAPES.facts(pod(name, cpu=cpu, priority=priority, **more))
    snapshot.place(found, where)
    return found


def nodes(*names: str, **more: Any) -> Snapshot:
    snapshot = Snapshot()
    for name in names:
        snapshot.set_node(node(name, cpu="4", **more))
    return snapshot


def find(
    snapshot: Snapshot, wanted: Object, *budgets: Budget, starts: dict[str, str] | None = None
) -> Preemption | None:
    ranking, asked = Ranking(snapshot, random.Random(1)), SHAPES.facts(wanted)
    assert ranking.best(asked) is None
    before = (snapshot.requested.tolist(), snapshot.pod_count.tolist())
    helpable = explain(snapshot, asked, ranking.near(asked)).helpable
    found = find_preemption(
        snapshot,
        ranking,
        asked,
        helpable,
        budgets=budgets,
        start_of=lambda each: (starts or {}).get(each.key.name, ""),
        chance=random.Random(1),
    )
    assert (snapshot.requested.tolist(), snapshot.pod_count.tolist()) == before
    return found


def victims(found: Preemption | None) -> list[str]:
    return [] if found is None else [found.node, *(each.key.name for each in found.victims)]


def test_as_many_as_possible_are_spared_the_important_first() -> None:
    snapshot = nodes("a")
    placed(snapshot, "a", "low", "1", 1)
    placed(snapshot, "a", "middle", "1", 5)
    placed(snapshot, "a", "high", "2", 50)
    assert victims(find(snapshot, pod("p", cpu="1", priority=10))) == ["a", "low"]
    assert victims(find(snapshot, pod("p", cpu="2", priority=10))) == ["a", "middle", "low"]
    assert find(snapshot, pod("p", cpu="3", priority=10)) is None
    assert find(snapshot, pod("p", cpu="1", priority=1)) is None


def test_the_node_with_the_least_important_victims_then_the_fewest() -> None:
    snapshot = nodes("a", "b", "c")
    placed(snapshot, "a", "a5", "4", 5)
    placed(snapshot, "b", "b1", "2", 1)
    placed(snapshot, "b", "b2", "2", 1)
    placed(snapshot, "c", "c1", "4", 1)
    assert victims(find(snapshot, pod("p", cpu="4", priority=10))) == ["c", "c1"]


def test_the_younger_of_equals() -> None:
    snapshot = nodes("a", "b")
    placed(snapshot, "a", "old", "4")
    placed(snapshot, "b", "young", "4")
    starts = {"old": "2026-01-01T00:00:00Z", "young": "2026-01-02T00:00:00Z"}
    assert victims(find(snapshot, pod("p", cpu="4", priority=10), starts=starts)) == ["b", "young"]


def test_budgets_are_kept_where_possible() -> None:
    snapshot = nodes("a", "b")
    placed(snapshot, "a", "guarded", "4", 0, labels={"app": "db"})
    placed(snapshot, "b", "free", "4", 5)
    budget = Budget("default", of_labels({"app": "db"}), 0)
    found = find(snapshot, pod("p", cpu="4", priority=10), budget)
    assert victims(found) == ["b", "free"]
    found = find(snapshot, pod("q", cpu="4", priority=3), budget)
    assert victims(found) == ["a", "guarded"]
    assert found is not None
    assert found.violations == 1


def test_no_use_where_the_node_itself_refuses() -> None:
    snapshot = nodes("a", taints=[{"key": "k", "effect": "NoSchedule"}])
    placed(snapshot, "a", "low", "4")
    assert find(snapshot, pod("p", cpu="1", priority=10)) is None


def test_host_ports_and_anti_affinity_can_be_won_by_preemption() -> None:
    ports = [{"containerPort": 80, "hostPort": 80}]
    snapshot = nodes("a")
    placed(snapshot, "a", "bystander", "1")
    placed(snapshot, "a", "holder", "1", ports=ports)
    assert victims(find(snapshot, pod("p", priority=10, ports=ports))) == ["a", "holder"]
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    placed(snapshot, "a", "x", "1", labels={"app": "x"})
    assert victims(find(snapshot, pod("q", priority=10, affinity=affinity))) == ["a", "x"]


@pytest.mark.parametrize(("priority", "node_name"), [(0, None), (10, "a"), (20, "a")])
def test_a_promised_place_is_taken_for_lesser_pods_only(priority: int, node_name: str | None) -> None:
    snapshot = nodes("a")
    nominated = Nominations(snapshot)
    waiting = facts(pod("p", cpu="4", priority=10))
    nominated.add(waiting, "a")
    ranking = Ranking(snapshot, random.Random(1))
    other = waiting if priority == 10 else facts(pod("q", cpu="1", priority=priority))
    with nominated.aside(other):
        assert ranking.best(other) == node_name
    assert nominated.node_of(waiting.uid) == "a"
    assert snapshot.pod_count[0] == 1
    assert nominated.drop(waiting.uid)
    assert snapshot.pod_count[0] == 0
