"""Responses that a client does not read, from two counters of its connection: bytes written for it and bytes received.

HTTP/2 lets a client close its window and keep the connection alive with pings, so the server's own buffers hold the
responses and the kernel shows nothing unsent. Only the difference of the counters does.
"""

from __future__ import annotations

from sigil.serving.connections.limits import ConnectionLimits


class UnreadResponses:
    """Call `observe` about once a second; times are monotonic seconds.

    `received` also counts TLS and headers, so it runs ahead of `written`. Each time the client has everything, both
    counters begin again, so that a connection cannot save up bytes.
    """

    __slots__ = (
        "_last_received",
        "_mark",
        "_marked_at",
        "_progress_at",
        "_received",
        "_written",
        "received_all_of",
        "size",
    )

    def __init__(self, now: float) -> None:
        self.size = 0
        # The value of `written` at which the client had everything.
        self.received_all_of = 0
        self._written = self._received = self._last_received = self._mark = 0
        self._marked_at = self._progress_at = now

    def begin_at(self, written: int) -> None:
        """Responses are counted from this value of `written` on; call it before `observe`."""
        self._written = self.received_all_of = self._mark = written

    def observe(self, now: float, written: int, received: int) -> None:
        had_everything = self.size == 0
        self.size = max(0, (written - self._written) - (received - self._received))
        if had_everything:
            self._mark, self._marked_at, self._progress_at = written, now, now
        if self.size == 0:
            self._written, self._received, self.received_all_of = written, received, written
        if received > self._last_received:
            self._progress_at, self._last_received = now, received
        if received - self._received >= self._mark - self._written:
            self._mark, self._marked_at = written, now

    def is_behind(self, now: float, limits: ConnectionLimits, *, in_use: bool) -> bool:
        """True when a response was not received for `limits.write`, or many bytes without any progress.

        `in_use`: a request is in progress. Then few bytes are never late: a client that cancels a request (RST_STREAM)
        does not receive its response, and the other streams of its connection must go on.
        """
        if self.size == 0:
            return False
        many = self.size > limits.unread
        stalled = many and now - self._progress_at > limits.stalled
        late = now - self._marked_at > limits.write and (many or not in_use)
        return stalled or late
