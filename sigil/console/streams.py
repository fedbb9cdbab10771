"""Standard input, output and error of a command: output never fails for its encoding, and its loss is one line.

A descriptor that is closed at the start is opened on /dev/null, so that no file or socket gets its number.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sigil.console.errors import write_error

_PIPE_CLOSED = 128 + 13
"""As a shell reports a program that SIGPIPE ended. Not 1, which means a refusal or a failed check."""
_INTERRUPTED = 128 + 2


class OutputLost(Exception):
    """Standard output took no more. Not an OSError: what handles those has no other output."""

    def __init__(self, error: OSError) -> None:
        self.errno, self.reason = error.errno, error.strerror or str(error)
        super().__init__(self.reason)


@contextmanager
def standard_streams(program: str) -> Iterator[None]:
    """Around a whole command line, whose errors begin with `program`."""
    _prepare()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OutputLost as lost:
        drop_output()
        if lost.errno == errno.EPIPE:
            sys.exit(_PIPE_CLOSED)
        write_error(program, f"cannot write to standard output: {lost.reason}")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


class _Output(io.TextIOWrapper):
    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OutputLost(error) from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OutputLost(error) from None


class _Errors(io.TextIOWrapper):
    """An error that cannot be shown leaves the exit code."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


class _AsciiOutput(_Output):
    # To a stream that names its encoding as ASCII click writes UTF-8, which the reader did not ask for.
    encoding = "iso8859-1"


class _AsciiErrors(_Errors):
    encoding = "iso8859-1"


def _prepare() -> None:
    open_standard_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the life of the process
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    sys.stdout = _wrapped(sys.stdout, 1, _Output, _AsciiOutput)
    sys.stderr = _wrapped(sys.stderr, 2, _Errors, _AsciiErrors)
    # shutil asks this one for the size of the terminal.
    vars(sys)["__stdout__"] = sys.stdout


def open_standard_descriptors() -> None:
    """Open those of 0, 1 and 2 that are closed, on /dev/null; call it before anything else is opened.

    Otherwise a listening socket, a lock or a database becomes "standard output", and log lines are written into it.
    """
    # Reading from the first and writing to the second of them fails or ends at once, as on a closed descriptor: a
    # command that prints a secret to nowhere must not succeed, and a service reports that its log is lost.
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        _reserve(descriptor, flags)


def _reserve(descriptor: int, flags: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            opened = os.open(os.devnull, flags)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)


def _wrapped(
    stream: object, descriptor: int, kind: type[io.TextIOWrapper], ascii_kind: type[io.TextIOWrapper]
) -> io.TextIOWrapper:
    if isinstance(stream, io.TextIOWrapper):
        encoding, lines, buffer = stream.encoding, stream.line_buffering, stream.detach()
    else:
        encoding, lines, buffer = "utf-8", False, open(descriptor, "wb", closefd=False)  # noqa: SIM115
    chosen = ascii_kind if codecs.lookup(encoding).name == "ascii" else kind
    return chosen(buffer, encoding, "replace", line_buffering=lines or descriptor == 2)


def drop_output() -> None:
    """What is still buffered must not fail again at the end of the interpreter."""
    with contextlib.suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
