"""The device's side of a relay (docs/protocol.md, section 6): registration over HTTP, pushes over a WebSocket.

    async with RelayClient("https://relay.example.com") as relay:
        await relay.register(device)
        await Listener(device, relay, pin, on_event).run()

One `RelayClient` serves any number of devices; a `Listener` needs three tasks and bounded memory, and no thread.
Only `connect` needs the package `websockets` (the extra `cli`).
"""

from sigil.device.relay.client import RelayClient
from sigil.device.relay.events import (
    Cleared,
    Connected,
    Disconnected,
    Event,
    Gone,
    Ignored,
    OnEvent,
    PendingFailed,
    Received,
    Refused,
    Registered,
    Repeated,
)
from sigil.device.relay.listener import Listener
from sigil.device.relay.timing import ListenerTiming

__all__ = [
    "Cleared",
    "Connected",
    "Disconnected",
    "Event",
    "Gone",
    "Ignored",
    "Listener",
    "ListenerTiming",
    "OnEvent",
    "PendingFailed",
    "Received",
    "Refused",
    "Registered",
    "RelayClient",
    "Repeated",
]
