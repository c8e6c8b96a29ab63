"""Every task has an owner: ``Supervisor`` starts named tasks, restarts those that may be, and ends all of them.

The only caller of ``create_task``. A task without a restart policy that fails ends the supervisor's block with its
error, after the others were cancelled; one with a policy is tried again after its back-off. Leaving the block cancels
what still runs and waits for it at most ``stop_seconds``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock, SystemClock

logger = logging.getLogger(__name__)


class Supervisor:
    """Owner of tasks; use as ``async with Supervisor("name") as tasks``."""

    def __init__(self, name: str, *, clock: Clock | None = None, stop_seconds: float = 10.0) -> None:
        self.name = name
        self._clock = clock or SystemClock()
        self._stop_seconds = stop_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._owner: asyncio.Task[Any] | None = None
        self._failure: BaseException | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._closing = True
        await self._stop()
        if self._failure is not None and (kind is None or kind is asyncio.CancelledError):
            if kind is asyncio.CancelledError and self._owner is not None and self._owner.uncancel() > 0:
                return False  # somebody else cancels us too: that wins
            raise self._failure
        return False

    def start(
        self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], *, restart: Backoff | None = None
    ) -> asyncio.Task[Any]:
        """Run ``work()`` as a task named ``<supervisor>/<name>``; with ``restart`` it is tried again when it fails."""
        if self._closing:
            raise RuntimeError(f"supervisor {self.name!r} is stopping: cannot start {name!r}")
        coroutine = work() if restart is None else self._again(name, work, restart)
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self.name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _again(self, name: str, work: Callable[[], Awaitable[Any]], restart: Backoff) -> None:
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await work()
            except Exception as error:
                if self._clock.monotonic() - began >= restart.reset_after_seconds:
                    failures = 0
                failures += 1
                delay_seconds = restart.delay_seconds(failures)
                logger.warning(
                    "task failed and will be started again",
                    extra={"task": f"{self.name}/{name}", "delay_seconds": delay_seconds},
                    exc_info=error,
                )
                await self._clock.sleep(delay_seconds)
            else:
                return

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        if self._closing or self._failure is not None:
            logger.error("task failed while stopping", extra={"task": task.get_name()}, exc_info=error)
            return
        self._failure = error
        if self._owner is not None:
            self._owner.cancel()

    async def _stop(self) -> None:
        running = set(self._tasks)
        for task in running:
            task.cancel()
        if running:
            _, late = await asyncio.wait(running, timeout=self._stop_seconds)
            for task in late:
                logger.error("task did not stop in time", extra={"task": task.get_name()})


class Owned:
    """Tasks of something that is closed rather than left, such as a transport; each stands alone.

    A failure is logged and ends nobody else. ``close`` cancels what runs and waits for it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        """Run ``work()`` until it ends, is cancelled by whoever holds the task, or ``close`` comes."""
        task = asyncio.get_running_loop().create_task(work(), name=f"{self.name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task failed", extra={"task": task.get_name()}, exc_info=error)

    async def close(self) -> None:
        running = set(self._tasks)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
