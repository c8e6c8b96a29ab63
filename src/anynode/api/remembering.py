"""Results kept for texts that come again and again: names, amounts, addresses, times.

In: a pure function of one value. Out: the same function, its last results kept; nothing is kept of long texts, because
whoever sends a request chooses them, and a few thousand megabyte-long ones would fill the machine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import TypeVar

MOST_CHARACTERS = 1_024

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def is_short(value: object) -> bool:
    """Whether ``value`` may be kept."""
    return not isinstance(value, str | bytes) or len(value) <= MOST_CHARACTERS


def remembered(most: int) -> Callable[[Callable[[K], V]], Callable[[K], V]]:
    """Keep the results for the last ``most`` short values."""

    def decorated(function: Callable[[K], V]) -> Callable[[K], V]:
        kept = functools.lru_cache(most)(function)

        @functools.wraps(function)
        def call(value: K) -> V:
            if (value.__class__ is str or value.__class__ is bytes) and len(value) > MOST_CHARACTERS:  # type: ignore[arg-type]
                return function(value)
            return kept(value)

        return call

    return decorated
