"""A small HTTP/1.1 server over h11: for the control port, and for Google's token endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import h11
import msgspec

from deploy.providers.peer import Peer
from deploy.providers.stream import Answer

_BODY_LIMIT = 1_048_576
_HEADER_LIMIT = 16_384


class Request(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Handle = Callable[[Request], Awaitable[Answer | None]]


class Http1(Peer):
    """One connection. `handle` is awaited for one request at a time; None closes without an answer."""

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
            self._go_on()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def eof_received(self) -> bool:
        return False

    def _go_on(self) -> None:
        while True:
            match event := self._h11.next_event():
                case h11.Request():
                    self._request, self._body = event, bytearray()
                case h11.Data():
                    self._body += event.data
                    if len(self._body) > _BODY_LIMIT:
                        self._refuse(413)
                        return
                case h11.EndOfMessage():
                    self._task = asyncio.get_running_loop().create_task(self._answer())
                case _:
                    # NEED_DATA, PAUSED until the answer is out, or the end of the connection.
                    return

    async def _answer(self) -> None:
        given = self._request
        if given is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in given.headers}
        request = Request(given.method.decode(), given.target.decode("latin-1"), headers, bytes(self._body))
        try:
            answer = await self._handle(request)
        except Exception:
            # A fault of ours: told by the loop, and not by a client that waits for ever.
            self.abort()
            raise
        if answer is None:
            self.abort()
            return
        self._send(answer)
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
            try:
                self._go_on()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)
        elif self.transport is not None:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        if self._h11.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(Answer(status, "", (("connection", "close"),)))
        if self.transport is not None:
            self.transport.close()

    def _send(self, answer: Answer) -> None:
        headers = {
            "content-type": "application/json",
            "cache-control": "no-store",
            "content-length": str(len(answer.body)),
            **dict(answer.headers),
        }
        said = [
            h11.Response(status_code=answer.status, headers=list(headers.items())),
            h11.Data(data=answer.body),
            h11.EndOfMessage(),
        ]
        raw = b"".join(self._h11.send(event) or b"" for event in said)
        if self.transport is not None:
            self.transport.write(raw)
