"""``python -m bench.soak``: a whole cluster lives for a while, and nothing may grow, drift or get lost.

Starts ``anynode up`` (storage in a file; two simulated nodes) and ``anynode node`` with processes, each with a census
beside it; runs the scenarios of ``bench.soak.churn`` at a given rate under the eyes of ``bench.soak.checker``; samples
every few seconds; removes everything and compares with the beginning. ``--kill N``: kills and restarts N times.
Fails on faults of the checker, on lost acknowledged writes, on tracebacks, and on counts (descriptors, tasks, threads,
children, objects, entries) that did not come back. Times and memory are told, never judged.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import sys
import tempfile
import time
from typing import Any

import orjson
import uvloop

from anynode.aio.clock import SystemClock
from anynode.aio.http_message import HttpRequest, HttpResponse
from anynode.aio.http_server import HttpServer
from anynode.aio.tls import server_context
from anynode.api.errors import ApiError
from anynode.security.pki import CertificateAuthority
from bench.soak import churn
from bench.soak.caller import Caller
from bench.soak.checker import Checker
from bench.soak.process import Process

SAMPLE_SECONDS = 5.0
BULK = 2_000
KEPT = (
    "anynode.storage.types.Record", "anynode.storage.types.Change", "anynode.registry.items.Item",
    "anynode.registry.items.CacheEvent", "anynode.scheduler.snapshot.Move", "anynode.scheduler.pods.PodFacts",
    "anynode.apiserver.flow_control.Place", "anynode.informers.correlation._Written",
    "anynode.informers.correlation._Similar", "anynode.informers.correlation._Bucket",
)  # fmt: skip
"""What the windows hold."""
LEFT_OBJECTS = 1.3
"""How many times as many objects may be there in the end as after the warm-up."""
WINDOWS = {
    "Hub._history", "Hub._routes", "ResourceCache._events", "ResourceCache._decoded", "CacheEvent._rendered",
    "Log._entries", "PodFacts.key", "PodFacts.labels", "GarbageCollector._absent", "FlowControl._places",
    "Place.headers", "Place.hand", "_Recent._entries", "_Similar.messages", "EventExpiry._written", "Item._obj",
    "Item._obj[]", "Item._fields", "TokenIssuer._verified", "Claims.audiences", "Cluster._beginning", "_Series.buckets",
}  # fmt: skip
"""What is bounded by a number or a time longer than a run: told, not judged. The last one grows with the names of
custom resources, as upstream's metrics do."""
LEFT_COUNT = 12
"""How many more tasks, threads, descriptors, sockets, children there may be."""
LEFT_ENTRIES = 300
"""By how much one container may be longer in the end."""


