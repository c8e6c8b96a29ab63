"""``python -m bench.reset``: what ``Cluster.reset`` takes after a test that made N objects, the median of ten."""

from __future__ import annotations

import statistics
import sys
import time

import uvloop

from anynode.api.resources import known
from anynode.cluster import Cluster, ClusterSettings

CONFIG_MAPS = known("configmaps")
ROUNDS = 10


async def measure(count: int) -> float:
    async with Cluster(ClusterSettings(ephemeral=True, provider="sim")) as cluster:
        taken = []
        for _ in range(ROUNDS):
            for index in range(count):
                await cluster.client.create(CONFIG_MAPS, {"metadata": {"name": f"c-{index}"}}, namespace="default")
            began = time.perf_counter()
            await cluster.reset()
            taken.append(time.perf_counter() - began)
        assert not [
            each
            for each in (await cluster.client.list(CONFIG_MAPS, "default")).items
            if each["metadata"]["name"].startswith("c-")
        ]
        return statistics.median(taken)


def main() -> None:
    for count in [int(word) for word in sys.argv[1:]] or [10, 100, 1_000]:
        print(f"reset after {count:,} objects: {uvloop.run(measure(count)) * 1000:.1f} ms")


if __name__ == "__main__":
    main()
