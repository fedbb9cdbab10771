"""An HTTP/2 connection to APNs or FCM over h2. Each request ends, and ends no other request.

It replaces the connections of two libraries. docs/decisions/0011 lists their faults, and
tests/relay/transports/test_faults.py has a test for each fault.

* aioapns: its protocol classes and connection pools. `apns.py` still uses its types of notifications and results.
* httpx: its HTTP/2, for FCM messages. `token_endpoint.py` still requests Google's access tokens with httpx.

h2 implements the protocol. This module maps its events to requests. A request ends when its stream is answered, reset
or refused, when a GOAWAY excludes the stream, when the caller cancels, or when the connection is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import h2.events
import msgspec
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.exceptions import NoAvailableStreamIDError, NoSuchStreamError, ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import NeverIndexedHeaderTuple

from relay.transports.frame_budget import FrameBudget

MAX_RESPONSE_BYTES = 16 * 1024
"""Limit of one response body. Providers send a few hundred bytes."""
MAX_STREAMS = 1000
"""Limit of one connection, even if its peer allows more."""
MAX_UNANSWERED = 3
"""After so many cancelled requests without a response in between, the connection is drained: a peer that acknowledges
pings may still have stopped working."""

Headers = Sequence[tuple[bytes, bytes]]
Sensitive = NeverIndexedHeaderTuple
"""A header that no table of HPACK keeps (RFC 7541, 7.1.3)."""

# Outbound headers are built in this package: only inbound ones need validation.
_CONFIG = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    split_outbound_cookies=False,
)


class RequestLost(Exception):
    """No response arrived. `unprocessed`: the peer did not process the request, which can be sent again at once."""

    def __init__(self, reason: str, *, unprocessed: bool = False) -> None:
        self.reason = reason
        self.unprocessed = unprocessed
        super().__init__(reason)


class Response(msgspec.Struct, frozen=True):
    """`headers` by their lower-case names."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class _OpenAfterGoaway(H2ConnectionStateMachine):
    """h2 treats a GOAWAY as the end of the connection. Its sender still answers earlier streams (RFC 9113, 6.8)."""

    def __init__(self) -> None:
        super().__init__()
        after_goaway = {
            (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN)
        }
        self._transitions = {**self._transitions, **after_goaway}


class _Stream:
    __slots__ = ("body", "headers", "response", "status", "unsent")

    def __init__(self, unsent: bytes) -> None:
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.unsent = unsent
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()


