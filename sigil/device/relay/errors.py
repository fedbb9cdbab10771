"""Errors of a relay and its connections."""

from __future__ import annotations

from sigil.device.errors import DeviceError


class RelayUnknown(DeviceError):
    code = "RELAY_UNKNOWN"
    summary = "The server names no relay; give the relay's address with --relay."


class RelayLost(DeviceError):
    """The connection ended or failed; a new one may succeed. `close_code` is None without a close frame."""

    code = "RELAY_LOST"
    summary = "The connection to the relay was lost."

    def __init__(self, message: str | None = None, close_code: int | None = None) -> None:
        super().__init__(message)
        self.close_code = close_code


class Replaced(DeviceError):
    code = "REPLACED"
    summary = (
        "A newer connection of this device replaced this one at the relay: 'sigil device listen' runs elsewhere with "
        "the same key. Use that one, or end it and start again."
    )


class NotRegisteredAtRelay(DeviceError):
    code = "NOT_REGISTERED_AT_RELAY"
    summary = "The relay has no WebSocket registration of this device; run 'sigil device register' first."


class RelayAuthRefused(DeviceError):
    code = "RELAY_AUTH_REFUSED"
    summary = "The relay did not accept this device's signature."


class PackageMissing(DeviceError):
    code = "PACKAGE_MISSING"
    summary = "Listening needs the package websockets: run pip install '.[cli]' in a checkout of this repository"
