"""A secret that a command made: printed, or written to a new file of mode 0600."""

from __future__ import annotations

from pathlib import Path

import click

from sigil.console.new_file import create_file
from sigil.serving.cli_errors import CliErrors
from sigil.serving.files.errors import file_error


class NotWritten(Exception):
    """The message says why, and what to do. No part of the file is there."""


def output(text: str, path: Path | None, cli_errors: CliErrors) -> None:
    """Ends the command when the file cannot be written."""
    if path is None:
        click.echo(text)
        return
    try:
        write(text, path)
    except NotWritten as error:
        cli_errors.die(str(error))


def write(text: str, path: Path) -> None:
    """NotWritten."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise NotWritten(file_error("create", path.parent, error)) from error
    try:
        create_file(path, f"{text}\n".encode())
    except FileExistsError as error:
        raise NotWritten(name_is_taken(path)) from error
    except OSError as error:
        raise NotWritten(file_error("create", path, error)) from error
    click.echo(f"Wrote {path} (mode 0600).", err=True)


def name_is_taken(path: Path) -> str:
    return f"{path} is there already and is never overwritten; choose another name"
