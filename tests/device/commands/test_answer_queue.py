"""Who answers what was pushed: nobody, a rule, or a person on a terminal who holds nothing up."""

from __future__ import annotations

import asyncio
import os
import pty
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sigil.device import Device, DeviceError, ShownChallenge, verify_info, verify_payload
from sigil.device.commands.answer_queue import MAX_WAITING, SENDINGS, AnswerQueue
from sigil.device.commands.output import Answered, Dismissed, Left, ListenEvent, NotAnswered
from sigil.device.commands.terminal import Terminal, confirmed, two_digits
from sigil.device.errors import AnswerUnusable, ServerRefused, Unreachable
from sigil.device.relay import Cleared, ListenerTiming, Received
from sigil.protocol.forms import Reason
from sigil.protocol.messages import Responded
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
    """Takes answers, after it raised what is in `failures`."""

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
    """Types what is put into `typed`; None is the end of the terminal."""

    def __init__(self, *typed: str | None) -> None:
        self.typed: asyncio.Queue[str | None] = asyncio.Queue()
        self.questions: list[str] = []
        for line in typed:
            self.typed.put_nowait(line)

    async def __call__(self, question: str) -> str:
        self.questions.append(question)
        line = await self.typed.get()
        if line is None:
            raise EOFError
        return line


class Run:
    def __init__(self, clock: MovingClock, **options: Any) -> None:
        self.server, self.told, self.displayed = Server(), list[ListenEvent](), list[str]()
        self.asked_again: list[str] = []

        async def sleep(seconds: float) -> None:
            clock.sleep(seconds)

        pace = ListenerTiming(clock, sleep=sleep, uniform=lambda low, high: high)
        self.desk = AnswerQueue(self.server, self.told.append, self._display, pace=pace, **options)
        self.desk.on_failure = self.asked_again.append
        self.task = asyncio.create_task(self.desk.run())

    def _display(self, shown: ShownChallenge) -> None:
        self.displayed.append(shown.challenge_id)

    async def ask(self, *challenges: ShownChallenge) -> None:
        for challenge in challenges:
            await self.desk.on_event(Received(challenge, push_id(1)))

    async def until(self, kind: type[Any], count: int = 1) -> Any:
        async with asyncio.timeout(GUARD_SECONDS):
            while len(found := [told for told in self.told if isinstance(told, kind)]) < count:
                await asyncio.sleep(0)
        return found[-1]

    async def asking(self, person: Person, questions: int = 1) -> None:
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


async def test_nothing_is_answered_unless_someone_decides(clock: MovingClock) -> None:
    async with running(clock) as run:
        await run.ask(*map(shown, range(1, 2000)))
        assert (len(run.told), run.displayed, run.server.answers) == (1999, [], [])


