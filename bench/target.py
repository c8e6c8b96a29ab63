"""A cluster to be measured: ``anynode up`` in a process of its own, TLS on, durable storage unless asked otherwise."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from anynode.aio.clock import SystemClock
from anynode.api.wire import ApiRequest
from anynode.client.config import ClientConfig
from anynode.client.http import HttpTransport


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running cluster."""

    directory: pathlib.Path
    server: str
    pid: int
    nodes: tuple[str, ...]
    start_seconds: float

    @property
    def kubeconfig(self) -> pathlib.Path:
        return self.directory / "kubeconfig"

    def memory_mib(self) -> float:
        """Resident memory of the whole control plane's process."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise LookupError("VmRSS")

    def cpu_seconds(self) -> float:
        """User and system time the process has used."""
        return time.clock_gettime(~self.pid << 3 | 2)  # the process's own clock, as clock_getcpuclockid makes it

    def metrics(self) -> dict[str, float]:
        """What the API server counts, by name and labels as it prints them."""

        async def read() -> str:
            transport = HttpTransport(ClientConfig.load(self.kubeconfig), clock=SystemClock())
            try:
                response = await transport.send(ApiRequest(method="GET", path="/metrics"))
            finally:
                await transport.close()
            return response.encoded().decode()

        lines = [line for line in asyncio.run(read()).splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def _anynode(*words: str) -> str:
    """Run the program as installed: with compiled modules, which an environment may keep Python from writing."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = (sys.executable, "-m", "anynode", *words)
    return subprocess.run(words, check=True, capture_output=True, text=True, env=environment).stdout


@contextmanager
def running(*options: str) -> Iterator[Target]:
    """``anynode up`` with these options; stopped and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="anynode-bench-") as directory:
        named = ("--name", "bench", "--data-dir", directory)
        began = time.monotonic()
        _anynode("up", "--detach", "--quiet", "--port", "0", *named, *options)
        took = time.monotonic() - began
        try:
            status = json.loads(_anynode("status", "-o", "json", *named))
            yield Target(
                directory=pathlib.Path(directory),
                server=status["server"],
                pid=status["pid"],
                nodes=tuple(status["nodes"]),
                start_seconds=took,
            )
        finally:
            _anynode("down", *named)
