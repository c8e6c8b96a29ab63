"""One leader at a time; take-over after expiry or release."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from anynode.api.objects import ObjectKey
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.informers.election import Elector, LeadershipLost
from anynode.testing.clock import FakeClock
from anynode.testing.fake_api import FakeApi

LEASES = known("leases", "coordination.k8s.io")
LEASE = ObjectKey("kube-system", "scheduler")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def elector(api: FakeApi, clock: FakeClock, identity: str) -> Elector:
    return Elector(ApiClient(api), LEASE, identity, clock=clock, chance=random.Random(1))


async def forever() -> None:
    await asyncio.Event().wait()


async def test_the_second_leads_when_the_first_stops(api: FakeApi, clock: FakeClock) -> None:
    one, two = elector(api, clock, "one"), elector(api, clock, "two")
    first = asyncio.create_task(one.run(forever))
    await clock.settle()
    second = asyncio.create_task(two.run(forever))
    await clock.advance(60)
    assert one.leading
    assert not two.leading
    assert two.leader == "one"
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    await clock.advance(10)
    assert two.leading
    assert api.objects(LEASES)[0]["spec"]["leaseTransitions"] == 1
    second.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await second


async def test_a_leader_cut_off_stops_before_another_takes_over(api: FakeApi, clock: FakeClock) -> None:
    one = elector(api, clock, "one")
    first = asyncio.create_task(one.run(forever))
    await clock.advance(3)
    assert one.leading
    api.refuse(ConnectionRefusedError(), times=100)
    await clock.advance(12.5)
    with pytest.raises(LeadershipLost):
        await first
    assert not one.leading


async def test_a_dead_leader_is_waited_for(api: FakeApi, clock: FakeClock) -> None:
    spec = {"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "2020-01-01T00:00:00.000000Z"}
    api.add(LEASES, {"metadata": {"namespace": LEASE.namespace, "name": LEASE.name}, "spec": spec})
    two = elector(api, clock, "two")
    task = asyncio.create_task(two.run(forever))
    await clock.advance(14)
    assert not two.leading
    await clock.advance(10)
    assert two.leading
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
