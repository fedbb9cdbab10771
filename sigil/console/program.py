"""The root group of a command line: each error is one line in one form, with its exit code."""

from __future__ import annotations

import sys
from typing import Any

import click

from sigil.console.errors import write_error

INTERRUPTED = 130
"""The exit code after Ctrl-C, as a shell reports it."""


class Program(click.Group):
    """Exit codes: 1 for an error, 2 for wrong usage, 130 for Ctrl-C; or the command's own."""

    program = "sigil"

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        # `styled` decides by stream; click would strip colours that FORCE_COLOR asks for.
        extra.setdefault("color", True)
        if not standalone_mode:
            return self._run(*args, **extra)
        sys.exit(self._exit_code(*args, **extra))

    def _run(self, *args: Any, **extra: Any) -> Any:
        main: Any = super().main
        return main(*args, standalone_mode=False, **extra)

    def _exit_code(self, *args: Any, **extra: Any) -> int:
        try:
            code = self._run(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.UsageError as error:
            write_error(self.program, _usage(error))
            return error.exit_code
        except click.ClickException as error:
            write_error(self.program, _one_line(error.format_message()))
            return error.exit_code
        except click.Abort as error:
            return self._aborted(error)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            write_error(self.program, _one_line(f"{where}{error.strerror or error}"))
            return 1
        return code if isinstance(code, int) else 0

    def _aborted(self, error: click.Abort) -> int:
        if isinstance(error.__context__, KeyboardInterrupt):
            return INTERRUPTED
        if isinstance(error.__context__, EOFError):
            # Behind the prompt.
            click.echo(err=True)
            write_error(self.program, "standard input ended before the answer to this prompt")
        else:
            write_error(self.program, "aborted")
        return 1


def _usage(error: click.UsageError) -> str:
    text = _one_line(error.format_message())
    if not text.endswith((".", "?")):
        text += "."
    return f"{text} Try '{error.ctx.command_path} --help'." if error.ctx else text


def _one_line(text: str) -> str:
    return " ".join(text.split())
