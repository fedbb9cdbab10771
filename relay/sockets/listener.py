"""`GET /ws` on a port of its own (RELAY_WS_PORT), for many devices. A WebSocket takes 14 kB here, 150 kB in Granian.

Measured with 1000 idle sockets. Granian's 150 kB are a read buffer whose size cannot be set (docs/decisions/0008).
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
from functools import partial
from typing import Any, cast

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from relay.registration.origins import Origins
from relay.sockets.connection_limit import ConnectionLimit
from relay.sockets.session import CloseSession, DeviceSession
from sigil.protocol.errors import InvalidRequest, MethodNotAllowed, NotFound, Problem, UpgradeRequired
from sigil.protocol.messages.relay import MAX_FRAME, Close
from sigil.protocol.messages.server import ErrorAnswer, ErrorBody
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.process.listeners import bound, resolve

# Frames of a device wait in the kernel's buffer, not here.
_QUEUED_FRAMES = 2
_SEND_BUFFER = 16 * 1024
_HANDSHAKE_SECONDS = 10
_MAX_UNREAD = 16 * 1024
"""Bytes of a request, or of frames without a complete message. websockets would keep 128 headers of 8 KiB, and any
number of empty fragments of one message."""
_MAX_UNSENT = 64 * 1024
"""Bytes in the send buffer. websockets answers pings without flow control: a peer that sent 80 MB of pings and did not
read made the worker larger by 114 MB."""
# Shorter than the time-out of `DeviceConnections._close`, which so never waits for a device that is silent.
_CLOSE_SECONDS = 5
_MAX_BACKLOG = 1024
_PROBLEMS: dict[int, type[Problem]] = {400: InvalidRequest, 404: NotFound, 405: MethodNotAllowed, 426: UpgradeRequired}


class _WebSocket:
    def __init__(self, connection: _LimitedConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            await self._connection.send(text)
        except (ConnectionClosed, OSError) as error:
            raise ConnectionError from error

    async def close(self, code: int) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._connection.close(code)
        except (ConnectionClosed, OSError) as error:
            raise ConnectionError from error
        finally:
            # websockets' own time-out does not cover the wait for a peer that does not read.
            self.abort()

    async def receive(self) -> bytes:
        """websockets itself closes with 1009 on a frame that is too large."""
        try:
            frame = await self._connection.recv()
        except (ConnectionClosed, OSError) as error:
            raise ConnectionError from error
        self._connection.message_received()
        if isinstance(frame, bytes):
            raise CloseSession(Close.UNSUPPORTED)
        return frame.encode()

    def abort(self) -> None:
        self._connection.abort()


class _LimitedConnection(ServerConnection):
    """Counts against `limit` until its handshake is complete; bounded in the bytes that it keeps."""

    # websockets' own attributes are nearly as many as the objects of a class can share the names of: without __slots__
    # a socket took 2.7 kB more.
    __slots__ = ("_addresses", "_limit", "_unread")

    def __init__(self, limit: ConnectionLimit, addresses: ClientAddresses, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limit = limit
        self._addresses = addresses
        self._unread = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._limit.add(self, self._addresses.of_connection(str(peer[0]) if peer else ""))

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        if self._unread > _MAX_UNREAD:
            self.abort()
            return
        super().data_received(data)
        if self.transport.get_write_buffer_size() > _MAX_UNSENT:
            self.abort()

    def message_received(self) -> None:
        self._unread = 0

    def connection_lost(self, exc: Exception | None) -> None:
        self.handshake_done()
        super().connection_lost(exc)

    def handshake_done(self) -> None:
        """The handshake is complete, or the connection is closed."""
        self._unread = 0
        self._limit.remove(self)

    def abort(self) -> None:
        self.transport.abort()


class SocketListener:
    """Every worker listens on the same port: the kernel spreads connections over them.

    `unauthenticated` is the limit of the session: a connection counts there from its accept until it authenticates.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        session: DeviceSession,
        origins: Origins,
        addresses: ClientAddresses,
        unauthenticated: ConnectionLimit,
    ) -> None:
        self._host = host
        self._port = port
        self._session = session
        self._origins = origins
        self._addresses = addresses
        self._unauthenticated = unauthenticated
        self._server: Server | None = None
        self._log = logging.getLogger("websockets.server")
        # It logs each failed handshake with a traceback, which any unauthenticated client can cause.
        self._log.setLevel(logging.CRITICAL)

    async def open(self) -> None:
        listener = _listening_socket(self._host, self._port, self._unauthenticated.max_total)
        self._server = await serve(
            self._serve,
            sock=listener,
            create_connection=partial(_LimitedConnection, self._unauthenticated, self._addresses),  # type: ignore[arg-type]
            process_request=_check_request,
            process_response=_as_error,
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

    async def _serve(self, connection: ServerConnection) -> None:
        accepted = cast(_LimitedConnection, connection)
        request = connection.request
        peer = connection.remote_address
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in _raw_headers(request)]
        address = self._addresses.of_peer(str(peer[0]) if peer else "", headers)
        origin = self._origins.of({"scheme": "ws", "headers": headers})
        # Without a wait between them: the session counts the socket from here on.
        accepted.handshake_done()
        await self._session.serve(_WebSocket(accepted), address, origin)


def _raw_headers(request: Request | None) -> list[tuple[str, str]]:
    return list(request.headers.raw_items()) if request is not None else []


def _check_request(connection: ServerConnection, request: Request) -> Response | None:
    if len(request.headers.get_all("Host")) != 1:
        return connection.respond(http.HTTPStatus.BAD_REQUEST, "The request must have exactly one Host header.")
    if request.path.partition("?")[0] == "/ws":
        return None
    return connection.respond(http.HTTPStatus.NOT_FOUND, NotFound.summary)


def _as_error(_connection: ServerConnection, _request: Request, response: Response) -> Response | None:
    """An error of the protocol in place of the plain text of websockets."""
    kind = _PROBLEMS.get(response.status_code)
    if kind is None:
        return None
    # websockets says which header of a handshake is wrong.
    text = response.body.decode().strip() if kind is InvalidRequest else kind.summary
    response.body = msgspec.json.encode(ErrorAnswer(ErrorBody(kind.code, text)))
    if kind is UpgradeRequired:
        del response.headers["Connection"]
        response.headers["Connection"] = "Upgrade, close"
    for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(response.body)))):
        del response.headers[name]
        response.headers[name] = value
    return response


def _listening_socket(host: str, port: int, max_pending: int) -> socket.socket:
    family, address = resolve(host, port)
    listener = bound(family, address, shares_port=True)
    # uvloop accepts the whole backlog before a connection can be evicted.
    listener.listen(min(_MAX_BACKLOG, max_pending))
    listener.setblocking(False)
    return listener
