"""Preferred affinity and ScheduleAnyway spreading decide between nodes that are otherwise alike."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import numpy as np
import pytest
from tests.unit.scheduler.objects import facts, node, pod

from anynode.api.objects import Object, ObjectKey
from anynode.api.resources import known
from anynode.api.selectors import of_labels
from anynode.client.api_client import ApiClient
from anynode.informers.informer import InformerFactory
from anynode.scheduler.default_spread import Fellows
from anynode.scheduler.pods import Shapes
from anynode.scheduler.ranking import Ranking
from anynode.scheduler.snapshot import Snapshot
from anynode.scheduler.wishes import NearWishes
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

SERVICES, REPLICA_SETS = known("services"), known("replicasets", "apps")


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


def test_fellows_spread_by_themselves() -> None:
    snapshot = zoned()
    fellows = of_labels({"app": "web"})
    ranking, shapes = Ranking(snapshot, random.Random(1)), Shapes()
    hosts: dict[str, int] = {}
    for number in range(8):
        each = shapes.facts(pod(f"p{number}", labels={"app": "web"}), fellows)
        chosen = ranking.best(each)
        assert chosen is not None
        snapshot.place(each, chosen)
        hosts[chosen] = hosts.get(chosen, 0) + 1
    # without zone labels ("topology.kubernetes.io/zone") only hosts count, and all of them do
    assert hosts == {"a1": 2, "a2": 2, "b1": 2, "x": 2}


async def test_fellows_are_those_of_services_and_workloads() -> None:
    api, clock = FakeApi(), FakeClock()
    selector = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "tier", "operator": "Exists"}]}
    api.add(SERVICES, {"metadata": {"namespace": "default", "name": "s"}, "spec": {"selector": {"app": "web"}}})
    api.add(SERVICES, {"metadata": {"namespace": "other", "name": "s"}, "spec": {"selector": {"app": "web"}}})
    api.add(SERVICES, {"metadata": {"namespace": "default", "name": "bare"}, "spec": {}})
    api.add(REPLICA_SETS, {"metadata": {"namespace": "default", "name": "rs"}, "spec": {"selector": selector}})
    informers = InformerFactory(ApiClient(api), clock=clock)
    fellows = Fellows(informers)
    task = asyncio.create_task(informers.run())
    await clock.settle()
    web = pod("p", labels={"app": "web", "tier": "x"})
    assert str(fellows.selector_of(web)) == "app=web"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": True}
    owned = {**web, "metadata": {**web["metadata"], "ownerReferences": [owner]}}
    assert str(fellows.selector_of(owned)) == "app=web,app=web,tier"
    assert fellows.selector_of(pod("p", labels={"app": "db"})) is None
    assert fellows.selector_of(spread("p")) is None
    api.remove(SERVICES, ObjectKey("default", "s"))
    await clock.settle()
    assert fellows.selector_of(web) is None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