class Http2Connection(asyncio.Protocol):
    """`draining`: no new request begins here. `closed`: all requests have ended.

    `on_change` is called when one of the two has changed, or when there may be capacity for a request. A request that
    is cancelled within `answer_timeout` seconds does not count as unanswered.
    """

    def __init__(self, on_change: Callable[[], None] = lambda: None, answer_timeout: float = 5.0) -> None:
        self.on_change = on_change
        self.answer_timeout = answer_timeout
        self.draining, self.closed = asyncio.Event(), asyncio.Event()
        self._ready = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._h2 = _connection()
        self._streams: dict[int, _Stream] = {}
        # Streams whose body waits for the peer's window.
        self._blocked: dict[int, None] = {}
        # Streams that the current piece of input answered before the whole request was sent.
        self._answered_early: set[int] = set()
        self._pings: dict[bytes, asyncio.Future[None]] = {}
        self._ping_ids = itertools.count(1)
        self._socket: asyncio.Transport | None = None
        self._flushing = False
        self._unanswered = 0
        self._frames = FrameBudget(self._loop.time)

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def capacity(self) -> int:
        """Number of requests that may begin now."""
        if self.draining.is_set() or not self._ready.is_set() or self.closed.is_set():
            return 0
        # The peer may have lowered its limit below the number of open streams.
        return max(0, min(self._h2.remote_settings.max_concurrent_streams, MAX_STREAMS) - len(self._streams))

    @property
    def usable(self) -> bool:
        """False when no request can begin here any more, or none can yet."""
        return self._ready.is_set() and not self.draining.is_set() and not self.closed.is_set()

    async def ready(self) -> None:
        """Wait for the peer's SETTINGS, which limit the number of streams; RequestLost."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._ready, self.closed)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self.usable:
            raise RequestLost("ended before it began", unprocessed=True)

    async def request(self, headers: Headers, body: bytes) -> Response:
        """RequestLost. Cancelling resets this stream only."""
        stream_id = self._begin(headers, body)
        began = self._loop.time()
        try:
            return await self._streams[stream_id].response
        finally:
            if self._streams.pop(stream_id, None) is not None:
                self._unanswered += self._loop.time() - began >= self.answer_timeout
                self._cancel(stream_id)

    async def ping(self, seconds: float) -> None:
        """Wait for the acknowledgement; RequestLost after `seconds`."""
        ping_id = next(self._ping_ids).to_bytes(8)
        acknowledged = self._pings[ping_id] = self._loop.create_future()
        try:
            if self.closed.is_set():
                raise RequestLost("closed")
            self._h2.ping(ping_id)
            self._flush()
            async with asyncio.timeout(seconds):
                await acknowledged
        except (TimeoutError, ProtocolError) as error:
            raise RequestLost("ping") from error
        finally:
            self._pings.pop(ping_id, None)

    def drain(self) -> None:
        """Begin no new request, and close when the open ones have ended."""
        self.draining.set()
        if not self._streams and self._socket is not None:
            self._socket.close()
        self.on_change()

    def abort(self, reason: str) -> None:
        """Close at once: open requests end with RequestLost."""
        if self._socket is not None:
            self._socket.abort()
        self._close_all(reason)

    # Callbacks of the asyncio transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self.abort("no HTTP/2")
            return
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.closed.is_set():
            return
        if not self._frames.take(data, len(self._streams)):
            self.abort("too many frames")
            return
        try:
            for event in self._h2.receive_data(data):
                if (handle := _HANDLERS.get(type(event))) is not None:
                    handle(self, event)
        except ProtocolError:
            self._flush()
            self.abort("protocol")
            return
        self._reset_answered_early()
        self._flush()
        if self.draining.is_set() and not self._streams and self._socket is not None:
            self._socket.close()
        self.on_change()

    def connection_lost(self, exc: Exception | None) -> None:
        self._close_all("closed")

    # Events of h2

    def _on_response(self, event: h2.events.ResponseReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.headers = cast(dict[bytes, bytes], dict(event.headers))
            status = stream.headers.get(b":status", b"")
            stream.status = int(status) if len(status) == 3 and status.isdigit() else 0

    def _on_data(self, event: h2.events.DataReceived) -> None:
        # Also for streams that have ended here: all streams share the connection's window.
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if (stream := self._streams.get(event.stream_id)) is None:
            return
        stream.body += event.data
        if len(stream.body) > MAX_RESPONSE_BYTES:
            self._resolve(event.stream_id, RequestLost("an answer that does not end"))
            self._reset(event.stream_id)

    def _on_end(self, event: h2.events.StreamEnded) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            self._unanswered = 0
            if stream.unsent:
                self._answered_early.add(event.stream_id)
            self._resolve(event.stream_id, Response(stream.status, stream.headers, bytes(stream.body)))

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        refused = event.error_code == ErrorCodes.REFUSED_STREAM
        self._answered_early.discard(event.stream_id)
        self._resolve(
            event.stream_id, RequestLost("stream refused" if refused else "stream reset", unprocessed=refused)
        )

    def _on_goaway(self, event: h2.events.ConnectionTerminated) -> None:
        self.draining.set()
        last = event.last_stream_id or 0
        # h2 discards unsent data, which belongs to the streams above `last`.
        for stream_id in [stream_id for stream_id in self._streams if stream_id > last]:
            self._resolve(stream_id, RequestLost("the provider goes away", unprocessed=True))

    def _on_settings(self, _event: h2.events.RemoteSettingsChanged) -> None:
        self._ready.set()
        self._send_blocked(list(self._blocked))

    def _on_window(self, event: h2.events.WindowUpdated) -> None:
        blocked = [event.stream_id] if event.stream_id in self._blocked else []
        self._send_blocked(blocked if event.stream_id else list(self._blocked))

    def _on_pong(self, event: h2.events.PingAckReceived) -> None:
        acknowledged = self._pings.get(event.ping_data)
        if acknowledged is not None and not acknowledged.done():
            acknowledged.set_result(None)

    # Streams

    def _begin(self, headers: Headers, body: bytes) -> int:
        if self.capacity <= 0:
            raise RequestLost("no free stream", unprocessed=True)
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, cast(Any, headers), end_stream=not body)
        except NoAvailableStreamIDError:
            self.drain()
            raise RequestLost("stream ids are used up", unprocessed=True) from None
        except ProtocolError:
            self.abort("protocol")
            raise RequestLost("protocol", unprocessed=True) from None
        self._streams[stream_id] = _Stream(body)
        self._frames.begin_request(len(self._streams))
        self._blocked[stream_id] = None
        self._send_blocked([stream_id])
        # Requests that begin in the same iteration of the event loop are written together.
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return stream_id

    def _send_blocked(self, stream_ids: list[int]) -> None:
        for stream_id in stream_ids:
            stream = self._streams.get(stream_id)
            try:
                blocked = stream is not None and self._send_some(stream_id, stream)
            except NoSuchStreamError:
                # The peer opened the window and ended the stream in one piece of input: the event of the end follows.
                blocked = False
            if not blocked:
                self._blocked.pop(stream_id, None)

    def _send_some(self, stream_id: int, stream: _Stream) -> bool:
        """Send what the window allows; True when a part of the body is left."""
        while stream.unsent:
            window = self._h2.local_flow_control_window(stream_id)
            size = min(len(stream.unsent), window, self._h2.max_outbound_frame_size)
            if size <= 0:
                return True
            self._h2.send_data(stream_id, stream.unsent[:size], end_stream=size == len(stream.unsent))
            stream.unsent = stream.unsent[size:]
        return False

    def _resolve(self, stream_id: int, result: Response | RequestLost) -> None:
        stream = self._streams.pop(stream_id, None)
        self._blocked.pop(stream_id, None)
        # The caller may just have cancelled it.
        if stream is None or stream.response.done():
            return
        if isinstance(result, RequestLost):
            stream.response.set_exception(result)
        else:
            stream.response.set_result(result)

    def _cancel(self, stream_id: int) -> None:
        self._blocked.pop(stream_id, None)
        self._reset(stream_id)
        self._flush()
        if self._unanswered >= MAX_UNANSWERED or self.draining.is_set():
            self.drain()
        self.on_change()

    def _reset_answered_early(self) -> None:
        """The peer does not need the rest of these bodies, but a stream counts against its limit until it is reset."""
        while self._answered_early:
            self._reset(self._answered_early.pop())

    def _reset(self, stream_id: int) -> None:
        try:
            self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        except ProtocolError:
            # The stream has already ended.
            return

    def _close_all(self, reason: str) -> None:
        self.draining.set()
        self.closed.set()
        for stream_id in list(self._streams):
            self._resolve(stream_id, RequestLost(reason))
        for acknowledged in self._pings.values():
            if not acknowledged.done():
                acknowledged.set_exception(RequestLost(reason))
        self.on_change()

    def _flush(self) -> None:
        self._flushing = False
        data = self._h2.data_to_send()
        if data and self._socket is not None and not self._socket.is_closing():
            self._socket.write(data)


class Endpoint(NamedTuple):
    """The origin of a provider, from an https URL. `authority` is the value of the :authority header."""

    host: str
    port: int
    authority: bytes

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        authority = f"[{host}]".encode() if ":" in host else host.encode("idna")
        return cls(host, port, authority if port == 443 else authority + f":{port}".encode())

    def connector(self) -> Callable[[], Awaitable[Http2Connection]]:
        """Opens a new connection at each call; OSError."""
        tls = ssl.create_default_context()
        tls.set_alpn_protocols(["h2"])

        async def connect() -> Http2Connection:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Http2Connection, self.host, self.port, ssl=tls)
            return connection

        return connect


def _connection() -> H2Connection:
    connection = H2Connection(_CONFIG)
    connection.local_settings = Settings(
        client=True,
        initial_values={
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            SettingCodes.MAX_HEADER_LIST_SIZE: 16 * 1024,
        },
    )
    connection.state_machine = _OpenAfterGoaway()
    return connection


_HANDLERS: dict[type[h2.events.Event], Callable[[Http2Connection, Any], None]] = {
    h2.events.ResponseReceived: Http2Connection._on_response,
    h2.events.DataReceived: Http2Connection._on_data,
    h2.events.StreamEnded: Http2Connection._on_end,
    h2.events.StreamReset: Http2Connection._on_reset,
    h2.events.ConnectionTerminated: Http2Connection._on_goaway,
    h2.events.RemoteSettingsChanged: Http2Connection._on_settings,
    h2.events.WindowUpdated: Http2Connection._on_window,
    h2.events.PingAckReceived: Http2Connection._on_pong,
}
