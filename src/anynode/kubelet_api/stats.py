"""What pods use: ``/stats/summary`` for kubectl and autoscalers, ``/metrics/resource`` for metrics-server.

Numbers come from the provider's ``Stats`` capability; a pod it cannot measure is left out, never shown as zero. Rates
are made from two readings. Source: kubelet ``pkg/apis/stats/v1alpha1`` and
``pkg/kubelet/metrics/collectors/resource_metrics.go``, 1.36.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from anynode import provider as providers
from anynode.aio.clock import Clock
from anynode.aio.http_message import HttpResponse
from anynode.api.objects import Object, get_path, name_of, namespace_of, uid_of
from anynode.kubelet_api.pods import PodLookup, container_statuses
from anynode.kubelet_api.replies import json

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NANO = 1_000_000_000

Usage = Sequence[tuple[Object, Sequence[providers.ContainerUsage]]]


class StatsHandlers:
    """Answers what concerns use of resources."""

    def __init__(self, node: str, pods: PodLookup, provider: Any, clock: Clock) -> None:
        self._node = node
        self._pods = pods
        self._provider = provider
        self._clock = clock
        self._started = clock.now()
        self._before: dict[tuple[str, str], tuple[float, int]] = {}

    async def _usage(self) -> Usage:
        if not isinstance(self._provider, providers.Stats):
            return []
        found = []
        for pod in self._pods.list():
            if not any("running" in (each.get("state") or {}) for each in container_statuses(pod)):
                continue
            try:
                found.append((pod, await self._provider.stats(uid_of(pod))))
            except providers.ProviderError:
                continue  # it ended in the meantime
        return found

    async def summary(self) -> HttpResponse:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        usage = await self._usage()
        rates = self._rates(usage, monotonic)
        pods = [_pod_summary(pod, used, now, rates) for pod, used in usage]
        total = [each for _, used in usage for each in used]
        node = {
            "nodeName": self._node,
            "startTime": _rfc3339(self._started),
            "cpu": _cpu(total, now, sum(rates.values()) if rates else None),
            "memory": _memory(total, now),
        }
        return json({"node": node, "pods": pods})

    def _rates(self, usage: Usage, monotonic: float) -> dict[tuple[str, str], int]:
        """Nano-cores per (uid, container) since the reading before."""
        rates, readings = {}, {}
        for pod, used in usage:
            for each in used:
                key = (str(uid_of(pod)), each.name)
                readings[key] = (monotonic, each.cpu_core_nanoseconds)
                before = self._before.get(key)
                if before is not None and monotonic > before[0]:
                    rates[key] = max(0, int((each.cpu_core_nanoseconds - before[1]) / (monotonic - before[0])))
        self._before = readings
        return rates

    async def metrics(self) -> HttpResponse:
        """The resource metrics in Prometheus' text form."""
        usage = await self._usage()
        total = [each for _, used in usage for each in used]
        lines = [
            *_family("node_cpu_usage_seconds_total", "counter", [("", _seconds(total))]),
            *_family("node_memory_working_set_bytes", "gauge", [("", str(_bytes(total)))]),
            *_family("container_cpu_usage_seconds_total", "counter", _container_rows(usage, cpu=True)),
            *_family("container_memory_working_set_bytes", "gauge", _container_rows(usage, cpu=False)),
            *_family("container_start_time_seconds", "gauge", _start_rows(usage)),
            *_family("pod_cpu_usage_seconds_total", "counter", [(_labels(pod), _seconds(used)) for pod, used in usage]),
            *_family(
                "pod_memory_working_set_bytes", "gauge", [(_labels(pod), str(_bytes(used))) for pod, used in usage]
            ),
            *_family("resource_scrape_error", "gauge", [("", "0")]),
        ]
        return HttpResponse(headers={"content-type": METRICS_TYPE}, body=("\n".join(lines) + "\n").encode())


def _pod_summary(
    pod: Object,
    used: Sequence[providers.ContainerUsage],
    now: datetime.datetime,
    rates: Mapping[tuple[str, str], int],
) -> Object:
    uid = str(uid_of(pod))
    started = _started_at(pod)
    containers = []
    for each in used:
        row: Object = {"name": each.name, "cpu": _cpu([each], now, rates.get((uid, each.name)))}
        row["memory"] = _memory([each], now)
        containers.append({**row, "startTime": started[each.name]} if each.name in started else row)
    known = [rates[(uid, each.name)] for each in used if (uid, each.name) in rates]
    return {
        "podRef": {"name": name_of(pod), "namespace": namespace_of(pod), "uid": uid},
        "startTime": get_path(pod, "status", "startTime"),
        "containers": containers,
        "cpu": _cpu(used, now, sum(known) if known else None),
        "memory": _memory(used, now),
    }


def _cpu(used: Sequence[providers.ContainerUsage], now: datetime.datetime, nano_cores: int | None) -> Object:
    total = sum(each.cpu_core_nanoseconds for each in used)
    row: Object = {"time": _rfc3339(now), "usageCoreNanoSeconds": total}
    return row if nano_cores is None else {**row, "usageNanoCores": nano_cores}


def _memory(used: Sequence[providers.ContainerUsage], now: datetime.datetime) -> Object:
    return {"time": _rfc3339(now), "workingSetBytes": _bytes(used)}


def _bytes(used: Sequence[providers.ContainerUsage]) -> int:
    return sum(each.memory_working_set_bytes for each in used)


def _seconds(used: Sequence[providers.ContainerUsage]) -> str:
    return repr(sum(each.cpu_core_nanoseconds for each in used) / NANO)


def _started_at(pod: Object) -> dict[str, str]:
    """Container -> when it started, as its status says."""
    found = {}
    for status in container_statuses(pod):
        started = get_path(status, "state", "running", "startedAt")
        if started:
            found[status["name"]] = started
    return found


def _labels(pod: Object, container: str = "") -> str:
    labels = f'namespace="{namespace_of(pod)}",pod="{name_of(pod)}"'
    return f'{{container="{container}",{labels}}}' if container else f"{{{labels}}}"


def _container_rows(usage: Usage, *, cpu: bool) -> list[tuple[str, str]]:
    return [
        (_labels(pod, each.name), _seconds([each]) if cpu else str(each.memory_working_set_bytes))
        for pod, used in usage
        for each in used
    ]


def _start_rows(usage: Usage) -> list[tuple[str, str]]:
    rows = []
    for pod, _ in usage:
        for name, started in _started_at(pod).items():
            rows.append((_labels(pod, name), repr(datetime.datetime.fromisoformat(started).timestamp())))
    return rows


def _family(name: str, kind: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    return [
        f"# HELP {name} [STABLE] {name.replace('_', ' ')}",
        f"# TYPE {name} {kind}",
        *[f"{name}{labels} {value}" for labels, value in rows],
    ]


def _rfc3339(when: datetime.datetime) -> str:
    return when.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
