"""One application takes another's place in a running worker, and no request is lost or refused between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from sigil.protocol.errors import Overloaded
from sigil.protocol.messages import ErrorAnswer, ErrorBody
from sigil.serving import logs
from sigil.serving.background import BackgroundLoops

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApp = Callable[[Any, Receive, Send], Awaitable[None]]

_LOOK_SECONDS = 0.25
_BUSY = msgspec.json.encode(ErrorAnswer(ErrorBody(Overloaded.code, Overloaded.summary)))


class AppHandover:
    """Serves `first` until `due()`, which is asked before each request and has to be cheap; then what `heir()` makes.

    Requests that come while the heir starts wait for it. When it cannot be made or does not start, the fault is logged,
    requests get 503, and `failed` is called once: a worker that is started again begins as the heir.
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
        self._heir = next_app
        self._failed = failed
        self._lifetime: Lifetime | None = None
        self._accession: asyncio.Task[bool] | None = None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif self._lifetime is not None or await self._settled():
            await self._app(scope, receive, send)
        else:
            await _busy(send)

    async def _settled(self) -> bool:
        """False when the heir failed."""
        if self._accession is None:
            if not self._due():
                return True
            self._accession = asyncio.create_task(self._switch())
        # One client that goes away must not stop what all others wait for.
        return await asyncio.shield(self._accession)

    async def _switch(self) -> bool:
        try:
            heir = self._heir()
            lifetime = Lifetime(heir)
            await lifetime.start()
        except Exception as error:
            logs.error("succession_failed", exc=error)
            self._failed()
            return False
        self._app, self._lifetime = heir, lifetime
        return True

    async def _live(self, receive: Receive, send: Send) -> None:
        """The worker's lifespan: looks for the heir also while nobody asks, since its loops have work to do."""
        await receive()
        looks = BackgroundLoops({"succession": self._look}, rest=_LOOK_SECONDS)
        looks.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await looks.stop()
        if self._accession is not None:
            await asyncio.wait([self._accession])
        if self._lifetime is not None:
            await self._lifetime.end()
        await send({"type": "lifespan.shutdown.complete"})

    async def _look(self) -> None:
        await asyncio.sleep(_LOOK_SECONDS)
        if self._accession is None:
            await self._settled()
        else:
            await asyncio.Event().wait()


async def _busy(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"retry-after", b"1")]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": _BUSY})


class Lifetime:
    """The lifespan protocol towards an application that the HTTP server does not know of."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def start(self) -> None:
        """RuntimeError when the application does not start."""
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.ensure_future(self._app(scope, self._told.get, self._heard.put))
        await self._say("startup")

    async def end(self) -> None:
        """RuntimeError when the application does not end well."""
        await self._say("shutdown")
        await self._task

    async def _say(self, what: str) -> None:
        await self._told.put({"type": f"lifespan.{what}"})
        heard = asyncio.create_task(self._heard.get())
        await asyncio.wait({heard, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not heard.done():
            heard.cancel()
            self._task.result()
        if not heard.done() or heard.result()["type"] != f"lifespan.{what}.complete":
            raise RuntimeError(f"the application failed at {what}")
