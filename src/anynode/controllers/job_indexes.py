"""Completion indexes of an indexed Job: sets of numbers written as ``0,2-5,9``. Pure.

Source: kubernetes ``pkg/controller/job/indexed_job_utils.go``, 1.36.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from anynode.api.objects import annotations_of

INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
INDEX_IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


class Indexes:
    """An immutable set of indexes, held as sorted intervals that do not touch."""

    __slots__ = ("_intervals",)

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        """``intervals`` are inclusive, in any order."""
        joined: list[tuple[int, int]] = []
        for first, last in sorted(intervals):
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(joined[-1][1], last))
            else:
                joined.append((first, last))
        self._intervals = tuple(joined)

    @classmethod
    def parse(cls, text: str, completions: int) -> Indexes:
        """The indexes below ``completions`` that ``text`` names; what cannot be read is passed over."""
        intervals = []
        for part in text.split(",") if text else ():
            first, _, last = part.partition("-")
            if not first.isdecimal() or (last and not last.isdecimal()):
                continue
            if int(first) < completions:
                intervals.append((int(first), min(int(last or first), completions - 1)))
        return cls(intervals)

    def __str__(self) -> str:
        texts = []
        for first, last in self._intervals:
            if first == last:
                texts.append(str(first))
            else:
                texts.append(f"{first},{last}" if last == first + 1 else f"{first}-{last}")
        return ",".join(texts)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self._intervals)

    def __iter__(self) -> Iterator[int]:
        for first, last in self._intervals:
            yield from range(first, last + 1)

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int):
            return False
        at = bisect.bisect_right(self._intervals, (index, 2**62)) - 1
        return at >= 0 and self._intervals[at][1] >= index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Indexes) and self._intervals == other._intervals

    def __hash__(self) -> int:
        return hash(self._intervals)

    def __repr__(self) -> str:
        return f"Indexes({str(self)!r})"

    def with_added(self, indexes: Iterable[int]) -> Indexes:
        return Indexes([*self._intervals, *((each, each) for each in indexes)])

    def union(self, other: Indexes) -> Indexes:
        return Indexes([*self._intervals, *other._intervals])

    def overlap(self, other: Indexes) -> int:
        """How many indexes both hold."""
        total, left, right = 0, 0, 0
        while left < len(self._intervals) and right < len(other._intervals):
            one, two = self._intervals[left], other._intervals[right]
            total += max(0, min(one[1], two[1]) - max(one[0], two[0]) + 1)
            if one[1] <= two[1]:
                left += 1
            if two[1] <= one[1]:
                right += 1
        return total

    def first_missing(self, count: int, completions: int) -> list[int]:
        """The lowest ``count`` indexes below ``completions`` that are not in here."""
        found: list[int] = []
        candidate = 0
        for first, last in (*self._intervals, (completions, completions)):
            found.extend(range(candidate, min(first, completions, candidate + count - len(found))))
            candidate = max(candidate, last + 1)
            if len(found) >= count:
                break
        return found


def index_of(pod: Mapping[str, Any]) -> int | None:
    """The completion index a pod carries; None when it carries none."""
    text = annotations_of(pod).get(INDEX, "")
    return int(text) if text.isdecimal() else None


def failures_of(pod: Mapping[str, Any]) -> int:
    """How often the pod's index had failed, counting, before this pod."""
    return _number(pod, INDEX_FAILURES)


def all_failures_of(pod: Mapping[str, Any]) -> int:
    """The same with the failures a policy ignored."""
    return _number(pod, INDEX_FAILURES) + _number(pod, INDEX_IGNORED_FAILURES)


def ignored_failures_of(pod: Mapping[str, Any]) -> int:
    return _number(pod, INDEX_IGNORED_FAILURES)


def _number(pod: Mapping[str, Any], annotation: str) -> int:
    text = annotations_of(pod).get(annotation, "")
    return int(text) if text.isdecimal() else 0
