"""A port on loopback that can fail as a server's port does, and keeps its number."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Literal
from weakref import WeakSet

from deploy.providers.http.peer import Peer

Mode = Literal["serving", "refusing", "black_hole", "untrusted", "wrong_name", "expired"]
HOST = "127.0.0.1"
_BACKLOG = 1024


class _BlackHole(asyncio.Protocol):
    """Accepts a connection, and never sends a byte."""

    def __init__(self, open_now: set[asyncio.BaseTransport]) -> None:
        self._open = open_now

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]
        self._open.add(transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self._transport)


class Listener:
    """`contexts` has a TLS context for each mode that uses one; without them the port speaks plain TCP.

    The socket `holder` keeps the port bound while no server listens on it: connections are refused, and no other
    process gets the port.
    """

    def __init__(
        self, holder: socket.socket, factory: Callable[[], Peer],
        contexts: dict[Mode, ssl.SSLContext] | None = None,
    ) -> None:  # fmt: skip
        self.mode: Mode = "refusing"
        self._make, self._contexts = factory, contexts
        self._peers: WeakSet[Peer] = WeakSet()
        self._black_holes: set[asyncio.BaseTransport] = set()
        self._holder = holder
        self.port: int = self._holder.getsockname()[1]
        self._server: asyncio.Server | None = None

    async def set_mode(self, mode: Mode, *, drop: bool = False) -> None:
        """With `drop`, open connections are aborted, as if the process were killed."""
        self._stop_listening()
        if mode != "refusing":
            await self._listen(mode)
        self.mode = mode
        for peer in list(self._peers):
            peer.freeze(mode == "black_hole")
            if drop:
                peer.abort()
        if mode != "black_hole":
            self._close_black_holes()

    async def _listen(self, mode: Mode) -> None:
        loop, listening = asyncio.get_running_loop(), bind(self.port)
        if mode == "black_hole":
            self._server = await loop.create_server(
                lambda: _BlackHole(self._black_holes), sock=listening, backlog=_BACKLOG
            )
        else:
            context = self._contexts[mode] if self._contexts else None
            self._server = await loop.create_server(self._factory, sock=listening, ssl=context, backlog=_BACKLOG)

    def _factory(self) -> Peer:
        peer = self._make()
        self._peers.add(peer)
        return peer

    def close(self) -> None:
        self._stop_listening()
        self._close_black_holes()
        for peer in list(self._peers):
            peer.abort()
        self._holder.close()

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _close_black_holes(self) -> None:
        for transport in list(self._black_holes):
            transport.abort()  # type: ignore[attr-defined]


def bind(port: int) -> socket.socket:
    """A socket bound to a port of loopback, or to a free one for 0. It does not listen yet."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, port))
    return holder
