"""How the application of a worker takes part in the limits of its connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Reason = Literal["no_request", "idle", "unread_response", "address_limit", "network_limit", "total_limit"]

PauseReason = Literal["no_descriptor", "total_limit"]


class ConnectionObserver:
    """The application replaces these functions; they are called in the thread of the guard.

    `address_of` gives the key that the limits of a client's address count under, and None for a trusted proxy: see
    `ClientAddresses.of_connection`. `open` gets the number of open connections about once a second, `closed` the reason
    for each connection that the guard closes, `paused` the reason why the worker accepts no connections for a while.
    """

    def __init__(self) -> None:
        self.address_of: Callable[[str], str | None] = lambda host: host
        self.open: Callable[[int], None] = lambda _count: None
        self.closed: Callable[[Reason], None] = lambda _reason: None
        self.paused: Callable[[PauseReason], None] = lambda _reason: None
