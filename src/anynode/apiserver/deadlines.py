"""How long a request may take: sixty seconds, or less where it says so; then it is answered 504.

One sweep looks at all requests under way, so that a request pays for a dictionary entry and no timer. Source: apiserver
``pkg/endpoints/filters/request_deadline.go`` and ``pkg/server/filters/timeout.go``, 1.36.
"""

from __future__ import annotations

import asyncio
import contextlib

from anynode.aio.clock import Clock
from anynode.api.errors import Timeout

MOST_SECONDS = 60.0
SWEEP_SECONDS = 0.25


class Running:
    """One request under way."""

    __slots__ = ("deadline", "overdue", "task")

    def __init__(self, task: asyncio.Task[object] | None, deadline: float) -> None:
        self.task = task
        self.deadline = deadline
        self.overdue = False


class Deadlines:
    """The requests under way, each with its end."""

    def __init__(self, clock: Clock, most_seconds: float = MOST_SECONDS) -> None:
        self._clock = clock
        self._most_seconds = most_seconds
        self._running: dict[Running, None] = {}

    def enter(self, seconds: float = 0.0) -> Running:
        """The calling task serves a request that may take ``seconds`` (0: as long as any)."""
        if not 0 < seconds < self._most_seconds:
            seconds = self._most_seconds
        running = Running(asyncio.current_task(), self._clock.monotonic() + seconds)
        self._running[running] = None
        return running

    def leave(self, running: Running) -> None:
        self._running.pop(running, None)

    async def overdue(self, running: Running, *, cancelled: bool) -> None:
        """Settle what ``sweep`` did to the task, whose cancellation may have come (``cancelled``) or still come.

        Raises ``Timeout``, or ``CancelledError`` when somebody else wants the task to end, too.
        """
        if not cancelled:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        if running.task is not None and running.task.uncancel() > 0:
            raise asyncio.CancelledError
        raise Timeout("Timeout: request did not complete within the allotted timeout", details={})

    def sweep(self) -> None:
        now = self._clock.monotonic()
        for running in [each for each in self._running if each.deadline <= now and not each.overdue]:
            if running.task is not None:
                running.overdue = True
                running.task.cancel()

    async def run(self) -> None:
        """End requests that take too long, for ever."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            self.sweep()
