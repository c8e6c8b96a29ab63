"""``anynode up``: a whole Kubernetes in this process, in the foreground or detached."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

import click

import anynode
from anynode.cli import kubeconfig
from anynode.cli.access_options import access_options, access_settings, split
from anynode.cli.access_options import words as access_words
from anynode.cli.options import (
    collect_rarely,
    fail,
    image_option,
    log_options,
    name_options,
    pairs,
    run_loop,
    store_options,
    store_settings,
    with_images,
)
from anynode.cli.state import DataDir, Running, StateError, context_name
from anynode.security.private_files import write_private

START_SECONDS = 60.0
"""How long a detached cluster may take to become ready before the parent gives up waiting."""
POLL_SECONDS = 0.02


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode up                                     # foreground; Ctrl-C stops it in order\n"
    "  anynode up --detach --merge                    # background; kubectl knows it at once\n"
    "  anynode up --name ci --ephemeral --nodes 3     # in memory only, three nodes\n"
    "  anynode up --provider sim --nodes 100          # pods run by script, no processes"
)
@name_options
@click.option("--ephemeral", is_flag=True, help="Keep everything in memory; nothing is left afterwards.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address the API server listens on.")
@click.option("--port", default=6443, show_default=True, type=click.IntRange(0, 65535), help="Its port; 0 picks one.")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(0), help="How many virtual nodes.")
@click.option(
    "--provider",
    default="process",
    show_default=True,
    metavar="NAME",
    help="What runs the pods: process (local processes), sim (by script), or an installed provider.",
)
@click.option("--provider-option", "options", multiple=True, metavar="KEY=VALUE", help="Handed to the provider.")
@image_option
@store_options
@access_options
@click.option(
    "--snapshot",
    metavar="FILE",
    default="",
    help="Begin with the state of a snapshot, where there is no state yet.",
)
@click.option("--discard-snapshot", is_flag=True, hidden=True, help="Remove the snapshot's file once it is loaded.")
@click.option("--detach", "-d", is_flag=True, help="Return when the cluster is ready; it goes on in the background.")
@click.option("--merge", is_flag=True, help="Add the context to your own kubeconfig and choose it.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing but errors.")
@log_options
def command(detach: bool, merge: bool, quiet: bool, **given: Any) -> None:
    """Start a whole Kubernetes: API server, storage, controllers, scheduler, service proxy and virtual nodes."""
    access, others = split(given)
    start(Wanted(**with_images(others), access=access), detach=detach, merge=merge, quiet=quiet)


def start(wanted: Wanted, *, detach: bool, merge: bool, quiet: bool) -> None:
    """Start the cluster, and stay unless ``detach``; ends the program with one sentence when that cannot be."""
    try:
        directory = DataDir.named(wanted.name, wanted.data_dir)
        try:
            wanted.provider_options()  # what is wrong is said before anything is started
        except ValueError as error:
            raise StateError(str(error)) from error
        if access_words(wanted.access):
            access_settings(wanted.access)
        if detach:
            running = _detached(directory, wanted)
            _say(running, directory, merge=merge, quiet=quiet, detached=True)
            return
        with directory.held():
            _foreground(directory, wanted, merge=merge, quiet=quiet)
    except StateError as error:
        fail(str(error))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The cluster the user asked for, option by option."""

    name: str
    data_dir: str | None
    ephemeral: bool
    host: str
    port: int
    nodes: int
    provider: str
    options: tuple[str, ...]
    etcd_servers: str
    etcd_cafile: str
    etcd_certfile: str
    etcd_keyfile: str
    etcd_prefix: str
    cert_dir: str
    encryption_config: str
    snapshot: str
    discard_snapshot: bool
    log_level: str
    log_format: str
    access: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Who may come in and what is told of it, option by option; none: nothing beside the cluster's own."""

    def provider_options(self) -> dict[str, str]:
        """``KEY=VALUE`` options as a dict; raises ``ValueError``."""
        return pairs("--provider-option", self.options)

    def stored(self) -> dict[str, str]:
        """Where state is kept, option by option."""
        names = ("etcd_servers", "etcd_cafile", "etcd_certfile", "etcd_keyfile", "etcd_prefix", "cert_dir")
        return {**{name: getattr(self, name) for name in names}, "encryption_provider_config": self.encryption_config}

    def arguments(self) -> list[str]:
        """The command line that asks for the same cluster in the foreground."""
        words = ["up", "--name", self.name, "--host", self.host, "--port", str(self.port)]
        words += ["--nodes", str(self.nodes), "--provider", self.provider]
        words += ["--log-level", self.log_level, "--log-format", self.log_format]
        words += [f"--provider-option={option}" for option in self.options]
        words += [f"--{name.replace('_', '-')}={value}" for name, value in self.stored().items() if value]
        words += access_words(self.access)
        words += ["--snapshot", self.snapshot] if self.snapshot else []
        words += ["--discard-snapshot"] if self.discard_snapshot else []
        if self.data_dir:
            words += ["--data-dir", self.data_dir]
        return [*words, "--ephemeral"] if self.ephemeral else words


