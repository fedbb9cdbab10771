"""The address of the relay. It imports little, for the health check (`sigil.serving.health_check`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sigil.serving import settings
from sigil.serving.addresses.listen_host import listen_host, reachable
from sigil.serving.health_check import OwnService
from sigil.serving.settings import ConfigError, EnvReader


class Address(NamedTuple):
    """Where the relay listens."""

    host: str
    port: int


def read_address(r: EnvReader) -> Address:
    return Address(r.value("RELAY_HOST", "0.0.0.0", listen_host), r.value("RELAY_PORT", 8080, settings.port))


def own_relay(environ: Mapping[str, str]) -> OwnService:
    """For a health check that has no secrets; ConfigError."""
    reader = EnvReader(environ)
    address = read_address(reader)
    if reader.faults:
        raise ConfigError(reader.faults)
    next_step = (
        "check that `sigil-relay serve` runs, with the same RELAY_HOST and RELAY_PORT as this command; its log says "
        "why it stopped"
    )
    return OwnService(reachable(address.host), address.port, tls=False, next_step=next_step)
