"""How a command names a state of a cluster: ``CLUSTER``, ``CLUSTER@REVISION`` or ``@REVISION``."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import AsyncIterator
from typing import Any

from anynode.cli.state import DEFAULT_NAME, DataDir, Running, StateError


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """A cluster by its kubeconfig, and a revision (empty: now). ``text`` is what the user wrote."""

    text: str
    cluster: str
    revision: str
    kubeconfig: str

    @classmethod
    def parse(cls, text: str) -> Side:
        """Raises ``StateError`` for a revision that is none and for a cluster that is not there."""
        cluster, at, revision = text.rpartition("@") if "@" in text else (text, "", "")
        cluster = cluster or DEFAULT_NAME
        if at and not (revision.isascii() and revision.isdigit()):
            raise StateError(f"{revision!r} is no revision: give the resourceVersion of a list, such as {cluster}@1200")
        return cls(text, cluster, revision, _kubeconfig(cluster))

    def now(self) -> Side:
        """The same cluster as it is now."""
        return dataclasses.replace(self, text=self.text.rpartition("@")[0] or "now", revision="")

    def running(self) -> Running | None:
        """What is known of the cluster when it is one of this machine's."""
        return DataDir(pathlib.Path(self.kubeconfig).parent).running()


@contextlib.asynccontextmanager
async def connected(side: Side, agent: str) -> AsyncIterator[Any]:
    """An ``ApiClient`` of the side's cluster. Raises ``ConfigError``."""
    from anynode.aio.clock import SystemClock
    from anynode.client.api_client import ApiClient
    from anynode.client.config import ClientConfig
    from anynode.client.http import HttpTransport

    transport = HttpTransport(ClientConfig.from_kubeconfig(side.kubeconfig), clock=SystemClock())
    try:
        yield ApiClient(transport, user_agent=agent)
    finally:
        await transport.close()


def _kubeconfig(cluster: str) -> str:
    """The kubeconfig of a running cluster by name or data directory, or of any cluster by that very file."""
    path = pathlib.Path(cluster).expanduser()
    if path.is_file():
        return str(path)
    directory = DataDir(path.absolute()) if path.is_dir() and "/" in cluster else DataDir.named(cluster)
    if directory.running() is None:
        raise StateError(
            f"cluster {cluster!r} is not running and there is no kubeconfig of that name; see 'anynode status --all'"
        )
    return str(directory.kubeconfig)
