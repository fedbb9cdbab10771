"""Prompts on a terminal that do not block the event loop: pushes arrive meanwhile, and a prompt can be cancelled."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import click

from sigil.console.countdown import countdown_before_prompt

SecondsLeft = Callable[[], float]
"""A function, since a prompt may be repeated."""


class Prompt(Protocol):
    """Writes a question and returns the line typed in answer; EOFError at the end of the input.

    `seconds` are left for the answer.
    """

    def __call__(self, question: str, seconds: float) -> Awaitable[str]: ...


class Terminal:
    """Reads the file descriptor of a terminal when it has a line, and only while a prompt is open.

    No thread waits for a line: a thread could not be ended, neither when the prompt is cancelled nor by Ctrl-C.
    """

    def __init__(self, descriptor: int, write: Callable[[str], None]) -> None:
        self._descriptor, self._write = descriptor, write
        self._open_question = ""

    async def __call__(self, question: str, seconds: float) -> str:
        with countdown_before_prompt(seconds) as left:
            return await self._line(f"{left}{question}")

    async def _line(self, question: str) -> str:
        # Input typed before the prompt appeared does not answer it.
        termios.tcflush(self._descriptor, termios.TCIFLUSH)
        self._write(question)
        self._open_question = question
        loop = asyncio.get_running_loop()
        typed: asyncio.Future[bytes] = loop.create_future()
        loop.add_reader(self._descriptor, self._read, typed)
        try:
            line = await typed
        except asyncio.CancelledError:
            self._write("\n")
            raise
        finally:
            self._open_question = ""
            loop.remove_reader(self._descriptor)
        if not line:
            raise EOFError
        return line.decode(errors="replace").strip()

    @contextmanager
    def interrupted(self) -> Iterator[None]:
        """Starts a new line for output while a prompt is open, and writes the prompt again after it."""
        if not self._open_question:
            yield
            return
        self._write("\n")
        yield
        self._write(self._open_question)

    def _read(self, typed: asyncio.Future[bytes]) -> None:
        if not typed.done():
            try:
                typed.set_result(os.read(self._descriptor, 4096))
            except OSError:
                typed.set_result(b"")  # The terminal was closed.


async def prompt_decision(prompt: Prompt, question: str, left: SecondsLeft) -> bool:
    """No by default, as in `watch`; repeated for any other input, such as the two digits."""
    hint = ""
    while True:
        line = (await prompt(f"{hint}{question} [y/N]: ", left())).lower()
        if line in ("y", "yes"):
            return True
        if line in ("", "n", "no"):
            return False
        hint = "Type y or n. "


async def prompt_match_code(prompt: Prompt, question: str, left: SecondsLeft) -> str:
    hint = ""
    while True:
        line = await prompt(f"{hint}{question}: ", left())
        if len(line) == 2 and line.isascii() and line.isdigit():
            return line
        hint = "Type two digits. "


def write_prompt(text: str) -> None:
    click.echo(text, nl=False, err=True)
