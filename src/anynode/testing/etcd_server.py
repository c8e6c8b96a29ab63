"""A real etcd on loopback for tests: started, killed and started again on the same data.

Needs the ``etcd`` program: beside the interpreter or on the PATH (Debian: ``etcd-server``).
"""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

READY_SECONDS = 20.0
MISSING = "needs the program etcd (Debian: apt-get install etcd-server)"


def etcd_program() -> str | None:
    """Where etcd is: in this virtual environment or on the PATH; None where it is not installed."""
    return shutil.which("etcd", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("etcd")


class EtcdServer:
    """One etcd in ``directory``; use as ``with EtcdServer(directory) as etcd``."""

    def __init__(
        self, directory: pathlib.Path, *, sync: bool = True, tls: Mapping[str, pathlib.Path] | None = None
    ) -> None:
        """``sync`` False: what is written may be lost in a crash of the machine, not of the program. ``tls``: etcd's
        ``cert-file``, ``key-file`` and ``trusted-ca-file``; clients must show a certificate."""
        self._tls = tls or {}
        self._directory = directory
        self._sync = sync
        self.port, self._peer_port = free_ports(2)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when it accepts connections. RuntimeError where it does not start."""
        program = etcd_program()
        if program is None:
            raise RuntimeError(MISSING)
        peer = f"http://127.0.0.1:{self._peer_port}"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [
            program, "--data-dir", str(self._directory / "data"), "--listen-client-urls", self.url,
            "--advertise-client-urls", self.url, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--log-level", "error",
            *(() if self._sync else ("--unsafe-no-fsync",)),
            *(f"--{name}={path}" for name, path in self._tls.items()), *(["--client-cert-auth"] if self._tls else []),
        ]  # fmt: skip
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(int(READY_SECONDS / 0.02)):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"etcd did not start: {(self._directory / 'log').read_text()[-500:]}")

    def kill(self) -> None:
        """End it as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
