"""Fair, de-duplicating, one worker per key; delays and doubling retries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from anynode.informers.workqueue import QueueShutDown, Workqueue
from anynode.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def queue(clock: FakeClock) -> AsyncIterator[Workqueue[str]]:
    queue: Workqueue[str] = Workqueue(clock=clock)
    task = asyncio.create_task(queue.run())
    await clock.settle()
    yield queue
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_keys_come_out_once_and_in_order(queue: Workqueue[str]) -> None:
    for key in ("a", "b", "a", "c", "b"):
        queue.add(key)
    assert [await queue.get() for _ in range(3)] == ["a", "b", "c"]
    assert len(queue) == 0


async def test_a_key_in_work_waits_for_done(queue: Workqueue[str]) -> None:
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_delays_pass_in_order_and_the_earliest_counts(queue: Workqueue[str], clock: FakeClock) -> None:
    queue.add_after("late", 10)
    queue.add_after("early", 5)
    queue.add_after("late", 7)
    queue.add_after("late", 60)
    await clock.advance(4.9)
    assert len(queue) == 0
    await clock.advance(0.2)
    assert await queue.get() == "early"
    await clock.advance(2)
    assert await queue.get() == "late"
    queue.done("late")
    await clock.advance(100)
    assert len(queue) == 0


async def test_retries_double_until_forgotten(queue: Workqueue[str], clock: FakeClock) -> None:
    for expected in (0.005, 0.01, 0.02):
        queue.add_rate_limited("a")
        await clock.advance(expected - 0.001)
        assert len(queue) == 0
        await clock.advance(0.002)
        assert await queue.get() == "a"
        queue.done("a")
    queue.forget("a")
    queue.add_rate_limited("a")
    await clock.advance(0.006)
    assert len(queue) == 1


async def test_a_cancelled_worker_loses_no_key(queue: Workqueue[str]) -> None:
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await second == "a"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_shut_down_lets_workers_finish(queue: Workqueue[str]) -> None:
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("b")
    queue.shut_down()
    queue.add("c")
    assert {await waiting, await queue.get()} == {"a", "b"}
    with pytest.raises(QueueShutDown):
        await queue.get()
