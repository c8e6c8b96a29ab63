"""What was made of the values met last, so that a value that comes again costs a look.

Values come in, shared and never changed; what ``make`` makes of one goes out, the same object each time while the value
is remembered. Known by identity: who wants equal values to count as one makes them one first (``typed``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

MOST_REMEMBERED = 64

Value = TypeVar("Value")
Made = TypeVar("Made")


class Recent(Generic[Value, Made]):
    """``make`` with a memory. What raises is not remembered."""

    __slots__ = ("_known", "_make", "_most")

    def __init__(self, make: Callable[[Value], Made], most: int = MOST_REMEMBERED) -> None:
        self._make = make
        self._most = most
        self._known: dict[int, tuple[Value, Made]] = {}

    def __call__(self, value: Value) -> Made:
        found = self._known.get(id(value))
        if found is not None and found[0] is value:
            return found[1]
        made = self._make(value)
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[id(value)] = (value, made)  # kept alive, so that its identity stays its own
        return made
