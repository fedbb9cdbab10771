"""The ASGI lifespan of a worker: readiness, failures that count, and a shutdown that does not depend on Granian."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from sigil.serving import logs
from sigil.serving.startup_error import StartupError

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
_STARTUP_ERROR = f"{StartupError.__module__}.{StartupError.__qualname__}"


class Lifespan:
    """One run of the application's lifespan protocol; call it with the scope.

    `over` set means: tell the application to shut down now, and call `stop` when it has.
    """

    def __init__(
        self,
        app: Callable[[Any, Any, Any], Awaitable[None]],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        *,
        over: asyncio.Event,
        started: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._over = over
        self._started = started
        self._stop = stop
        self._ending_by_us = False

    async def __call__(self, scope: Any) -> None:
        try:
            await self._app(scope, self._hear, self._tell)
        except Exception as exc:
            # Granian would warn and serve without lifespan: an application whose startup raised is not ready.
            logs.error("lifespan_failed", exc=exc)
            await self._send({"type": "lifespan.startup.failed"})

    async def _hear(self) -> Any:
        message = asyncio.ensure_future(self._receive())
        over = asyncio.ensure_future(self._over.wait())
        await asyncio.wait({message, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        if message.done():
            return message.result()
        message.cancel()
        self._ending_by_us = True
        return {"type": "lifespan.shutdown"}

    async def _tell(self, message: Any) -> None:
        kind = message["type"]
        if kind.endswith(".failed"):
            # Falcon sends the whole traceback, with the exception's message, which Granian would log.
            logs.report("error", kind.replace(".", "_"), _places(message.get("message", "")))
            message = {"type": kind}
        await self._send(message)
        if kind == "lifespan.startup.complete":
            self._started()
        if self._ending_by_us and kind.startswith("lifespan.shutdown."):
            self._stop()


def _places(traceback: str) -> dict[str, object]:
    frames = [f"{'/'.join(path.rsplit('/', 2)[-2:])}:{line} {name}" for path, line, name in _FRAME.findall(traceback)]
    name, _, text = traceback.strip().rpartition("\n")[2].partition(": ")
    fields: dict[str, object] = {"exception": name.rpartition(".")[2], "location": " < ".join(frames[:-9:-1])}
    # The one exception whose text is written for the operator.
    return fields | {"reason": text} if name == _STARTUP_ERROR else fields
