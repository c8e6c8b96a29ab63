"""The processes that are measured, and what the kernel and they themselves say of them."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any


@dataclasses.dataclass(slots=True, kw_only=True)
class Process:
    """An anynode program with a census beside it."""

    name: str
    words: tuple[str, ...]
    directory: pathlib.Path
    child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> pathlib.Path:
        return self.directory / f"{self.name}.log"

    @property
    def socket(self) -> str:
        return str(self.directory / f"{self.name}.sock")

    def start(self) -> None:
        with self.log.open("ab") as log:
            words = [sys.executable, "-m", "bench.soak.host", self.socket, *self.words]
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
            self.child = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.wait()

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        assert self.child is not None
        self.child.terminate()
        try:
            return self.child.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            return -9

    async def census(self, how: str) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self.socket, limit=1 << 26)
        try:
            writer.write(f"{how}\n".encode())
            found: dict[str, Any] = json.loads(await reader.read())
            return found
        finally:
            writer.close()

    def kernel(self) -> dict[str, float]:
        """Memory, processor time, children and sockets."""
        assert self.child is not None
        place = pathlib.Path(f"/proc/{self.child.pid}")
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
        fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
        sockets = 0
        for each in os.listdir(place / "fd"):
            try:
                sockets += os.readlink(place / "fd" / each).startswith("socket:")
            except FileNotFoundError:
                continue
        children = [
            word for task in os.listdir(place / "task") for word in _children(place / "task" / task / "children")
        ]
        return {
            "rss_mib": int(status["VmRSS"].split()[0]) / 1024,
            "cpu_seconds": (int(fields[11]) + int(fields[12])) / 100,
            "sockets": sockets,
            "children": len(children),
        }


def _children(path: pathlib.Path) -> list[str]:
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []
