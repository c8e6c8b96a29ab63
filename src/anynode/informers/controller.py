"""The loop around ``reconcile(key)``: takes keys from a workqueue, owns every retry.

In: keys (added to ``queue`` by informer handlers). Out: calls of ``reconcile``, at most ``workers`` at once and never
two for one key. An exception is logged and the key tried again, later each time; ``Done`` and ``RequeueAfter`` reset
that. Source: https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/controllers.md
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeAlias, TypeVar

from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor
from anynode.api.errors import ApiError, is_passing
from anynode.informers.workqueue import QueueShutDown, Workqueue

logger = logging.getLogger(__name__)

QUIET_FAILURES = 8
"""How often in a row a key may meet what others changed, before somebody should know; some 1.3 seconds."""

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to do until something changes."""


@dataclasses.dataclass(frozen=True, slots=True)
class RequeueAfter:
    """Come back in ``seconds`` even if nothing changes."""

    seconds: float


Outcome: TypeAlias = Done | RequeueAfter


class Controller(Generic[K]):
    """Workers that bring the world to what the API says, key by key."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[Outcome]],
        *,
        clock: Clock,
        workers: int = 1,
        queue: Workqueue[K] | None = None,
    ) -> None:
        self.name = name
        self.queue: Workqueue[K] = Workqueue(clock=clock) if queue is None else queue
        self._reconcile = reconcile
        self._clock = clock
        self._workers = workers

    async def run(self) -> None:
        """Work until cancelled, or until the queue is shut down and empty."""
        async with Supervisor(self.name, clock=self._clock) as tasks:
            tasks.start("delays", self.queue.run)
            workers = [tasks.start(f"worker-{number}", self._work) for number in range(self._workers)]
            await asyncio.wait(workers)

    async def _work(self) -> None:
        while True:
            try:
                key = await self.queue.get()
            except QueueShutDown:
                return
            try:
                outcome = await self._reconcile(key)
            except Exception as error:  # noqa: BLE001 - the one place that owns the retry of reconciles
                self._failed(key, error)
            else:
                self.queue.forget(key)
                if isinstance(outcome, RequeueAfter):
                    self.queue.add_after(key, outcome.seconds)
            finally:
                self.queue.done(key)
            await asyncio.sleep(0)  # a reconcile over an in-process transport may never have waited

    def _failed(self, key: K, error: Exception) -> None:
        self.queue.add_rate_limited(key)
        failures = self.queue.failures(key)
        fields = {"controller": self.name, "key": str(key), "failures": failures}
        if is_passing(error) and failures <= QUIET_FAILURES:
            logger.debug("reconcile met a change and will be tried again", extra={**fields, "error": str(error)})
        elif isinstance(error, ApiError | ConnectionError):
            logger.warning("reconcile was refused and will be tried again", extra={**fields, "error": str(error)})
        else:
            logger.warning("reconcile failed and will be tried again", extra=fields, exc_info=error)
