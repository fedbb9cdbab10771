"""A small HTTP/1.1 server over h11, for the control port and Google's token endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import h11
import msgspec

from deploy.providers.http.peer import Peer
from deploy.providers.http.stream import Response

_BODY_LIMIT = 1_048_576
_HEADER_LIMIT = 16_384


class Request(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Handle = Callable[[Request], Awaitable[Response | None]]


class Http1(Peer):
    """One connection. `handle` gets one request at a time; None closes the connection without a response."""

    def __init__(self, handle: Handle, connections: set[Http1]) -> None:
        super().__init__()
        self._handle, self._connections = handle, connections
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADER_LIMIT)
        self._task: asyncio.Task[None] | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._h11.receive_data(data)
            self._handle_events()
        except h11.RemoteProtocolError as error:
            self._reject(error.error_status_hint)

    def eof_received(self) -> bool:
        return False

    def _handle_events(self) -> None:
        while True:
            match event := self._h11.next_event():
                case h11.Request():
                    self._request, self._body = event, bytearray()
                case h11.Data():
                    self._body += event.data
                    if len(self._body) > _BODY_LIMIT:
                        self._reject(413)
                        return
                case h11.EndOfMessage():
                    self._task = asyncio.get_running_loop().create_task(self._respond())
                case _:
                    # NEED_DATA, PAUSED until the response is sent, or the end of the connection.
                    return

    async def _respond(self) -> None:
        h11_request = self._request
        if h11_request is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in h11_request.headers}
        request = Request(h11_request.method.decode(), h11_request.target.decode("latin-1"), headers, bytes(self._body))
        try:
            response = await self._handle(request)
        except Exception:
            # A bug in `handle`: the event loop logs it, and the client does not wait for ever.
            self.abort()
            raise
        if response is None:
            self.abort()
            return
        self._send(response)
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            try:
                self._handle_events()
            except h11.RemoteProtocolError as error:
                self._reject(error.error_status_hint)
        elif self.transport is not None:
            self.transport.close()

    def _reject(self, status: int) -> None:
        if self._h11.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(Response(status, "", (("connection", "close"),)))
        if self.transport is not None:
            self.transport.close()

    def _send(self, response: Response) -> None:
        headers = {
            "content-type": "application/json",
            "cache-control": "no-store",
            "content-length": str(len(response.body)),
            **dict(response.headers),
        }
        events = [
            h11.Response(status_code=response.status, headers=list(headers.items())),
            h11.Data(data=response.body),
            h11.EndOfMessage(),
        ]
        raw = b"".join(self._h11.send(event) or b"" for event in events)
        if self.transport is not None:
            self.transport.write(raw)
