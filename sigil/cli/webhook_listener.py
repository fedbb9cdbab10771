"""A webhook receiver for developers: it prints each request, and whether its signature is valid."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from sigil.console.style import styled
from sigil.sdk import SigilError, webhooks
from sigil.serving.addresses.listen_host import reachable

_MAX_BYTES = 64 * 1024
_CONNECTION_SECONDS = 10.0
"""From its start to its end: a connection carries one request."""
_END_SECONDS = 1.0
# The library would print tracebacks about what strangers send.
_silent = logging.getLogger("sigil.webhook_listener")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


@dataclass(frozen=True)
class Listener:
    """Responds to each POST with `status`, or with 4xx when it is invalid. `write` prints one line.

    `socket` is bound to `host`, a value of `listen_host`.
    """

    socket: socket.socket
    host: str
    secrets: Sequence[str]
    status: int
    write: Callable[[str], None]

    @property
    def url(self) -> str:
        """Where this host reaches it."""
        name = reachable(self.host)
        return f"http://{f'[{name}]' if ':' in name else name}:{self.socket.getsockname()[1]}/"

    def run(self, count: int | None) -> None:
        """Serve `count` requests, or until Ctrl-C or SIGTERM."""
        asyncio.run(_Service(self, count).run())


class _Service:
    def __init__(self, listener: Listener, count: int | None) -> None:
        self._listener, self._left = listener, count
        self._ended = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ended.set)
        # The signature covers the bytes as they were sent.
        service = _BoundedServer(self._respond, auto_decompress=False, access_log=None, logger=_silent)
        server = await loop.create_server(service, sock=self._listener.socket)
        self._listener.write(f"listening on {self._listener.url}")
        try:
            await self._ended.wait()
        finally:
            server.close()
            await service.shutdown(_END_SECONDS)
        if self._failure is not None:
            raise self._failure

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            status, headers = await self._judge(request)
        except Exception as error:
            # Standard output is lost, for one.
            self._failure = error
            self._ended.set()
            raise
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self._ended.set()
        response = web.Response(status=status, headers=headers)
        response.force_close()
        return response

    async def _judge(self, request: web.BaseRequest) -> tuple[int, dict[str, str]]:
        write = self._listener.write
        if request.method != "POST":
            write(f"{_refused()}  {request.method[:20]!a}: a webhook is a POST request")
            return 405, {"Allow": "POST"}
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = bytearray()
        try:
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > _MAX_BYTES:
                    write(f"{_refused()}  the body is larger than {_MAX_BYTES // 1024} KiB")
                    return 413, {}
        except (web.RequestPayloadError, ConnectionError):
            write(f"{_refused()}  the body did not arrive whole")
            return 400, {}
        try:
            event = webhooks.verify(request.headers, bytes(body), self._listener.secrets)
        except SigilError as error:
            write(f"{_refused()}  {error.message}")
            return 400, {}
        write(f"{styled('VERIFIED', 'good', sys.stdout)} {event.type}  {event.id}")
        write(json.dumps(json.loads(body), indent=2, ensure_ascii=True))
        return self._listener.status, {}


def _refused() -> str:
    return styled("REFUSED", "bad", sys.stdout)


class _BoundedServer(web.Server):
    """Ends each connection in time, so that slow clients hold no more than they bring."""

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._loop.call_later(_CONNECTION_SECONDS, transport.abort)