async def test_what_is_decided_beforehand_is_shown_and_answered(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        await run.ask(shown())
        assert await run.until(Answered) == Answered(shown().challenge_id, "approved", "verified")
        assert (run.displayed, run.server.answers) == ([shown().challenge_id], [("approved", None)])


async def test_a_number_that_nobody_saw_is_left_to_a_person_and_can_be_rejected(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        await run.ask(shown(1, number_matching=True), shown(2))
        await run.until(Answered)
        assert await run.until(Left) == Left(shown(1, number_matching=True).challenge_id)
    async with running(clock, auto="rejected") as run:
        await run.ask(shown(number_matching=True))
        await run.until(Answered)
        assert run.server.answers == [("rejected", "cancelled")]


async def test_once_ends_after_an_answer_and_not_before(clock: MovingClock) -> None:
    async with running(clock, auto="approved", once=True) as run:
        run.server.failures = [ServerRefused(410, "CHALLENGE_EXPIRED", "Over.")]
        await run.ask(shown(1), shown(2), shown(3))
        await asyncio.wait_for(run.task, GUARD_SECONDS)
        assert run.server.answers == [("approved", None)]
        assert (await run.until(NotAnswered)).then == "dropped"


async def test_an_answer_is_brought_to_a_server_that_was_away(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [Unreachable(), ServerRefused(503, "OVERLOADED", "Later.")]
        await run.ask(shown())
        await run.until(Answered)
        assert [told.then for told in run.told if isinstance(told, NotAnswered)] == ["sent_again"] * 2
        assert clock.slept == [1.0, 2.0]


async def test_an_answer_that_cannot_be_brought_is_asked_for_again(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [Unreachable() for _ in range(SENDINGS)]
        await run.ask(shown(1), shown(2))
        await run.until(Answered)
        assert run.asked_again == [shown().challenge_id]
        assert [told.then for told in run.told if isinstance(told, NotAnswered)][-1] == "asked_again"


async def test_an_expired_challenge_is_not_sent_for_ever(clock: MovingClock) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [Unreachable() for _ in range(SENDINGS)]
        clock.now = NOW + 1000
        await run.ask(shown())
        await run.until(NotAnswered)
        assert (clock.slept, run.asked_again) == ([], [shown().challenge_id])


@pytest.mark.parametrize("error", [ServerRefused(409, "CHALLENGE_ALREADY_USED", "Over."), AnswerUnusable()])
async def test_what_will_not_pass_is_told_and_the_next_one_taken(clock: MovingClock, error: DeviceError) -> None:
    async with running(clock, auto="approved") as run:
        run.server.failures = [error]
        await run.ask(shown(1), shown(2))
        await run.until(Answered)
        assert (await run.until(NotAnswered)).error is error
        assert run.asked_again == []


async def test_a_person_approves_rejects_and_types_numbers(clock: MovingClock) -> None:
    person = Person("maybe", "Y", "n", "", "yes", "7", "٤٢", "07")
    async with running(clock, asks=person) as run:
        await run.ask(shown(1), shown(2), shown(3), shown(4, number_matching=True))
        await run.until(Answered, 4)
        assert run.server.answers == [
            ("approved", None),
            ("rejected", "cancelled"),
            ("rejected", "cancelled"),
            ("approved", "07"),
        ]
        assert len(run.displayed) == 4


async def test_a_wrong_number_may_be_typed_again(clock: MovingClock) -> None:
    person = Person("y", "11", "y", "12")
    async with running(clock, asks=person) as run:
        run.server.failures = [ServerRefused(401, "INVALID_SIGNATURE", "No.")]
        await run.ask(shown(number_matching=True))
        await run.until(Answered)
        assert (await run.until(NotAnswered)).then == "asked_again"
        assert run.server.answers == [("approved", "12")]


async def test_a_clear_withdraws_the_question_and_the_next_one_is_asked(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, asks=person) as run:
        await run.ask(shown(1), shown(2), shown(3))
        await run.asking(person)
        await run.desk.on_event(Cleared(shown(2).challenge_id, "expired", push_id(8)))
        await run.desk.on_event(Cleared(shown(1).challenge_id, "cancelled", push_id(9)))
        await run.asking(person, 2)
        person.typed.put_nowait("y")
        assert (await run.until(Answered)).challenge_id == shown(3).challenge_id
        assert [told for told in run.told if isinstance(told, Dismissed)] == [
            Dismissed(shown(2).challenge_id, "expired"),
            Dismissed(shown(1).challenge_id, "cancelled"),
        ]


async def test_a_clear_of_something_else_withdraws_nothing(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, asks=person) as run:
        await run.ask(shown())
        await run.asking(person)
        await run.desk.on_event(Cleared("another", "cancelled", push_id(9)))
        person.typed.put_nowait("y")
        await run.until(Answered)


async def test_a_question_does_not_outlive_its_challenge(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, asks=person) as run:
        clock.now = NOW + 1000
        await run.ask(shown())
        assert await run.until(Dismissed) == Dismissed(shown().challenge_id, "expired")


async def test_the_end_of_the_terminal_is_the_end(clock: MovingClock) -> None:
    async with running(clock, asks=Person(None)) as run:
        await run.ask(shown())
        with pytest.raises(EOFError):
            await asyncio.wait_for(run.task, GUARD_SECONDS)


async def test_what_waits_is_bounded(clock: MovingClock) -> None:
    person = Person()
    async with running(clock, asks=person) as run:
        await run.ask(shown(1))
        await run.asking(person)
        await run.ask(*map(shown, range(2, MAX_WAITING + 12)))
        for _ in range(MAX_WAITING + 1):
            person.typed.put_nowait("y")
        await run.until(Answered, MAX_WAITING + 1)
        await asyncio.sleep(0)
        assert len(run.displayed) == MAX_WAITING + 1
        assert run.displayed[1] == shown(12).challenge_id


class Pty:
    def __init__(self) -> None:
        self.person, self.ours = pty.openpty()
        self.said: list[str] = []
        self.terminal = Terminal(self.ours, self.said.append)

    def type(self, text: bytes) -> None:
        os.write(self.person, text)

    async def standing(self, count: int) -> None:
        async with asyncio.timeout(GUARD_SECONDS):
            while len(self.said) < count:
                await asyncio.sleep(0)


@pytest.fixture
def terminal() -> Iterator[Pty]:
    made = Pty()
    yield made
    for descriptor in {made.person, made.ours}:
        os.close(descriptor)


async def test_a_line_of_a_terminal_answers_the_question_that_stands(terminal: Pty) -> None:
    # Typed before there was a question, so no answer to one.
    terminal.type(b"y\n")
    answer = asyncio.create_task(confirmed(terminal.terminal, "Approve?"))
    await terminal.standing(1)
    terminal.type(b"n\n")
    assert await asyncio.wait_for(answer, GUARD_SECONDS) is False
    assert terminal.said == ["Approve? [y/N]: "]


async def test_the_loop_goes_on_while_a_question_stands_and_a_withdrawn_one_takes_no_line(terminal: Pty) -> None:
    withdrawn = asyncio.create_task(terminal.terminal("First: "))
    await terminal.standing(1)
    with terminal.terminal.interrupted():
        terminal.said.append("told")
    withdrawn.cancel()
    await asyncio.wait([withdrawn])
    answer = asyncio.create_task(two_digits(terminal.terminal, "Number"))
    await terminal.standing(6)
    terminal.type(b"42\n")
    assert await asyncio.wait_for(answer, GUARD_SECONDS) == "42"
    assert terminal.said == ["First: ", "\n", "told", "First: ", "\n", "Number: "]


async def test_lines_between_questions_are_told_plainly(terminal: Pty) -> None:
    with terminal.terminal.interrupted():
        terminal.said.append("told")
    assert terminal.said == ["told"]


async def test_a_closed_terminal_raises_eof(terminal: Pty) -> None:
    answer = asyncio.create_task(terminal.terminal("First: "))
    await terminal.standing(1)
    terminal.type(b"\x04")
    with pytest.raises(EOFError):
        await asyncio.wait_for(answer, GUARD_SECONDS)
