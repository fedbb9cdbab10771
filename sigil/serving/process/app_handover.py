"""A running worker replaces its application by another one without losing or rejecting a request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sigil.protocol.errors import Overloaded
from sigil.protocol.messages.server import ErrorAnswer, ErrorBody
from sigil.serving import logs
from sigil.serving.background import BackgroundLoops

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApp = Callable[[Any, Receive, Send], Awaitable[None]]

_CHECK_SECONDS = 0.25
_OVERLOADED = msgspec.json.encode(ErrorAnswer(ErrorBody(Overloaded.code, Overloaded.summary)))


class AppHandover:
    """Serves `first` until `due()` is true, then the application that `next_app()` makes. `due` is called before each
    request and must be cheap.

    Requests that arrive while the next application starts wait for it. If it cannot be made or does not start, the
    error is logged, requests get 503, and `failed` is called once: a restarted worker begins with the next application.
    """

    def __init__(
        self,
        first: AsgiApp,
        *,
        due: Callable[[], bool],
        next_app: Callable[[], AsgiApp],
        failed: Callable[[], None],
    ) -> None:
        self._app = first
        self._due = due
        self._make_next = next_app
        self._failed = failed
        self._next_lifespan: LifespanDriver | None = None
        self._handover: asyncio.Task[bool] | None = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif self._next_lifespan is not None or await self._hand_over_when_due():
            await self._app(scope, receive, send)
        else:
            await _send_overloaded(send)

    async def _hand_over_when_due(self) -> bool:
        """False when the handover failed."""
        if self._handover is None:
            if not self._due():
                return True
            self._handover = asyncio.create_task(self._hand_over())
        # Shielded: a client that disconnects must not cancel the handover that all others wait for.
        return await asyncio.shield(self._handover)

    async def _hand_over(self) -> bool:
        try:
            app = self._make_next()
            lifespan = LifespanDriver(app)
            await lifespan.start()
        except Exception as error:
            logs.error("succession_failed", exc=error)
            self._failed()
            return False
        self._app, self._next_lifespan = app, lifespan
        return True

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """The worker's lifespan. It checks `due` even without requests: the next application has loops to run."""
        await receive()
        checks = BackgroundLoops({"succession": self._check}, rest=_CHECK_SECONDS)
        checks.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await checks.stop()
        if self._handover is not None:
            await asyncio.wait([self._handover])
        if self._next_lifespan is not None:
            await self._next_lifespan.end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _check(self) -> None:
        await asyncio.sleep(_CHECK_SECONDS)
        if self._handover is None:
            await self._hand_over_when_due()
        else:
            await asyncio.Event().wait()


async def _send_overloaded(send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"retry-after", b"1"),
        (b"server", b""),
    ]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": _OVERLOADED})


class LifespanDriver:
    """The server's side of the lifespan protocol, for an application that the HTTP server does not know."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._to_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._from_app: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def start(self) -> None:
        """RuntimeError when the application does not start."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.ensure_future(self._app(scope, self._to_app.get, self._from_app.put))
        await self._run_phase("startup")

    async def end(self) -> None:
        """RuntimeError when the application does not shut down without an error."""
        await self._run_phase("shutdown")
        await self._task

    async def _run_phase(self, phase: str) -> None:
        await self._to_app.put({"type": f"lifespan.{phase}"})
        reply = asyncio.create_task(self._from_app.get())
        await asyncio.wait({reply, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not reply.done():
            reply.cancel()
            self._task.result()
        if not reply.done() or reply.result()["type"] != f"lifespan.{phase}.complete":
            raise RuntimeError(f"the application failed at {phase}")
