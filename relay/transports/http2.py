"""One HTTP/2 connection to a push provider: many requests at once, each of which ends (docs/decisions/0011).

h2 keeps the protocol. What is here is what clients get wrong when a provider does not answer as it should: a request
ends with its stream, whether that is answered, reset, refused, left behind by a GOAWAY, cancelled by its caller or lost
with the connection; and nothing that the provider sends ends a request that it does not concern.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, cast

import h2.events
import msgspec
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.exceptions import NoAvailableStreamIDError, NoSuchStreamError, ProtocolError
from h2.settings import SettingCodes, Settings

MAX_ANSWER = 16 * 1024
"""Bytes of one answer; those of providers have a few hundred."""
MAX_STREAMS = 1000
"""Of a connection, whatever its peer allows."""
SILENT_STREAMS = 3
"""So many requests that were given up, and none answered in between: the peer acknowledges pings and does not work."""

Headers = Sequence[tuple[bytes, bytes]]

# What we send is made by us: only what comes in is checked.
_CONFIG = H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    split_outbound_cookies=False,
)


class RequestLost(Exception):
    """No answer came. `unprocessed`: the peer did nothing about the request, so that asking again is no repeat."""

    def __init__(self, reason: str, *, unprocessed: bool = False) -> None:
        self.reason = reason
        self.unprocessed = unprocessed
        super().__init__(reason)


class Answer(msgspec.Struct, frozen=True):
    """`headers` by their lower-case names."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class _OpenAfterGoaway(H2ConnectionStateMachine):
    """To h2 a GOAWAY is the end; to its sender the answers to earlier streams are still to come (RFC 9113, 6.8)."""

    def __init__(self) -> None:
        super().__init__()
        after_goaway = {
            (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN)
        }
        self._transitions = {**self._transitions, **after_goaway}


class _Stream:
    __slots__ = ("answer", "body", "headers", "status", "unsent")

    def __init__(self, unsent: bytes) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.unsent = unsent
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = bytearray()


