"""Counts of what the server did, as Prometheus text. Names are kube-apiserver's.

Source: apiserver ``pkg/endpoints/metrics``, 1.36; the Prometheus text format 0.0.4.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping

Gauge = Callable[[], Mapping[str, float]]
"""Label text (``resource="pods"``) -> value now."""


class Metrics:
    """Counters kept here, gauges asked when read."""

    def __init__(self) -> None:
        self.requests: collections.Counter[tuple[str, str]] = collections.Counter()
        self._codes: collections.Counter[int] = collections.Counter()
        self._gauges: dict[str, Gauge] = {}

    def refused(self, code: int) -> None:
        self._codes[code] += 1

    def gauge(self, name: str, read: Gauge) -> None:
        self._gauges[name] = read

    def text(self) -> bytes:
        lines = ["# TYPE apiserver_request_total counter"]
        for (verb, resource), count in sorted(self.requests.items()):
            lines.append(f'apiserver_request_total{{verb="{verb}",resource="{resource}"}} {count}')
        lines.append("# TYPE apiserver_request_terminations_total counter")
        lines.extend(
            f'apiserver_request_terminations_total{{code="{code}"}} {count}'
            for code, count in sorted(self._codes.items())
        )
        for name, read in self._gauges.items():
            lines.append(f"# TYPE {name} gauge")
            lines.extend(f"{name}{{{labels}}} {value:g}" for labels, value in sorted(read().items()))
        return ("\n".join(lines) + "\n").encode()
