"""The relay's own origin. Devices sign it, so that no other relay accepts their signatures."""

from __future__ import annotations

from typing import Any

from sigil.protocol.origin import NotAnOrigin, relay_origin


class Origins:
    """`public_url` if it is set; otherwise (development) the origin in the request itself."""

    def __init__(self, public_url: str | None) -> None:
        self._public_url = public_url

    def of(self, scope: dict[str, Any]) -> str:
        """`scheme://host[:port]` of an ASGI scope; the scheme of a WebSocket is http or https, too."""
        if self._public_url is not None:
            return self._public_url
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        try:
            return relay_origin(f"{scheme}://{host.decode('latin-1')}")
        except NotAnOrigin:
            # No device signs an empty origin.
            return ""
