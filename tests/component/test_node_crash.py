"""A node process that is killed: its pods run on, and the next one takes them over with their exit codes."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import subprocess
import sys

from anynode.api.objects import Uid
from anynode.provider import ContainerState, ProviderSettings
from anynode.providers.process import ProcessProvider
from anynode.testing.provider_suite import Reports

PROGRAM = """
import asyncio, os, pathlib, signal, sys
from anynode.api.objects import Uid
from anynode.provider import ContainerPlan, ContainerState, ProviderSettings
from anynode.providers.process import ProcessProvider
from anynode.testing.provider_suite import Reports, plan_of

async def main():
    provider = ProcessProvider(ProviderSettings(node="n", cluster_id="c", data_dir=pathlib.Path(sys.argv[1])))
    reports = Reports()
    async with provider.run(reports):
        await provider.create(plan_of(containers=("stays", "ends")))
        for name, script in (("stays", "exec sleep 60"), ("ends", "read x < $ANYNODE_ROOT/go; exit 9")):
            plan = ContainerPlan(name=name, image="x", attempt=0, command=("sh", "-c", script))
            if name == "ends":
                root = pathlib.Path(sys.argv[1]) / "pods/uid-1/containers/ends/root"
                root.mkdir(parents=True)
                os.mkfifo(root / "go")
            await provider.start(Uid("uid-1"), plan)
            await reports.until(name, ContainerState.RUNNING)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_pods_survive_the_death_of_their_node(tmp_path: pathlib.Path) -> None:
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", PROGRAM, str(tmp_path)], check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    go = tmp_path / "pods/uid-1/containers/ends/root/go"
    await asyncio.to_thread(go.write_text, "now\n")  # it ends while no node is there
    provider = ProcessProvider(ProviderSettings(node="n", cluster_id="c", data_dir=tmp_path))
    reports = Reports()
    async with provider.run(reports):
        ended = await reports.until("ends", ContainerState.TERMINATED)
        assert (ended.exit_code, ended.reason) == (9, "Error")
        running = await reports.until("stays", ContainerState.RUNNING)
        assert running.attempt == 0
        await provider.stop(Uid("uid-1"), "stays", 5)
        assert (await reports.until("stays", ContainerState.TERMINATED)).signal == signal.SIGTERM
        await provider.delete(Uid("uid-1"))
        assert await provider.list() == []
