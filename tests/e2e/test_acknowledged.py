"""Nothing acknowledged is lost: kill -9 in the middle of concurrent creates, and everything answered 201 is there.

``ANYNODE_KILLS`` makes it longer (``make soak``).
"""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import signal

import pytest
from tests.e2e.conftest import anynode, until

from anynode.aio.clock import SystemClock
from anynode.api.errors import ApiError
from anynode.api.objects import ObjectKey, name_of
from anynode.api.resources import known
from anynode.client.api_client import ApiClient
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport

pytestmark = pytest.mark.e2e

CONFIG_MAPS = known("configmaps")
KILLS = int(os.environ.get("ANYNODE_KILLS", "7"))
CREATES = 1000
CONCURRENT = 64


async def create_until_killed(kubeconfig: pathlib.Path, turn: int, kill_after: int, pid: int) -> list[str]:
    """Create configmaps concurrently, kill the server after ``kill_after`` answers; returns the names answered 201."""
    transport = HttpTransport(ClientConfig.from_kubeconfig(kubeconfig), clock=SystemClock())
    client = ApiClient(transport)
    acknowledged: list[str] = []
    numbers = iter(range(CREATES))

    async def worker() -> None:
        for number in numbers:
            obj = {"metadata": {"name": f"t{turn}-{number}"}, "data": {"n": str(number)}}
            try:
                made = await client.create(CONFIG_MAPS, obj, namespace="default")
            except (ApiError, ConnectionError):
                return
            acknowledged.append(name_of(made))
            if len(acknowledged) == kill_after:
                os.kill(pid, signal.SIGKILL)

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONCURRENT):
                tasks.create_task(worker())
    finally:
        await transport.close()
    return acknowledged


async def missing(kubeconfig: pathlib.Path, names: list[str]) -> list[str]:
    transport = HttpTransport(ClientConfig.from_kubeconfig(kubeconfig), clock=SystemClock())
    try:
        client = ApiClient(transport)
        found = {name_of(each) for each in (await client.list(CONFIG_MAPS, "default")).items}
        last = await client.get(CONFIG_MAPS, ObjectKey("default", names[-1]))
        assert last["data"]["n"] == names[-1].partition("-")[2]
        return [name for name in names if name not in found]
    finally:
        await transport.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_again_and_again_in_the_middle_of_a_thousand_creates(tmp_path: pathlib.Path) -> None:
    options = ("--name", "k", "--data-dir", str(tmp_path / "k"))
    every: list[str] = []
    try:
        for turn in range(KILLS):
            anynode("up", "--detach", "--quiet", "--nodes", "0", "--port", "0", *options)
            pid = json.loads((tmp_path / "k" / "run.json").read_text())["pid"]
            kill_after = 40 + 900 * turn // KILLS
            answered = asyncio.run(create_until_killed(tmp_path / "k" / "kubeconfig", turn, kill_after, pid))
            until(lambda pid=pid: not _alive(pid), "the server is dead")
            assert len(answered) >= kill_after
            every += answered
        anynode("up", "--detach", "--quiet", "--nodes", "0", "--port", "0", *options)
        assert asyncio.run(missing(tmp_path / "k" / "kubeconfig", every)) == []
    finally:
        anynode("down", *options, check=False)


def _alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
