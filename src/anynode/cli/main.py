"""The anynode program: the argument tree. Everything heavy is imported when its command runs.

``anynode --help`` must answer within 150 ms, so this module imports nothing but click.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

import anynode

COMMANDS = {
    "up": ("anynode.cli.up", "Start a whole Kubernetes in this process."),
    "down": ("anynode.cli.down", "Stop a cluster that 'anynode up' started."),
    "status": ("anynode.cli.status", "Say which clusters run, and where."),
    "kubeconfig": ("anynode.cli.kubeconfig_command", "Print the kubeconfig of a running cluster."),
    "backup": ("anynode.cli.backup", "Write the whole state of a cluster to a file."),
    "restore": ("anynode.cli.restore", "Make a cluster from a backup."),
    "fork": ("anynode.cli.fork", "Start a writable copy of a cluster, as it is or was at a revision."),
    "rewind": ("anynode.cli.rewind", "Take a cluster back to an older revision."),
    "diff": ("anynode.cli.diff", "Show what differs between two revisions, or two clusters."),
    "node": ("anynode.cli.node", "Join a Kubernetes cluster with virtual nodes."),
    "apiserver": ("anynode.cli.apiserver", "Run the API server alone."),
    "scheduler": ("anynode.cli.scheduler", "Run the scheduler alone, against any API server."),
    "controllers": ("anynode.cli.controllers", "Run the controllers alone, against any API server."),
    "completion": ("anynode.cli.completion", "Print the completion script of a shell."),
    "version": ("anynode.cli.version", "Print the version."),
}


class LazyGroup(click.Group):
    """Commands by name; a command's module is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(COMMANDS[name][0]).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:\n\n\b\n"
    "  anynode up                          # a cluster in the foreground, Ctrl-C ends it\n"
    "  anynode up --detach --merge         # in the background, and kubectl knows it\n"
    "  anynode node --kubeconfig ~/.kube/config --name burst-1   # a virtual node for another cluster",
)
@click.version_option(anynode.__version__, prog_name="anynode")
def root() -> None:
    """Kubernetes API on top, programmable Python at the back."""


def main(**arguments: Any) -> None:
    """Run the program; the console entry point."""
    root(prog_name="anynode", **arguments)
