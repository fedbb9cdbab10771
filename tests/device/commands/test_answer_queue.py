"""Pushed challenges are answered by an option, by a person on a terminal that blocks nothing, or not at all."""

from __future__ import annotations

import asyncio
import io
import os
import pty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from sigil.device import Device, DeviceError, ShownChallenge, verify_info, verify_payload
from sigil.device.commands.answer_queue import MAX_ATTEMPTS, MAX_QUEUED, AnswerQueue
from sigil.device.commands.context import CommandContext
from sigil.device.commands.output import Answered, Dismissed, LeftPending, ListenEvent, NotAnswered
from sigil.device.commands.terminal import Terminal, prompt_decision, prompt_match_code
from sigil.device.commands.watcher import Watcher
from sigil.device.errors import AnswerUnusable, MatchCodeWrong, ServerRefused, Unreachable
from sigil.device.relay import Cleared, ListenerTiming, Received
from sigil.protocol.messages.base import Reason
from sigil.protocol.messages.challenges import Responded
from tests.device.clock import MovingClock
from tests.device.fake_relay import GUARD_SECONDS, push_id
from tests.device.fake_server import NOW, as_json, honest_info, identity, make_payload

SERVER = identity()
PIN = verify_info(as_json(honest_info(SERVER)), "https://auth.example.com")
DEVICE = Device.generate()


def shown(number: int = 1, **changes: Any) -> ShownChallenge:
    payload = make_payload(SERVER, DEVICE.public, number=number, **changes)
    return verify_payload(as_json(payload), PIN, DEVICE.public, NOW)


