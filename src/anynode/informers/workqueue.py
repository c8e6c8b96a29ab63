"""A queue of keys: fair, de-duplicating, one worker per key, with delayed and rate-limited re-adds.

Fair: keys come out in the order they went in. De-duplicating: a key added many times before it is taken comes out
once. One worker per key: a key added while it is worked on comes out again after ``done``, not before. Many producers
and many workers may share one queue. Delays pass only while ``run`` runs.

Source: client-go ``util/workqueue`` (queue, delaying_queue, default_rate_limiters), 1.36.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

from anynode.aio.backoff import Backoff
from anynode.aio.clock import Clock
from anynode.aio.tasks import Supervisor

K = TypeVar("K", bound=Hashable)

RETRY = Backoff(first_seconds=0.005, most_seconds=1000.0, factor=2.0)


class QueueShutDown(Exception):
    """The queue was shut down and is empty."""


class Workqueue(Generic[K]):
    """Keys waiting for a worker."""

    def __init__(self, *, clock: Clock, retry: Backoff = RETRY) -> None:
        self._clock = clock
        self._retry = retry
        self._queue: collections.deque[K] = collections.deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._waiters: collections.deque[asyncio.Future[None]] = collections.deque()
        self._delayed: list[tuple[float, int, K]] = []
        self._deadlines: dict[K, float] = {}
        self._serial = itertools.count()
        self._tasks: Supervisor | None = None
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_deadline = 0.0
        self._shut_down = asyncio.Event()

    def __len__(self) -> int:
        """Keys that could be taken now."""
        return len(self._queue)

    def add(self, key: K) -> None:
        """Have ``key`` worked on; merged with an equal key that already waits. Ignored after ``shut_down``."""
        if self._shut_down.is_set() or key in self._dirty:
            return
        self._dirty.add(key)
        if key in self._processing:
            return
        self._queue.append(key)
        self._wake_one()

    def add_after(self, key: K, seconds: float) -> None:
        """``add(key)`` in ``seconds``; of several delays for one key the earliest counts."""
        if self._shut_down.is_set():
            return
        if seconds <= 0:
            self.add(key)
            return
        deadline = self._clock.monotonic() + seconds
        known = self._deadlines.get(key)
        if known is not None and known <= deadline:
            return
        self._deadlines[key] = deadline
        heapq.heappush(self._delayed, (deadline, next(self._serial), key))
        self._set_alarm()

    def add_rate_limited(self, key: K) -> None:
        """Add again after a delay that doubles with each call until ``forget``: 5 ms, 10 ms, ... 1000 s."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        self.add_after(key, self._retry.delay_seconds(failures))

    def failures(self, key: K) -> int:
        """How often ``key`` was rate-limited since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: K) -> None:
        """The key succeeded: its next failure is its first."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key, which the caller must hand to ``done``; raises ``QueueShutDown`` when nothing more comes."""
        while not self._queue:
            if self._shut_down.is_set():
                raise QueueShutDown
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()  # somebody woke us for a key that another worker must take now
                raise
        key = self._queue.popleft()
        self._processing.add(key)
        self._dirty.discard(key)
        return key

    def done(self, key: K) -> None:
        """The caller has finished with ``key``; if it was added meanwhile it waits again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._queue.append(key)
            self._wake_one()

    def shut_down(self) -> None:
        """Take no more keys; workers get what waits, then ``QueueShutDown``. Delayed keys are dropped."""
        self._shut_down.set()
        self._delayed.clear()
        self._deadlines.clear()
        while self._waiters:
            self._wake_one()

    async def run(self) -> None:
        """Let delays pass, until cancelled or shut down."""
        async with Supervisor("workqueue", clock=self._clock) as tasks:
            self._tasks = tasks
            self._set_alarm()
            try:
                await self._shut_down.wait()
            finally:
                self._tasks = self._alarm = None

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_alarm(self) -> None:
        if self._tasks is None or not self._delayed:
            return
        deadline = self._delayed[0][0]
        if self._alarm is not None and not self._alarm.done():
            if self._alarm_deadline <= deadline:
                return
            self._alarm.cancel()
        self._alarm_deadline = deadline
        self._alarm = self._tasks.start("alarm", self._sleep_until_due)

    async def _sleep_until_due(self) -> None:
        while self._delayed:
            now = self._clock.monotonic()
            self._alarm_deadline = self._delayed[0][0]
            if self._alarm_deadline > now:
                await self._clock.sleep(self._alarm_deadline - now)
            self._add_due()

    def _add_due(self) -> None:
        now = self._clock.monotonic()
        while self._delayed and self._delayed[0][0] <= now:
            deadline, _, key = heapq.heappop(self._delayed)
            if self._deadlines.get(key) == deadline:
                del self._deadlines[key]
                self.add(key)
