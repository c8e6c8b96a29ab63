"""The pytest plugin: a whole Kubernetes as a fixture, in this process, nothing left afterwards.

Installed with anynode and found by pytest itself::

    async def test_my_operator(cluster):            # a fresh cluster for this test
        await cluster.client.create(...)

``cluster`` is an ``anynode.Cluster`` that is entered before the test and left after it; it needs an event loop, so
run with pytest-asyncio in auto mode. Nothing heavy is imported until a fixture is used.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from typing import Any

import pytest


@pytest.fixture
def cluster_settings() -> dict[str, Any]:
    """Keyword arguments for ``ClusterSettings``; override it in a test module to change the cluster."""
    return {}


@pytest.fixture
async def cluster(cluster_settings: dict[str, Any]) -> AsyncIterator[Any]:
    """A fresh ephemeral cluster in this process."""
    module = importlib.import_module("anynode.cluster")
    async with module.Cluster(module.ClusterSettings(ephemeral=True, **cluster_settings)) as running:
        yield running
