"""The server's address: one https origin."""

from __future__ import annotations

import ipaddress
import re

from sigil.sdk.errors import ConfigurationError

VARIABLE = "SIGIL_SERVICE_URL"
# One strict form: with user names, backslashes and percent signs, two parsers can disagree about the host.
_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([0-9]{1,5}))?/?\Z",
    re.ASCII | re.IGNORECASE,
)


def service_origin(url: str) -> str:
    """`https://host[:port]` in lower case; ConfigurationError for anything else. Messages never repeat the URL."""
    match = _URL.match(url)
    if match is None:
        raise ConfigurationError(
            f"service_url (or {VARIABLE}) must be an origin, such as https://auth.example.com or https://localhost:8443."
        )
    if match[1].lower() != "https":
        raise ConfigurationError(
            "service_url must begin with https://, also on this machine: over plain http an attacker on the path reads "
            "the API key and can answer 'verified'. Trust a self-signed certificate with ca_file or tls_pin."
        )
    return f"https://{_host(match[2].lower())}{_port(match[3])}"


def _host(host: str) -> str:
    if not host.startswith("["):
        return host
    try:
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
    except ValueError:
        fault = "service_url has no valid IPv6 address in its brackets."
    raise ConfigurationError(fault)


def _port(digits: str | None) -> str:
    if digits is None:
        return ""
    if not 0 < int(digits) < 65536:
        raise ConfigurationError("The port in service_url must be 1 to 65535.")
    return f":{int(digits)}"
