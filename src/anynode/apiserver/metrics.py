"""Counts of what the server did, as Prometheus text. Names and labels are kube-apiserver's.

Requests are counted per resource the server has, never per path a client made up, so that what is kept is bounded.
Source: apiserver ``pkg/endpoints/metrics``, 1.36; the Prometheus text format 0.0.4.
"""

from __future__ import annotations

import bisect
import collections
import itertools
from collections.abc import Callable, Mapping

from anynode.aio.clock import Clock
from anynode.api.resources import Resource
from anynode.api.wire import ApiRequest
from anynode.apiserver.requestinfo import RequestInfo

Gauge = Callable[[], Mapping[str, float]]
"""Label text (``resource="pods"``) -> value now."""
Key = tuple[str, str, str, str, str, str, str]
"""Verb, group, version, resource, subresource, scope, dry run."""
_VERBS = {"create": "POST", "update": "PUT"}
_BOUNDS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
)  # fmt: skip
_DURATION = "apiserver_request_duration_seconds"


class _Series:
    """What became of the requests of one key: how often each code, and how long they took."""

    __slots__ = ("buckets", "codes", "total")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.buckets = [0] * (len(_BOUNDS) + 1)
        self.total = 0.0


class Metrics:
    """Counters kept here, gauges asked when read."""

    def __init__(self, clock: Clock) -> None:
        self.now = clock.monotonic
        """Seconds: when a request to be counted begins."""
        self._series: dict[Key, _Series] = {}
        self._found: dict[tuple[str, str, str, str, bool, bool], _Series] = {}
        """By what most requests differ in, the same series: found without looking at labels."""
        self._codes: collections.Counter[int] = collections.Counter()
        self._gauges: dict[str, Gauge] = {}

    def count(self, request: ApiRequest, info: RequestInfo, resource: Resource, code: int, began: float) -> None:
        """One more request of ``resource``, answered with ``code`` now."""
        verb = info.verb
        if info.subresource or verb == "patch" or request.query:
            series = self._of(_key(request, info, resource))
        else:
            slot = (verb, info.group, info.version, info.plural, bool(info.name), bool(info.namespace))
            found = self._found.get(slot)
            if found is None:
                found = self._found[slot] = self._of(_key(request, info, resource))
            series = found
        seconds = self.now() - began
        series.codes[code] = series.codes.get(code, 0) + 1
        series.buckets[bisect.bisect_left(_BOUNDS, seconds)] += 1
        series.total += seconds

    def _of(self, key: Key) -> _Series:
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series()
        return series

    def refused(self, code: int) -> None:
        self._codes[code] += 1

    def gauge(self, name: str, read: Gauge) -> None:
        self._gauges[name] = read

    def text(self) -> bytes:
        lines = ["# TYPE apiserver_request_total counter"]
        ordered = sorted(self._series.items(), key=lambda each: each[0])
        lines.extend(
            f'apiserver_request_total{{code="{code}",{_labels(key)}}} {count}'
            for key, series in ordered
            for code, count in sorted(series.codes.items())
        )
        lines.append(f"# TYPE {_DURATION} histogram")
        for key, series in ordered:
            labels = _labels(key)
            sums = list(itertools.accumulate(series.buckets))
            lines.extend(
                f'{_DURATION}_bucket{{{labels},le="{bound:g}"}} {count}'
                for bound, count in zip(_BOUNDS, sums, strict=False)
            )
            lines.append(f'{_DURATION}_bucket{{{labels},le="+Inf"}} {sums[-1]}')
            lines.append(f"{_DURATION}_sum{{{labels}}} {series.total:g}")
            lines.append(f"{_DURATION}_count{{{labels}}} {sums[-1]}")
        lines.append("# TYPE apiserver_request_terminations_total counter")
        lines.extend(
            f'apiserver_request_terminations_total{{code="{code}"}} {count}'
            for code, count in sorted(self._codes.items())
        )
        for name, read in self._gauges.items():
            lines.append(f"# TYPE {name} gauge")
            lines.extend(f"{name}{{{labels}}} {value:g}" for labels, value in sorted(read().items()))
        return ("\n".join(lines) + "\n").encode()


def _key(request: ApiRequest, info: RequestInfo, resource: Resource) -> Key:
    verb = info.verb
    if verb == "patch" and "apply-patch" in request.headers.get("content-type", ""):
        verb = "apply"
    scope = "resource" if info.name or verb == "create" else "namespace" if info.namespace else "cluster"
    dry_run = "All" if "dryRun" in request.query else ""
    named = _VERBS.get(verb) or verb.upper()
    part = info.subresource
    if part and resource.subresource(part) is None:
        part = ""  # whatever a client made up
    return named, resource.group, resource.version, resource.plural, part, scope, dry_run


def _labels(key: Key) -> str:
    verb, group, version, resource, subresource, scope, dry_run = key
    return (
        f'component="apiserver",dry_run="{dry_run}",group="{group}",resource="{resource}",scope="{scope}",'
        f'subresource="{subresource}",verb="{verb}",version="{version}"'
    )
