"""Three API servers on one real etcd, written to through all of them while servers and etcd are killed.

Nothing acknowledged may be lost, and every watcher must hear the same events in the same order, none missing and none
twice, whichever server it asks. ``ANYNODE_SOAK_SECONDS`` makes it longer (``make soak``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.e2e.conftest import Kubectl, until

from anynode.aio.clock import SystemClock
from anynode.api.errors import ApiError
from anynode.api.objects import ObjectKey, name_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.client.config import ClientConfig, ConfigError
from anynode.client.http import HttpTransport
from anynode.testing.etcd_server import MISSING, EtcdServer, etcd_program, free_ports

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(etcd_program() is None, reason=MISSING),
]

CONFIG_MAPS, SERVICES = known("configmaps"), known("services")
SECONDS = float(os.environ.get("ANYNODE_SOAK_SECONDS", "12"))
WRITERS = 4


class Server:
    """One replica on a port of its own, killed and started again."""

    def __init__(self, directory: pathlib.Path, name: str, etcd: EtcdServer) -> None:
        self.directory = directory / name
        self.kubeconfig = directory / f"{name}.kc"
        self.port = free_ports(1)[0]
        self.command = [
            sys.executable, "-m", "anynode", "apiserver", "--data-dir", str(self.directory), "--port", str(self.port),
            "--etcd-servers", etcd.url, "--cert-dir", str(directory / "pki"), "--write-kubeconfig",
            str(self.kubeconfig), "--log-format", "text",
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.kubeconfig.unlink(missing_ok=True)
        with self.directory.with_suffix(".log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def ready(self) -> None:
        until(lambda: self.kubeconfig.exists() or self.process.poll() is not None, "a replica is ready")
        assert self.process is not None
        assert self.process.poll() is None, self.directory.with_suffix(".log").read_text()

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@pytest.fixture
def etcd(tmp_path: pathlib.Path) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path / "etcd") as running:
        yield running


@pytest.fixture
def servers(tmp_path: pathlib.Path, etcd: EtcdServer) -> Iterator[list[Server]]:
    made = [Server(tmp_path, name, etcd) for name in "abc"]
    try:
        for each in made:
            each.start()
            each.ready()
        yield made
    finally:
        for each in made:
            each.stop()


@contextlib.asynccontextmanager
async def client_of(server: Server) -> AsyncIterator[ApiClient]:
    transport = HttpTransport(ClientConfig.from_kubeconfig(server.kubeconfig), clock=SystemClock())
    try:
        yield ApiClient(transport)
    finally:
        await transport.close()


class Load:
    """Writers on every replica, watchers beside them, and what they were told."""

    def __init__(self, servers: list[Server]) -> None:
        self.servers = servers
        self.acknowledged: dict[str, str | None] = {}
        """name -> the value last acknowledged; None: its deletion."""
        self.doubtful: set[str] = set()
        """Names whose last write was not answered: it may have happened."""
        self.count = 0
        self.ending = asyncio.Event()
        self.heard: list[list[tuple[str, str, int]]] = []

    async def write(self, server: Server, writer: str) -> None:
        """Create, change and delete objects of its own, always knowing what the last answer said."""
        turn = 0
        while not self.ending.is_set():
            try:
                async with client_of(server) as client:
                    while not self.ending.is_set():
                        turn += 1
                        await self.step(client, f"{writer}-{turn}", turn)
            except (ApiError, ConfigError, OSError):
                await asyncio.sleep(0.05)

    async def step(self, client: ApiClient, name: str, turn: int) -> None:
        self.doubtful.add(name)
        made = await client.create(CONFIG_MAPS, {"metadata": {"name": name}, "data": {"v": "1"}}, namespace="default")
        self.told(name, "1")
        if turn % 3 == 0:
            self.doubtful.add(name)
            await client.update(CONFIG_MAPS, {**made, "data": {"v": "2"}})
            self.told(name, "2")
        if turn % 5 == 0:
            self.doubtful.add(name)
            await client.delete(CONFIG_MAPS, ObjectKey("default", name))
            self.told(name, None)

    def told(self, name: str, value: str | None) -> None:
        self.acknowledged[name] = value
        self.doubtful.discard(name)
        self.count += 1

    async def watch(self, first: int, revision: int, until_revision: asyncio.Future[int]) -> None:
        """Hear everything after ``revision``, going on at the next replica whenever a watch ends."""
        heard: list[tuple[str, str, int]] = []
        self.heard.append(heard)
        turn = first
        while not (until_revision.done() and revision >= until_revision.result()):
            try:
                async with client_of(self.servers[turn % len(self.servers)]) as client:
                    stream = await client.watch(
                        CONFIG_MAPS, "default", resource_version=str(revision), timeout_seconds=3
                    )
                    try:
                        async for batch in stream:
                            for event in batch:
                                assert event.type != "ERROR", event.object
                                at = int(event.object["metadata"]["resourceVersion"])
                                if event.type != "BOOKMARK":
                                    assert at > revision, "in order, and nothing twice"
                                    heard.append((event.type, name_of(event.object), at))
                                revision = max(revision, at)
                            if until_revision.done() and revision >= until_revision.result():
                                break
                    finally:
                        await stream.close()
            except (ApiError, ConfigError, OSError) as error:
                if getattr(error, "status_code", 0) == 410:
                    raise  # history was forgotten too early
                await asyncio.sleep(0.05)
            turn += 1


async def chaos(servers: list[Server], etcd: EtcdServer, chance: random.Random, seconds: float) -> None:
    """Kill one thing after the other, and start it again a moment later."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        await asyncio.sleep(1.0)
        victim: Server | EtcdServer = chance.choice([*servers, etcd, etcd])
        await asyncio.to_thread(victim.kill)
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        await asyncio.to_thread(victim.start)
        if isinstance(victim, Server):
            await asyncio.to_thread(victim.ready)


