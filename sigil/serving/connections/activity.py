"""What the application knows of each connection: its requests, and the bytes that it gave out for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Peer = tuple[str, str]
"""The address and port of a client, both as text like Granian has them: unique among open connections."""
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Requests:
    """Of one connection: the requests in progress, the time of the last change (monotonic), the bytes of bodies, and
    those at the guard's last look.
    """

    __slots__ = ("changed_at", "running", "written", "written_before")

    def __init__(self) -> None:
        self.running = 0
        self.written = self.written_before = 0
        self.changed_at = 0.0

    def counted(self, send: Send) -> Send:
        """`send`, and the bytes that it sends are counted."""

        def count(event: dict[str, Any]) -> Awaitable[None]:
            # The keys of an HTTP response, and of WebSocket frames.
            if body := event.get("body") or event.get("text") or event.get("bytes"):
                self.written += len(body)
            return send(event)

        return count


class ConnectionActivity:
    """The requests of every connection that has sent one. Written on the event loop; `of` may be called anywhere."""

    def __init__(self) -> None:
        self._by_peer: dict[Peer, Requests] = {}

    def of(self, peer: Peer) -> Requests | None:
        return self._by_peer.get(peer)

    def begin(self, peer: Peer) -> Requests:
        requests = self._by_peer.get(peer)
        if requests is None:
            requests = self._by_peer[peer] = Requests()
        requests.running += 1
        return requests

    @staticmethod
    def end(requests: Requests) -> None:
        # In this order: between the two, the guard's thread would see an idle connection with the time of long ago.
        requests.changed_at = time.monotonic()
        requests.running -= 1

    def peers(self) -> list[Peer]:
        return list(self._by_peer)

    def forget(self, peers: Iterable[Peer], before: float) -> None:
        """Drop closed connections; one with requests since `before` is a new connection of the same peer."""
        for peer in peers:
            requests = self._by_peer.get(peer)
            if requests is not None and not requests.running and requests.changed_at < before:
                del self._by_peer[peer]