class Server:
    """Accepts answers, after it has raised all `failures`."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str | None]] = []
        self.failures: list[DeviceError] = []

    async def approve(self, shown: ShownChallenge, match_code: str | None = None) -> Responded:
        return self._answer("approved", match_code)

    async def reject(self, shown: ShownChallenge, reason: Reason | None = None) -> Responded:
        return self._answer("rejected", reason)

    def _answer(self, decision: str, more: str | None) -> Responded:
        if self.failures:
            raise self.failures.pop(0)
        self.answers.append((decision, more))
        status = "verified" if decision == "approved" else "rejected"
        return Responded(status, decision == "approved", "", [], "", b"{}")  # type: ignore[arg-type]


class Person:
    """Types the lines in `typed`; None is the end of the input."""

    def __init__(self, *typed: str | None) -> None:
        self.typed: asyncio.Queue[str | None] = asyncio.Queue()
        self.questions: list[str] = []
        for line in typed:
            self.typed.put_nowait(line)

    async def __call__(self, question: str, seconds: float = 0.0) -> str:
        self.questions.append(question)
        line = await self.typed.get()
        if line is None:
            raise EOFError
        return line


class Run:
    def __init__(self, clock: MovingClock, **options: Any) -> None:
        self.server, self.reported, self.displayed = Server(), list[ListenEvent](), list[str]()
        self.failed: list[str] = []

        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        timing = ListenerTiming(clock, sleep=sleep, uniform=lambda low, high: high)
        self.queue = AnswerQueue(self.server, self.reported.append, self._display, timing=timing, **options)
        self.queue.on_failure = self.failed.append
        self.task = asyncio.create_task(self.queue.run())

    def _display(self, shown: ShownChallenge) -> None:
        self.displayed.append(shown.challenge_id)

    async def receive(self, *challenges: ShownChallenge) -> None:
        for challenge in challenges:
            await self.queue.on_event(Received(challenge, push_id(1)))

    async def until(self, kind: type[Any], count: int = 1) -> Any:
        async with asyncio.timeout(GUARD_SECONDS):
            while len(found := [event for event in self.reported if isinstance(event, kind)]) < count:
                await asyncio.sleep(0)
        return found[-1]

    async def until_prompted(self, person: Person, questions: int = 1) -> None:
        async with asyncio.timeout(GUARD_SECONDS):
            while len(person.questions) < questions:
                await asyncio.sleep(0)


@asynccontextmanager
async def running(clock: MovingClock, **options: Any) -> AsyncIterator[Run]:
    run = Run(clock, **options)
    try:
        yield run
    finally:
        run.task.cancel()
        await asyncio.wait([run.task])


async def test_nothing_is_answered_without_a_decision(clock: MovingClock) -> None:
    async with running(clock) as run:
        await run.receive(*map(shown, range(1, 2000)))
        assert (len(run.reported), run.displayed, run.server.answers) == (1999, [], [])


async def test_an_automatic_decision_is_shown_and_answered(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        await run.receive(shown())
        assert await run.until(Answered) == Answered(shown().challenge_id, "approved", "verified")
        assert (run.displayed, run.server.answers) == ([shown().challenge_id], [("approved", None)])


async def test_number_matching_is_never_approved_automatically_and_can_be_rejected(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        await run.receive(shown(1, number_matching=True), shown(2))
        await run.until(Answered)
        assert await run.until(LeftPending) == LeftPending(shown(1, number_matching=True).challenge_id)
    async with running(clock, auto="rejected") as run:
        await run.receive(shown(number_matching=True))
        await run.until(Answered)
        assert run.server.answers == [("rejected", "cancelled")]


async def test_once_ends_after_one_answer_and_not_before(clock: MovingClock) -> None:
    async with running(clock, auto="approved", once=True) as run:
        run.server.failures = [ServerRefused(410, "CHALLENGE_EXPIRED", "Ended.")]
        await run.receive(shown(1), shown(2), shown(3))
        await asyncio.wait_for(run.task, GUARD_SECONDS)
        assert run.server.answers == [("approved", None)]
        assert (await run.until(NotAnswered)).then == "dropped"


async def test_an_answer_is_sent_again_to_a_server_that_was_unreachable(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [Unreachable(), ServerRefused(503, "OVERLOADED", "Later.")]
        await run.receive(shown())
        await run.until(Answered)
        assert [event.then for event in run.reported if isinstance(event, NotAnswered)] == ["sent_again"] * 2
        assert clock.slept == [1.0, 2.0]


async def test_a_challenge_whose_answer_cannot_be_sent_is_prompted_again(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [Unreachable() for _ in range(MAX_ATTEMPTS)]
        await run.receive(shown(1), shown(2))
        await run.until(Answered)
        assert run.failed == [shown().challenge_id]
        assert [event.then for event in run.reported if isinstance(event, NotAnswered)][-1] == "asked_again"


async def test_the_answer_to_an_expired_challenge_is_not_sent_again(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [Unreachable() for _ in range(MAX_ATTEMPTS)]
        clock.now = NOW + 1000
        await run.receive(shown())
        await run.until(NotAnswered)
        assert (clock.slept, run.failed) == ([], [shown().challenge_id])


@pytest.mark.parametrize("error", [ServerRefused(409, "CHALLENGE_ALREADY_USED", "Ended."), AnswerUnusable()])
async def test_a_permanent_error_is_reported_and_the_next_one_follows(clock: MovingClock, error: DeviceError) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [error]
        await run.receive(shown(1), shown(2))
        await run.until(Answered)
        assert (await run.until(NotAnswered)).error is error
        assert run.failed == []


async def test_a_person_approves_rejects_and_types_match_codes(clock: MovingClock) -> None:
    person = Person("maybe", "Y", "n", "", "yes", "7", "٤٢", "07")
    async with running(clock, prompt=person) as run:
        await run.receive(shown(1), shown(2), shown(3), shown(4, number_matching=True))
        await run.until(Answered, 4)
        assert run.server.answers == [
            ("approved", None),
            ("rejected", "cancelled"),
            ("rejected", "cancelled"),
            ("approved", "07"),
        ]
        assert len(run.displayed) == 4


async def test_a_wrong_match_code_may_be_typed_again(clock: MovingClock) -> None:
    """The number alone, at once: the decision stands, and a challenge that came meanwhile waits."""
    person = Person("y", "11", "12", "n")
    async with running(clock, prompt=person) as run:
        run.server.failures = [MatchCodeWrong(2)]
        await run.receive(shown(number_matching=True), shown(2))
        await run.until(Answered, 2)
        assert (await run.until(NotAnswered)).then == "asked_again"
        assert run.server.answers == [("approved", "12"), ("rejected", "cancelled")]
        assert [question[:7] for question in person.questions] == ["Approve", "The num", "The num", "Approve"]
        assert len(run.displayed) == 2


async def test_after_the_third_wrong_number_the_next_challenge_follows(clock: MovingClock) -> None:
    person = Person("y", "11", "n")
    async with running(clock, prompt=person) as run:
        run.server.failures = [MatchCodeWrong(0)]
        await run.receive(shown(number_matching=True), shown(2))
        await run.until(Answered)
        assert (await run.until(NotAnswered)).then == "dropped"
        assert run.server.answers == [("rejected", "cancelled")]


async def test_a_clear_cancels_the_prompt_and_the_next_one_follows(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, prompt=person) as run:
        await run.receive(shown(1), shown(2), shown(3))
        await run.until_prompted(person)
        await run.queue.on_event(Cleared(shown(2).challenge_id, "expired", push_id(8)))
        await run.queue.on_event(Cleared(shown(1).challenge_id, "cancelled", push_id(9)))
        await run.until_prompted(person, 2)
        person.typed.put_nowait("y")
        assert (await run.until(Answered)).challenge_id == shown(3).challenge_id
        assert [event for event in run.reported if isinstance(event, Dismissed)] == [
            Dismissed(shown(2).challenge_id, "expired"),
            Dismissed(shown(1).challenge_id, "cancelled"),
        ]


async def test_a_clear_of_another_challenge_cancels_nothing(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, prompt=person) as run:
        await run.receive(shown())
        await run.until_prompted(person)
        await run.queue.on_event(Cleared("another", "cancelled", push_id(9)))
        person.typed.put_nowait("y")
        await run.until(Answered)


async def test_a_prompt_ends_when_its_challenge_expires(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, prompt=person) as run:
        clock.now = NOW + 1000
        await run.receive(shown())
        assert await run.until(Dismissed) == Dismissed(shown().challenge_id, "expired")


async def test_the_end_of_the_input_ends_the_queue(clock: MovingClock) -> None:
    async with running(clock, prompt=Person(None)) as run:
        await run.receive(shown())
        with pytest.raises(EOFError):
            await asyncio.wait_for(run.task, GUARD_SECONDS)


async def test_the_queue_is_bounded(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, prompt=person) as run:
        await run.receive(shown(1))
        await run.until_prompted(person)
        await run.receive(*map(shown, range(2, MAX_QUEUED + 12)))
        for _ in range(MAX_QUEUED + 1):
            person.typed.put_nowait("y")
        await run.until(Answered, MAX_QUEUED + 1)
        await asyncio.sleep(0)
        assert len(run.displayed) == MAX_QUEUED + 1
        assert run.displayed[1] == shown(12).challenge_id


class Pty:
    def __init__(self) -> None:
        self.person, self.ours = pty.openpty()
        self.written: list[str] = []
        self.terminal = Terminal(self.ours, self.written.append)

    def type(self, text: bytes) -> None:
        os.write(self.person, text)

    async def until_written(self, count: int) -> None:
        async with asyncio.timeout(GUARD_SECONDS):
            while len(self.written) < count:
                await asyncio.sleep(0)


@pytest.fixture
def terminal() -> Iterator[Pty]:
    made = Pty()
    yield made
    for descriptor in {made.person, made.ours}:
        os.close(descriptor)


async def test_a_typed_line_answers_the_open_prompt(terminal: Pty) -> None:
    # Typed before the prompt, so not an answer to it.
    terminal.type(b"y\n")
    answer = asyncio.create_task(prompt_decision(terminal.terminal, "Approve?", lambda: 60))
    await terminal.until_written(1)
    terminal.type(b"n\n")
    assert await asyncio.wait_for(answer, GUARD_SECONDS) is False
    assert terminal.written == ["Approve? [y/N]: "]


async def test_input_that_is_no_answer_is_prompted_for_again_with_what_to_type(terminal: Pty) -> None:
    answer = asyncio.create_task(prompt_decision(terminal.terminal, "Approve?", lambda: 60))
    await terminal.until_written(1)
    terminal.type(b"42\n")
    await terminal.until_written(2)
    terminal.type(b"y\n")
    assert await asyncio.wait_for(answer, GUARD_SECONDS) is True
    digits = asyncio.create_task(prompt_match_code(terminal.terminal, "Number", lambda: 60))
    await terminal.until_written(3)
    terminal.type(b"y\n")
    await terminal.until_written(4)
    terminal.type(b"42\n")
    assert await asyncio.wait_for(digits, GUARD_SECONDS) == "42"
    assert terminal.written == [
        "Approve? [y/N]: ",
        "Type y or n. Approve? [y/N]: ",
        "Number: ",
        "Type two digits. Number: ",
    ]


async def test_a_repeated_prompt_shows_the_seconds_that_are_left_by_then() -> None:
    shown, lines, left = list[float](), iter(["?", "y"]), iter([29.0, 22.0])

    async def prompt(_: str, seconds: float) -> str:
        shown.append(seconds)
        return next(lines)

    assert await prompt_decision(prompt, "Approve?", lambda: next(left))
    assert shown == [29.0, 22.0]


def test_the_prompts_of_watch_ignore_what_was_typed_before(terminal: Pty, monkeypatch: pytest.MonkeyPatch) -> None:
    """A "y" that answered nothing must not approve what comes next."""

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if "Approve?" in text:
                terminal.type(b"n\n")
            return super().write(text)

    rejected = list[ShownChallenge]()

    class Client:
        def reject(self, shown: ShownChallenge, reason: str) -> Any:
            rejected.append(shown)
            return SimpleNamespace(status="rejected")

    terminal.type(b"y\n")
    with os.fdopen(os.dup(terminal.ours), encoding="utf-8") as keyboard:
        monkeypatch.setattr("sys.stdin", keyboard)
        monkeypatch.setattr("sys.stderr", Screen())
        assert Watcher(Client(), CommandContext(clock=lambda: NOW))._prompt(shown())  # type: ignore[arg-type]
    assert rejected == [shown()]


async def test_a_prompt_does_not_block_the_loop_and_a_cancelled_one_reads_no_line(terminal: Pty) -> None:
    cancelled = asyncio.create_task(terminal.terminal("First: ", 60))
    await terminal.until_written(1)
    with terminal.terminal.interrupted():
        terminal.written.append("event")
    cancelled.cancel()
    await asyncio.wait([cancelled])
    answer = asyncio.create_task(prompt_match_code(terminal.terminal, "Number", lambda: 60))
    await terminal.until_written(6)
    terminal.type(b"42\n")
    assert await asyncio.wait_for(answer, GUARD_SECONDS) == "42"
    assert terminal.written == ["First: ", "\n", "event", "First: ", "\n", "Number: "]


async def test_lines_between_prompts_are_written_unchanged(terminal: Pty) -> None:
    with terminal.terminal.interrupted():
        terminal.written.append("event")
    assert terminal.written == ["event"]


async def test_a_closed_terminal_raises_eof(terminal: Pty) -> None:
    answer = asyncio.create_task(terminal.terminal("First: ", 60))
    await terminal.until_written(1)
    terminal.type(b"\x04")
    with pytest.raises(EOFError):
        await asyncio.wait_for(answer, GUARD_SECONDS)
