"""`GET /ws` through Falcon and Granian."""

from __future__ import annotations

import asyncio

import falcon.asgi
from falcon.asgi import Request, WebSocket

from relay.registration.origins import Origins
from relay.sockets.session import DeviceSession, Refused
from sigil.protocol.relay_messages import MAX_FRAME, Close
from sigil.serving.http.client_address import ClientAddresses


class _Wire:
    """Falcon's WebSocket; Granian says RuntimeError when the peer has vanished, Falcon OSError."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._receiving: asyncio.Future[str] | None = None
        self._closing: asyncio.Event | None = None

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_text(text)
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error

    async def close(self, code: int) -> None:
        self._closing = self._closing or asyncio.Event()
        # Granian's close waits for a receive that is under way, which waits for the peer.
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
        """The next text frame, which is not too large; Refused, or ConnectionError."""
        self._receiving = asyncio.ensure_future(self._socket.receive_text())
        try:
            text = (await self._receiving).encode()
        except asyncio.CancelledError:
            if self._closing is None:
                raise
            # Whose handler returns is closed with 1000, before the code that is on its way.
            await self._closing.wait()
            raise ConnectionError from None
        except falcon.PayloadTypeError:
            raise Refused(Close.UNSUPPORTED) from None
        except (RuntimeError, OSError, falcon.WebSocketDisconnected) as error:
            raise ConnectionError from error
        if len(text) > MAX_FRAME:
            raise Refused(Close.TOO_LARGE)
        return text


class SocketOfDevice:
    """Collaborators: the conversation, the relay's origin, and client addresses."""

    def __init__(self, conversation: DeviceSession, origins: Origins, addresses: ClientAddresses) -> None:
        self._conversation = conversation
        self._origins = origins
        self._addresses = addresses

    async def on_websocket(self, req: Request, socket: WebSocket) -> None:
        # Always: Granian hangs on a socket that is closed before it was accepted.
        await socket.accept()
        await self._conversation.hold(_Wire(socket), self._addresses.of(req), self._origins.of(req.scope))