def _foreground(directory: DataDir, wanted: Wanted, *, merge: bool, quiet: bool) -> None:
    collect_rarely()
    from anynode.aio.clock import SystemClock
    from anynode.cluster import Cluster, ClusterError, ClusterSettings
    from anynode.telemetry import logs

    logs.set_up(wanted.log_level, form=wanted.log_format)
    clock = SystemClock()
    began = clock.monotonic()

    def progress(step: str) -> None:
        if not quiet:
            click.secho(f"  {clock.monotonic() - began:5.2f} s  ", fg="bright_black", nl=False)
            click.echo(step)

    try:
        settings = ClusterSettings(
            name=wanted.name,
            **({"access": access_settings(wanted.access)} if wanted.access else {}),
            data_dir=directory.path,
            ephemeral=wanted.ephemeral,
            host=wanted.host,
            port=wanted.port,
            nodes=wanted.nodes,
            provider=wanted.provider,
            provider_options=wanted.provider_options(),
            snapshot=pathlib.Path(wanted.snapshot).expanduser() if wanted.snapshot else None,
            **store_settings(dataclasses.asdict(wanted)),
        )
    except ValueError as error:
        raise StateError(str(error)) from error

    async def run(stop: asyncio.Event) -> None:
        async with Cluster(settings, clock=clock, progress=progress) as cluster:
            if settings.snapshot is not None and wanted.discard_snapshot:
                settings.snapshot.unlink(missing_ok=True)
            content = cluster.kubeconfig(context_name(wanted.name))
            kubeconfig.write(directory.kubeconfig, content)
            running = Running(
                name=wanted.name,
                pid=os.getpid(),
                server=cluster.url,
                data_dir=str(directory.path),
                ephemeral=wanted.ephemeral,
                nodes=tuple(cluster.node_names),
                provider=wanted.provider,
                version=anynode.__version__,
                started_at=clock.now().isoformat(timespec="seconds"),
            )
            directory.announce(running)
            _say(running, directory, merge=merge, quiet=quiet, detached=False)
            await cluster.wait(stop)
            progress("stopping")
        progress("stopped")

    try:
        run_loop(run)
    except ClusterError as error:
        raise StateError(str(error)) from error
    finally:
        if wanted.ephemeral:
            directory.kubeconfig.unlink(missing_ok=True)


def _detached(directory: DataDir, wanted: Wanted) -> Running:
    """Start the same command without ``--detach`` in a session of its own; returns when it is ready."""
    already = directory.running()
    if already is not None:
        raise StateError(
            f"cluster {already.name!r} already runs on {directory.path} (pid {already.pid}, {already.server}): "
            "stop it with 'anynode down', or start another with --name"
        )
    directory.make()
    write_private(directory.log_file, b"")
    with directory.log_file.open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "anynode", *wanted.arguments()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    for _ in range(int(START_SECONDS / POLL_SECONDS)):
        running = directory.running()
        if running is not None and running.pid == child.pid:
            return running
        if child.poll() is not None:
            raise StateError(_last_sentence(directory.log_file))
        time.sleep(POLL_SECONDS)
    child.terminate()
    raise StateError(f"the cluster was not ready after {START_SECONDS:.0f} s; look at {directory.log_file}")


def _last_sentence(log_file: pathlib.Path) -> str:
    lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("anynode: ") for line in lines if line.startswith("anynode: ")]
    return said[-1] if said else f"the cluster did not start; look at {log_file}"


def _say(running: Running, directory: DataDir, *, merge: bool, quiet: bool, detached: bool) -> None:
    """Tell the user what is there and what to do next."""
    if merge:
        kubeconfig.merge_into(kubeconfig.user_file(), kubeconfig.read(directory.kubeconfig))
    if quiet:
        return
    click.secho(f"cluster {running.name!r} is ready", fg="green", nl=False)
    click.echo(f" at {running.server} with {len(running.nodes)} node(s), provider {running.provider}")
    if merge:
        click.echo("kubectl uses it now: kubectl get nodes")
    else:
        click.echo(f"use it:   export KUBECONFIG={directory.kubeconfig}")
    click.echo("stop it:  anynode down" if detached else "stop it:  Ctrl-C")
