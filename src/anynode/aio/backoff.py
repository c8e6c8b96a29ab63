"""Exponential back-off as a value: pure, no clock, chance only from a passed ``Random``.

Source: client-go ``util/workqueue`` (ItemExponentialFailureRateLimiter) and ``wait.Backoff``.
"""

from __future__ import annotations

import dataclasses
import random


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays ``first_seconds * factor**n``, at most ``most_seconds``, each lengthened by up to ``jitter`` of itself."""

    first_seconds: float = 1.0
    most_seconds: float = 30.0
    factor: float = 2.0
    jitter: float = 0.0
    reset_after_seconds: float = 60.0
    """A run that lasted this long counts as healthy: the next failure starts at ``first_seconds`` again."""

    def delay_seconds(self, failures: int, chance: random.Random | None = None) -> float:
        """The wait before try number ``failures`` + 1; ``failures`` counts from 1."""
        exponent = min(max(failures - 1, 0), 60)
        seconds = min(self.most_seconds, self.first_seconds * self.factor**exponent)
        if self.jitter and chance is not None:
            seconds += seconds * self.jitter * chance.random()
        return seconds
