"""How long a request may take."""

from __future__ import annotations

import asyncio

import pytest

from anynode.api.errors import Timeout
from anynode.apiserver.deadlines import MOST_SECONDS, Deadlines
from anynode.testing.clock import FakeClock


async def served(deadlines: Deadlines, seconds: float, work: asyncio.Event) -> str:
    """As the server does it."""
    running = deadlines.enter(seconds)
    try:
        await work.wait()
    except asyncio.CancelledError:
        if running.overdue:
            await deadlines.overdue(running, cancelled=True)
        raise
    finally:
        deadlines.leave(running)
    if running.overdue:
        await deadlines.overdue(running, cancelled=False)
    return "done"


@pytest.mark.parametrize(("asked", "given"), [(0.0, MOST_SECONDS), (5.0, 5.0), (3600.0, MOST_SECONDS)])
async def test_a_request_ends_after_its_time_and_its_task_lives_on(asked: float, given: float) -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock)
    sweeping = asyncio.create_task(deadlines.run())

    async def connection() -> str:
        try:
            return await served(deadlines, asked, asyncio.Event())
        except Timeout as error:
            await asyncio.sleep(0)  # the connection goes on
            return error.message

    task = asyncio.create_task(connection())
    await clock.advance(given - 1)
    assert not task.done()
    await clock.advance(2)
    assert await task == "Timeout: request did not complete within the allotted timeout"
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)


async def test_an_answer_that_comes_with_the_end_counts_as_late() -> None:
    clock = FakeClock()
    deadlines, work = Deadlines(clock), asyncio.Event()
    task = asyncio.create_task(served(deadlines, 1.0, work))
    await clock.advance(2)
    work.set()
    deadlines.sweep()
    with pytest.raises(Timeout):
        await task


async def test_who_ends_the_task_himself_is_obeyed() -> None:
    deadlines = Deadlines(FakeClock())
    task = asyncio.create_task(served(deadlines, 1.0, asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.sweep()


async def test_one_in_time_is_left_alone() -> None:
    clock = FakeClock()
    deadlines, work = Deadlines(clock), asyncio.Event()
    work.set()
    assert await served(deadlines, 1.0, work) == "done"
    await clock.advance(5)
    deadlines.sweep()
