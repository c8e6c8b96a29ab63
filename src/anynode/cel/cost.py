"""Cost and size as ranges of unsigned 64-bit numbers that never overflow.

Source: cel-go ``checker/cost.go``, v0.26.
"""

from __future__ import annotations

import dataclasses
import math

MOST = 2**64 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """From ``min`` to ``max``, both included: of cost units, or of elements."""

    min: int
    max: int

    def add(self, other: Cost) -> Cost:
        return Cost(min(self.min + other.min, MOST), min(self.max + other.max, MOST))

    def multiply(self, other: Cost) -> Cost:
        return Cost(min(self.min * other.min, MOST), min(self.max * other.max, MOST))

    def by_factor(self, factor: float) -> Cost:
        """Each end times ``factor``, rounded up as upstream's floating point does."""
        return Cost(times_factor(self.min, factor), times_factor(self.max, factor))

    def union(self, other: Cost) -> Cost:
        return Cost(min(self.min, other.min), max(self.max, other.max))


def fixed(amount: int) -> Cost:
    return Cost(amount, amount)


UNKNOWN = Cost(0, MOST)


def times_factor(amount: int, factor: float) -> int:
    as_float = float(amount)
    if as_float > 0 and factor > 0 and as_float > float(MOST) / factor:
        return MOST
    return min(math.ceil(as_float * factor), MOST)
