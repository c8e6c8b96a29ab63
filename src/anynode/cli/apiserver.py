"""``anynode apiserver``: the API server alone."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any

import click

from anynode.cli.access_options import access_options, access_settings
from anynode.cli.options import collect_rarely, fail, log_options, name_options, run_loop, store_options, store_settings
from anynode.cli.state import DataDir, StateError


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode apiserver --write-kubeconfig kc        # then: kubectl --kubeconfig kc get namespaces\n"
    "  anynode apiserver --ephemeral --port 0 --write-kubeconfig kc\n"
    "  anynode apiserver --etcd-servers http://127.0.0.1:2379 --cert-dir /etc/anynode/pki"
)
@name_options
@click.option("--ephemeral", is_flag=True, help="Keep everything in memory.")
@click.option("--host", "--bind-address", "host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    "--secure-port",
    "port",
    default=6443,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port; 0 picks one.",
)
@click.option(
    "--service-network",
    "--service-cluster-ip-range",
    "service_network",
    metavar="CIDR",
    default="",
    help="Where cluster IPs come from.  [default: a block of 127.64.0.0/10]",
)
@click.option(
    "--write-kubeconfig", metavar="FILE", type=click.Path(dir_okay=False), help="Also write the kubeconfig here."
)
@store_options
@access_options
@log_options
def command(
    name: str,
    data_dir: str | None,
    ephemeral: bool,
    host: str,
    port: int,
    service_network: str,
    write_kubeconfig: str | None,
    log_level: str,
    log_format: str,
    **more: Any,
) -> None:
    """Run the API server alone: REST, watch, storage; no controllers, scheduler or nodes."""
    collect_rarely()
    from anynode.cluster import ClusterError, ClusterSettings, ControlPlane
    from anynode.telemetry import logs

    logs.set_up(log_level, form=log_format)
    try:
        directory = DataDir.named(name, data_dir)
        try:
            settings = ClusterSettings(
                name=name,
                data_dir=directory.path,
                ephemeral=ephemeral,
                host=host,
                port=port,
                service_network=service_network,
                access=access_settings(more),
                **store_settings(more),
            )
        except ValueError as error:
            raise StateError(str(error)) from error

        async def run(stop: asyncio.Event) -> None:
            async with ControlPlane(settings) as plane:
                for path in (directory.kubeconfig, pathlib.Path(write_kubeconfig) if write_kubeconfig else None):
                    if path is not None:
                        _write_kubeconfig(plane, path, name)
                click.echo(
                    f"API server ready at {plane.server.url}, kubeconfig {write_kubeconfig or directory.kubeconfig}"
                )
                await stop.wait()

        with directory.held():
            run_loop(run)
    except (StateError, ClusterError) as error:
        fail(str(error))


def _write_kubeconfig(plane: Any, path: pathlib.Path, name: str) -> None:
    try:
        plane.server.write_kubeconfig(path, name)
    except OSError as error:
        raise StateError(f"cannot write the kubeconfig {path}: {error.strerror}") from error
