"""``anynode kubeconfig``: print it, or merge it into the user's."""

from __future__ import annotations

import click

from anynode.cli import kubeconfig
from anynode.cli.options import fail, name_options
from anynode.cli.state import DataDir, StateError, context_name


@click.command(
    epilog="Examples:\n\n\b\n"
    "  anynode kubeconfig > kc && kubectl --kubeconfig kc get nodes\n"
    "  anynode kubeconfig --merge && kubectl config current-context"
)
@name_options
@click.option(
    "--merge", is_flag=True, help="Add the context to your own kubeconfig and choose it, instead of printing."
)
@click.option("--path", "path_only", is_flag=True, help="Print where the file is.")
def command(name: str, data_dir: str | None, merge: bool, path_only: bool) -> None:
    """Print the kubeconfig of a running cluster."""
    try:
        directory = DataDir.named(name, data_dir)
        if directory.running() is None:
            fail(f"cluster {name!r} is not running; start it with 'anynode up'")
        if path_only:
            click.echo(str(directory.kubeconfig))
        elif merge:
            target = kubeconfig.user_file()
            kubeconfig.merge_into(target, kubeconfig.read(directory.kubeconfig))
            click.echo(f"context {context_name(name)!r} added to {target}")
        else:
            click.echo(directory.kubeconfig.read_text(), nl=False)
    except (StateError, OSError) as error:
        fail(str(error))
