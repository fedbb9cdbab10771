"""An HTTP/1.1 connection for push services that do not speak HTTP/2: one request at a time, over h11.

It has the interface of Http2Connection that the pool uses. There is no ping: an idle connection is closed by its peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import h11

from relay.transports.http2 import MAX_RESPONSE_BYTES, Headers, Http2Connection, RequestLost, Response

_MAX_EVENTS = 512
"""Of one response. Each chunk of a body and each interim response (100, 103) costs h11 some 50 µs, in which no other
request proceeds."""


class Http1Connection(asyncio.Protocol):
    """`draining`: no new request begins here. `closed`: the connection has ended. See Http2Connection."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.answer_timeout = 0.0
        self.draining, self.closed = asyncio.Event(), asyncio.Event()
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_RESPONSE_BYTES)
        self._socket: asyncio.Transport | None = None
        self._response: asyncio.Future[Response] | None = None
        self._head: h11.Response | None = None
        self._body = bytearray()
        self._events = 0

    @property
    def open_streams(self) -> int:
        return int(self._response is not None)

    @property
    def capacity(self) -> int:
        return int(self.usable and self._response is None)

    @property
    def usable(self) -> bool:
        return self._socket is not None and not self.draining.is_set() and not self.closed.is_set()

    async def ready(self) -> None:
        """RequestLost."""
        if not self.usable:
            raise RequestLost("ended before it began", unprocessed=True)

    async def request(self, headers: Headers, body: bytes) -> Response:
        """RequestLost. Cancelling closes the connection: the response to this request would be that of the next."""
        if not self.capacity or self._socket is None:
            raise RequestLost("no free stream", unprocessed=True)
        self._response, self._events = asyncio.get_running_loop().create_future(), 0
        try:
            self._socket.write(self._encoded(headers, body))
            return await self._response
        finally:
            self._response, self._head, self._body = None, None, bytearray()
            done = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
            if done and self._h11.trailing_data == (b"", False):
                self._h11.start_next_cycle()
                self.on_change()
            else:
                self.abort("closed")

    async def ping(self, _seconds: float) -> None:
        return

    def abort(self, reason: str) -> None:
        """Close at once: an open request ends with RequestLost."""
        if self._socket is not None:
            self._socket.abort()
        self._close(reason)

    # Callbacks of the asyncio transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._h11.receive_data(data)
            self._read()
        except h11.RemoteProtocolError:
            self.abort("protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            # The end of a body that has no length.
            self._h11.receive_data(b"")
            self._read()
        except h11.RemoteProtocolError:
            pass
        self._close("closed")

    def _read(self) -> None:
        while self._response is not None:
            event = self._h11.next_event()
            self._events += 1
            if self._events > _MAX_EVENTS:
                self.abort("an answer that does not end")
                return
            if isinstance(event, h11.Response):
                self._head = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_RESPONSE_BYTES:
                    self.abort("an answer that does not end")
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._end()
                return
            elif not isinstance(event, h11.InformationalResponse):
                return
        if self._h11.trailing_data != (b"", False):
            # Bytes without a request, or the end.
            self.abort("protocol")

    def _end(self) -> None:
        if self._response is not None and not self._response.done() and self._head is not None:
            headers = cast(dict[bytes, bytes], dict(self._head.headers))
            self._response.set_result(Response(self._head.status_code, headers, bytes(self._body)))

    def _close(self, reason: str) -> None:
        self.draining.set()
        self.closed.set()
        if self._response is not None and not self._response.done():
            self._response.set_exception(RequestLost(reason))
        self.on_change()

    def _encoded(self, headers: Headers, body: bytes) -> bytes:
        pseudo = {name: value for name, value in headers if name.startswith(b":")}
        fields = [(b"host", pseudo[b":authority"]), *((name, value) for name, value in headers if name not in pseudo)]
        head = h11.Request(method=pseudo[b":method"], target=pseudo[b":path"], headers=fields)
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._h11.send(event) or b"" for event in events)


class Negotiated(asyncio.Protocol):
    """Hands the connection over to the protocol that ALPN chose. A service that knows no ALPN speaks HTTP/1.1."""

    def __init__(self) -> None:
        self.connection: Http2Connection | Http1Connection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        self.connection = Http2Connection() if tls.selected_alpn_protocol() == "h2" else Http1Connection()
        cast(asyncio.Transport, transport).set_protocol(self.connection)
        self.connection.connection_made(transport)
