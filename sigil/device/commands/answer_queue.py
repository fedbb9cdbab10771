"""Challenges and approval requests that await an answer, one at a time: from a prompt, or decided beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from sigil.device.approval_checks import Shown
from sigil.device.challenge_checks import CLOCK_ALLOWANCE_SECONDS
from sigil.device.client import ServerAnswer
from sigil.device.commands.output import Answered, Dismissed, LeftPending, NotAnswered, Report
from sigil.device.commands.terminal import Prompt, SecondsLeft, prompt_decision, prompt_match_code
from sigil.device.errors import DeviceError, MatchCodeWrong, is_temporary
from sigil.device.relay.events import Cleared, Event, Received
from sigil.device.relay.timing import ListenerTiming
from sigil.protocol.messages.base import Decision, Reason

MAX_QUEUED = 256
"""More than a server allows to be pending. Beyond it, the oldest is dropped here; the server still lists it."""
MAX_ATTEMPTS = 5
Auto = Literal["approved", "rejected"]


class AnswerClient(Protocol):
    """The part of `AsyncDeviceClient` that is needed here."""

    def approve(self, shown: Shown, match_code: str | None = None) -> Awaitable[ServerAnswer]: ...

    def reject(self, shown: Shown, reason: Reason | None = None) -> Awaitable[ServerAnswer]: ...


class AnswerQueue:
    """`auto` decides without a prompt, `prompt` lets a person decide; with neither, nothing is answered here.

    `on_failure`, set afterwards, receives the id of a challenge whose answer did not reach the server.
    """

    def __init__(
        self,
        client: AnswerClient,
        report: Report,
        show: Callable[[Shown], None],
        *,
        auto: Auto | None = None,
        prompt: Prompt | None = None,
        once: bool = False,
        timing: ListenerTiming | None = None,
    ) -> None:
        self._client, self._report, self._show = client, report, show
        self._auto, self._prompt, self._once = auto, prompt, once
        self.on_failure: Callable[[str], None] = lambda challenge_id: None
        self._timing = timing or ListenerTiming()
        self._queued: dict[str, Shown] = {}
        self._arrived = asyncio.Event()
        self._prompting: tuple[str, asyncio.Task[tuple[Decision, str | None]]] | None = None
        self._dismissed_because = ""

    async def on_event(self, event: Event) -> None:
        self._report(event)
        if isinstance(event, Received):
            self._put(event.shown)
        elif isinstance(event, Cleared):
            self._dismiss(event.challenge_id, event.status)

    async def run(self) -> None:
        """For ever, or until one is answered with `once`; EOFError at the end of the terminal's input."""
        while True:
            await self._arrived.wait()
            if not self._queued:
                self._arrived.clear()
                continue
            shown = self._queued.pop(next(iter(self._queued)))
            self._show(shown)
            if await self._answer(shown) and self._once:
                return

    def _put(self, shown: Shown) -> None:
        if self._auto is None and self._prompt is None:
            return
        if len(self._queued) >= MAX_QUEUED:
            del self._queued[next(iter(self._queued))]
        self._queued[shown.id] = shown
        self._arrived.set()

    def _dismiss(self, challenge_id: str, status: str) -> None:
        if self._queued.pop(challenge_id, None) is not None:
            self._report(Dismissed(challenge_id, status))
        elif self._prompting is not None and self._prompting[0] == challenge_id:
            # Reported when the prompt has left the terminal.
            self._dismissed_because = status
            self._prompting[1].cancel()

    async def _answer(self, shown: Shown) -> bool:
        """Whether an answer reached the server."""
        if self._auto is not None:
            if self._auto == "approved" and shown.number_matching:
                self._report(LeftPending(shown.id))
                return False
            return await self._send_with_retries(shown, self._auto, None)
        number_only = False
        while True:
            decision = await self._prompt_person(shown, number_only=number_only)
            if decision is None:
                return False
            try:
                return await self._send_with_retries(shown, *decision)
            except MatchCodeWrong:
                number_only = True

    async def _prompt_person(self, shown: Shown, *, number_only: bool) -> tuple[Decision, str | None] | None:
        """None when the challenge was dismissed or expired during the prompt."""
        assert self._prompt is not None  # noqa: S101 - for the type checker

        def seconds_left() -> float:
            return shown.seconds_left(self._timing.clock())

        task = asyncio.create_task(_decision(self._prompt, shown, seconds_left, number_only=number_only))
        self._prompting = shown.id, task
        left = shown.expires_at + CLOCK_ALLOWANCE_SECONDS - self._timing.clock()
        self._dismissed_because = "expired"
        try:
            await asyncio.wait([task], timeout=max(0.0, left))
        finally:
            self._prompting = None
            task.cancel()
            await asyncio.wait([task])
        if task.cancelled():
            self._report(Dismissed(shown.id, self._dismissed_because))
            return None
        return task.result()

    async def _send_with_retries(self, shown: Shown, decision: Decision, code: str | None) -> bool:
        """MatchCodeWrong while the code may be typed again; other errors are reported."""
        backoff = self._timing.backoff()
        for attempts_left in reversed(range(MAX_ATTEMPTS)):
            try:
                answer = await self._send(shown, decision, code)
            except DeviceError as error:
                if not is_temporary(error):
                    if isinstance(error, MatchCodeWrong) and error.tries_left:
                        self._report(NotAnswered(shown.id, error, "asked_again"))
                        raise
                    self._report(NotAnswered(shown.id, error, "dropped"))
                    return False
                if not attempts_left or not shown.seconds_left(self._timing.clock()):
                    self._report(NotAnswered(shown.id, error, "asked_again"))
                    self.on_failure(shown.id)
                    return False
                self._report(NotAnswered(shown.id, error, "sent_again"))
                await self._timing.sleep(backoff.next())
                continue
            self._report(Answered(shown.id, decision, answer.status))
            return True
        return False

    async def _send(self, shown: Shown, decision: Decision, code: str | None) -> ServerAnswer:
        if decision == "approved":
            return await self._client.approve(shown, code)
        return await self._client.reject(shown, "cancelled")


async def _decision(
    prompt: Prompt, shown: Shown, left: SecondsLeft, *, number_only: bool
) -> tuple[Decision, str | None]:
    if not number_only and not await prompt_decision(prompt, "Approve?", left):
        return "rejected", None
    if not shown.number_matching:
        return "approved", None
    return "approved", await prompt_match_code(prompt, "The number that the service shows", left)
