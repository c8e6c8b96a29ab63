"""``anynode backup``: the whole state of a cluster at one revision in one file, whether it runs or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import click

from anynode.cli.options import fail, name_options
from anynode.cli.state import DataDir, StateError

AGENT = "anynode-backup"
SNAPSHOT = "/anynode/v1/snapshot"
ROOT = "/registry/"


def output_option(function: Any) -> Any:
    return click.option(
        "-o", "--output", type=click.Choice(["text", "json"]), default="text", help="Form of the result."
    )(function)


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode backup cluster.backup                          # the default cluster, running or not\n"
    "  anynode backup --kubeconfig kc cluster.backup          # any running anynode API server\n"
    "  anynode restore cluster.backup --data-dir ~/again      # and back"
)
@click.argument("file", type=click.Path(dir_okay=False))
@name_options
@click.option("--kubeconfig", metavar="FILE", help="Take it from the API server this file leads to.")
@output_option
def command(file: str, name: str, data_dir: str | None, kubeconfig: str | None, output: str) -> None:
    """Write the state of a cluster to FILE, all of it at one revision. The cluster goes on undisturbed.

    The file holds every Secret in the clear and is for its owner only (0600). Keys and certificates (pki in the data
    directory) are not in it: keep them apart.
    """
    from anynode.api.errors import ApiError
    from anynode.client.config import ConfigError
    from anynode.storage.types import StorageError

    target = pathlib.Path(file)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if not target.parent.is_dir():
            fail(f"there is no directory {target.parent}")
        asyncio.run(_write(_source(name, data_dir, kubeconfig), beside))
        found = check(beside)
        beside.replace(target)
    except (StateError, ConfigError, ApiError, StorageError, OSError) as error:
        fail(f"no backup was taken: {error}")
    finally:
        beside.unlink(missing_ok=True)
    say({"file": str(target), **found}, f"{target}: {found['records']} objects at revision {found['revision']}", output)


def say(result: dict[str, Any], sentence: str, output: str) -> None:
    """The result on standard output, as the user wants it."""
    click.echo(json.dumps(result) if output == "json" else sentence)


def check(path: pathlib.Path) -> dict[str, Any]:
    """Read a backup from end to end; its revision, records and bytes. Raises ``StorageDamaged``."""
    from anynode.storage import snapshot

    with path.open("rb") as opened:
        reader = snapshot.Reader(opened)
        records = sum(1 for _ in reader.records())
    return {"revision": int(reader.revision), "records": records, "bytes": path.stat().st_size}


def _source(name: str, data_dir: str | None, kubeconfig: str | None) -> AsyncIterator[bytes]:
    """Where the pieces come from: a running server, else the files of one that does not run."""
    if kubeconfig:
        return _from_server(kubeconfig)
    directory = DataDir.named(name, data_dir)
    try:
        with directory.held() if directory.path.is_dir() else contextlib.nullcontext():
            if not directory.storage_file.exists():
                raise FileNotFoundError(f"there is no cluster on {directory.path}")
    except StateError:
        return _from_server(str(directory.kubeconfig))
    return _from_files(directory)


async def _from_server(kubeconfig: str) -> AsyncIterator[bytes]:
    from anynode.aio.clock import SystemClock
    from anynode.api.wire import ApiRequest
    from anynode.client.config import ClientConfig
    from anynode.client.http import HttpTransport

    transport = HttpTransport(ClientConfig.from_kubeconfig(kubeconfig), clock=SystemClock())
    try:
        stream = await transport.open(ApiRequest(method="GET", path=SNAPSHOT, headers={"user-agent": AGENT}))
        try:
            while piece := await stream.read():
                yield piece
        finally:
            await stream.close()
    finally:
        await transport.close()


async def _from_files(directory: DataDir) -> AsyncIterator[bytes]:
    """Values as they are stored: where they are encrypted, they stay so."""
    from anynode.storage import log, snapshot
    from anynode.storage.memory import MemoryStorage

    with directory.held():
        loaded = log.load(directory.storage_file)
        network = directory.path / "service-network"
        about = {"serviceNetwork": network.read_text().strip()} if network.exists() else {}
        storage = MemoryStorage()
        storage.fill(loaded.records, loaded.limit)
        async with storage:
            async for piece in snapshot.chunks(storage, prefix=ROOT, about=about):
                yield piece


async def _write(pieces: AsyncIterator[bytes], path: pathlib.Path) -> None:
    """Write ``pieces`` to a file for its owner only, on disk when this returns."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TransferSpeedColumn

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    columns = (SpinnerColumn(), TextColumn("backing up"), DownloadColumn(), TransferSpeedColumn())
    with (
        os.fdopen(descriptor, "wb") as out,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        task = progress.add_task("backup", total=None)
        async for piece in pieces:
            out.write(piece)
            progress.advance(task, len(piece))
        out.flush()
        os.fsync(out.fileno())
