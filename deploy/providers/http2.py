"""One HTTP/2 connection of a provider, frame by frame.

Not by the h2 library: it takes nearly twice the time for a request, ends the connection where a real server refuses a
stream, and will not send most of what has to be sent here (docs/decisions/0010). HPACK is a library's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import hpack

from deploy.providers import frames
from deploy.providers.frames import Broken, Code, Kind, Setting
from deploy.providers.peer import Peer
from deploy.providers.stream import Stream

_HEADER_LIMIT = 16_384
# Neither provider takes half of it; what is longer is answered before it is whole, and no stream's window is renewed.
_BODY_LIMIT = 32_768
_RECEIVE_WINDOW = 2**20
# Before the peer acknowledged any limit it need not keep to one (section 6.5.3); we do.
_STREAMS_AT_MOST = 1000
# How long a connection that goes away takes in what was under way: closed at once, the kernel's reset would overtake
# GOAWAY.
_LINGER_SECONDS = 1.0


class Connection(Peer):
    """`serve` gets each request that is whole, `begun` each whose body is to come, `lost` the connection at its end;
    `session` is the provider's own, and `window` how many bytes of a body may come before more are asked for."""

    def __init__(
        self, serve: Callable[[Stream], None], made: Callable[[Connection], None], lost: Callable[[Connection], None],
        session: Any, max_streams: int, *, begun: Callable[[Stream], None], window: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.session = session
        self.max_streams = max_streams
        self.streams: dict[int, Stream] = {}
        self.pings = self.resets = 0
        self.last_seen = 0
        self._begun, self._serve, self._made, self._lost = begun, serve, made, lost
        self._asks_for = window
        self._reader = frames.Reader()
        self._decoder, self._encoder = hpack.Decoder(_HEADER_LIMIT), hpack.Encoder()
        # What was announced and not acknowledged: until then the peer may keep to what was before (section 6.5.3).
        self._announced = [max_streams]
        self._allowed = _STREAMS_AT_MOST
        self._block: tuple[int, int, bytes] | None = None
        self._window, self._first_window = frames.FIRST_WINDOW, frames.FIRST_WINDOW
        self._taken = 0
        self._last_allowed = frames.LAST_STREAM
        self._out: list[bytes] = []
        self._on: dict[int, Callable[[int, int, bytes], None]] = {
            Kind.DATA: self._data, Kind.HEADERS: self._headers, Kind.CONTINUATION: self._continuation,
            Kind.RST_STREAM: self._reset, Kind.SETTINGS: self._settings, Kind.PING: self._ping,
            Kind.GOAWAY: self._goaway, Kind.WINDOW_UPDATE: self._window_update,
        }  # fmt: skip

    # What asyncio tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._made(self)
        self.send(
            frames.settings(
                {Setting.MAX_CONCURRENT_STREAMS: self.max_streams, Setting.INITIAL_WINDOW_SIZE: self._asks_for}
            ),
            frames.window_update(0, _RECEIVE_WINDOW - frames.FIRST_WINDOW),
        )

    def data_received(self, data: bytes) -> None:
        try:
            for kind, flags, stream, payload in self._reader.feed(data):
                if self._block and (kind, stream) != (Kind.CONTINUATION, self._block[0]):
                    raise Broken(Code.PROTOCOL_ERROR, "a header block was interrupted")
                # Kinds that nobody knows are ignored (section 5.5), and so are priorities.
                if (handle := self._on.get(kind)) is not None:
                    handle(flags, stream, payload)
        except Broken as broken:
            self.send(frames.goaway(self.last_seen, broken.code, str(broken).encode()))
            self.close()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        for stream in list(self.streams.values()):
            self._drop(stream)
        super().connection_lost(error)
        self._lost(self)

    @property
    def unacknowledged(self) -> int:
        """SETTINGS that were sent, and of which the peer did not say that it knows them."""
        return len(self._announced)

    # What a provider does to a connection.

    def announce(self, max_streams: int) -> None:
        """MAX_CONCURRENT_STREAMS from now on; a lower one binds the peer once it has acknowledged it."""
        if max_streams != self.max_streams:
            self.max_streams = max_streams
            self._announced.append(max_streams)
            self.send(frames.settings({Setting.MAX_CONCURRENT_STREAMS: max_streams}))

    def go_away(self, last_stream: int | None = None, code: int = Code.NO_ERROR, debug: bytes = b"") -> None:
        """Streams up to `last_stream` (those begun so far) are still answered, later ones never, then it closes."""
        last_stream = self.last_seen if last_stream is None else last_stream
        self._last_allowed = min(last_stream, self._last_allowed)
        self.send(frames.goaway(last_stream, code, debug))
        for stream in list(self.streams.values()):
            if stream.id > self._last_allowed:
                self._drop(stream)
        self._close_when_done()

    def release(self, why: str) -> None:
        super().release(why)
        self._flush()
        self._close_when_done()

    def close(self) -> None:
        self._flush()
        if self.transport is not None and not self.frozen:
            self.transport.close()

    # What a stream sends.

    def send(self, *raw: bytes) -> None:
        """Goes out with whatever else this turn of the loop sends."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out += raw

    def _flush(self) -> None:
        if self._out and self.transport is not None and not self.frozen:
            self.transport.write(b"".join(self._out))
            self._out = []

    def send_headers(self, stream: Stream, headers: Iterable[tuple[str, str]], *, end: bool) -> None:
        flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
        self.send(frames.frame(Kind.HEADERS, stream.id, self._encoder.encode(headers), flags))
        if end:
            self._finish(stream)

    def send_data(self, stream: Stream) -> None:
        """What the windows of the connection and of the stream let through of its pieces (section 6.9)."""
        while stream.pieces:
            piece, last = stream.pieces[0], len(stream.pieces) == 1
            room = max(0, min(self._window, stream.window, frames.MAX_PAYLOAD))
            if piece and not room:
                return
            part, rest = piece[:room], piece[room:]
            self._window -= len(part)
            stream.window -= len(part)
            self.send(frames.frame(Kind.DATA, stream.id, part, frames.END_STREAM if last and not rest else 0))
            if rest:
                stream.pieces[0] = rest
            else:
                stream.pieces.popleft()
        self._finish(stream)

    def send_reset(self, stream: Stream, code: int) -> None:
        self.send(frames.reset(stream.id, code))
        self._drop(stream)

    def make_room(self, stream: Stream) -> None:
        """For a whole body."""
        self.send(frames.window_update(stream.id, _BODY_LIMIT))

    def _finish(self, stream: Stream) -> None:
        if not stream.whole and not stream.left_open:
            self.send(frames.reset(stream.id, Code.NO_ERROR))
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        stream.ended()
        self._close_when_done()

    def _close_when_done(self) -> None:
        if self._last_allowed < frames.LAST_STREAM and not self.streams and self.transport is not None:
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self.close)

    # What the peer sends.

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream % 2:
            raise Broken(Code.PROTOCOL_ERROR, "a client's streams are odd")
        self._block = (stream, flags, frames.unpadded(Kind.HEADERS, flags, payload))
        self._end_block(flags)

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None:
            raise Broken(Code.PROTOCOL_ERROR, "a continuation of nothing")
        stream, first, begun = self._block
        if len(begun) + len(payload) > _HEADER_LIMIT:
            raise Broken(Code.ENHANCE_YOUR_CALM, "too many headers")
        self._block = (stream, first, begun + payload)
        self._end_block(flags)

    def _end_block(self, flags: int) -> None:
        if not flags & frames.END_HEADERS or self._block is None:
            return
        (number, first, block), self._block = self._block, None
        try:
            # Also for a stream that nobody answers: the table is one for the connection.
            fields: Iterable[tuple[str, str]] = self._decoder.decode(block)  # type: ignore[assignment]
        except (hpack.HPACKError, UnicodeDecodeError) as error:
            raise Broken(Code.COMPRESSION_ERROR, "headers that cannot be decoded") from error
        if number > self.last_seen:
            self.last_seen = number
            self._begin(number, fields, bool(first & frames.END_STREAM))
        elif (stream := self.streams.get(number)) and first & frames.END_STREAM:
            # Trailers: neither provider has a use for them.
            self._whole(stream)

    def _begin(self, number: int, fields: Iterable[tuple[str, str]], whole: bool) -> None:
        if number > self._last_allowed:
            return
        if len(self.streams) >= self._allowed:
            self.send(frames.reset(number, Code.REFUSED_STREAM))
            return
        stream = Stream(number, self, fields, self._first_window)
        if stream.malformed:
            self.send(frames.reset(number, Code.PROTOCOL_ERROR))
            return
        self.streams[number] = stream
        if whole:
            self._whole(stream)
        else:
            self._begun(stream)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if number > self.last_seen or not number:
            raise Broken(Code.PROTOCOL_ERROR, "data of a stream that is idle")
        self._taken += len(payload)
        if self._taken > _RECEIVE_WINDOW // 2:
            self.send(frames.window_update(0, self._taken))
            self._taken = 0
        stream = self.streams.get(number)
        if stream is None or stream.whole or stream.judged:
            return
        stream.body += frames.unpadded(Kind.DATA, flags, payload)
        if flags & frames.END_STREAM:
            self._whole(stream)
        elif len(stream.body) > _BODY_LIMIT:
            stream.judged = True
            self._serve(stream)
        elif self._asks_for < frames.FIRST_WINDOW and payload:
            self.send(frames.window_update(number, len(payload)))

    def _whole(self, stream: Stream) -> None:
        stream.whole = True
        if not stream.judged:
            stream.judged = True
            self._serve(stream)

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        self.resets += 1
        if stream := self.streams.get(number):
            self._drop(stream)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if self._announced:
                self._allowed = self._announced.pop(0)
            return
        given = frames.settings_in(payload)
        if (size := given.get(Setting.INITIAL_WINDOW_SIZE)) is not None:
            if size > frames.MAX_WINDOW:
                raise Broken(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
            for stream in self.streams.values():
                stream.window += size - self._first_window
            self._first_window = size
        if (table := given.get(Setting.HEADER_TABLE_SIZE)) is not None:
            self._encoder.header_table_size = min(table, 4096)
        self.send(frames.frame(Kind.SETTINGS, 0, flags=frames.ACK))
        self._send_held()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if not flags & frames.ACK:
            self.pings += 1
            self.send(frames.frame(Kind.PING, 0, payload, frames.ACK))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        self._last_allowed = min(self._last_allowed, self.last_seen)
        self._close_when_done()

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        size = frames.number_in(payload)
        if not number:
            self._window += size
        elif stream := self.streams.get(number):
            stream.window += size
        if self._window > frames.MAX_WINDOW:
            raise Broken(Code.FLOW_CONTROL_ERROR, "a window over 2^31 - 1")
        self._send_held()

    def _send_held(self) -> None:
        for stream in [stream for stream in self.streams.values() if stream.pieces]:
            self.send_data(stream)
