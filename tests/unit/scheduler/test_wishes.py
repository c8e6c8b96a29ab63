"""Preferred affinity and ScheduleAnyway spreading decide between nodes that are otherwise alike."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from tests.unit.scheduler.objects import facts, node, pod

from anynode.api.objects import Object
from anynode.scheduler.pods import Shapes
from anynode.scheduler.ranking import Ranking
from anynode.scheduler.snapshot import Snapshot
from anynode.scheduler.wishes import NearWishes


def zoned() -> Snapshot:
    snapshot = Snapshot()
    for name, zone in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        snapshot.set_node(node(name, cpu="1000", memory="1000Gi", pods="1000", labels={"zone": zone}))
    snapshot.set_node(node("x", cpu="1000", memory="1000Gi", pods="1000"))
    return snapshot


def wish(section: str, app: str, weight: int = 100, key: str = "zone") -> Object:
    term = {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}
    return {section: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": term}]}}


def scores(snapshot: Snapshot, wanted: Object) -> list[int]:
    wishes = NearWishes(snapshot, facts(wanted))
    return [int(score) for score in wishes.scores(np.ones(snapshot.size, dtype=np.bool_))]


@pytest.mark.parametrize(
    ("section", "expected"), [("podAffinity", [0, 0, 200, 0]), ("podAntiAffinity", [200, 200, 0, 200])]
)
def test_its_own_wishes(section: str, expected: list[int]) -> None:
    snapshot = zoned()
    snapshot.place(facts(pod("db", labels={"app": "db"})), "b1")
    assert scores(snapshot, pod("p", affinity=wish(section, "db"))) == expected
    assert scores(snapshot, pod("p", affinity=wish(section, "other"))) == [0, 0, 0, 0]


def test_wishes_of_those_already_there() -> None:
    snapshot = zoned()
    snapshot.place(facts(pod("fan", affinity=wish("podAffinity", "star"))), "a1")
    star = pod("star", labels={"app": "star"})
    assert scores(snapshot, star) == [200, 200, 0, 0]
    ranking, wanted = Ranking(snapshot, random.Random(1)), facts(star)
    assert {ranking.best(wanted) for _ in range(30)} == {"a1", "a2"}
    snapshot.place(facts(pod("foe", affinity=wish("podAntiAffinity", "star", weight=50))), "b1")
    assert scores(snapshot, star) == [200, 200, 0, 66]
    snapshot.remove(facts(pod("fan")).uid)
    assert scores(snapshot, star) == [200, 200, 0, 200]


def spread(name: str, key: str = "zone", **more: Any) -> Object:
    constraint = {
        "topologyKey": key,
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}},
        **more,
    }
    return pod(name, labels={"app": "web"}, topologySpreadConstraints=[constraint])


def test_soft_spreading_prefers_the_emptier_zone() -> None:
    snapshot = zoned()
    snapshot.place(facts(spread("there-0")), "a1")
    snapshot.place(facts(spread("there-1")), "a1")
    # zone a holds 2 pods: 2 * ln(2 zones + 2) = 2.77 -> 3, zone b 0; x has no zone and counts for nothing
    assert scores(snapshot, spread("p")) == [0, 0, 200, 0]
    # per host: 2 pods on a1 only, and x counts, too
    assert scores(snapshot, spread("p", "kubernetes.io/hostname")) == [0, 200, 200, 200]


def test_soft_spreading_evens_out_but_never_refuses() -> None:
    snapshot, shapes = zoned(), Shapes()
    ranking = Ranking(snapshot, random.Random(1))
    zones = {"a": 0, "b": 0}
    for number in range(20):
        each = facts(spread(f"p{number}"), shapes)
        chosen = ranking.best(each)
        assert chosen is not None
        snapshot.place(each, chosen)
        zones[chosen[0]] += 1
    assert zones == {"a": 10, "b": 10}
