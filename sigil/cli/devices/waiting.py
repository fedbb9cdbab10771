"""Shared by these commands: signals that end the wait, polls that survive a restart of the server, text arguments."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from sigil.sdk import CertificateRefused, Conflict, ConnectionFailed, ResultTimeout, SigilError
from sigil.sdk.errors import Retryable

T = TypeVar("T")
CANCEL_SECONDS = 5.0
_RETRY_SECONDS = 1.0
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stops:
    """`number` is that of the signal that cancelled the task, None while there was none."""

    number: int | None = None

    def listen(self) -> None:
        """From now on, a signal cancels the current task."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number: int) -> None:
            self.number = number
            if task is not None:
                task.cancel()

        for number in _STOPS:
            # A shell's background job ignores SIGINT, and one under nohup SIGHUP.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, stop, number)


async def poll_until(end: float, poll: Callable[[float], Awaitable[T]]) -> T | None:
    """The result of `poll`, which gets the seconds left, or None at `end` (of time.monotonic()). A server that restarts
    meanwhile is polled again, and a ResultTimeout too.
    """
    pause = 0.0
    while (left := end - time.monotonic() - pause) > 0:
        await asyncio.sleep(pause)
        try:
            return await poll(left)
        except ResultTimeout:
            pause = 0.0
        except CertificateRefused:
            raise
        except Retryable as error:
            pause = max(_RETRY_SECONDS, error.retry_after or 0)
        except ConnectionFailed:
            pause = _RETRY_SECONDS
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    return None


async def withdrawn(cancel: Callable[[], Awaitable[object]], status: Callable[[], Awaitable[T]]) -> T | None:
    """Cancels it. Its status, if it has another final one by now: a person acted at the last moment."""
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            try:
                await cancel()
            except Conflict:
                return await status()
    except (SigilError, TimeoutError):
        # It expires at this time anyway.
        return None
    return None


def text_argument(name: str, text: str) -> str:
    """UTF-8 in any locale, as on standard input: Python decodes arguments as the locale says, and "Zoë" as "ZoÃ«"."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        pass
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise click.UsageError(f"{name}: neither UTF-8 nor text of this locale.")
    return text
