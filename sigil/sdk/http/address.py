"""The server's address: one origin."""

from __future__ import annotations

from sigil.protocol.origin import NotAnOrigin, server_origin
from sigil.sdk.errors import ConfigurationError

VARIABLE = "SIGIL_SERVICE_URL"


def service_origin(url: str) -> str:
    """The canonical origin, https, or http to this machine for development; ConfigurationError. Messages never repeat
    the URL.

    Over plain http an attacker on the path reads the API key and can answer 'verified'.
    """
    try:
        return server_origin(url)
    except NotAnOrigin as error:
        # The error refers to a frame that holds the URL.
        fault = f"service_url (or {VARIABLE}) {error}."
    raise ConfigurationError(fault)
