"""``anynode rewind``: a running cluster taken back to what it was at a revision."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from anynode.cli.options import fail
from anynode.cli.sides import Side, connected
from anynode.cli.state import StateError

AGENT = "anynode-rewind"


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode rewind @1200                 # asks first\n"
    "  anynode rewind staging@1200 --yes    # does not\n"
    "  anynode rewind @1200 --dry-run -o json\n"
    "\n"
    "See what would change: anynode diff @1200. The revision to come back to is printed."
)
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Only count what would change.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("-o", "--output", type=click.Choice(["json"]), help="Machine-readable output.")
def command(target: str, dry_run: bool, yes: bool, output: str | None) -> None:
    """Make the state of a running cluster what it was at TARGET: CLUSTER@REVISION or @REVISION.

    Nothing is unmade: what differs is written, brought back or deleted at new revisions, and controllers and nodes
    follow. Events and Leases stay. A revision can be gone back to for at least five minutes after it passed.
    """
    from anynode.api.errors import ApiError
    from anynode.client.config import ConfigError

    try:
        side = Side.parse(target)
        if not side.revision:
            raise StateError(f"which revision? Say {target}@REVISION")
        if not dry_run and not yes:
            _ask(asyncio.run(_rewind(side, dry_run=True)), side)
        done = asyncio.run(_rewind(side, dry_run=dry_run))
    except (StateError, ConfigError, ApiError, OSError) as error:
        fail(str(error))
    if output == "json":
        click.echo(json.dumps(done, indent=2))
        return
    what = "would be" if dry_run else "were"
    click.echo(f"{_counted(done)} {what} made as at revision {side.revision}")
    if not dry_run:
        click.echo(f"revision {done['revision']}; back again: anynode rewind {side.cluster}@{done['before']}")


def _ask(planned: dict[str, Any], side: Side) -> None:
    if not sys.stdin.isatty():
        raise StateError("this changes the cluster: say --yes where nobody can be asked")
    question = f"{_counted(planned)} of {side.cluster!r} will be made as at revision {side.revision}. Go on?"
    click.confirm(question, abort=True, err=True)


def _counted(done: dict[str, Any]) -> str:
    count = done["restored"] + done["changed"] + done["deleted"]
    return f"{count} object(s) ({done['restored']} brought back, {done['changed']} changed, {done['deleted']} deleted)"


async def _rewind(side: Side, *, dry_run: bool) -> dict[str, Any]:
    from anynode.api.wire import ApiRequest

    query = {"revision": [side.revision], **({"dryRun": ["All"]} if dry_run else {})}
    request = ApiRequest(method="POST", path="/anynode/v1/rewind", query=query)
    async with connected(side, AGENT) as client:
        found: dict[str, Any] = (await client.transport.send(request)).decoded()
    return found
