"""One application takes another's place in a running worker."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sigil.serving.process.app_handover import AppHandover, Lifetime


class App:
    """Answers with its name, and notes what becomes of it. `ready` lets its startup go on."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name, self.fails = name, fails
        self.ready = asyncio.Event()
        self.ready.set()
        self.life: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.name.encode()})
            return
        for what in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{what}"
            await self.ready.wait()
            self.life.append(what)
            await send({"type": f"lifespan.{what}.{'failed' if self.fails else 'complete'}"})


class Worker:
    """A worker with a succession; `due` is what it is told."""

    def __init__(self, heir: App | None) -> None:
        self.due = False
        self.heir, self.made, self.failures = heir, 0, 0
        self.succession = AppHandover(App("first"), due=lambda: self.due, next_app=self._make, failed=self._fail)

    def _make(self) -> App:
        self.made += 1
        if self.heir is None:
            raise OSError("no heir")
        return self.heir

    def _fail(self) -> None:
        self.failures += 1

    async def ask(self) -> tuple[int, str]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self.succession({"type": "http"}, None, send)  # type: ignore[arg-type]
        return sent[0]["status"], sent[1]["body"].decode()


async def test_the_first_serves_until_the_heir_is_due_and_then_the_heir() -> None:
    worker = Worker(App("heir"))
    assert await worker.ask() == (200, "first")
    worker.due = True
    assert await worker.ask() == (200, "heir")
    worker.due = False
    assert await worker.ask() == (200, "heir")
    assert worker.made == 1


async def test_who_comes_while_the_heir_starts_waits_for_it_and_one_is_made() -> None:
    heir = App("heir")
    heir.ready.clear()
    worker = Worker(heir)
    worker.due = True
    asking = [asyncio.create_task(worker.ask()) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    heir.ready.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [(200, "heir")] * 19
    assert worker.made == 1


@pytest.mark.parametrize("heir", [None, "failing"])
async def test_an_heir_that_fails_is_told_of_once_and_answers_are_overloaded(heir: str | None) -> None:
    worker = Worker(App(heir, fails=True) if heir else None)
    worker.due = True
    for _ in range(3):
        status, body = await worker.ask()
        assert (status, json.loads(body)["error"]["code"]) == (503, "OVERLOADED")
    assert (worker.made, worker.failures) == (1, 1)


async def test_the_heir_is_made_while_nobody_asks_and_ends_with_the_worker() -> None:
    heir = App("heir")
    worker = Worker(heir)
    life = Lifetime(worker.succession)
    await life.start()
    worker.due = True
    async with asyncio.timeout(60):
        while not heir.life:
            await asyncio.sleep(0.01)
    await life.end()
    assert heir.life == ["startup", "shutdown"]


async def test_a_worker_that_ends_before_there_is_an_heir_makes_none() -> None:
    worker = Worker(App("heir"))
    life = Lifetime(worker.succession)
    await life.start()
    await life.end()
    assert worker.made == 0


async def test_an_application_that_ends_before_it_has_started_has_failed() -> None:
    async def ends(_scope: Any, _receive: Any, _send: Any) -> None:
        return

    async def raises(_scope: Any, _receive: Any, _send: Any) -> None:
        raise OSError("broken")

    with pytest.raises(RuntimeError):
        await Lifetime(ends).start()
    with pytest.raises(OSError, match="broken"):
        await Lifetime(raises).start()
