"""A running worker replaces its application by another one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sigil.serving.process.app_handover import AppHandover, LifespanDriver


class App:
    """Responds with its name, and records its lifespan phases. `ready` lets its startup continue."""

    def __init__(self, name: str, *, fails: bool = False) -> None:
        self.name, self.fails = name, fails
        self.ready = asyncio.Event()
        self.ready.set()
        self.phases: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.name.encode()})
            return
        for phase in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{phase}"
            await self.ready.wait()
            self.phases.append(phase)
            await send({"type": f"lifespan.{phase}.{'failed' if self.fails else 'complete'}"})


class Worker:
    """A worker with an AppHandover; `due` is the value of its callback."""

    def __init__(self, next_app: App | None) -> None:
        self.due = False
        self.next_app, self.made, self.failures = next_app, 0, 0
        self.handover = AppHandover(App("first"), due=lambda: self.due, next_app=self._make, failed=self._fail)

    def _make(self) -> App:
        self.made += 1
        if self.next_app is None:
            raise OSError("no next application")
        return self.next_app

    def _fail(self) -> None:
        self.failures += 1

    async def request(self) -> tuple[int, str]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self.handover({"type": "http"}, None, send)  # type: ignore[arg-type]
        return sent[0]["status"], sent[1]["body"].decode()


async def test_the_first_application_serves_until_the_next_one_is_due() -> None:
    worker = Worker(App("next"))
    assert await worker.request() == (200, "first")
    worker.due = True
    assert await worker.request() == (200, "next")
    worker.due = False
    assert await worker.request() == (200, "next")
    assert worker.made == 1


async def test_requests_during_the_startup_wait_and_one_application_is_made() -> None:
    app = App("next")
    app.ready.clear()
    worker = Worker(app)
    worker.due = True
    requests = [asyncio.create_task(worker.request()) for _ in range(20)]
    await asyncio.sleep(0)
    requests[0].cancel()
    await asyncio.sleep(0)
    app.ready.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [(200, "next")] * 19
    assert worker.made == 1


@pytest.mark.parametrize("next_app", [None, "failing"])
async def test_a_failed_handover_is_reported_once_and_requests_are_overloaded(next_app: str | None) -> None:
    worker = Worker(App(next_app, fails=True) if next_app else None)
    worker.due = True
    for _ in range(3):
        status, body = await worker.request()
        assert (status, json.loads(body)["error"]["code"]) == (503, "OVERLOADED")
    assert (worker.made, worker.failures) == (1, 1)


async def test_the_handover_happens_without_requests_and_the_next_application_ends_with_the_worker() -> None:
    app = App("next")
    worker = Worker(app)
    lifespan = LifespanDriver(worker.handover)
    await lifespan.start()
    worker.due = True
    async with asyncio.timeout(60):
        while not app.phases:
            await asyncio.sleep(0.01)
    await lifespan.end()
    assert app.phases == ["startup", "shutdown"]


async def test_a_worker_that_ends_before_the_handover_makes_no_application() -> None:
    worker = Worker(App("next"))
    lifespan = LifespanDriver(worker.handover)
    await lifespan.start()
    await lifespan.end()
    assert worker.made == 0


async def test_an_application_that_ends_during_startup_has_failed() -> None:
    async def ends(_scope: Any, _receive: Any, _send: Any) -> None:
        return

    async def raises(_scope: Any, _receive: Any, _send: Any) -> None:
        raise OSError("broken")

    with pytest.raises(RuntimeError):
        await LifespanDriver(ends).start()
    with pytest.raises(OSError, match="broken"):
        await LifespanDriver(raises).start()
