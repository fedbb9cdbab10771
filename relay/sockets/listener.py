"""`GET /ws` on a port of its own (RELAY_WS_PORT), for many devices: Granian spends 150 kB on a WebSocket, this 14.

Measured with 1000 idle sockets; Granian's share is a read buffer that no setting makes smaller (docs/decisions/0008).
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
from functools import partial
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from relay.registration.origins import Origins
from relay.sockets.handshake_limit import HandshakeLimit
from relay.sockets.session import DeviceSession, Refused
from sigil.protocol.relay_messages import MAX_FRAME, Close
from sigil.serving.http.client_address import ClientAddresses

# Frames of a device wait in the socket, not here.
_QUEUED_FRAMES = 2
_SEND_BUFFER = 16 * 1024
_HANDSHAKE_SECONDS = 10
_HANDSHAKE_BYTES = 16 * 1024
"""Of a request; the library would keep 128 headers of 8 KiB."""
# A device that does not answer a close frame is cut off, before `sockets` gives the closing up.
_CLOSE_SECONDS = 5


class _Wire:
    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except (ConnectionClosed, OSError) as error:
            raise ConnectionError from error

    async def close(self, code: int) -> None:
        try:
            await self._connection.close(code)
        except (ConnectionClosed, OSError) as error:
            raise ConnectionError from error

    async def receive(self) -> bytes:
        """The library itself closes with 1009 on a frame that is too large."""
        try:
            frame = await self._connection.recv()
        except (ConnectionClosed, OSError) as error:
            raise ConnectionError from error
        if isinstance(frame, bytes):
            raise Refused(Close.UNSUPPORTED)
        return frame.encode()


class _Arriving(ServerConnection):
    """Has one of the places of `arrivals` until its handshake is over."""

    # The library's own attributes are nearly as many as objects of a class can share the names of: with these among
    # them a socket took 2.7 kB more.
    __slots__ = ("_addresses", "_arrivals", "_asked_with")

    def __init__(self, arrivals: HandshakeLimit, addresses: ClientAddresses, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._arrivals = arrivals
        self._addresses = addresses
        self._asked_with = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._arrivals.enter(self, self._addresses.of_connection(str(peer[0]) if peer else ""))

    def data_received(self, data: bytes) -> None:
        if self.request is None:
            self._asked_with += len(data)
            if self._asked_with > _HANDSHAKE_BYTES:
                self.cut()
                return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrived()
        super().connection_lost(exc)

    def arrived(self) -> None:
        """It asked for what there is, or is gone."""
        self._arrivals.leave(self)

    def cut(self) -> None:
        self.transport.abort()


class SocketListener:
    """Each worker listens for itself; the kernel spreads connections over them."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        conversation: DeviceSession,
        origins: Origins,
        addresses: ClientAddresses,
        arrivals: HandshakeLimit,
    ) -> None:
        self._host = host
        self._port = port
        self._conversation = conversation
        self._origins = origins
        self._addresses = addresses
        self._arrivals = arrivals
        self._server: Server | None = None
        self._log = logging.getLogger("websockets.server")
        # It tells of each handshake that broke off, with a traceback: any stranger can do that.
        self._log.setLevel(logging.CRITICAL)

    async def open(self) -> None:
        listener = _listener(self._host, self._port)
        self._server = await serve(
            self._hold,
            sock=listener,
            create_connection=partial(_Arriving, self._arrivals, self._addresses),  # type: ignore[arg-type]
            process_request=_only_ws,
            compression=None,
            ping_interval=None,
            max_size=MAX_FRAME,
            max_queue=_QUEUED_FRAMES,
            write_limit=_SEND_BUFFER,
            open_timeout=_HANDSHAKE_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            logger=self._log,
            server_header=None,
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close(close_connections=False)

    async def _hold(self, connection: ServerConnection) -> None:
        cast(_Arriving, connection).arrived()
        request = connection.request
        peer = connection.remote_address
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in _raw(request)]
        address = self._addresses.of_peer(str(peer[0]) if peer else "", headers)
        origin = self._origins.of({"scheme": "ws", "headers": headers})
        await self._conversation.hold(_Wire(connection), address, origin)


def _raw(request: Request | None) -> list[tuple[str, str]]:
    return list(request.headers.raw_items()) if request is not None else []


def _only_ws(connection: ServerConnection, request: Request) -> Response | None:
    if request.path.partition("?")[0] == "/ws":
        return None
    return connection.respond(http.HTTPStatus.NOT_FOUND, "There is nothing at this address.\n")


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen(4096)
    listener.setblocking(False)
    return listener
