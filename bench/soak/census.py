"""What a process holds, counted from outside its code: objects by class, what their containers hold, tasks, threads.

In: the garbage collector's list. Out: plain dicts of counts. Nothing is kept alive by looking. Only for processes that
a measurement started for itself (``bench.soak.host``).
"""

from __future__ import annotations

import asyncio
import collections
import functools
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

PACKAGE = "anynode"
CONTAINERS = (dict, list, set, frozenset, collections.deque, tuple, bytearray)


def quick() -> dict[str, Any]:
    """What costs nothing to know."""
    tasks: collections.Counter[str] = collections.Counter()
    for task in list(asyncio.tasks._all_tasks):  # type: ignore[attr-defined]
        if not task.done():
            tasks[getattr(task.get_coro(), "__qualname__", "?")] += 1
    return {
        "tasks": sum(tasks.values()),
        "by_coroutine": dict(tasks),
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def deep() -> dict[str, Any]:
    """``quick``, objects by type, and the sum of the sizes of each container attribute of our classes."""
    gc.collect()
    types: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    caches: dict[str, int] = {}
    everything = gc.get_objects()
    for each in everything:
        kind = type(each)
        types[f"{kind.__module__}.{kind.__qualname__}"] += 1
        if isinstance(each, functools._lru_cache_wrapper):
            name = getattr(each, "__qualname__", repr(each)[:80])
            caches[f"{getattr(each, '__module__', '')}.{name}"] = each.cache_info().currsize
        elif kind.__module__.partition(".")[0] == PACKAGE:
            for name, value in _attributes(each, kind):
                if isinstance(value, CONTAINERS) or hasattr(value, "bisect_left"):
                    where = f"{kind.__qualname__}.{name}"
                    sizes[where] += len(value)
                    _inside(where, value, sizes)
    found = {**quick(), "objects": len(everything), "types": dict(types), "sizes": dict(sizes), "caches": caches}
    del everything
    return found


def _attributes(each: object, kind: type) -> Iterator[tuple[str, Any]]:
    yield from tuple(getattr(each, "__dict__", {}).items())
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__"):
                value = getattr(each, name, None)
                if value is not None:
                    yield name, value


def _inside(where: str, value: Any, sizes: collections.Counter[str]) -> None:
    """One level further down: queues by key, indexes of sets."""
    if isinstance(value, dict) and value:
        for each in tuple(value.values()):
            if isinstance(each, CONTAINERS) and not isinstance(each, tuple):
                sizes[f"{where}[]"] += len(each)
