"""``anynode status``: which clusters of this user run, and where."""

from __future__ import annotations

import json
import sys

import click

from anynode.cli.options import fail, name_options
from anynode.cli.state import DataDir, Running, StateError, clusters_directory


def running_clusters() -> list[Running]:
    """Every running cluster under the default directory, by name."""
    directory = clusters_directory()
    if not directory.is_dir():
        return []
    found = [DataDir(path).running() for path in sorted(directory.iterdir()) if path.is_dir()]
    return [each for each in found if each is not None]


@click.command(
    epilog="Examples:\n\n\b\n  anynode status\n  anynode status --all\n  anynode status -o json | jq -r .server"
)
@name_options
@click.option("--all", "-A", "everything", is_flag=True, help="Every cluster of this user.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="Machine-readable output.")
def command(name: str, data_dir: str | None, everything: bool, output: str | None) -> None:
    """Say whether a cluster runs: pid, server, data directory, nodes. Exit code 1 when it does not."""
    if everything:
        found = running_clusters()
        if output == "json":
            click.echo(json.dumps([each.wire() for each in found], indent=2))
        else:
            _table(found)
        return
    try:
        directory = DataDir.named(name, data_dir)
    except StateError as error:
        fail(str(error))
    running = directory.running()
    if output == "json":
        stopped = {"name": name, "running": False, "dataDir": str(directory.path)}
        click.echo(json.dumps(stopped if running is None else {**running.wire(), "running": True}, indent=2))
    elif running is None:
        click.echo(f"cluster {name!r} is not running; start it with 'anynode up'")
    else:
        _table([running])
    if running is None:
        sys.exit(1)


def _table(found: list[Running]) -> None:
    rows = [("NAME", "PID", "SERVER", "NODES", "PROVIDER", "DATA DIR")]
    rows += [
        (
            each.name,
            str(each.pid),
            each.server,
            str(len(each.nodes)),
            each.provider,
            f"{each.data_dir} (ephemeral)" if each.ephemeral else each.data_dir,
        )
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
