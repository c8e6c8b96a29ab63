"""``anynode diff``: what differs between two revisions of a cluster, or between two clusters."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from anynode.cli.sides import Side, connected
from anynode.cli.state import StateError

DIFFERENT, TROUBLE = 1, 2
"""Exit codes, as ``kubectl diff`` has them."""
AGENT = "anynode-diff"
COLOURS = {"+": "green", "-": "red", "@": "cyan"}


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode diff @1200                     # what changed since revision 1200\n"
    "  anynode diff @1200 @1300 -o name       # between two revisions, names only\n"
    "  anynode diff blue green -n shop        # between two clusters, one namespace\n"
    "  anynode diff ~/.kube/prod copy         # between any cluster, by kubeconfig, and a fork of it\n"
    "\n"
    "A revision is a resourceVersion: kubectl get --raw '/api/v1/namespaces?limit=1' | jq -r .metadata.resourceVersion"
)
@click.argument("before")
@click.argument("after", default="")
@click.option("-n", "--namespace", default="", help="Objects of one namespace only.")
@click.option("--no-status", is_flag=True, help="Compare what was asked for, not what became of it.")
@click.option("-A", "--all", "everything", is_flag=True, help="Events and Leases too.")
@click.option(
    "-o", "--output", type=click.Choice(["diff", "name", "json"]), default="diff", show_default=True, help="Form."
)
def command(before: str, after: str, namespace: str, no_status: bool, everything: bool, output: str) -> None:
    """Show what differs between the states BEFORE and AFTER, each CLUSTER, CLUSTER@REVISION or @REVISION.

    CLUSTER is a running cluster's name or data directory, or a kubeconfig file. Without AFTER: BEFORE's cluster as it
    is now. Values of Secrets are never shown. Exit code 0: no differences, 1: differences, 2: trouble.
    """
    from anynode.api.errors import ApiError
    from anynode.client.config import ConfigError

    try:
        first = Side.parse(before)
        second = Side.parse(after) if after else first.now()
        found = asyncio.run(_differences(first, second, namespace, status=not no_status, everything=everything))
    except (StateError, ConfigError, ApiError, OSError) as error:
        click.echo(f"anynode: {error}", err=True)
        sys.exit(TROUBLE)
    _show(found, output, first.text, second.text)
    sys.exit(DIFFERENT if found else 0)


async def _differences(first: Side, second: Side, namespace: str, *, status: bool, everything: bool) -> Sequence[Any]:
    """Both states, read one after the other, and what differs."""
    from anynode.history.collect import FLEETING, collect
    from anynode.history.difference import differences

    left_out = frozenset[str]() if everything else FLEETING
    async with connected(first, AGENT) as client:
        before = await collect(client, revision=first.revision, namespace=namespace, left_out=left_out)
    async with connected(second, AGENT) as client:
        after = await collect(client, revision=second.revision, namespace=namespace, left_out=left_out)
    return differences(before, after, foreign=first.kubeconfig != second.kubeconfig, status=status)


def _show(found: Sequence[Any], output: str, before: str, after: str) -> None:
    from anynode.history.text import unified, wire

    if output == "json":
        click.echo(json.dumps([wire(each) for each in found], indent=2))
        return
    for each in found:
        if output == "name":
            click.echo(f"{each.action:8} {each.id}")
            continue
        for line in unified(each, before, after):
            click.secho(line, fg=COLOURS.get(line[:1]))
