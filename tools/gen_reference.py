"""Write ``docs/reference/cli.md`` from the program itself; a test keeps it current."""

from __future__ import annotations

import pathlib

import click

from anynode.cli.main import COMMANDS, root

TARGET = pathlib.Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
HEAD = "# The anynode program\n\nMade by `tools/gen_reference.py` from `--help`; do not edit.\n"


def help_of(command: click.Command, words: str) -> str:
    """What ``--help`` prints, at a fixed width."""
    names = root.context_settings["help_option_names"]
    context = click.Context(
        command, info_name=words, max_content_width=100, terminal_width=100, help_option_names=names
    )
    return command.get_help(context).rstrip()


def text() -> str:
    """The whole page."""
    parts = [HEAD, f"## anynode\n\n```text\n{help_of(root, 'anynode')}\n```\n"]
    context = click.Context(root, info_name="anynode")
    for name in COMMANDS:
        command = root.get_command(context, name)
        assert command is not None
        parts.append(f"## anynode {name}\n\n```text\n{help_of(command, f'anynode {name}')}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(text())