async def run_load(servers: list[Server], etcd: EtcdServer) -> Load:
    load = Load(servers)
    until_revision: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    async with client_of(servers[0]) as client:
        begin = int((await client.list(CONFIG_MAPS, "default")).resource_version)
    async with asyncio.TaskGroup() as tasks:
        for number in range(3):
            tasks.create_task(load.watch(number, begin, until_revision))
        async with asyncio.TaskGroup() as writing:
            for number, server in enumerate(servers):
                for writer in range(WRITERS):
                    writing.create_task(load.write(server, f"w{number}{writer}"))
            await chaos(servers, etcd, random.Random(7), SECONDS)
            await asyncio.sleep(1.0)
            load.ending.set()
        async with client_of(servers[1]) as client:
            last = await client.create(CONFIG_MAPS, {"metadata": {"name": "the-last"}}, namespace="default")
            until_revision.set_result(int(last["metadata"]["resourceVersion"]))
    return load


@pytest.mark.slow
@pytest.mark.timeout(120 + SECONDS * 2)
def test_nothing_is_lost_or_heard_twice_while_everything_is_killed(servers: list[Server], etcd: EtcdServer) -> None:
    load = asyncio.run(run_load(servers, etcd))
    assert load.count > 100
    found = [asyncio.run(_values(server)) for server in servers]
    assert found[0] == found[1] == found[2]
    for name, value in load.acknowledged.items():
        if name not in load.doubtful:
            assert found[0].get(name) == value, name
    assert load.heard[0] == load.heard[1] == load.heard[2], "every watcher heard the same"
    state: dict[str, int] = {}
    for kind, name, revision in load.heard[0]:
        assert (kind == "ADDED") == (name not in state), (kind, name)
        if kind == "DELETED":
            del state[name]
        else:
            state[name] = revision
    assert state.keys() == found[0].keys() - {"kube-root-ca.crt"}
    for server in servers:
        assert "Traceback" not in _unexpected(server.directory.with_suffix(".log").read_text())


def _unexpected(log: str) -> str:
    """The log without what a killed etcd makes a server say."""
    return "" if "etcd is not reachable" in log else log


async def _values(server: Server) -> dict[str, Any]:
    async with client_of(server) as client:
        page = await client.list(CONFIG_MAPS, "default")
        return {name_of(each): (each.get("data") or {}).get("v") for each in page.items}


