"""Seats and queues of one priority level: who runs now, who waits, who is told to come again.

In: requests of a width with the hand of queues their flow was dealt. Out: a seat at once, a seat later in fair order,
or ``Rejected``. Invariant: no queue is looked at while seats are free; between two awaits counts are exact. Fairness is
start-time fair queueing over the queues of a level; seats a level lends are taken by whoever has more requests than
seats, as long as the server as a whole has some. Source: apiserver ``pkg/util/flowcontrol/fairqueuing``, 1.36.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Sequence

from anynode.apiserver.flow_rules import LevelConfig

WAIT_SECONDS = 15.0
"""How long a request may wait for a seat: a quarter of what it may take in all."""
MOST_RETRY_SECONDS = 32
MOST_EXEMPT = 6_000
"""Even who is exempt is told to come again when so many are under way: the process has to live."""


class Rejected(Exception):
    """No seat and no place to wait; come again in ``retry_seconds``."""

    def __init__(self, why: str, retry_seconds: int) -> None:
        super().__init__(why)
        self.retry_seconds = retry_seconds


class Pool:
    """The seats of the whole server, and the levels that have requests waiting."""

    __slots__ = ("hungry", "total", "used")

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.hungry: dict[Level, None] = {}

    def feed(self) -> None:
        """Give free seats to who waits."""
        for level in tuple(self.hungry):
            level.dispatch()


class _Waiting:
    __slots__ = ("deadline", "granted", "width")

    def __init__(self, width: int, deadline: float) -> None:
        self.width = width
        self.deadline = deadline
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class _Queue:
    __slots__ = ("requests", "start", "width")

    def __init__(self) -> None:
        self.requests: collections.deque[_Waiting] = collections.deque()
        self.width = 0
        self.start = 0.0
        """Virtual time at which its first request would begin."""


class Level:
    """One priority level at work."""

    def __init__(self, config: LevelConfig, pool: Pool) -> None:
        self._pool = pool
        self.config = config
        self.exempt = config.exempt
        self.used = 0
        self.waiting = 0
        self.rejected = 0
        self._virtual = 0.0
        self._queues = [_Queue() for _ in range(config.queuing.queues if config.queuing else 0)]
        self._retry_seconds = 1
        self._dropped = 0

    def configure(self, config: LevelConfig) -> None:
        """Go on by another configuration; who waits keeps waiting."""
        self.config = config
        self.exempt = config.exempt
        count = config.queuing.queues if config.queuing else 0
        if self.waiting and count < len(self._queues):
            count = len(self._queues)  # the surplus is shortened once it is empty
        self._queues = [*self._queues[:count], *(_Queue() for _ in range(count - len(self._queues)))]
        self.dispatch()

    # --- seats

    def take(self, width: int) -> bool:
        """Seats at once, if there are any and nobody came before; ``release`` follows."""
        if self.exempt:
            if self.used >= MOST_EXEMPT:
                return False
            self.used += width
            return True
        if self.waiting or not self._fits(width):
            return False
        self.used += width
        self._pool.used += width
        return True

    def _fits(self, width: int) -> bool:
        wanted = self.used + width
        if wanted <= self.config.guaranteed or not self.used:
            return True
        return wanted <= self.config.most and self._pool.used + width <= self._pool.total

    def release(self, width: int) -> None:
        """Give seats back."""
        self.used -= width
        if not self.exempt:
            self._pool.used -= width
            if self._pool.hungry:
                self._pool.feed()

    # --- waiting

    async def wait(self, hand: Sequence[int], width: int, now: float) -> None:
        """Return with seats taken; raises ``Rejected``. Cancelled, it leaves no seat taken."""
        queue = self._queue(hand)
        request = _Waiting(width, now + WAIT_SECONDS)
        if not queue.requests:
            queue.start = max(queue.start, self._virtual)
        queue.requests.append(request)
        queue.width += width
        self.waiting += 1
        self._pool.hungry[self] = None
        self.dispatch()
        try:
            await request.granted
        except BaseException:
            if request.granted.done() and not request.granted.cancelled() and request.granted.exception() is None:
                self.release(width)
            elif request in queue.requests:
                self._leave(queue, request)
            raise

    def _queue(self, hand: Sequence[int]) -> _Queue:
        queuing = self.config.queuing
        if queuing is None:
            raise self._reject("concurrency-limit")
        queue = min((self._queues[at] for at in hand), key=lambda each: each.width)
        if len(queue.requests) >= queuing.length:
            raise self._reject("queue-full")
        return queue

    def _reject(self, why: str) -> Rejected:
        self.rejected += 1
        self._dropped += 1
        return Rejected(why, self._retry_seconds)

    def _leave(self, queue: _Queue, request: _Waiting) -> None:
        queue.requests.remove(request)
        queue.width -= request.width
        self._left()

    def _left(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            self._pool.hungry.pop(self, None)

    def dispatch(self) -> None:
        """Seat those whose turn it is, as many as fit."""
        while self.waiting:
            queue = min((each for each in self._queues if each.requests), key=lambda each: each.start)
            request = queue.requests[0]
            if request.granted.done():  # cancelled, and not yet gone
                queue.requests.popleft()
                queue.width -= request.width
                self._left()
                continue
            if not self._fits(request.width):
                return
            queue.requests.popleft()
            queue.width -= request.width
            self._virtual = queue.start
            queue.start += request.width
            self._left()
            self.used += request.width
            self._pool.used += request.width
            request.granted.set_result(None)

    def sweep(self, now: float) -> None:
        """Send away who has waited too long, and learn how soon others shall come again; once a second."""
        if self.waiting:
            for queue in self._queues:
                while queue.requests and queue.requests[0].deadline <= now:
                    request = queue.requests.popleft()
                    queue.width -= request.width
                    self._left()
                    if not request.granted.done():
                        request.granted.set_exception(self._reject("time-out"))
        dropped, self._dropped = self._dropped, 0
        if dropped >= 3 * self._retry_seconds:
            self._retry_seconds = min(self._retry_seconds + 1, MOST_RETRY_SECONDS)
        elif dropped < self._retry_seconds:
            self._retry_seconds = max(self._retry_seconds - 1, 1)
