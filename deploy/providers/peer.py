"""A connection that can be held, frozen and cut, even during its TLS handshake, of which asyncio tells nobody."""

from __future__ import annotations

import asyncio


class Peer(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._holds: set[str] = set()
        self._cut = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if self._cut:
            self.abort()
        elif self._holds:
            self._read(False)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None

    def pause_writing(self) -> None:
        self.hold("does not read")

    def resume_writing(self) -> None:
        self.release("does not read")

    @property
    def frozen(self) -> bool:
        return "frozen" in self._holds

    def freeze(self, frozen: bool) -> None:
        """As when the network is cut: nothing is read, nothing is sent, nothing is closed."""
        (self.hold if frozen else self.release)("frozen")

    def hold(self, why: str) -> None:
        """Nothing more is read, as long as anyone holds it."""
        self._holds.add(why)
        self._read(False)

    def release(self, why: str) -> None:
        self._holds.discard(why)
        self._read(not self._holds)

    def abort(self) -> None:
        """As when the process is killed."""
        self._cut = True
        if self.transport is not None:
            self.transport.abort()

    def _read(self, on: bool) -> None:
        if self.transport is not None and not self.transport.is_closing():
            (self.transport.resume_reading if on else self.transport.pause_reading)()
