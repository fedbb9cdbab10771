"""`completion`: a group for both programs, which installs or prints the completion of their commands for a shell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from sigil.console.new_file import replace_file


@dataclass(frozen=True)
class _Place:
    """Where a shell looks for the completions of one user, below the directory of `variable` or else `default`."""

    variable: str
    default: str
    below: str
    next_step: str


_PLACES = {
    "bash": _Place(
        "XDG_DATA_HOME",
        ".local/share",
        "bash-completion/completions/{program}",
        "Open a new shell. It needs the package bash-completion.",
    ),
    "fish": _Place("XDG_CONFIG_HOME", ".config", "fish/completions/{program}.fish", "Open a new shell."),
    "zsh": _Place(
        "XDG_DATA_HOME",
        ".local/share",
        "zsh/site-functions/_{program}",
        "Put this line before `compinit` in ~/.zshrc, once, then open a new shell:  fpath=({folder} $fpath)",
    ),
}

_shell = click.argument("shell", type=click.Choice(sorted(_PLACES)), required=False)


@click.group()
def completion() -> None:
    """Completion of commands and options in bash, zsh and fish."""


@completion.command()
@_shell
def install(shell: str | None) -> None:
    """Write the completion to where the shell looks for it; without a name, for $SHELL. Run it again to renew it."""
    chosen, program = _chosen(shell), _program()
    place = _PLACES[chosen]
    path = _base(place) / place.below.format(program=program)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, _script(chosen, program).encode())
        path.chmod(0o644)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror or error}") from error
    click.echo(f"Wrote {path}. {place.next_step.replace('{folder}', str(path.parent))}")


@completion.command()
@_shell
def show(shell: str | None) -> None:
    """Print the completion, for a place of your own."""
    click.echo(_script(_chosen(shell), _program()))


def _program() -> str:
    return click.get_current_context().find_root().info_name or "sigil"


def _chosen(shell: str | None) -> str:
    found = shell or Path(os.environ.get("SHELL", "")).name
    if found not in _PLACES:
        raise click.UsageError(f"Name the shell: {', '.join(sorted(_PLACES))}.")
    return found


def _base(place: _Place) -> Path:
    configured = Path(os.environ.get(place.variable, ""))
    # The XDG specification requires that a relative path is ignored.
    if configured.is_absolute():
        return configured
    try:
        return Path.home() / place.default
    except RuntimeError:
        raise click.UsageError(f"This user has no home directory: set HOME or {place.variable}.") from None


def _script(shell: str, program: str) -> str:
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this version of click has no completion for {shell}")
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    command = click.get_current_context().find_root().command
    made = kind(command, {}, program, variable)
    # `source` would run bash to look at its version.
    return made.source_template % made.source_vars()
