"""A connection that can be paused, frozen and aborted, also during its TLS handshake, which asyncio does not report."""

from __future__ import annotations

import asyncio


class Peer(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._pauses: set[str] = set()
        self._aborted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if self._aborted:
            self.abort()
        elif self._pauses:
            self._set_reading(False)

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None

    def pause_writing(self) -> None:
        self.pause("does not read")

    def resume_writing(self) -> None:
        self.resume("does not read")

    @property
    def frozen(self) -> bool:
        return "frozen" in self._pauses

    def freeze(self, frozen: bool) -> None:
        """As if the network were cut: nothing is read, sent or closed."""
        (self.pause if frozen else self.resume)("frozen")

    def pause(self, reason: str) -> None:
        """Stop reading until every reason to pause is removed."""
        self._pauses.add(reason)
        self._set_reading(False)

    def resume(self, reason: str) -> None:
        self._pauses.discard(reason)
        self._set_reading(not self._pauses)

    def abort(self) -> None:
        """As if the process were killed."""
        self._aborted = True
        if self.transport is not None:
            self.transport.abort()

    def _set_reading(self, on: bool) -> None:
        if self.transport is not None and not self.transport.is_closing():
            (self.transport.resume_reading if on else self.transport.pause_reading)()
