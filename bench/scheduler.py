"""``python -m bench.scheduler``: decisions per second on an empty cluster of many nodes, nothing written anywhere.

A decision is: find a pod's best node, count the pod there; the second figure includes reading the pod. Kinds: plain
pods, pods that spread over zones, pods that must not share a node, pods of one Service or workload ("fellows").
``--end-to-end`` binds through an in-memory API server instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from typing import Any

from anynode.aio.clock import SystemClock
from anynode.api.objects import Object, get_path
from anynode.api.resources import known
from anynode.api.selectors import of_labels
from anynode.client.api_client import ApiClient
from anynode.informers.informer import InformerFactory
from anynode.scheduler.pods import Shapes
from anynode.scheduler.ranking import Ranking
from anynode.scheduler.scheduler import Scheduler
from anynode.scheduler.snapshot import Snapshot
from anynode.testing.fake_api import FakeApi


def node(number: int) -> Object:
    name = f"node-{number}"
    labels = {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": f"zone-{number % 10}"}
    allocatable = {"cpu": "4", "memory": "32Gi", "pods": "110"}
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}}


def pod(number: int, kind: str) -> Object:
    requests = {"cpu": "100m", "memory": "500Mi"}
    spec: dict[str, Any] = {"containers": [{"name": "c", "image": "i", "resources": {"requests": requests}}]}
    if kind == "spread":
        spec["topologySpreadConstraints"] = [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 5,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "bench"}},
            }
        ]
    if kind == "anti":
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "bench"}}}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    metadata = {"namespace": "default", "name": f"pod-{number}", "uid": f"u{number}", "labels": {"app": "bench"}}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}


def decisions(nodes: int, pods: int, kind: str) -> tuple[float, float]:
    """Decisions per second, without and with reading the pods."""
    snapshot, shapes = Snapshot(), Shapes()
    for number in range(nodes):
        snapshot.set_node(node(number))
    ranking = Ranking(snapshot, random.Random(1))
    waiting = [pod(number, kind) for number in range(pods)]
    began = time.process_time()  # one thread that never waits: others on the machine do not count
    fellows = of_labels({"app": "bench"}) if kind == "fellows" else None
    read = [shapes.facts(each, fellows) for each in waiting]
    decided = time.process_time()
    for facts in read:
        chosen = ranking.best(facts)
        if chosen is None:
            raise SystemExit(f"{kind}: no room for {facts.key}")
        snapshot.place(facts, chosen)
    ended = time.process_time()
    return pods / (ended - decided), pods / (ended - began)


async def end_to_end(nodes: int, pods: int) -> float:
    """Bindings per second through an in-memory API server, events and watch included."""
    api, clock = FakeApi(), SystemClock()
    api.add(known("nodes"), *[node(number) for number in range(nodes)])
    client = ApiClient(api)
    informers = InformerFactory(client, clock=clock)
    scheduler = Scheduler(client, informers, clock=clock, chance=random.Random(1))
    tasks = [asyncio.create_task(informers.run()), asyncio.create_task(scheduler.run())]
    await informers.wait_synced()
    bound = 0
    done = asyncio.Event()

    def count(delta: Any) -> None:
        nonlocal bound
        if (
            delta.kind == "modified"
            and get_path(delta.obj, "spec", "nodeName")
            and not get_path(delta.old, "spec", "nodeName")
        ):
            bound += 1
            if bound == pods:
                done.set()

    informers.informer(known("pods")).subscribe(count)
    began = time.perf_counter()
    api.add(known("pods"), *[pod(number, "plain") for number in range(pods)])
    await done.wait()
    seconds = time.perf_counter() - began
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return pods / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=50_000)
    parser.add_argument("--end-to-end", action="store_true")
    arguments = parser.parse_args()
    if arguments.end_to_end:
        rate = asyncio.run(end_to_end(arguments.nodes, min(arguments.pods, 20_000)))
        print(f"bound through an in-memory API server: {rate:,.0f} /s")
        return
    for kind, pods in (
        ("plain", arguments.pods),
        ("spread", 10_000),
        ("anti", min(arguments.nodes - 1, 4_000)),
        ("fellows", 10_000),
    ):
        alone, whole = decisions(arguments.nodes, pods, kind)
        print(f"{kind}: {alone:,.0f} decisions/s on {arguments.nodes:,} nodes ({whole:,.0f} /s with reading the pod)")


if __name__ == "__main__":
    main()
