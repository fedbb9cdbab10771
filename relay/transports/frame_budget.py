"""A limit of the HTTP/2 frames that a peer sends: each costs h2 some 50 µs, while no other request proceeds.

A flood of PING or SETTINGS frames of one push service stopped the pushes to all others for as long as it lasted
(CVE-2019-9512, CVE-2019-9515). The frames are counted before h2 reads them: one read of the socket may hold thousands.
"""

from __future__ import annotations

from collections.abc import Callable

BURST = 512
PER_SECOND = 100.0
PER_REQUEST = 16
"""An answer has two or three, and the peer may open two windows and send a ping for it."""
_HEADER_BYTES = 9


class FrameBudget:
    """`monotonic` gives seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = float(BURST)
        self._refilled_at = monotonic()
        # Of the frame that the last piece of input ended in.
        self._header = bytearray()
        self._payload = 0

    def begin_request(self, open_streams: int) -> None:
        self._add(PER_REQUEST, open_streams)

    def take(self, data: bytes, open_streams: int) -> bool:
        """False when `data` has more frames than are left."""
        now = self._monotonic()
        self._add((now - self._refilled_at) * PER_SECOND, open_streams)
        self._refilled_at = now
        position = 0
        while position < len(data) and self._left >= 0:
            if self._payload:
                size = min(self._payload, len(data) - position)
                self._payload -= size
            else:
                size = min(_HEADER_BYTES - len(self._header), len(data) - position)
                self._header += data[position : position + size]
                if len(self._header) == _HEADER_BYTES:
                    self._payload = int.from_bytes(self._header[:3])
                    self._header.clear()
                    self._left -= 1
            position += size
        return self._left >= 0

    def _add(self, frames: float, open_streams: int) -> None:
        limit = BURST + PER_REQUEST * open_streams
        if self._left < limit:
            self._left = min(self._left + frames, limit)
