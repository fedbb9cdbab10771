"""Questions on a terminal that hold nothing up: pushes come, pings are answered, and a question can be withdrawn."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import click


class Asks(Protocol):
    """One line that was typed in answer to a question; EOFError when there will be no more."""

    def __call__(self, question: str) -> Awaitable[str]: ...


class Terminal:
    """Reads the file descriptor of a terminal when it has a line, and not a moment longer than the question stands.

    No thread that waits for a line: it could not be ended, neither when the question is withdrawn nor by Ctrl-C.
    """

    def __init__(self, descriptor: int, say: Callable[[str], None]) -> None:
        self._descriptor, self._say = descriptor, say
        self._standing = ""

    async def __call__(self, question: str) -> str:
        # What was typed before the question was there is no answer to it.
        termios.tcflush(self._descriptor, termios.TCIFLUSH)
        self._say(question)
        self._standing = question
        loop = asyncio.get_running_loop()
        typed: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(self._descriptor, self._read, typed)
        try:
            line = await typed
        except asyncio.CancelledError:
            self._say("\n")
            raise
        finally:
            self._standing = ""
            loop.remove_reader(self._descriptor)
        if not line:
            raise EOFError
        return line.decode(errors="replace").strip()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """A line of its own for what is told while a question stands, and the question again after it."""
        if not self._standing:
            yield
            return
        self._say("\n")
        yield
        self._say(self._standing)

    def _read(self, typed: asyncio.Future[bytes]) -> None:
        if not typed.done():
            try:
                typed.set_result(os.read(self._descriptor, 4096))
            except OSError:
                typed.set_result(b"")  # The terminal was taken away.


async def confirmed(asks: Asks, question: str) -> bool:
    """No by default, as in `watch`; asked again for anything but yes or no."""
    while True:
        said = (await asks(f"{question} [y/N]: ")).lower()
        if said in ("y", "yes"):
            return True
        if said in ("", "n", "no"):
            return False


async def two_digits(asks: Asks, question: str) -> str:
    while True:
        said = await asks(f"{question}: ")
        if len(said) == 2 and said.isascii() and said.isdigit():
            return said


def say(question: str) -> None:
    click.echo(question, nl=False, err=True)