class Http2(asyncio.Protocol):
    """`leaving`: nothing more begins here; `ended`: nothing is left. `on_room` is called when either has changed, or a
    request may have become possible. Who gives up sooner than after `patience` seconds says nothing about the peer."""

    def __init__(self, on_room: Callable[[], None] = lambda: None, patience: float = 5.0) -> None:
        self.on_room = on_room
        self.patience = patience
        self.leaving, self.ended = asyncio.Event(), asyncio.Event()
        self._ready = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._h2 = _connection()
        self._streams: dict[int, _Stream] = {}
        # Streams whose body waits for the peer's window.
        self._blocked: dict[int, None] = {}
        # Answered before they were whole, in the piece of data that is being read.
        self._cut_short: set[int] = set()
        self._pings: dict[bytes, asyncio.Future[None]] = {}
        self._ping_names = itertools.count(1)
        self._socket: asyncio.Transport | None = None
        self._flushing = False
        self._unanswered = 0

    @property
    def open_streams(self) -> int:
        return len(self._streams)

    @property
    def room(self) -> int:
        """How many requests may begin now."""
        if self.leaving.is_set() or not self._ready.is_set() or self.ended.is_set():
            return 0
        # It may allow fewer than there are.
        return max(0, min(self._h2.remote_settings.max_concurrent_streams, MAX_STREAMS) - len(self._streams))

    @property
    def usable(self) -> bool:
        """Whether there is room now or will be."""
        return self._ready.is_set() and not self.leaving.is_set() and not self.ended.is_set()

    async def ready(self) -> None:
        """Until the peer said how many streams it takes; Lost. Before, one would open more than it allows."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._ready, self.ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self.usable:
            raise RequestLost("ended before it began", unprocessed=True)

    async def request(self, headers: Headers, body: bytes) -> Answer:
        """The answer; Lost. Who cancels it resets the stream, and no other."""
        stream_id = self._begin(headers, body)
        began = self._loop.time()
        try:
            return await self._streams[stream_id].answer
        finally:
            if self._streams.pop(stream_id, None) is not None:
                self._unanswered += self._loop.time() - began >= self.patience
                self._give_up(stream_id)

    async def ping(self, seconds: float) -> None:
        """Return when the peer acknowledges; Lost after `seconds`."""
        name = next(self._ping_names).to_bytes(8)
        acknowledged = self._pings[name] = self._loop.create_future()
        try:
            if self.ended.is_set():
                raise RequestLost("closed")
            self._h2.ping(name)
            self._flush()
            async with asyncio.timeout(seconds):
                await acknowledged
        except (TimeoutError, ProtocolError) as error:
            raise RequestLost("ping") from error
        finally:
            self._pings.pop(name, None)

    def leave(self) -> None:
        """Begin nothing more here, and close when all has ended."""
        self.leaving.set()
        if not self._streams and self._socket is not None:
            self._socket.close()
        self.on_room()

    def abort(self, reason: str) -> None:
        """End at once; what waits for an answer is Lost."""
        if self._socket is not None:
            self._socket.abort()
        self._end_all(reason)

    # What the socket tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        agreed = transport.get_extra_info("ssl_object")
        if agreed is not None and agreed.selected_alpn_protocol() != "h2":
            self.abort("no HTTP/2")
            return
        self._h2.initiate_connection()
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self.ended.is_set():
            return
        try:
            for event in self._h2.receive_data(data):
                if (handle := _HANDLERS.get(type(event))) is not None:
                    handle(self, event)
        except ProtocolError:
            self._flush()
            self.abort("protocol")
            return
        self._end_cut_short()
        self._flush()
        if self.leaving.is_set() and not self._streams and self._socket is not None:
            self._socket.close()
        self.on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_all("closed")

    # What the peer tells

    def _on_response(self, event: h2.events.ResponseReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.headers = cast(dict[bytes, bytes], dict(event.headers))
            status = stream.headers.get(b":status", b"")
            stream.status = int(status) if status.isdigit() else 0

    def _on_data(self, event: h2.events.DataReceived) -> None:
        # Also of streams that are nobody's any more: the window is everybody's.
        self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        if (stream := self._streams.get(event.stream_id)) is None:
            return
        stream.body += event.data
        if len(stream.body) > MAX_ANSWER:
            self._settle(event.stream_id, RequestLost("an answer that does not end"))
            self._reset(event.stream_id)

    def _on_end(self, event: h2.events.StreamEnded) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            self._unanswered = 0
            if stream.unsent:
                self._cut_short.add(event.stream_id)
            self._settle(event.stream_id, Answer(stream.status, stream.headers, bytes(stream.body)))

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        refused = event.error_code == ErrorCodes.REFUSED_STREAM
        self._cut_short.discard(event.stream_id)
        self._settle(event.stream_id, RequestLost("stream refused" if refused else "stream reset", unprocessed=refused))

    def _on_goaway(self, event: h2.events.ConnectionTerminated) -> None:
        self.leaving.set()
        last = event.last_stream_id or 0
        # What h2 throws away of what was not sent yet belongs to streams above it.
        for stream_id in [stream_id for stream_id in self._streams if stream_id > last]:
            self._settle(stream_id, RequestLost("the provider goes away", unprocessed=True))

    def _on_settings(self, _event: h2.events.RemoteSettingsChanged) -> None:
        self._ready.set()
        self._send_blocked(list(self._blocked))

    def _on_window(self, event: h2.events.WindowUpdated) -> None:
        blocked = [event.stream_id] if event.stream_id in self._blocked else []
        self._send_blocked(blocked if event.stream_id else list(self._blocked))

    def _on_pong(self, event: h2.events.PingAckReceived) -> None:
        waiting = self._pings.get(event.ping_data)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # What is done about it

    def _begin(self, headers: Headers, body: bytes) -> int:
        if self.room <= 0:
            raise RequestLost("no room", unprocessed=True)
        try:
            stream_id = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream_id, cast(Any, headers), end_stream=not body)
        except NoAvailableStreamIDError:
            self.leave()
            raise RequestLost("stream ids are used up", unprocessed=True) from None
        except ProtocolError:
            self.abort("protocol")
            raise RequestLost("protocol", unprocessed=True) from None
        self._streams[stream_id] = _Stream(body)
        self._blocked[stream_id] = None
        self._send_blocked([stream_id])
        # All that begin in this turn of the loop leave as one piece.
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return stream_id

    def _send_blocked(self, stream_ids: list[int]) -> None:
        for stream_id in stream_ids:
            stream = self._streams.get(stream_id)
            try:
                waits = stream is not None and self._send_some(stream_id, stream)
            except NoSuchStreamError:
                # The peer ended it in the same piece that made room; how, another event is about to say.
                waits = False
            if not waits:
                self._blocked.pop(stream_id, None)

    def _send_some(self, stream_id: int, stream: _Stream) -> bool:
        """What the peer has room for; True when some is left."""
        while stream.unsent:
            window = self._h2.local_flow_control_window(stream_id)
            size = min(len(stream.unsent), window, self._h2.max_outbound_frame_size)
            if size <= 0:
                return True
            self._h2.send_data(stream_id, stream.unsent[:size], end_stream=size == len(stream.unsent))
            stream.unsent = stream.unsent[size:]
        return False

    def _settle(self, stream_id: int, result: Answer | RequestLost) -> None:
        stream = self._streams.pop(stream_id, None)
        self._blocked.pop(stream_id, None)
        # It may have been cancelled a moment ago.
        if stream is None or stream.answer.done():
            return
        if isinstance(result, RequestLost):
            stream.answer.set_exception(result)
        else:
            stream.answer.set_result(result)

    def _give_up(self, stream_id: int) -> None:
        """Its caller does not wait any more."""
        self._blocked.pop(stream_id, None)
        self._reset(stream_id)
        self._flush()
        if self._unanswered >= SILENT_STREAMS or self.leaving.is_set():
            self.leave()
        self.on_room()

    def _end_cut_short(self) -> None:
        """The rest of their bodies is wanted by nobody, and until one of both sides says so a stream counts."""
        while self._cut_short:
            self._reset(self._cut_short.pop())

    def _reset(self, stream_id: int) -> None:
        try:
            self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        except ProtocolError:
            # It ended in the same moment.
            return

    def _end_all(self, reason: str) -> None:
        self.leaving.set()
        self.ended.set()
        for stream_id in list(self._streams):
            self._settle(stream_id, RequestLost(reason))
        for waiting in self._pings.values():
            if not waiting.done():
                waiting.set_exception(RequestLost(reason))
        self.on_room()

    def _flush(self) -> None:
        self._flushing = False
        data = self._h2.data_to_send()
        if data and self._socket is not None and not self._socket.is_closing():
            self._socket.write(data)


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


_HANDLERS: dict[type[h2.events.Event], Callable[[Http2, Any], None]] = {
    h2.events.ResponseReceived: Http2._on_response,
    h2.events.DataReceived: Http2._on_data,
    h2.events.StreamEnded: Http2._on_end,
    h2.events.StreamReset: Http2._on_reset,
    h2.events.ConnectionTerminated: Http2._on_goaway,
    h2.events.RemoteSettingsChanged: Http2._on_settings,
    h2.events.WindowUpdated: Http2._on_window,
    h2.events.PingAckReceived: Http2._on_pong,
}
