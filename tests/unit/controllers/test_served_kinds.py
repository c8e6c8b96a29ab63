"""Kinds come and go: when the server is asked, and what is remembered between two looks."""

from __future__ import annotations

from typing import Any

from anynode.api.errors import ServiceUnavailable
from anynode.api.objects import ObjectKey
from anynode.api.resources import Catalogue, GroupVersion, Resource, known
from anynode.client.discovery import Served
from anynode.controllers.served_kinds import API_SERVICES, DEFINITIONS, Kinds, ServedKinds, remembered

CONFIG_MAPS = known("configmaps")
LEASES = known("leases", "coordination.k8s.io")
AT = ("coordination.k8s.io", "leases")


def served(*resources: Resource, away: str = "") -> Served:
    failures = {GroupVersion(away, "v1"): "stale GroupVersion discovery"} if away else {}
    return Served(Catalogue(resources), failures)


def test_a_kind_goes_when_two_looks_miss_it() -> None:
    kinds, missed = remembered({}, frozenset(), served(CONFIG_MAPS, LEASES))
    assert (set(kinds), missed) == ({("", "configmaps"), AT}, frozenset())
    kinds, missed = remembered(kinds, missed, served(CONFIG_MAPS))
    assert (AT in kinds, missed) == (True, {AT})
    kinds, missed = remembered(kinds, missed, served(CONFIG_MAPS, LEASES))
    assert missed == frozenset()
    for _ in range(2):
        kinds, missed = remembered(kinds, missed, served(CONFIG_MAPS))
    assert (AT in kinds, missed) == (False, frozenset())


def test_kinds_of_a_server_that_is_away_stay() -> None:
    kinds, missed = remembered({}, frozenset(), served(CONFIG_MAPS, LEASES))
    for _ in range(5):
        kinds, missed = remembered(kinds, missed, served(CONFIG_MAPS, away="coordination.k8s.io"))
    assert (AT in kinds, missed) == (True, frozenset())


class Follower:
    """What one controller was told, second by second."""

    def __init__(self, cluster: Any) -> None:
        self.answers: list[Served | Exception] = []
        self.now: Served = served(CONFIG_MAPS)
        self.asked_at: list[float] = []
        self.kinds: Kinds = {}
        self._clock = cluster.clock
        self._began = cluster.clock.monotonic()
        cluster.start(ServedKinds(cluster.context, "test", self._take, ask=self._ask).run)

    async def _ask(self) -> Served:
        self.asked_at.append(round(self._clock.monotonic() - self._began, 2))
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self.now

    def _take(self, kinds: Kinds) -> None:
        self.kinds = kinds


async def test_asked_at_once_again_after_a_second_and_then_now_and_then(cluster: Any) -> None:
    follower = Follower(cluster)
    await cluster.settle(10)
    assert follower.asked_at == [0.0]
    for number in range(3):
        cluster.api.add(DEFINITIONS, {"metadata": {"name": f"things{number}.example.com"}})
    await cluster.settle(10)
    assert follower.asked_at == [0.0, 10.05, 11.05]
    cluster.api.add(API_SERVICES, {"metadata": {"name": "v1.example.com"}})
    await cluster.settle(2)
    cluster.api.remove(DEFINITIONS, ObjectKey("", "things0.example.com"))
    await cluster.settle(2)
    assert follower.asked_at[3:] == [20.05, 21.05, 22.05, 23.05]
    await cluster.settle(60)
    assert follower.asked_at[7:] == [53.05, 83.05]


async def test_a_kind_that_is_missed_is_looked_for_again_soon(cluster: Any) -> None:
    follower = Follower(cluster)
    follower.now = served(CONFIG_MAPS, LEASES)
    await cluster.settle(29)
    assert AT in follower.kinds
    follower.now = served(CONFIG_MAPS)
    await cluster.settle(3)
    assert AT not in follower.kinds
    assert follower.asked_at == [0.0, 30.0, 31.0]


async def test_a_refusal_is_tried_again(cluster: Any) -> None:
    follower = Follower(cluster)
    follower.answers = [ServiceUnavailable("not yet"), ServiceUnavailable("not yet")]
    await cluster.settle(5)
    assert follower.asked_at == [0.0, 1.0, 3.0]
    assert ("", "configmaps") in follower.kinds
