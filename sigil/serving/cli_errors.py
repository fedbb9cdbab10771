"""Errors of a command line: one line each on standard error, then exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NoReturn

from sigil.console.errors import write_error
from sigil.serving.startup_error import StartupError


class CliErrors:
    """Context manager around a command: an error whose text is written for the operator ends the process without a
    traceback.

    These are ConfigError, StartupError, a missing module of `extras` (top-level module -> the extra that installs it),
    and the exceptions of `expected` (type -> text for one that has none). `program` begins each line.
    """

    def __init__(
        self, program: str, extras: Mapping[str, str], expected: Mapping[type[Exception], str] | None = None
    ) -> None:
        self._program = program
        self._extras = extras
        self._expected: dict[type[Exception], str] = {StartupError: "", **(expected or {})}

    def note(self, line: str) -> None:
        """A line that does not end the process."""
        sys.stderr.write(f"{self._program}: {line}\n")

    def die(self, *lines: str) -> NoReturn:
        for line in lines:
            write_error(self._program, line)
        sys.exit(1)

    def __enter__(self) -> None:
        return

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        # Not at the top: `--help` needs no settings, and does not load them.
        from sigil.serving.settings import ConfigError

        if isinstance(error, ConfigError):
            self.die(*error.lines)
        for kind, text in self._expected.items():
            if isinstance(error, kind):
                self.die(str(error) or text)
        if isinstance(error, ImportError):
            module = (error.name or "").partition(".")[0]
            if module in self._extras:
                extra = self._extras[module]
                # Not by its name alone: that of the public index is not this project's.
                self.die(f"{module} is not installed: run pip install '.[{extra}]' in a checkout of this repository")
