"""`sigil-relay health`: for operators and for container health checks."""

from __future__ import annotations

from collections.abc import Sequence

from relay.address import own_relay
from sigil.serving import health_check
from sigil.serving.health_check import Health


def main(arguments: Sequence[str]) -> None:
    """Ends the process; returns for arguments that the command line explains."""
    health_check.main("sigil-relay", arguments, own_relay)


def query(url: str | None = None, ca: str | None = None) -> Health:
    return health_check.query(own_relay, url, ca)
