"""``python -m bench``: measure the rows of the speed table and print it. ``--quick`` takes a tenth of the work.

Each figure is what one run on this machine gave, the load generator on the same cores; nothing is compared with a limit
here. ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench import kload, target

Row = tuple[str, str, str]


def requests(scale: float) -> Iterator[Row]:
    """The API server's rows, by kload."""
    count = int(5000 * scale)
    with target.running("--nodes", "0") as server:
        phases = [f"create={count}", f"get={count * 4}", "list=20", "page=40", f"status={count}"]
        phases += [f"watch=100x{int(1000 * scale)}", f"watch=500x{int(200 * scale)}", f"delete={count}"]
        names = {
            "create": ("create pods, 32 concurrent", "2,500 /s"),
            "get": ("get pod", "8,000 /s"),
            "status": ("patch pod status (strategic merge)", "1,600 /s"),
            "delete": ("delete pods (grace 0)", "2,000 /s"),
            "list": (f"list {count:,} pods", "50 ms"),
            "page": ("page of 500", "5 ms"),
        }
        for row in kload.run(server, *phases):
            if row["errors"]:
                print(f"{row['phase']}: {row['errors']} errors", file=sys.stderr)
            phase = row["phase"]
            if phase in ("list", "page"):
                yield names[phase][0], f"{row['p50']:.0f} ms", names[phase][1]
            elif phase in names:
                yield names[phase][0], f"{row['ops']:,.0f} /s", names[phase][1]
            else:
                yield f"watch fan-out ({phase}, n={row['n']:,})", f"{row['ops']:,.0f} deliveries/s", "100,000 /s"


def processor(scale: float) -> Iterator[Row]:
    """Processor time of the whole control plane per request: what load on the machine changes least. The least of ten
    short rounds, as whoever shares the machine only ever adds."""
    count = max(int(600 * scale), 60)
    names = {"create": "create pod", "get": "get pod", "status": "patch pod status", "delete": "delete pod"}
    least: dict[str, float] = {}
    with target.running("--nodes", "0") as server:
        phases = [f"create={count}", f"get={count * 3}", f"status={count}", f"delete={count}"]
        for row in kload.run(server, *(phases * 10)):
            used = row["cpu"] / row["n"]
            least[row["phase"]] = min(used, least.get(row["phase"], used))
    for phase, name in names.items():
        yield f"{name}: processor time", f"{least[phase] * 1e6:,.0f} us", ""


def starting(_: float) -> Iterator[Row]:
    """Start to ready and memory when idle, the median of five."""
    seconds, memory = [], []
    with target.running("--nodes", "1"):
        pass  # modules are compiled now
    for _ in range(5):
        with target.running("--nodes", "1") as server:
            seconds.append(server.start_seconds)
            memory.append(server.memory_mib())
    yield "start to ready API (whole cluster, one node)", f"{statistics.median(seconds):.2f} s", "0.7 s"
    yield "memory of the whole control plane", f"{statistics.median(memory):.0f} MB", "120 MB"


def binding(scale: float) -> Iterator[Row]:
    """The scheduler's rows, from POST to bound, on nodes without a kubelet."""
    nodes = int(5000 * scale)
    for phase, name, count, goal in (
        ("sched", "plain", 5000, "1,500 /s"),
        ("spread", "zone spreading", 2000, "1,000 /s"),
        ("anti", "required anti-affinity", 1000, "1,000 /s"),
    ):
        with target.running("--nodes", "0") as server:
            row = kload.run(server, f"nodes={nodes}", f"{phase}={int(count * scale)}")[-1]
        yield f"bind pods, {nodes:,} nodes ({name})", f"{row['ops']:,.0f} /s", goal


def lives(scale: float) -> Iterator[Row]:
    """From POST to Running on one virtual node of the simulated provider."""
    with target.running("--nodes", "1", "--provider", "sim", "--provider-option", "cpu=2000") as server:
        row = kload.run(server, f"running={int(2000 * scale)}@{server.nodes[0]}")[-1]
    yield "POST to Running on a virtual node (sim)", f"{row['ops']:,.0f} /s", "1,000 /s"


RENEWALS = 'apiserver_request_total{verb="update",resource="leases.coordination.k8s.io"}'


def keeping_alive(scale: float) -> Iterator[Row]:
    """Heartbeats of a whole cluster's nodes: measured on as many as start quickly, the rest extrapolated."""
    nodes, seconds = int(3000 * scale), 30.0
    with target.running("--nodes", str(nodes), "--provider", "sim") as server:
        time.sleep(10.0)  # every node has begun to beat
        began, used, renewed = time.monotonic(), server.cpu_seconds(), server.metrics()[RENEWALS]
        time.sleep(seconds)
        took = time.monotonic() - began
        share, rate = (server.cpu_seconds() - used) / took, (server.metrics()[RENEWALS] - renewed) / took
        memory, started = server.memory_mib(), server.start_seconds
    found = (
        f"{nodes:,} nodes: {share:.0%} of a core, {rate:,.0f} renewals/s, {memory:.0f} MB, started in {started:.0f} s"
    )
    yield "nodes kept alive by one process", f"{found}; extrapolated to a core: {nodes / share:,.0f}", "50,000"


PARTS = {
    "start": starting,
    "cpu": processor,
    "requests": requests,
    "bind": binding,
    "run": lives,
    "alive": keeping_alive,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="which rows (all)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path)
    options = parser.parse_args()
    rows: list[Row] = []
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("| work | measured | goal |\n|---|---|---|")
    for part in options.parts or PARTS:
        try:
            for row in PARTS[part](0.1 if options.quick else 1.0):
                rows.append(row)
                print(f"| {' | '.join(row)} |", flush=True)
        except kload.NoLoadGenerator as error:
            print(f"{part}: left out, {error}", file=sys.stderr)
    if options.json:
        found: list[dict[str, Any]] = [{"work": work, "measured": got, "goal": goal} for work, got, goal in rows]
        options.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
