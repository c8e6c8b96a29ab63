"""A supervisor owns its tasks: it starts them again as agreed, ends with their failure, and leaves none behind."""

from __future__ import annotations

import asyncio

import pytest

from anynode.aio.backoff import Backoff
from anynode.aio.tasks import Supervisor
from anynode.testing.clock import FakeClock


async def forever() -> None:
    await asyncio.Event().wait()


async def test_leaving_the_block_ends_every_task() -> None:
    async with Supervisor("s") as tasks:
        task = tasks.start("a", forever)
        await asyncio.sleep(0)
    assert task.cancelled()


async def test_a_failure_without_restart_ends_the_block_with_its_error() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):  # noqa: PT012
        async with Supervisor("s") as tasks:
            other = tasks.start("other", forever)
            tasks.start("fails", fails)
            await forever()
    assert other.cancelled()


async def test_a_failing_task_is_started_again_after_its_back_off() -> None:
    clock = FakeClock()
    starts: list[float] = []

    async def fails() -> None:
        starts.append(clock.monotonic())
        raise OSError

    async with Supervisor("s", clock=clock) as tasks:
        tasks.start("f", fails, restart=Backoff(first_seconds=1, most_seconds=4))
        await clock.advance(12)
    assert starts == [0, 1, 3, 7, 11]


async def test_cancelling_the_owner_from_outside_stays_a_cancellation() -> None:
    stopped = asyncio.Event()

    async def owner() -> None:
        try:
            async with Supervisor("s") as tasks:
                tasks.start("a", forever)
                await forever()
        finally:
            stopped.set()

    task = asyncio.create_task(owner())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stopped.is_set()


async def test_a_stopping_supervisor_takes_no_new_tasks() -> None:
    async with Supervisor("s") as tasks:
        pass
    with pytest.raises(RuntimeError, match="is stopping"):
        tasks.start("late", forever)