def test_a_write_through_one_is_read_through_the_others_at_once(servers: list[Server]) -> None:
    async def play() -> None:
        async with client_of(servers[0]) as a, client_of(servers[1]) as b, client_of(servers[2]) as c:
            for count in range(30):
                name, writer, reader, third = f"x{count}", *((a, b, c), (b, c, a), (c, a, b))[count % 3]
                await writer.create(CONFIG_MAPS, {"metadata": {"name": name}}, namespace="default")
                found = await reader.get(CONFIG_MAPS, ObjectKey("default", name))
                assert name in {name_of(each) for each in (await third.list(CONFIG_MAPS, "default")).items}
                with pytest.raises(ApiError, match="already exists"):
                    await third.create(CONFIG_MAPS, {"metadata": {"name": name}}, namespace="default")
                await third.update(CONFIG_MAPS, {**found, "data": {"by": "third"}})
                await reader.delete(CONFIG_MAPS, ObjectKey("default", name))
                await writer.create(CONFIG_MAPS, {"metadata": {"name": name}}, namespace="default")

    asyncio.run(play())


def test_addresses_and_ports_are_given_once(servers: list[Server], tmp_path: pathlib.Path) -> None:
    async def play() -> list[Any]:
        async with client_of(servers[0]) as a, client_of(servers[1]) as b, client_of(servers[2]) as c:
            spec = {"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}
            async with asyncio.TaskGroup() as tasks:
                made = [
                    tasks.create_task(
                        client.create(
                            SERVICES, {"metadata": {"name": f"s{index}-{n}"}, "spec": spec}, namespace="default"
                        )
                    )
                    for n in range(40)
                    for index, client in enumerate((a, b, c))
                ]
            wanted = {**spec, "clusterIP": made[0].result()["spec"]["clusterIP"]}
            for client in (a, b, c):
                with pytest.raises(ApiError, match="provided IP is already allocated"):
                    await client.create(SERVICES, {"metadata": {"name": "again"}, "spec": wanted}, namespace="default")
            await b.delete(SERVICES, ObjectKey("default", name_of(made[0].result())))
            await c.create(SERVICES, {"metadata": {"name": "again"}, "spec": wanted}, namespace="default")
            return [task.result() for task in made]

    made = asyncio.run(play())
    assert len({each["spec"]["clusterIP"] for each in made}) == len(made)
    assert len({each["spec"]["ports"][0]["nodePort"] for each in made}) == len(made)


def test_each_server_is_known_and_missed(servers: list[Server], tmp_path: pathlib.Path) -> None:
    kubectl = Kubectl(servers[0].kubeconfig, tmp_path)

    def ports() -> set[int]:
        subsets = kubectl.json("get", "endpoints", "kubernetes").get("subsets") or []
        return {port["port"] for subset in subsets for port in subset["ports"]}

    def leases() -> int:
        found = kubectl.json("-n", "kube-system", "get", "leases")["items"]
        return sum(each["metadata"]["name"].startswith("apiserver-") for each in found)

    until(lambda: ports() == {each.port for each in servers}, "the service leads to every server")
    assert leases() == 3
    servers[1].stop()
    until(lambda: ports() == {servers[0].port, servers[2].port}, "who left is no longer told of", seconds=5)
    assert leases() == 2
    servers[2].kill()
    until(lambda: ports() == {servers[0].port}, "who died is missed", seconds=30)


@pytest.mark.slow
def test_one_of_several_controllers_and_schedulers_leads(servers: list[Server], tmp_path: pathlib.Path) -> None:
    kubectl = Kubectl(servers[2].kubeconfig, tmp_path)
    parts = [
        subprocess.Popen(
            [sys.executable, "-m", "anynode", part, "--leader-elect", "--kubeconfig", str(server.kubeconfig)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for server in servers[:2]
        for part in ("controllers", "scheduler")
    ]

    def leader(part: str) -> str:
        found = kubectl.run(
            "-n", "kube-system", "get", "lease", part, "-o", "jsonpath={.spec.holderIdentity}", check=False
        )
        return found.stdout.rpartition("_")[2]

    try:
        names = ("kube-controller-manager", "kube-scheduler")
        until(lambda: all(leader(name) for name in names), "somebody leads")
        kubectl("create", "deployment", "web", "--image=none", "--replicas=3")
        until(lambda: len(kubectl.json("get", "pods")["items"]) == 3, "its pods are there, and no more")
        first = [leader(name) for name in names]
        for part in parts:
            if str(part.pid) in first:
                part.kill()
        until(lambda: all(leader(name) != old for name, old in zip(names, first, strict=True)), "others lead", 40)
        kubectl("scale", "deployment", "web", "--replicas=5")
        until(lambda: len(kubectl.json("get", "pods")["items"]) == 5, "the new leader works")
    finally:
        for part in parts:
            part.terminate()
        for part in parts:
            part.wait(20)
