"""One HTTP/2 connection of a provider, frame by frame.

It does not use the h2 library, which takes nearly twice the time for a request, ends the connection where a real server
refuses a stream, and cannot send most of these faults (docs/decisions/0010). HPACK comes from a library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import hpack

from deploy.providers.http import frames
from deploy.providers.http.frames import Code, Kind, ProtocolError, Setting
from deploy.providers.http.peer import Peer
from deploy.providers.http.stream import Stream

_HEADER_LIMIT = 16_384
# Neither provider accepts half of it. A longer body gets a response before it is complete, and no larger window.
_BODY_LIMIT = 32_768
_RECEIVE_WINDOW = 2**20
# Until the peer has acknowledged a limit, it need not keep to one (section 6.5.3). This one applies until then.
_MAX_STREAMS = 1000
# How long a connection still reads after GOAWAY. If it closed at once, the kernel's reset would overtake the GOAWAY.
_LINGER_SECONDS = 1.0


class Connection(Peer):
    """`on_request` gets each complete request, `on_headers` each request whose body is still to come. `session` is the
    provider's state; `window` is the initial window of a stream in bytes."""

    def __init__(
        self, on_request: Callable[[Stream], None], on_open: Callable[[Connection], None],
        on_close: Callable[[Connection], None], session: Any, max_streams: int,
        *, on_headers: Callable[[Stream], None], window: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.session = session
        self.max_streams = max_streams
        self.streams: dict[int, Stream] = {}
        self.pings = self.resets = 0
        self.last_seen = 0
        self._on_headers, self._on_request, self._on_open, self._on_close = on_headers, on_request, on_open, on_close
        self._initial_window = window
        self._reader = frames.FrameReader()
        self._decoder, self._encoder = hpack.Decoder(_HEADER_LIMIT), hpack.Encoder()
        # Limits that the peer has not acknowledged: until then it may use the previous one (section 6.5.3).
        self._announced = [max_streams]
        self._allowed = _MAX_STREAMS
        self._block: tuple[int, int, bytes] | None = None
        self._send_window, self._peer_initial_window = frames.INITIAL_WINDOW, frames.INITIAL_WINDOW
        self._received_bytes = 0
        self._last_allowed = frames.LAST_STREAM
        self._outbound: list[bytes] = []
        self._handlers: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._data, Kind.HEADERS: self._headers, Kind.CONTINUATION: self._continuation,
            Kind.RST_STREAM: self._reset, Kind.SETTINGS: self._settings, Kind.PING: self._ping,
            Kind.GOAWAY: self._goaway, Kind.WINDOW_UPDATE: self._window_update,
        }  # fmt: skip

    # Callbacks of asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._on_open(self)
        self.send(
            frames.settings(
                {Setting.MAX_CONCURRENT_STREAMS: self.max_streams, Setting.INITIAL_WINDOW_SIZE: self._initial_window}
            ),
            frames.window_update(0, _RECEIVE_WINDOW - frames.INITIAL_WINDOW),
        )

    def data_received(self, data: bytes) -> None:
        try:
            for kind, flags, stream, payload in self._reader.feed(data):
                if self._block and (kind, stream) != (Kind.CONTINUATION, self._block[0]):
                    raise ProtocolError(Code.PROTOCOL_ERROR, "a header block was interrupted")
                # Unknown frame types are ignored (section 5.5), and so are priorities.
                if (handle := self._handlers.get(kind)) is not None:
                    handle(flags, stream, payload)
        except ProtocolError as error:
            self.send(frames.goaway(self.last_seen, error.code, str(error).encode()))
            self.close()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        for stream in list(self.streams.values()):
            self._close_stream(stream)
        super().connection_lost(error)
        self._on_close(self)

    @property
    def unacknowledged_settings(self) -> int:
        """Number of SETTINGS that the peer has not acknowledged."""
        return len(self._announced)

    # Operations of a provider.

    def announce(self, max_streams: int) -> None:
        """Change MAX_CONCURRENT_STREAMS. A lower value binds the peer once it has acknowledged it."""
        if max_streams != self.max_streams:
            self.max_streams = max_streams
            self._announced.append(max_streams)
            self.send(frames.settings({Setting.MAX_CONCURRENT_STREAMS: max_streams}))

    def go_away(self, last_stream: int | None = None, code: int = Code.NO_ERROR, debug: bytes = b"") -> None:
        """Streams up to `last_stream` (default: the last that has begun) still get a response, later ones never. Then
        the connection closes."""
        last_stream = self.last_seen if last_stream is None else last_stream
        self._last_allowed = min(last_stream, self._last_allowed)
        self.send(frames.goaway(last_stream, code, debug))
        for stream in list(self.streams.values()):
            if stream.id > self._last_allowed:
                self._close_stream(stream)
        self._close_when_done()

    def resume(self, why: str) -> None:
        super().resume(why)
        self._flush()
        self._close_when_done()

    def close(self) -> None:
        self._flush()
        if self.transport is not None and not self.frozen:
            self.transport.close()

    # Operations of a stream.

    def send(self, *raw: bytes) -> None:
        """Written together with all that this iteration of the event loop sends."""
        if not self._outbound:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbound += raw

    def _flush(self) -> None:
        if self._outbound and self.transport is not None and not self.frozen:
            self.transport.write(b"".join(self._outbound))
            self._outbound = []

    def send_headers(self, stream: Stream, headers: Iterable[tuple[str, str]], *, end: bool) -> None:
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        self.send(frames.frame(Kind.HEADERS, stream.id, self._encoder.encode(headers), flags))
        if end:
            self._finish(stream)

    def send_data(self, stream: Stream) -> None:
        """Send the chunks as far as the windows of the connection and of the stream allow (section 6.9)."""
        while stream.chunks:
            piece, last = stream.chunks[0], len(stream.chunks) == 1
            size = max(0, min(self._send_window, stream.window, frames.MAX_PAYLOAD))
            if piece and not size:
                return
            part, rest = piece[:size], piece[size:]
            self._send_window -= len(part)
            stream.window -= len(part)
            self.send(frames.frame(Kind.DATA, stream.id, part, frames.END_STREAM if last and not rest else 0))
            if rest:
                stream.chunks[0] = rest
            else:
                stream.chunks.popleft()
        self._finish(stream)

    def send_reset(self, stream: Stream, code: int) -> None:
        self.send(frames.reset(stream.id, code))
        self._close_stream(stream)

    def open_window(self, stream: Stream) -> None:
        """By the size of a complete body."""
        self.send(frames.window_update(stream.id, _BODY_LIMIT))

    def _finish(self, stream: Stream) -> None:
        if not stream.complete and not stream.left_open:
            self.send(frames.reset(stream.id, Code.NO_ERROR))
        self._close_stream(stream)

    def _close_stream(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        stream.cancel_timer()
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._last_allowed < frames.LAST_STREAM and not self.streams and self.transport is not None:
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.close)

    # Frames of the peer.

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream % 2:
            raise ProtocolError(Code.PROTOCOL_ERROR, "the stream ids of a client are odd")
        self._block = (stream, flags, frames.unpadded(Kind.HEADERS, flags, payload))
        self._end_headers(flags)

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a CONTINUATION without HEADERS")
        stream, first, received = self._block
        if len(received) + len(payload) > _HEADER_LIMIT:
            raise ProtocolError(Code.ENHANCE_YOUR_CALM, "too many headers")
        self._block = (stream, first, received + payload)
        self._end_headers(flags)

    def _end_headers(self, flags: int) -> None:
        if not flags & frames.END_HEADERS or self._block is None:
            return
        (number, first, block), self._block = self._block, None
        try:
            # Also for a stream without a response: the connection has one compression table.
            fields: Iterable[tuple[str, str]] = self._decoder.decode(block)  # type: ignore[assignment]
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise ProtocolError(Code.COMPRESSION_ERROR, "headers that cannot be decoded") from error
        if number > self.last_seen:
            self.last_seen = number
            self._open_stream(number, fields, bool(first & frames.END_STREAM))
        elif (stream := self.streams.get(number)) and first & frames.END_STREAM:
            # Trailers: neither provider uses them.
            self._complete(stream)

    def _open_stream(self, number: int, fields: Iterable[tuple[str, str]], complete: bool) -> None:
        if number > self._last_allowed:
            return
        if len(self.streams) >= self._allowed:
            self.send(frames.reset(number, Code.REFUSED_STREAM))
            return
        stream = Stream(number, self, fields, self._peer_initial_window)
        if stream.malformed:
            self.send(frames.reset(number, Code.PROTOCOL_ERROR))
            return
        self.streams[number] = stream
        if complete:
            self._complete(stream)
        else:
            self._on_headers(stream)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if number > self.last_seen or not number:
            raise ProtocolError(Code.PROTOCOL_ERROR, "data of a stream that is idle")
        self._received_bytes += len(payload)
        if self._received_bytes > _RECEIVE_WINDOW // 2:
            self.send(frames.window_update(0, self._received_bytes))
            self._received_bytes = 0
        stream = self.streams.get(number)
        if stream is None or stream.complete or stream.handled:
            return
        stream.body += frames.unpadded(Kind.DATA, flags, payload)
        if flags & frames.END_STREAM:
            self._complete(stream)
        elif len(stream.body) > _BODY_LIMIT:
            stream.handled = True
            self._on_request(stream)
        elif self._initial_window < frames.INITIAL_WINDOW and payload:
            self.send(frames.window_update(number, len(payload)))

    def _complete(self, stream: Stream) -> None:
        stream.complete = True
        if not stream.handled:
            stream.handled = True
            self._on_request(stream)

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        self.resets += 1
        if stream := self.streams.get(number):
            self._close_stream(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if self._announced:
                self._allowed = self._announced.pop(0)
            return
        given = frames.parse_settings(payload)
        if (size := given.get(Setting.INITIAL_WINDOW_SIZE)) is not None:
            if size > frames.MAX_WINDOW:
                raise ProtocolError(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
            for stream in self.streams.values():
                stream.window += size - self._peer_initial_window
            self._peer_initial_window = size
        if (table := given.get(Setting.HEADER_TABLE_SIZE)) is not None:
            self._encoder.header_table_size = min(table, 4096)
        self.send(frames.frame(Kind.SETTINGS, 0, flags=frames.ACK))
        self._send_blocked()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if not flags & frames.ACK:
            self.pings += 1
            self.send(frames.frame(Kind.PING, 0, payload, frames.ACK))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        self._last_allowed = min(self._last_allowed, self.last_seen)
        self._close_when_done()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        size = frames.parse_number(payload)
        if not number:
            self._send_window += size
        elif stream := self.streams.get(number):
            stream.window += size
        if self._send_window > frames.MAX_WINDOW:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
        self._send_blocked()

    def _send_blocked(self) -> None:
        for stream in [stream for stream in self.streams.values() if stream.chunks]:
            self.send_data(stream)
