"""The ASGI lifespan of a worker: readiness, fatal startup errors, and a shutdown that does not depend on Granian."""

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

    When `ended` is set, the application is shut down; then `stop` is called.
    """

    def __init__(
        self,
        app: Callable[[Any, Any, Any], Awaitable[None]],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
        *,
        ended: asyncio.Event,
        started: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self._app = app
        self._receive = receive
        self._send = send
        self._ended = ended
        self._started = started
        self._stop = stop
        self._shutdown_sent = False

    async def __call__(self, scope: Any) -> None:
        try:
            await self._app(scope, self._receive_or_shutdown, self._forward)
        except Exception as exc:
            # Without this event Granian logs a warning and serves without lifespan; but the application is not ready.
            logs.error("lifespan_failed", exc=exc)
            await self._send({"type": "lifespan.startup.failed"})

    async def _receive_or_shutdown(self) -> Any:
        message = asyncio.ensure_future(self._receive())
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if message.done():
            return message.result()
        message.cancel()
        self._shutdown_sent = True
        return {"type": "lifespan.shutdown"}

    async def _forward(self, message: Any) -> None:
        kind = message["type"]
        if kind.endswith(".failed"):
            # Falcon sends the whole traceback with the message of the exception, and Granian would log it.
            logs.report("error", kind.replace(".", "_"), _exception_fields(message.get("message", "")))
            message = {"type": kind}
        await self._send(message)
        if kind == "lifespan.startup.complete":
            self._started()
        if self._shutdown_sent and kind.startswith("lifespan.shutdown."):
            self._stop()


def _exception_fields(traceback: str) -> dict[str, object]:
    frames = [f"{'/'.join(path.rsplit('/', 2)[-2:])}:{line} {name}" for path, line, name in _FRAME.findall(traceback)]
    name, _, text = traceback.strip().rpartition("\n")[2].partition(": ")
    fields: dict[str, object] = {"exception": name.rpartition(".")[2], "location": " < ".join(frames[:-9:-1])}
    # Only the text of StartupError is written for the operator.
    return fields | {"reason": text} if name == _STARTUP_ERROR else fields
