"""``anynode version``."""

from __future__ import annotations

import json
import platform

import click

import anynode

KUBERNETES = "v1.36"


@click.command()
@click.option("-o", "--output", type=click.Choice(["json"]), help="Machine-readable output.")
def command(output: str | None) -> None:
    """Print the version."""
    if output == "json":
        found = {"version": anynode.__version__, "kubernetes": KUBERNETES, "python": platform.python_version()}
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo(f"anynode {anynode.__version__} (Kubernetes API {KUBERNETES}, Python {platform.python_version()})")
