"""`sigil ask`: a person's device approves or rejects a text; for scripts, whose answer is the exit code (docs/ask.md).

The challenge lives as long as the command waits, so the end of the one is the end of the other.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from dataclasses import dataclass, field
from enum import IntEnum

import click

from sigil.cli.devices.waiting import CANCEL_SECONDS, Stops, poll_until, text_argument, withdrawn
from sigil.console.countdown import countdown
from sigil.console.errors import write_error, write_warning
from sigil.console.streams import OutputLost, drop_output
from sigil.console.style import styled
from sigil.protocol.messages.challenges import MAX_EXPIRY_SECONDS, MIN_EXPIRY_SECONDS
from sigil.sdk import (
    Action,
    AsyncSigilAuth,
    Challenge,
    ChallengeStatus,
    InvalidRequest,
    ResultTimeout,
    SigilError,
)

ACTION_TYPE = "ask"
_PUSH_SECONDS = 3.0
_MAX_INPUT = 4096
_REASONS = {"unknown_trigger": "the person does not know what it is for"}
_DEVICE_HINT = "`sigil device whoami --key` prints the key of the software device"


class Exit(IntEnum):
    """The exit codes; after a signal, 128 and its number."""

    APPROVED = 0
    NOT_APPROVED = 1
    USAGE = 2
    NO_ANSWER = 3
    CANNOT_ASK = 4


@click.command()
@click.argument("text")
@click.option("--device", required=True, metavar="KEY", help="The device's public key: `sigil device whoami --key`.")
@click.option("--match", is_flag=True, help="Number matching: show two digits, which the person types on the device.")
@click.option(
    "--timeout",
    default=60,
    show_default=True,
    type=click.IntRange(MIN_EXPIRY_SECONDS, MAX_EXPIRY_SECONDS),
    help="Seconds that the person has to answer.",
)
def ask(text: str, device: str, match: bool, timeout: int) -> None:
    """Ask a person to approve TEXT on a device, and wait for the answer. `-` reads TEXT from standard input.

    Exit code: 0 approved, 1 rejected or cancelled, 2 wrong usage, 3 no answer in time, 4 the request failed.

    From the environment: SIGIL_SERVICE_URL, SIGIL_API_KEY or SIGIL_API_KEY_FILE, SIGIL_CA_FILE.
    """
    # Such as the end of a line of Windows, which a shell keeps.
    device = device.strip()
    if not device:
        raise click.UsageError(f"--device is empty: {_DEVICE_HINT}.")
    action = Action(ACTION_TYPE, _standard_input() if text == "-" else text_argument("TEXT", text))
    try:
        code = asyncio.run(_Question(action, device, match or None, timeout).put())
    except InvalidRequest as error:
        # Rejected before it was sent: the text breaks a rule of the protocol.
        raise click.UsageError(f"TEXT: {error.message}") from None
    except SigilError as error:
        write_error("sigil", str(error))
        code = Exit.CANNOT_ASK
    sys.exit(code)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read(_MAX_INPUT).decode().removesuffix("\n").removesuffix("\r")
    except (AttributeError, OSError, UnicodeDecodeError):
        raise click.UsageError("TEXT is -, but standard input has no UTF-8 text.") from None


@dataclass
class _Question:
    action: Action
    device: str
    match: bool | None
    timeout: int
    _key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    _challenge_id: str | None = None
    _stops: Stops = field(default_factory=Stops)

    async def put(self) -> int:
        """The exit code; InvalidRequest without a status for an action that breaks a rule, SigilError."""
        async with AsyncSigilAuth() as client:
            self._stops.listen()
            try:
                challenge = await self._create(client)
                self._challenge_id = challenge.challenge_id
                self._show(challenge)
                with countdown("Waiting for the answer", self.timeout):
                    status = await self._result(client)
                return self._report(await self._withdraw(client) if status is None else status)
            except asyncio.CancelledError:
                if self._stops.number is None:
                    raise
                await self._abandon(client)
                return 128 + self._stops.number
            except SigilError as error:
                if self._challenge_id is not None:
                    await self._withdraw(client)
                elif isinstance(error, InvalidRequest) and error.status is not None:
                    # The server's verdict, such as on the device's key, is no wrong usage.
                    about_key = error.code == "INVALID_PUBLIC_KEY" or error.path == "$.device_public_key"
                    message = f"--device: {error.message} {_DEVICE_HINT}." if about_key else error.message
                    raise SigilError(message, code=error.code, status=error.status) from None
                raise

    async def _create(self, client: AsyncSigilAuth) -> Challenge:
        return await client.auth.create_challenge(
            self.device,
            self.action,
            expires_in_seconds=self.timeout,
            number_matching=self.match,
            idempotency_key=self._key,
        )

    def _show(self, challenge: Challenge) -> None:
        click.echo(f"Device {challenge.pictogram_speakable}: {self.timeout} s to answer", err=True)
        if challenge.match_code:
            click.echo(f"Number {challenge.match_code}: type it on the device", err=True)

    async def _result(self, client: AsyncSigilAuth) -> ChallengeStatus | None:
        """The final status, or None at the end of the time."""
        first = True

        async def poll(left: float) -> ChallengeStatus:
            nonlocal first
            try:
                # Short at first: a push that failed is shown while there is time to open the app by hand.
                return await client.auth.await_result(self._id, min(left, _PUSH_SECONDS) if first else left)
            except ResultTimeout as late:
                if first and isinstance(late.last, ChallengeStatus) and late.last.push.status == "failed":
                    write_warning(f"the push failed ({late.last.push.error}): open the device's app")
                first = False
                raise

        return await poll_until(time.monotonic() + self.timeout, poll)

    @property
    def _id(self) -> str:
        assert self._challenge_id is not None  # noqa: S101 - for the type alone
        return self._challenge_id

    async def _withdraw(self, client: AsyncSigilAuth) -> ChallengeStatus | None:
        return await withdrawn(lambda: client.auth.cancel(self._id), lambda: client.auth.get_status(self._id))

    async def _abandon(self, client: AsyncSigilAuth) -> None:
        """Cancels after a signal. A creation in flight is repeated with its key, which returns its challenge."""
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                if self._challenge_id is None:
                    self._challenge_id = (await self._create(client)).challenge_id
                await self._withdraw(client)
        except (SigilError, TimeoutError, asyncio.CancelledError):
            # A second signal, or no server: the challenge expires.
            return

    def _report(self, status: ChallengeStatus | None) -> int:
        if status is None or status.status == "expired":
            code, text = Exit.NO_ANSWER, f"No answer within {self.timeout} s"
        elif status.verified:
            code, text = Exit.APPROVED, "Approved"
        else:
            # The reason of a plain no is "cancelled", which reads as if the challenge had been.
            reason = "" if status.reason in (None, "cancelled") else f": {_REASONS.get(status.reason, status.reason)}"
            code, text = Exit.NOT_APPROVED, status.status.capitalize() + reason
        try:
            click.echo(styled(text, "good" if code is Exit.APPROVED else "bad", sys.stdout))
        except OutputLost:
            # The exit code is the answer, also where the line has no reader.
            drop_output()
        return code
