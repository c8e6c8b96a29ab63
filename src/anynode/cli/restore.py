"""``anynode restore``: a data directory made from what ``anynode backup`` wrote."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import click

from anynode.cli.backup import output_option, say
from anynode.cli.options import fail, name_options
from anynode.cli.state import DataDir, StateError
from anynode.security.private_files import write_private

BUMP = 1_000_000_000
"""How far revisions go on above the backup's: above all the cluster handed out since, so that none is used twice."""


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode restore cluster.backup                     # as the default cluster, which must have no state\n"
    "  anynode restore cluster.backup --data-dir ~/again && anynode up --data-dir ~/again"
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@name_options
@click.option(
    "--encryption-provider-config",
    "encryption_config",
    metavar="FILE",
    default="",
    help="Encrypt what this configuration names, for a server that is started with it.",
)
@output_option
def command(file: str, name: str, data_dir: str | None, encryption_config: str, output: str) -> None:
    """Make a cluster's state from the backup FILE; there may be none yet. Nothing is made of a damaged file.

    Revisions go on far above the backup's: who watched the lost cluster is told to list again, and no revision ever
    means two states. Keys and certificates (pki) are not in a backup; copy them to the data directory beforehand if old
    kubeconfigs and tokens are to stay good.
    """
    from anynode.storage import log, snapshot
    from anynode.storage.encryption import EncryptionConfigError
    from anynode.storage.types import Revision, StorageError

    try:
        directory = DataDir.named(name, data_dir)
        with directory.held(), pathlib.Path(file).open("rb") as opened:
            reader = snapshot.Reader(opened)
            revision = Revision(reader.revision + BUMP)
            records = _encrypted(reader.records(), encryption_config)
            count = log.fill(directory.storage_file, _shown(records), revision)
            network = reader.about.get("serviceNetwork")
            if isinstance(network, str) and network:
                write_private(directory.path / "service-network", f"{network}\n".encode())
    except (StateError, StorageError, EncryptionConfigError, OSError) as error:
        fail(f"nothing was restored: {error}")
    result = {"dataDir": str(directory.path), "records": count, "revision": int(revision)}
    say(result, f"{directory.path}: {count} objects; revisions go on after {revision}", output)


def _encrypted(records: Iterable[Any], config: str) -> Iterable[Any]:
    """The records as a server with this configuration stores them; what is encrypted already stays as it is."""
    if not config:
        return records
    from anynode.storage.encrypted import resource_of
    from anynode.storage.encryption import MARK, PLAIN, read_config

    encryption = read_config(pathlib.Path(config))

    def stored(record: Any) -> Any:
        place = resource_of(record.key)
        ring = PLAIN if place is None else encryption.ring(*place)
        if record.value.startswith(MARK):
            return record
        return dataclasses.replace(record, value=ring.encrypt(record.value, record.key.encode()))

    return map(stored, records)


def _shown(records: Iterable[Any]) -> Iterator[Any]:
    """The same, counted on the terminal."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("restoring, {task.completed} objects"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("restore", total=None)
        for record in records:
            yield record
            progress.advance(task)
