"""``anynode fork``: a second, writable cluster that begins with the state another one has, or had at a revision."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
from typing import Any

import click

from anynode.cli import up
from anynode.cli.access_options import split
from anynode.cli.options import fail, with_images
from anynode.cli.sides import Side, connected
from anynode.cli.state import DEFAULT_NAME, DataDir, StateError

AGENT = "anynode-fork"
_OWN = frozenset({"snapshot", "discard_snapshot", "port", "nodes", "provider", "name"})
_ETCD: dict[str, Any] = {f"etcd_{each}": "" for each in ("servers", "cafile", "certfile", "keyfile", "prefix")}


def _options() -> list[click.Parameter]:
    """What ``anynode up`` takes and a copy too."""
    return [each for each in up.command.params if each.name not in _OWN | _ETCD.keys()]


@click.command(
    params=_options(),
    epilog="Examples:\n\n\b\n"
    "  anynode fork --name try --detach           # a copy of the cluster as it is now\n"
    "  anynode fork @1200 --name before -d        # as it was at revision 1200\n"
    "  anynode fork blue --name green --ephemeral --provider sim   # its pods run by script\n"
    "  anynode diff anynode try                   # what became different since",
)
@click.argument("source", default=DEFAULT_NAME)
@click.option("--name", required=True, help="What the new cluster is called.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Its port; 0 picks one.")
@click.option("--nodes", type=click.IntRange(0), help="How many virtual nodes.  [default: as many as the source has]")
@click.option("--provider", metavar="NAME", help="What runs the pods.  [default: the source's]")
def command(
    source: str,
    name: str,
    nodes: int | None,
    provider: str | None,
    detach: bool,
    merge: bool,
    quiet: bool,
    **given: Any,
) -> None:
    """Start a cluster that begins with the state of SOURCE: CLUSTER, CLUSTER@REVISION or @REVISION.

    The source goes on undisturbed. The copy has an authority, addresses for its services and nodes of its own, and runs
    its pods anew; revisions go on from the one copied. A revision can be copied for at least five minutes after it
    passed.
    """
    from anynode.api.errors import ApiError
    from anynode.client.config import ConfigError

    try:
        side = Side.parse(source)
        running = side.running()
        access, others = split(given)
        wanted = up.Wanted(
            name=name,
            access=access,
            nodes=nodes if nodes is not None else len(running.nodes) if running else 1,
            provider=provider or (running.provider if running else "process"),
            snapshot="",
            discard_snapshot=True,
            **_ETCD,
            **with_images(others),
        )
        directory = DataDir.named(name, wanted.data_dir)
        if directory.storage_file.exists() or directory.running() is not None:
            raise StateError(f"there is a cluster {name!r} on {directory.path}: choose another --name or --data-dir")
        directory.make()
        file = directory.path / "fork.snapshot"
    except (StateError, ConfigError, OSError) as error:
        fail(str(error))
    try:
        asyncio.run(_download(side, file))
        up.start(dataclasses.replace(wanted, snapshot=str(file)), detach=detach, merge=merge, quiet=quiet)
    except (ConfigError, ApiError, OSError) as error:
        fail(str(error))
    finally:
        file.unlink(missing_ok=True)


async def _download(side: Side, file: pathlib.Path) -> None:
    """Write the snapshot of ``side`` to ``file``, readable by its owner only."""
    from anynode.api.wire import ApiRequest

    query = {"revision": [side.revision]} if side.revision else {}
    request = ApiRequest(method="GET", path="/anynode/v1/snapshot", query=query)
    async with connected(side, AGENT) as client:
        stream = await client.transport.open(request)
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as out:
                while piece := await stream.read():
                    out.write(piece)
        finally:
            await stream.close()
