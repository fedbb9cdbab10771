"""The relay's own origin, which devices sign so that their signatures are good at no other relay."""

from __future__ import annotations

from typing import Any

_DEFAULT = {"http": ":80", "https": ":443"}


class Origins:
    """`public_url` where it is set; else (development) what the request itself says."""

    def __init__(self, public_url: str | None) -> None:
        self._public_url = public_url

    def of(self, scope: dict[str, Any]) -> str:
        """`scheme://host[:port]` of an ASGI scope; a WebSocket's is that of http or https, too."""
        if self._public_url is not None:
            return self._public_url
        scheme = {"ws": "http", "wss": "https"}.get(scope["scheme"], scope["scheme"])
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        return f"{scheme}://{host.decode('latin-1').lower().removesuffix(_DEFAULT.get(scheme, ''))}"
