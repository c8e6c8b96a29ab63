"""The reconcile loop owns retries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from anynode.api import errors
from anynode.api.resources import known
from anynode.informers.controller import QUIET_FAILURES, Controller, Done, Outcome, RequeueAfter
from anynode.testing.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@contextlib.asynccontextmanager
async def running(
    reconcile: Callable[[str], Awaitable[Outcome]], clock: FakeClock, workers: int = 1
) -> AsyncIterator[Controller[str]]:
    controller = Controller("test", reconcile, clock=clock, workers=workers)
    task = asyncio.create_task(controller.run())
    await clock.settle()
    yield controller
    controller.queue.shut_down()
    await task


async def test_failures_are_tried_again_later_each_time(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    tries: list[float] = []

    async def reconcile(key: str) -> Outcome:
        tries.append(clock.monotonic())
        if len(tries) < 4:
            raise RuntimeError("not yet")
        return Done()

    async with running(reconcile, clock) as controller:
        controller.queue.add("a")
        await clock.advance(10)
        assert tries == pytest.approx([0, 0.005, 0.015, 0.035])
        assert controller.queue.failures("a") == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(errors.not_found(known("pods"), "a"), id="gone"),
        pytest.param(errors.conflict(known("pods"), "a"), id="changed"),
        pytest.param(errors.already_exists(known("pods"), "a"), id="made"),
        pytest.param(
            errors.forbidden(known("pods"), "a", "x", [errors.Cause(reason="NamespaceTerminating", message="")]),
            id="namespace ends",
        ),
    ],
)
async def test_changes_of_others_are_no_news_until_they_last(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    async def reconcile(key: str) -> Outcome:
        raise error

    async with running(reconcile, clock) as controller:
        controller.queue.add("a")
        await clock.advance(1)
        assert controller.queue.failures("a") == QUIET_FAILURES
        assert not [record for record in caplog.records if record.levelname != "DEBUG"]
        await clock.advance(0.5)
        assert [record.levelname for record in caplog.records if record.levelname != "DEBUG"] == ["WARNING"]


async def test_requeue_after(clock: FakeClock) -> None:
    tries: list[float] = []

    async def reconcile(key: str) -> Outcome:
        tries.append(clock.monotonic())
        return RequeueAfter(3)

    async with running(reconcile, clock) as controller:
        controller.queue.add("a")
        await clock.advance(7)
        assert tries == [0, 3, 6]


async def test_workers_run_side_by_side_but_never_on_one_key(clock: FakeClock) -> None:
    busy: list[str] = []
    most = 0

    async def reconcile(key: str) -> Outcome:
        nonlocal most
        assert key not in busy
        busy.append(key)
        most = max(most, len(busy))
        await clock.sleep(1)
        busy.remove(key)
        return Done()

    async with running(reconcile, clock, workers=3) as controller:
        for key in ("a", "b", "c", "d"):
            controller.queue.add(key)
        await clock.settle()
        controller.queue.add("a")
        await clock.advance(10)
        assert most == 3
        assert busy == []
