"""How both clients are made: every argument checked before there is a connection."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from sigil.sdk import api_key
from sigil.sdk.address import VARIABLE, service_origin
from sigil.sdk.api_key import ApiKey
from sigil.sdk.approvals import Approvals
from sigil.sdk.challenges import Challenges
from sigil.sdk.clock import Clock
from sigil.sdk.errors import ConfigurationError
from sigil.sdk.httpx_adapter import HttpOptions
from sigil.sdk.retry import RetryPolicy
from sigil.sdk.tls import tls_context

_VERIFICATION = {"verify", "verify_ssl", "verify_tls", "ssl_verify", "insecure", "skip_verify", "reject_unauthorized"}
_DEFAULT_CLOCKWORK = Clock()


@dataclass(frozen=True)
class ClientParts:
    """What a client is made of."""

    http: HttpOptions
    challenges: Challenges
    approvals: Approvals
    clock: Clock


class BaseClient(ABC):
    """The constructor of both clients.

    service_url: the server's https origin; from SIGIL_SERVICE_URL when it is not given. ca_file: a PEM file whose
    certificates alone are trusted. tls_pin: the SHA-256 of the server's DER certificate in hex. timeout: seconds for
    one call with all its tries. tries: how often a request is sent at most. max_connections: each waiting
    `await_result` holds one.

    The API key comes from the environment variable SIGIL_API_KEY and from nowhere else. ConfigurationError.
    """

    service_url: str = ""
    """The origin in use."""

    def __init__(
        self,
        service_url: str | None = None,
        *more: Never,
        ca_file: str | Path | None = None,
        tls_pin: str | None = None,
        timeout: float = 30.0,
        tries: int = 5,
        max_connections: int = 100,
        clockwork: Clock = _DEFAULT_CLOCKWORK,
        **unknown: Never,
    ) -> None:
        fault = _argument_fault([service_url, ca_file, tls_pin, *more], unknown)
        if fault:
            # What was given may be a key, and tracebacks can show local variables.
            service_url, ca_file, tls_pin, more, unknown = None, None, None, (), {}
            raise ConfigurationError(fault)
        patience = RetryPolicy(_whole(tries, "tries", 1, 10), _seconds(timeout))
        key = ApiKey.from_environment()
        origin = service_origin(service_url or os.environ.get(VARIABLE, ""))
        connections = _whole(max_connections, "max_connections", 1, 10_000)
        http = HttpOptions(origin, key, tls_context(ca_file, tls_pin), connections)
        self._open(ClientParts(http, Challenges(patience, clockwork), Approvals(patience, clockwork), clockwork))
        self.service_url = origin

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_url}>"

    @abstractmethod
    def _open(self, opened: ClientParts) -> None:
        """Make the HTTP client, and what is called with it."""


def _argument_fault(values: list[object], unknown: Mapping[str, object]) -> str | None:
    everything = [*values, *unknown.values()]
    if api_key.names_key(unknown) or api_key.holds_key(everything) or _is_own_key(everything):
        return api_key.key_as_argument()
    if len(values) > 3:
        return f"Only service_url is positional. {api_key.key_as_argument()}"
    if _VERIFICATION & {name.lower() for name in unknown}:
        return (
            "Verification of certificates cannot be switched off. For a self-signed certificate give ca_file (the PEM "
            "file) or tls_pin (the SHA-256 of the DER certificate)."
        )
    return f"Unknown arguments: {', '.join(sorted(unknown))}." if unknown else None


def _is_own_key(values: list[object]) -> bool:
    """A pre-set key has no shape to know it by, but it is the one in the environment."""
    key = ApiKey(os.environ.get(api_key.VARIABLE, "").strip())
    return key.fault() is None and any(key.is_in(value) for value in values)


def _whole(value: object, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ConfigurationError(f"{name} is a whole number from {low} to {high}.")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    raise ConfigurationError("timeout is a number of seconds, more than 0.")
