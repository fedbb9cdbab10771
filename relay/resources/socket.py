"""`GET /ws` through Falcon and Granian."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import falcon.asgi
from falcon.asgi import Request, Response, WebSocket

from relay.registration.origins import Origins
from relay.sockets.session import CloseSession, DeviceSession
from sigil.protocol.errors import UpgradeRequired
from sigil.protocol.messages.relay import MAX_FRAME, Close
from sigil.serving.http.client_address import ClientAddresses


class _FalconSocket:
    """Falcon's WebSocket. When the peer has disconnected, Granian raises RuntimeError and Falcon OSError."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._receiving: asyncio.Future[str] | None = None
        self._closing: asyncio.Event | None = None
        self._aborting: asyncio.Task[None] | None = None

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_text(text)
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error

    async def close(self, code: int) -> None:
        self._closing = self._closing or asyncio.Event()
        # Granian's close waits for a pending receive, which waits for the peer.
        if self._receiving is not None and not self._receiving.done():
            self._receiving.cancel()
            await asyncio.wait([self._receiving])
        try:
            await self._socket.close(code)
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error
        finally:
            self._closing.set()

    async def receive(self) -> bytes:
        """The next text frame; CloseSession when it is binary or too large, ConnectionError."""
        self._receiving = asyncio.ensure_future(self._socket.receive_text())
        try:
            text = (await self._receiving).encode()
        except asyncio.CancelledError:
            if self._closing is None:
                raise
            # If the handler returned now, the socket would be closed with 1000 instead of the code of `close`.
            await self._closing.wait()
            raise ConnectionError from None
        except falcon.PayloadTypeError:
            raise CloseSession(Close.UNSUPPORTED) from None
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error
        if len(text) > MAX_FRAME:
            raise CloseSession(Close.TOO_LARGE)
        return text

    def abort(self) -> None:
        self._aborting = self._aborting or asyncio.create_task(self._abort())

    async def _abort(self) -> None:
        # Granian closes the connection with the close frame, and does not wait for its peer.
        with suppress(ConnectionError):
            await self.close(Close.TRY_AGAIN)


class DeviceSocketResource:
    """`GET /ws`"""

    def __init__(self, session: DeviceSession, origins: Origins, addresses: ClientAddresses) -> None:
        self._session = session
        self._origins = origins
        self._addresses = addresses

    async def on_get(self, req: Request, resp: Response) -> None:
        if req.scope["http_version"].startswith("1"):
            # HTTP/2 has no such header.
            resp.set_header("Upgrade", "websocket")
            resp.set_header("Connection", "Upgrade")
        raise UpgradeRequired

    on_head = on_get

    async def on_websocket(self, req: Request, socket: WebSocket) -> None:
        # Always: Granian hangs on a socket that is closed before it is accepted.
        await socket.accept()
        await self._session.serve(_FalconSocket(socket), self._addresses.of(req), self._origins.of(req.scope))
