"""``anynode completion``: the script a shell sources."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="Examples:\n\n\b\n"
    '  eval "$(anynode completion bash)"\n'
    "  anynode completion zsh > ~/.zfunc/_anynode\n"
    "  anynode completion fish > ~/.config/fish/completions/anynode.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL."""
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"no completion for {shell}")
    click.echo(found(ctx.find_root().command, {}, "anynode", "_ANYNODE_COMPLETE").source())
