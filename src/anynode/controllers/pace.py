"""The more pods an owner has, the more events are looked at together.

A look at an owner costs time in proportion to its pods, and each pod brings events of its own: without a pace the cost
would grow with the square. Source of the idea: upstream's batch periods of endpoints and jobs.
"""

from __future__ import annotations

from anynode.api.objects import ObjectKey
from anynode.informers.workqueue import Workqueue

PODS_PER_SECOND = 5000.0
"""Pods looked at per second and owner while its pods change."""
MOST_SECONDS = 1.0
SMALL = 50


class Pace:
    """Adds keys to ``queue``: at once for small owners (after ``least_seconds``), later for large ones."""

    def __init__(self, queue: Workqueue[ObjectKey], *, least_seconds: float = 0.0) -> None:
        self._queue = queue
        self._least_seconds = least_seconds
        self._sizes: dict[ObjectKey, int] = {}

    def note(self, key: ObjectKey, size: int) -> None:
        """``key`` had so many pods when it was last looked at."""
        if size > SMALL:
            self._sizes[key] = size
        else:
            self._sizes.pop(key, None)

    def forget(self, key: ObjectKey) -> None:
        self._sizes.pop(key, None)

    def add(self, key: ObjectKey) -> None:
        """A pod of ``key`` changed."""
        seconds = min(MOST_SECONDS, self._sizes.get(key, 0) / PODS_PER_SECOND)
        self._queue.add_after(key, max(seconds, self._least_seconds))
