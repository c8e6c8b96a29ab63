"""Where a cluster of this machine lives: its directory, its lock, and the note it leaves while it runs.

Layout of a data directory (all files 0600, directories 0700): ``state.db`` (storage), ``pki/``, ``kubeconfig``,
``nodes/<node>/`` (what the provider keeps), ``anynode.log`` (only with ``--detach``), and while the cluster runs
``run.json`` and the held ``lock``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from anynode.security.private_files import write_private

DEFAULT_NAME = "anynode"
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?")


class StateError(Exception):
    """Something about the data directory the user must know; one clear sentence."""


def clusters_directory(environment: Mapping[str, str] = os.environ) -> pathlib.Path:
    """Where clusters live by default: under ``$ANYNODE_HOME``, ``$XDG_DATA_HOME`` or ``~/.local/share``."""
    if home := environment.get("ANYNODE_HOME"):
        return pathlib.Path(home) / "clusters"
    base = environment.get("XDG_DATA_HOME") or str(pathlib.Path.home() / ".local" / "share")
    return pathlib.Path(base) / "anynode" / "clusters"


def context_name(name: str) -> str:
    """The kubeconfig context of a cluster: ``anynode`` for the default one, else ``anynode-<name>``."""
    return name if name == DEFAULT_NAME else f"anynode-{name}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a running cluster says of itself; the contents of ``run.json``."""

    name: str
    pid: int
    server: str
    data_dir: str
    ephemeral: bool
    nodes: tuple[str, ...]
    provider: str
    version: str
    started_at: str

    def wire(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "pid": self.pid,
            "server": self.server,
            "dataDir": self.data_dir,
            "ephemeral": self.ephemeral,
            "nodes": list(self.nodes),
            "provider": self.provider,
            "version": self.version,
            "startedAt": self.started_at,
        }


@dataclasses.dataclass(frozen=True, slots=True)
class DataDir:
    """One cluster's directory."""

    path: pathlib.Path

    @classmethod
    def named(cls, name: str, data_dir: str | None = None) -> DataDir:
        """The directory of cluster ``name``, or ``data_dir`` where the user chose one; raises ``StateError``."""
        if not _NAME.fullmatch(name):
            raise StateError(
                f"{name!r} is no name for a cluster: use lower case letters, digits and '-' (at most 42 characters)"
            )
        return cls(pathlib.Path(data_dir).expanduser().absolute() if data_dir else clusters_directory() / name)

    @property
    def storage_file(self) -> pathlib.Path:
        return self.path / "state.db"

    @property
    def pki(self) -> pathlib.Path:
        return self.path / "pki"

    @property
    def kubeconfig(self) -> pathlib.Path:
        return self.path / "kubeconfig"

    @property
    def log_file(self) -> pathlib.Path:
        return self.path / "anynode.log"

    @property
    def run_file(self) -> pathlib.Path:
        return self.path / "run.json"

    @property
    def lock_file(self) -> pathlib.Path:
        return self.path / "lock"

    def make(self) -> None:
        """Create the directory, for its owner alone."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"cannot use the data directory {self.path}: {error.strerror}. Choose another with --data-dir."
            ) from error

    def running(self) -> Running | None:
        """The cluster that runs on this directory now. A note left by a killed process does not count."""
        if not self._locked():
            return None
        try:
            found = json.loads(self.run_file.read_text())
        except (OSError, ValueError):
            return None
        return Running(
            name=found["name"],
            pid=found["pid"],
            server=found["server"],
            data_dir=found["dataDir"],
            ephemeral=found["ephemeral"],
            nodes=tuple(found["nodes"]),
            provider=found["provider"],
            version=found["version"],
            started_at=found["startedAt"],
        )

    def _locked(self) -> bool:
        try:
            with self.lock_file.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError as error:
            return error.errno in (errno.EAGAIN, errno.EACCES)
        return False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the directory for this process; raises ``StateError`` when another one has it."""
        self.make()
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StateError(self._taken()) from error
            try:
                yield
            finally:
                self.run_file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def _taken(self) -> str:
        running = self.running()
        if running is None:
            return f"another anynode is starting on {self.path}: wait for it, or choose another --data-dir"
        return (
            f"cluster {running.name!r} already runs on {self.path} (pid {running.pid}, {running.server}): "
            "stop it with 'anynode down', or start another with --name"
        )

    def announce(self, running: Running) -> None:
        """Say that the cluster is ready; the note appears whole or not at all."""
        write_private(self.run_file, json.dumps(running.wire(), indent=2).encode() + b"\n")
