"""Requests are summed as component-helpers sums them."""

from __future__ import annotations

from typing import Any

import pytest

from anynode.scheduler.requests import requests_of

MIB = 1024 * 1024


def container(cpu: str = "", memory: str = "", **more: Any) -> dict[str, Any]:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"resources": {"requests": requests}, **more}


@pytest.mark.parametrize(
    ("spec", "cpu", "memory"),
    [
        ({"containers": [container("100m", "1Mi"), container("0.5", "2Mi")]}, 600, 3 * MIB),
        ({"containers": [container("100m")], "initContainers": [container("1"), container("50m")]}, 1000, None),
        # a sidecar counts beside the containers and beside the init containers after it
        (
            {
                "containers": [container("100m")],
                "initContainers": [container("200m", restartPolicy="Always"), container("500m")],
            },
            700,
            None,
        ),
        (
            {"containers": [container("400m")], "initContainers": [container("200m", restartPolicy="Always")]},
            600,
            None,
        ),
        ({"containers": [container("100m")], "overhead": {"cpu": "10m"}}, 110, None),
        ({"containers": [container("100m")], "resources": {"requests": {"cpu": "1"}}}, 1000, None),
    ],
)
def test_sums(spec: dict[str, Any], cpu: int, memory: int | None) -> None:
    amounts = requests_of(spec).amounts
    assert amounts.get("cpu") == cpu
    assert amounts.get("memory") == memory


def test_scoring_assumes_something_per_silent_container() -> None:
    requests = requests_of({"containers": [container(), container("300m")]})
    assert requests.amounts == {"cpu": 300}
    assert (requests.scored_cpu, requests.scored_memory) == (400, 400 * MIB)


def test_extended_resources() -> None:
    spec = {"containers": [{"resources": {"requests": {"example.com/gpu": "2", "ephemeral-storage": "1Gi"}}}]}
    assert requests_of(spec).amounts == {"example.com/gpu": 2, "ephemeral-storage": 1024**3}
