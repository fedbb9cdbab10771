"""`sigil enrol`: a person adds a device; the key that the backend stores is one line of JSON (docs/ask.md).

The enrolment lives as long as the command waits. What people read is on standard error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
import sys
import threading
import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, cast, get_args

import click

from sigil.cli.devices.waiting import CANCEL_SECONDS, Stops, poll_until, text_argument, withdrawn
from sigil.console.countdown import countdown
from sigil.console.errors import write_error, write_warning
from sigil.console.json_lines import json_line
from sigil.console.style import draws_blocks, is_terminal
from sigil.device.commands.terminal import Prompt, Terminal, write_prompt
from sigil.protocol.messages.attestation import Level
from sigil.sdk import (
    AsyncSigilAuth,
    ConfigurationError,
    Conflict,
    Enrolment,
    EnrolmentStatus,
    InvalidRequest,
    SigilError,
    WrongCode,
)

_MIN_SECONDS, _MAX_SECONDS, _MAX_SECONDS_WITHOUT_CODE = 60, 900, 120
_CHUNK = 4096
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ENDS = {
    "failed": "the code was wrong three times: begin again",
    "cancelled": "another program cancelled the enrolment",
}
_QUESTION = "The code on your phone: "


class Exit(IntEnum):
    """The exit codes; after a signal, 128 and its number."""

    ENROLLED = 0
    NOT_ENROLLED = 1
    USAGE = 2
    NO_DEVICE = 3
    CANNOT_ENROL = 4


@click.command()
@click.argument("account")
@click.option("--replaces", metavar="KEY", help="The old public key, when one device changes its key.")
@click.option("--min-level", type=click.Choice(get_args(Level)), help="The attestation that the device must have.")
@click.option("--no-code", is_flag=True, help="No comparison of codes, where the server permits it.")
@click.option(
    "--timeout",
    type=click.IntRange(_MIN_SECONDS, _MAX_SECONDS),
    help="Seconds for all of it; default: 600, with --no-code 120.",
)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one JSON object per step and line.")
def enrol(
    account: str, *, replaces: str | None, min_level: str | None, no_code: bool, timeout: int | None, as_json: bool
) -> None:
    """Enrol a device for ACCOUNT, the name that it shows: scan the QR code, or type the token, then compare the code.

    Prints the device's public key as JSON. The code is read from standard input. Exit code: 0 enrolled, 1 the code was
    wrong three times, or cancelled, 2 wrong usage, 3 no device in time, 4 the request failed.

    From the environment: SIGIL_SERVICE_URL, SIGIL_API_KEY or SIGIL_API_KEY_FILE, SIGIL_CA_FILE.
    """
    if replaces is not None and not replaces.strip():
        raise click.UsageError("--replaces is empty: pass the old device_public_key.")
    seconds = timeout or (_MAX_SECONDS_WITHOUT_CODE if no_code else 600)
    if no_code and seconds > _MAX_SECONDS_WITHOUT_CODE:
        raise click.UsageError(f"--timeout: with --no-code at most {_MAX_SECONDS_WITHOUT_CODE} s.")
    level, name = cast(Level | None, min_level), text_argument("ACCOUNT", account)
    wanted = _Wanted(name, replaces and replaces.strip(), level, no_code, seconds)
    try:
        code = asyncio.run(_Enrolling(wanted, as_json).run())
    except InvalidRequest as error:
        about_key = error.code == "INVALID_PUBLIC_KEY" or error.path == "$.replaces"
        hint = "--replaces: " if about_key else "ACCOUNT: " if error.path == "$.account" else ""
        write_error("sigil", f"{hint}{error}")
        code = Exit.CANNOT_ENROL
    except SigilError as error:
        write_error("sigil", str(error))
        code = Exit.CANNOT_ENROL
    sys.exit(code)


@dataclass(frozen=True)
class _Wanted:
    account: str
    replaces: str | None
    min_level: Level | None
    no_code: bool
    seconds: int

    @property
    def until(self) -> Literal["enrolled", "confirming"]:
        return "enrolled" if self.no_code else "confirming"


@dataclass
class _Enrolling:
    wanted: _Wanted
    as_json: bool
    _key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    _enrolment_id: str | None = None
    _stops: Stops = field(default_factory=Stops)

    async def run(self) -> int:
        """The exit code; SigilError."""
        async with AsyncSigilAuth() as client:
            self._stops.listen()
            end = time.monotonic() + self.wanted.seconds
            try:
                enrolment = await self._begin(client)
                self._enrolment_id = enrolment.enrolment_id
                self._show(enrolment)
                with countdown("Waiting for the phone", self.wanted.seconds):
                    status = await self._wait(client, end, self.wanted.until)
                if status is not None and not status.is_final:
                    status = await self._confirm(client, status, end)
                return self._report(await self._withdraw(client) if status is None else status)
            except EOFError:
                if _enrolled(status := await self._withdraw(client)):
                    return self._report(status)
                write_error("sigil", "standard input ended before the right code: the enrolment is cancelled")
                return Exit.NOT_ENROLLED
            except asyncio.CancelledError:
                if self._stops.number is None:
                    raise
                # A code in flight may have arrived before the cancellation: no other output names the key.
                status = await self._abandon(client)
                return self._report(status) if _enrolled(status) else 128 + self._stops.number
            except SigilError:
                if self._enrolment_id is not None and _enrolled(status := await self._withdraw(client)):
                    return self._report(status)
                raise

    async def _begin(self, client: AsyncSigilAuth) -> Enrolment:
        return await client.enrolment.begin(
            self.wanted.account,
            confirm="none" if self.wanted.no_code else None,
            expires_in_seconds=self.wanted.seconds,
            replaces=self.wanted.replaces,
            min_level=self.wanted.min_level,
            idempotency_key=self._key,
        )

    def _show(self, enrolment: Enrolment) -> None:
        if self.as_json:
            web = {} if enrolment.web_uri is None else {"web_uri": enrolment.web_uri}
            members = {"uri": enrolment.uri, "token": enrolment.token, "expires_at": enrolment.expires_at}
            self._line(status="pending", **web, **members)
            return
        # The links first: of a terminal with 24 lines, the code then shows all its own.
        if enrolment.web_uri is None:
            click.echo(f"Scan it with the phone, or open {enrolment.uri}", err=True)
        else:
            click.echo(f"Scan it with the phone, or open {enrolment.web_uri}", err=True)
            click.echo(f"For an authenticator app: {enrolment.uri}", err=True)
        click.echo(_qr(enrolment) or f"Or type {enrolment.typed_token}", err=True)

    async def _wait(
        self, client: AsyncSigilAuth, end: float, until: Literal["enrolled", "confirming"]
    ) -> EnrolmentStatus | None:
        """The status when that state or a final one is reached, or None at the end of the time."""
        return await poll_until(end, lambda left: client.enrolment.await_result(self._id, left, until))

    async def _confirm(self, client: AsyncSigilAuth, status: EnrolmentStatus, end: float) -> EnrolmentStatus | None:
        """Reads codes until one is right. The final status, or None at the end of the time; EOFError."""
        self._show_confirming(status)
        lines = _lines()
        while True:
            typed = await self._line_or_end(client, lines, end)
            if not isinstance(typed, str):
                return typed
            try:
                return await client.enrolment.confirm(self._id, typed)
            except WrongCode as wrong:
                if not wrong.attempts_left:
                    return await client.enrolment.get_status(self._id)
                self._say(f"Wrong code, {_attempts(wrong.attempts_left)} left", attempts_left=wrong.attempts_left)
            except InvalidRequest as error:
                if error.status is not None:
                    raise
                self._say("Type the six digits that the phone shows", error=error.code)
            except Conflict:
                return await client.enrolment.get_status(self._id)

    async def _line_or_end(self, client: AsyncSigilAuth, lines: Prompt, end: float) -> str | EnrolmentStatus | None:
        """What was typed, or the final status if the enrolment ends first; None at the end of the time. EOFError."""
        typed = asyncio.ensure_future(lines(_QUESTION, max(0.0, end - time.monotonic())))
        ended = asyncio.ensure_future(self._wait(client, end, "enrolled"))
        try:
            await asyncio.wait([typed, ended], return_when=asyncio.FIRST_COMPLETED)
            return typed.result() if typed.done() else ended.result()
        finally:
            typed.cancel()
            ended.cancel()
            await asyncio.gather(typed, ended, return_exceptions=True)

    def _show_confirming(self, status: EnrolmentStatus) -> None:
        names, emoji = status.session_pictogram_speakable, status.session_pictogram
        if self.as_json:
            members = {"session_pictogram": emoji, "session_pictogram_speakable": names}
            self._line(status=status.status, fingerprint=status.fingerprint, **members)
            return
        click.echo(f"The phone shows {' '.join(emoji or ())}  {names}", err=True)
        click.echo("Type its six digits only if it does. Anyone who asks for them is a thief.", err=True)

    def _say(self, text: str, **members: object) -> None:
        if self.as_json and members:
            self._line(status="confirming", **members)
        else:
            click.echo(text, err=True)

    def _line(self, **members: object) -> None:
        click.echo(json_line({"enrolment_id": self._id} | members))

    @property
    def _id(self) -> str:
        assert self._enrolment_id is not None  # noqa: S101 - for the type alone
        return self._enrolment_id

    async def _withdraw(self, client: AsyncSigilAuth) -> EnrolmentStatus | None:
        return await withdrawn(lambda: client.enrolment.cancel(self._id), lambda: client.enrolment.get_status(self._id))

    async def _abandon(self, client: AsyncSigilAuth) -> EnrolmentStatus | None:
        """Cancels after a signal, as `_withdraw`. A creation in flight is repeated with its key, which returns its
        enrolment.
        """
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                if self._enrolment_id is None:
                    self._enrolment_id = (await self._begin(client)).enrolment_id
                return await self._withdraw(client)
        except (SigilError, TimeoutError, asyncio.CancelledError):
            # A second signal, or no server: the enrolment expires.
            return None

    def _report(self, status: EnrolmentStatus | None) -> int:
        if status is not None and status.enrolled:
            click.echo(json_line({name: value for name, value in _members(status).items() if value is not None}))
            return Exit.ENROLLED
        expired = status is None or status.status == "expired"
        if self.as_json:
            members = {"status": "expired"} if status is None else {"status": status.status, "reason": status.reason}
            self._line(**members)
        elif expired:
            write_error("sigil", f"no device was enrolled within {self.wanted.seconds} s")
        else:
            write_error("sigil", _ENDS.get(status.status, status.status) if status else "")
        return Exit.NO_DEVICE if expired else Exit.NOT_ENROLLED


def _enrolled(status: EnrolmentStatus | None) -> bool:
    return status is not None and status.enrolled


def _attempts(left: int) -> str:
    return "1 attempt" if left == 1 else f"{left} attempts"


def _members(status: EnrolmentStatus) -> dict[str, object]:
    """What a backend stores with its user."""
    names = (
        *("enrolment_id", "status", "account", "device_public_key", "fingerprint", "pictogram_speakable", "confirm"),
        *("replaced", "attestation", "user_verification", "synced", "enrolled_at"),
    )
    return {name: getattr(status, name) for name in names}


def _qr(enrolment: Enrolment) -> str | None:
    """Text for standard error; None where it is no terminal that can show it, or segno is missing."""
    if not (is_terminal(sys.stderr) and draws_blocks(sys.stderr)):
        return None
    try:
        text = enrolment.qr("terminal")
    except ConfigurationError as error:
        write_warning(error.message)
        return None
    # A line that wraps is no code.
    width = max(len(_COLOURS.sub("", line)) for line in text.splitlines())
    return text if width < shutil.get_terminal_size().columns else None


def _lines() -> Prompt:
    """A prompt on a terminal. Otherwise lines of standard input, without one."""
    return Terminal(0, write_prompt) if sys.stdin.isatty() else _Lines()


class _Lines:
    """Lines of a pipe or a file. A thread reads them: the event loop cannot wait for a file, and the thread ends with
    the process.
    """

    def __init__(self) -> None:
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue[str | None]()
        threading.Thread(target=self._read, name="standard input", daemon=True).start()

    async def __call__(self, question: str, seconds: float) -> str:
        line = await self._queue.get()
        if line is None:
            raise EOFError
        return line

    def _read(self) -> None:
        # Not by sys.stdin, whose lock a daemon thread would hold at the end of the interpreter.
        rest = b""
        with contextlib.suppress(OSError, RuntimeError):
            while chunk := os.read(0, _CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._put(line)
                if len(rest) > _CHUNK:
                    break
            self._put(rest)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    def _put(self, line: bytes) -> None:
        if text := line.decode(errors="replace").strip():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, text)
