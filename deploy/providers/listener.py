"""A port of loopback that can fail in every way in which a server's port does, and keeps its number all the while."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Literal
from weakref import WeakSet

from deploy.providers.peer import Peer

Mode = Literal["serving", "refusing", "black_hole", "untrusted", "wrong_name", "expired"]
HOST = "127.0.0.1"
_BACKLOG = 1024


class _Silent(asyncio.Protocol):
    """Accepted, and never a word."""

    def __init__(self, all_of_them: set[asyncio.BaseTransport]) -> None:
        self._all = all_of_them

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]
        self._all.add(transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._all.discard(self._transport)


class Listener:
    """`contexts` has what each mode that speaks TLS shows; without any, the port speaks plain TCP.

    The port of `holder` is bound also while nobody listens on it: connections are refused, and nobody else gets it.
    """

    def __init__(
        self, holder: socket.socket, factory: Callable[[], Peer],
        contexts: dict[Mode, ssl.SSLContext] | None = None,
    ) -> None:  # fmt: skip
        self.mode: Mode = "refusing"
        self._make, self._contexts = factory, contexts
        self._peers: WeakSet[Peer] = WeakSet()
        self._silent: set[asyncio.BaseTransport] = set()
        self._holder = holder
        self.port: int = self._holder.getsockname()[1]
        self._server: asyncio.Server | None = None

    async def become(self, mode: Mode, *, drop: bool = False) -> None:
        """With `drop` all connections of before are aborted, as when the process is killed."""
        self._stop_listening()
        if mode != "refusing":
            await self._listen(mode)
        self.mode = mode
        for peer in list(self._peers):
            peer.freeze(mode == "black_hole")
            if drop:
                peer.abort()
        if mode != "black_hole":
            self._end_silence()

    async def _listen(self, mode: Mode) -> None:
        loop, listening = asyncio.get_running_loop(), bound(self.port)
        if mode == "black_hole":
            self._server = await loop.create_server(lambda: _Silent(self._silent), sock=listening, backlog=_BACKLOG)
        else:
            context = self._contexts[mode] if self._contexts else None
            self._server = await loop.create_server(self._factory, sock=listening, ssl=context, backlog=_BACKLOG)

    def _factory(self) -> Peer:
        peer = self._make()
        self._peers.add(peer)
        return peer

    def close(self) -> None:
        self._stop_listening()
        self._end_silence()
        for peer in list(self._peers):
            peer.abort()
        self._holder.close()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _end_silence(self) -> None:
        for transport in list(self._silent):
            transport.abort()  # type: ignore[attr-defined]


def bound(port: int) -> socket.socket:
    """A socket on a port of loopback, or on a free one for 0; nobody listens yet."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, port))
    return holder
