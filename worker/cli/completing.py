"""`pending completion`: the shell completes commands, flags and filters."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, flags and filters.

    \b
    eval "$(pending completion bash)"                       in ~/.bashrc
    eval "$(pending completion zsh)"                        in ~/.zshrc
    pending completion fish > ~/.config/fish/completions/pending.fish
    """
    kind = get_completion_class(shell)
    assert kind
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "pending", "_PENDING_COMPLETE").source())
