"""The address of the server. It imports little, for the health check (`sigil.serving.health_check`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sigil.serving import settings
from sigil.serving.addresses.listen_host import listen_host, reachable
from sigil.serving.health_check import OwnService
from sigil.serving.settings import ConfigError, EnvReader


class Address(NamedTuple):
    """Where the server listens."""

    host: str
    port: int
    http_only: bool


def read_address(r: EnvReader) -> Address:
    http_port = r.value("SIGIL_HTTP_PORT", None, settings.port)
    if http_port and r.text("SIGIL_PORT"):
        r.warnings.append("SIGIL_PORT has no effect while SIGIL_HTTP_PORT is set")
    port = http_port or r.value("SIGIL_PORT", 8443, settings.port)
    return Address(r.value("SIGIL_HOST", "0.0.0.0", listen_host), port, http_port is not None)


def own_server(environ: Mapping[str, str]) -> OwnService:
    """For a health check that has no secrets; ConfigError."""
    reader = EnvReader(environ)
    address = read_address(reader)
    if reader.faults:
        raise ConfigError(reader.faults)
    next_step = (
        "check that `sigil serve` runs, with the same SIGIL_HOST, SIGIL_PORT and SIGIL_HTTP_PORT as this command; its "
        "log says why it stopped"
    )
    return OwnService(reachable(address.host), address.port, not address.http_only, next_step)
