"""Which events are written, merged or left out: spam filter, aggregation, counting. Pure over a passed time.

In: a new core/v1 Event (without name). Out: the Event to write and whether it updates one written before, or None when
the source has said too much about the object. Invariant: at most ``CACHE_SIZE`` keys are remembered per stage.

Source: client-go ``tools/record/events_cache.go`` (EventCorrelator), 1.36.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable
from typing import Generic, TypeVar

from anynode.api.objects import Object

CACHE_SIZE = 4096
SPAM_BURST = 25
SPAM_REFILL_SECONDS = 300.0
AGGREGATE_FROM = 10
AGGREGATE_WITHIN_SECONDS = 600.0
AGGREGATE_PREFIX = "(combined from similar events): "

V = TypeVar("V")


class _Recent(Generic[V]):
    """The ``CACHE_SIZE`` most recently used entries."""

    def __init__(self) -> None:
        self._entries: collections.OrderedDict[Hashable, V] = collections.OrderedDict()

    def get(self, key: Hashable) -> V | None:
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, key: Hashable, value: V) -> None:
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > CACHE_SIZE:
            self._entries.popitem(last=False)


@dataclasses.dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclasses.dataclass(slots=True)
class _Similar:
    messages: set[str]
    last_at: float


@dataclasses.dataclass(slots=True)
class _Written:
    name: str
    count: int
    first_timestamp: str


@dataclasses.dataclass(frozen=True, slots=True)
class Correlated:
    """What to write: ``event`` in full, and whether it only updates the one of that name."""

    event: Object
    update: bool


class EventCorrelator:
    """Remembers what was written lately."""

    def __init__(self) -> None:
        self._buckets: _Recent[_Bucket] = _Recent()
        self._similar: _Recent[_Similar] = _Recent()
        self._written: _Recent[_Written] = _Recent()

    def correlate(self, event: Object, name: str, now: float) -> Correlated | None:
        """What to write for ``event``; ``name`` is used if it becomes a new one. ``now`` in monotonic seconds."""
        source, involved = event["source"], event["involvedObject"]
        about = (
            source.get("component", ""), source.get("host", ""),
            involved.get("kind", ""), involved.get("namespace", ""), involved.get("name", ""),
            involved.get("uid", ""), involved.get("apiVersion", ""), event["type"],
        )  # fmt: skip
        key: Hashable = (*about, involved.get("fieldPath", ""), event["reason"], event["message"])
        if self._is_similar((*about, event["reason"]), event["message"], now):
            key = (*about, event["reason"])
            event = {**event, "message": AGGREGATE_PREFIX + event["message"]}
        correlated = self._count(event, key, name)
        return correlated if self._may_speak(about, now) else None

    def _is_similar(self, key: Hashable, message: str, now: float) -> bool:
        """Whether so many different messages were seen that this one is to be combined with them."""
        known = self._similar.get(key)
        if known is None or now - known.last_at > AGGREGATE_WITHIN_SECONDS:
            known = _Similar(set(), now)
        known.messages.add(message)
        known.last_at = now
        self._similar.put(key, known)
        if len(known.messages) < AGGREGATE_FROM:
            return False
        known.messages.pop()
        return True

    def _count(self, event: Object, key: Hashable, name: str) -> Correlated:
        known = self._written.get(key)
        if known is None:
            self._written.put(key, _Written(name, 1, event["firstTimestamp"]))
            metadata = {**event["metadata"], "name": name}
            return Correlated({**event, "metadata": metadata, "count": 1}, update=False)
        known.count += 1
        metadata = {**event["metadata"], "name": known.name}
        counted = {**event, "metadata": metadata, "count": known.count, "firstTimestamp": known.first_timestamp}
        return Correlated(counted, update=True)

    def _may_speak(self, key: Hashable, now: float) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = _Bucket(float(SPAM_BURST), now)
            self._buckets.put(key, bucket)
        bucket.tokens = min(float(SPAM_BURST), bucket.tokens + (now - bucket.filled_at) / SPAM_REFILL_SECONDS)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
