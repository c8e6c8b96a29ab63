"""Requests are counted by upstream's labels, however they end, and nothing a client makes up is kept."""

from __future__ import annotations

from anynode.api import resources
from anynode.api.wire import ApiRequest
from anynode.apiserver import requestinfo
from anynode.apiserver.metrics import Metrics
from anynode.testing.clock import FakeClock

PODS = resources.builtin().at("", "v1", "pods")


async def counted(metrics: Metrics, clock: FakeClock, method: str, path: str, seconds: float, code: int) -> None:
    assert PODS is not None
    began = metrics.now()
    await clock.advance(seconds)
    request = ApiRequest(method=method, path=path)
    metrics.count(request, requestinfo.parse(request), PODS, code, began)


async def test_codes_and_durations() -> None:
    clock = FakeClock()
    metrics = Metrics(clock)
    await counted(metrics, clock, "POST", "/api/v1/namespaces/n/pods", 0.3, 201)
    await counted(metrics, clock, "GET", "/api/v1/namespaces/n/pods/p", 70, 404)
    await counted(metrics, clock, "GET", "/api/v1/namespaces/n/pods/p/made-up", 0, 200)
    text = metrics.text().decode()
    labels = 'component="apiserver",dry_run="",group="",resource="pods",scope="resource",subresource="",'
    labels += 'verb="{}",version="v1"'
    assert f'apiserver_request_total{{code="201",{labels.format("POST")}}} 1' in text
    assert f'apiserver_request_total{{code="404",{labels.format("GET")}}} 1' in text
    duration = "apiserver_request_duration_seconds"
    assert f'{duration}_bucket{{{labels.format("POST")},le="0.2"}} 0' in text
    assert f'{duration}_bucket{{{labels.format("POST")},le="0.4"}} 1' in text
    assert f'{duration}_bucket{{{labels.format("GET")},le="60"}} 1' in text
    assert f'{duration}_bucket{{{labels.format("GET")},le="+Inf"}} 2' in text
    assert "made-up" not in text