async def review(request: HttpRequest) -> HttpResponse:
    """A webhook that allows everything."""
    asked = orjson.loads(request.body)
    answer = {"uid": asked["request"]["uid"], "allowed": True}
    said = {"kind": "AdmissionReview", "apiVersion": asked["apiVersion"], "response": answer}
    return HttpResponse(headers={"content-type": "application/json"}, body=orjson.dumps(said))


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, directory: pathlib.Path) -> None:
        self.options = options
        self.directory = directory
        self.chance = random.Random(options.seed)
        self.kubeconfig = str(directory / "data" / "kubeconfig")
        words = [
            "up",
            "--name",
            "soak",
            "--data-dir",
            str(directory / "data"),
            "--port",
            str(options.port or free_port()),
        ]
        words += ["--nodes", "2", "--provider", "sim", "--provider-option", "cpu=1000"]
        words += ["--ephemeral"] if options.ephemeral else []
        self.up = Process(name="up", words=tuple(words), directory=directory)
        node = ["node", "--kubeconfig", self.kubeconfig, "--name", churn.PROCESS_NODE]
        node += ["--data-dir", str(directory / "nodes"), "--taint", "soak=only:NoSchedule"]
        self.node = Process(name="node", words=tuple(node), directory=directory)
        self.processes = (self.up, self.node)
        self.done: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self.latencies: dict[str, list[float]] = {"get": [], "create": []}
        self.rows: list[dict[str, Any]] = []
        self.began = time.monotonic()
        self.number = 0
        self.down = asyncio.Event()
        """Set while the server is away on purpose."""
        self.call: Caller
        self.checker: Checker

    def say(self, sentence: str) -> None:
        print(f"{time.monotonic() - self.began:7.1f} s  {sentence}", flush=True)

    async def start(self) -> None:
        self.up.start()
        await self.answering(first=True)
        self.node.start()

    async def answering(self, *, first: bool = False) -> None:
        """Wait until the cluster is there."""
        for _ in range(600):
            await asyncio.sleep(0.1)
            assert self.up.child is not None
            if self.up.child.poll() is not None:
                raise SystemExit(f"the cluster ended: {self.up.log.read_text()[-2000:]}")
            if "is ready" not in self.up.log.read_text().rsplit("API server", 1)[-1]:
                continue
            if first:
                self.checker = Checker(self.kubeconfig, killed=bool(self.options.kill))
                self.call = Caller(self.kubeconfig, self.checker.promise)
            with contextlib.suppress(ConnectionError, OSError, ApiError):
                await self.call("GET", "/readyz")
                return
        raise SystemExit("the cluster did not start")

    async def prepare(self) -> None:
        for name in (*churn.NAMESPACES, "soak-bulk"):
            await self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            account = churn.core(name, "serviceaccounts", "default")
            await self.call.until(account, lambda _: True, "no account")

        async def fill(first: int) -> None:
            for index in range(first, BULK, 8):
                made = {"metadata": {"name": f"bulk-{index:05}"}, "data": {"text": "x" * 200}}
                await self.call("POST", churn.core("soak-bulk", "configmaps"), made)

        async with asyncio.TaskGroup() as tasks:
            for first in range(8):
                tasks.create_task(fill(first))

    async def one(self, scenario: churn.Scenario) -> None:
        self.number += 1
        name, number = scenario.__name__, self.number
        self.done[name] += 1
        try:
            async with asyncio.timeout(150):
                await scenario(self.call, number, random.Random(number))
        except (ApiError, ConnectionError, OSError, EOFError, TimeoutError) as error:
            if not self.down.is_set():
                self.failures.append(f"{name} {number}: {type(error).__name__} {str(error)[:200]}")
                self.say(f"scenario failed: {self.failures[-1]}")

    async def worker(self, until: float) -> None:
        scenarios = [each for each, _ in churn.SCENARIOS]
        weights = [weight for _, weight in churn.SCENARIOS]
        while time.monotonic() < until:
            await self.one(self.chance.choices(scenarios, weights)[0])
            pause = self.options.pause * (0.5 + self.chance.random())
            await asyncio.sleep(max(0.0, min(pause, until - time.monotonic())))

    async def probe(self) -> None:
        """A plain get and a plain create, again and again."""
        path = churn.core("soak-2", "configmaps")
        turn = 0
        while True:
            turn += 1
            with contextlib.suppress(ApiError, ConnectionError, OSError):
                began = time.perf_counter()
                await self.call("GET", churn.core("soak-bulk", "configmaps", "bulk-00001"))
                self.latencies["get"].append(time.perf_counter() - began)
                began = time.perf_counter()
                await self.call("POST", path, {"metadata": {"name": f"probe-{turn}"}}, refused=(409,))
                self.latencies["create"].append(time.perf_counter() - began)
                await self.call("DELETE", f"{path}/probe-{turn}", refused=(404,))
            await asyncio.sleep(0.1)

    async def sample(self) -> dict[str, Any]:
        row: dict[str, Any] = {"seconds": round(time.monotonic() - self.began, 1)}
        for process in self.processes:
            with contextlib.suppress(OSError, ValueError, FileNotFoundError):
                found = {**process.kernel(), **await process.census("quick")}
                row[process.name] = {name: value for name, value in found.items() if name != "by_coroutine"}
        for file in (self.directory / "data").glob("state.db*"):
            row[file.name] = file.stat().st_size
        for name, values in self.latencies.items():
            ordered = sorted(values)
            values.clear()
            if ordered:
                row[name] = [round(ordered[int(len(ordered) * part)] * 1000, 2) for part in (0.5, 0.99)]
        row["done"] = sum(self.done.values())
        row["events"] = self.checker.report()["events"]
        self.rows.append(row)
        with (self.directory / "samples.jsonl").open("a") as file_:
            file_.write(json.dumps(row) + "\n")
        return row

    async def sampler(self) -> None:
        turn = 0
        while True:
            row = await self.sample()
            if turn % 6 == 0:
                up, node = row.get("up", {}), row.get("node", {})
                said = {key: round(value, 1) for key, value in up.items()}
                self.say(f"up {said} node {node.get('rss_mib', 0):.0f} MiB {node.get('tasks')} tasks")
                rest = {key: value for key, value in row.items() if key not in ("up", "node", "seconds")}
                self.say(f"   {rest}")
            turn += 1
            await asyncio.sleep(SAMPLE_SECONDS)

    async def killer(self, until: float) -> None:
        """Kill the server at times, and start it again."""
        kills = self.options.kill
        pause = (until - time.monotonic()) / (kills + 1)
        for _ in range(kills):
            await asyncio.sleep(pause)
            self.down.set()
            self.say("killed")
            self.up.kill()
            self.up.start()
            await self.answering()
            self.say("answers again")
            await asyncio.sleep(2)
            self.down.clear()

    async def clean(self) -> None:
        """Remove what scenarios that failed left, then wait for everything to be gone."""
        for path in (
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
            "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
        ):
            await self.call("DELETE", path, refused=(404,))
        for namespace in churn.NAMESPACES:
            for resource in ("services", "configmaps", "secrets", "pods"):
                if resource != "services":
                    await self.call("DELETE", churn.core(namespace, resource))
            for resource in ("deployments", "statefulsets"):
                await self.call("DELETE", churn.group("apps/v1", namespace, resource))
            await self.call("DELETE", churn.group("batch/v1", namespace, "jobs"), {"propagationPolicy": "Background"})
            await self.call("DELETE", churn.core(namespace, "events"))
        left = (await self.call("GET", "/api/v1/namespaces"))["items"]
        for each in left:
            if each["metadata"]["name"].startswith("space-"):
                await self.call.gone(f"/api/v1/namespaces/{each['metadata']['name']}")
        for namespace in churn.NAMESPACES:
            for resource in ("pods", "endpoints"):
                path = churn.core(namespace, resource)
                await self.call.until(path, lambda each: not each["items"], f"{resource} left in {namespace}", 40)

    async def deep(self, name: str) -> dict[str, dict[str, Any]]:
        found = {each.name: {**each.kernel(), **await each.census("deep")} for each in self.processes}
        (self.directory / f"census-{name}.json").write_text(json.dumps(found, indent=1, sort_keys=True))
        return found

    async def run(self) -> int:
        await self.start()
        checking = asyncio.create_task(self.checker.run())
        await self.prepare()
        self.say("warming up: every scenario twice")
        for _ in range(2):
            for scenario, _weight in churn.SCENARIOS:
                await self.one(scenario)
        await self.clean()
        await asyncio.sleep(self.options.settle)
        before = await self.deep("before")
        self.say("the soak begins")
        until = time.monotonic() + self.options.seconds
        background = [asyncio.create_task(each) for each in (self.probe(), self.sampler())]
        killing = asyncio.create_task(self.killer(until))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self.options.workers):
                tasks.create_task(self.worker(until))
        await killing
        for task in background:
            task.cancel()
        self.say("the soak is over; cleaning up")
        await self.clean()
        await asyncio.sleep(self.options.settle)
        for each in self.checker.watched.values():
            await each.settle()
        checking.cancel()
        after = await self.deep("after")
        await self.sample()
        code = self.judge(before, after)
        self.node.stop()
        ended = self.up.stop()
        self.say(f"the cluster ended with {ended}")
        return code or int(ended != 0)

    def judge(self, before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> int:
        """Tell what is different; 1 when something is wrong."""
        wrong: list[str] = []
        for name in before:
            was, now = before[name], after[name]
            for figure in ("rss_mib", "objects", "tasks", "threads", "descriptors", "sockets", "children"):
                self.say(
                    f"{name} {figure}: {was[figure]:.0f} -> {now[figure]:.0f} ({now[figure] / max(was[figure], 1):.2f})"
                )
            if not self.options.kill or name != "up":
                counted = ("tasks", "threads", "descriptors", "sockets", "children")
                more = [each for each in counted if now[each] > was[each] + LEFT_COUNT]
                wrong += [f"{name}: {figure} {was[figure]} -> {now[figure]}" for figure in more]
                kept = sum(now["types"].get(each, 0) - was["types"].get(each, 0) for each in KEPT)
                if now["objects"] - 2 * kept > was["objects"] * LEFT_OBJECTS:
                    wrong.append(f"{name}: objects {was['objects']} -> {now['objects']}, {kept} of them in windows")
            for where in ("sizes", "types", "by_coroutine", "caches"):
                grown = {key: (was[where].get(key, 0), value) for key, value in now[where].items()}
                most = sorted(grown.items(), key=lambda each: each[1][0] - each[1][1])[:12]
                for key, (old, new) in most:
                    if new - old > (50 if where != "by_coroutine" else 3):
                        self.say(f"  {name} {where} {key}: {old} -> {new}")
                        if where == "sizes" and key not in WINDOWS and new - old > LEFT_ENTRIES and new > 2 * old:
                            wrong.append(f"{name}: {key} {old} -> {new}")
        self.say(f"checker: {self.checker.report()}, scenarios: {dict(self.done)}")
        self.say(f"answers: {dict(sorted(self.call.codes.items()))}")
        wrong += self.checker.faults[:20] + self.failures[:20]
        wrong += [f"{count} times {what}" for what, count in self.call.unexpected.items()]
        for process in self.processes:
            said = [line for line in process.log.read_text(errors="replace").splitlines() if line]
            kinds = collections.Counter(re.sub(r"[0-9a-f]{4,}|\d+", "N", line)[:230] for line in said)
            for line, count in kinds.most_common(40):
                self.say(f"  {process.name} log {count} x {line}")
            if any(line.startswith("Traceback") for line in said):
                wrong.append(f"{process.name}: traceback")
        for each in wrong:
            self.say(f"WRONG {each}")
        return int(bool(wrong))


def free_port() -> int:
    """One that a restarted server can have again."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def empty(name: str) -> pathlib.Path:
    directory = pathlib.Path(name or tempfile.mkdtemp(prefix="anynode-soak-"))
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


async def main(options: argparse.Namespace, directory: pathlib.Path) -> int:
    clock = SystemClock()
    authority = CertificateAuthority.load_or_create(directory / "ca", clock)
    pair = authority.server_certificate(["127.0.0.1"])
    soak = Soak(options, directory)
    try:
        async with HttpServer(review, ssl=server_context(pair.certificate, pair.key), clock=clock) as hook:
            bundle = base64.b64encode(authority.certificate).decode()
            os.environ["SOAK_WEBHOOK"] = f"https://127.0.0.1:{hook.port} {bundle}"
            return await soak.run()
    finally:
        for process in soak.processes:
            if process.child is not None and process.child.poll() is None:
                process.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between the scenarios of one worker")
    parser.add_argument("--settle", type=float, default=8, help="seconds of rest before counting")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--kill", type=int, default=0)
    parser.add_argument("--ephemeral", action="store_true")
    parser.add_argument("--directory", default="")
    given = parser.parse_args()
    sys.exit(uvloop.run(main(given, empty(given.directory))))
