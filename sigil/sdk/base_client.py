"""The constructor of both clients: it checks every argument before there is a connection."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from sigil.protocol.encoding.plain_text import NotPlainText
from sigil.sdk import api_key
from sigil.sdk.api_key import ApiKey
from sigil.sdk.approvals import Approvals
from sigil.sdk.challenges import Challenges
from sigil.sdk.enrolment.operations import Enrolments
from sigil.sdk.environment import variable
from sigil.sdk.errors import ConfigurationError
from sigil.sdk.http.address import VARIABLE, service_origin
from sigil.sdk.http.clock import Clock
from sigil.sdk.http.httpx_adapter import HttpOptions
from sigil.sdk.http.retry import RetryPolicy
from sigil.sdk.http.tls import CA_VARIABLE, tls_context

_VERIFICATION = {"verify", "verify_ssl", "verify_tls", "ssl_verify", "insecure", "skip_verify", "reject_unauthorized"}
_DEFAULT_CLOCK = Clock()


@dataclass(frozen=True)
class ClientParts:
    """The parts that a client consists of."""

    http: HttpOptions
    challenges: Challenges
    approvals: Approvals
    enrolments: Enrolments
    clock: Clock


class BaseClient(ABC):
    """The constructor of both clients.

    service_url: the server's https origin; from SIGIL_SERVICE_URL by default. ca_file: a PEM file whose
    certificates alone are trusted; from SIGIL_CA_FILE by default, unless there is a tls_pin. tls_pin: the SHA-256 of
    the server's DER certificate in hex. timeout: seconds for one call with all its retries. tries: how often a request
    is sent at most. max_connections: each waiting `await_result` holds one.

    The API key comes from the environment variable SIGIL_API_KEY, or the file that SIGIL_API_KEY_FILE names, and from
    nowhere else. Raises ConfigurationError.
    """

    service_url: str = ""
    """The origin in use."""
    _closed = False

    def __init__(
        self,
        service_url: str | None = None,
        *extra: Never,
        ca_file: str | Path | None = None,
        tls_pin: str | None = None,
        timeout: float = 30.0,
        tries: int = 5,
        max_connections: int = 100,
        clock: Clock = _DEFAULT_CLOCK,
        **unknown: Never,
    ) -> None:
        key, key_problem = ApiKey.from_environment()
        fault = _argument_fault([service_url, ca_file, tls_pin, *extra], unknown, key)
        if fault:
            # An argument may be a key, and tracebacks can show local variables.
            service_url, ca_file, tls_pin, extra, unknown = None, None, None, (), {}
            raise ConfigurationError(fault)
        retry = RetryPolicy(_integer(tries, "tries", 1, 10), _seconds(timeout))
        if key_problem:
            raise ConfigurationError(key_problem)
        _require_types(service_url, ca_file, tls_pin)
        if ca_file is None and tls_pin is None:
            ca_file = _variable(CA_VARIABLE) or None
        origin = service_origin(service_url or _variable(VARIABLE))
        connections = _integer(max_connections, "max_connections", 1, 10_000)
        http = HttpOptions(origin, key, tls_context(ca_file, tls_pin), connections)
        calls = Challenges(retry, clock), Approvals(retry, clock), Enrolments(retry, clock)
        self._open(ClientParts(http, *calls, clock))
        self.service_url = origin

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service_url}>"

    def _require_open(self) -> None:
        if self._closed:
            raise ConfigurationError("This client has been closed.")

    @abstractmethod
    def _open(self, parts: ClientParts) -> None:
        """Make the HTTP client, and `auth`, `mpa` and `enrolment`, which use it."""


def _variable(name: str) -> str:
    try:
        return variable(name)
    except NotPlainText as error:
        fault = str(error)
    raise ConfigurationError(fault)


def _argument_fault(values: list[object], unknown: Mapping[str, object], key: ApiKey) -> str | None:
    everything = [*values, *unknown.values()]
    # A pre-set key has no known form; it is compared with the one of the environment.
    is_own_key = any(key.is_in(value) for value in everything)
    if api_key.is_key_name(unknown) or api_key.contains_key(everything) or is_own_key:
        return api_key.NOT_AS_ARGUMENT
    if len(values) > 3:
        return f"Only service_url is positional. {api_key.NOT_AS_ARGUMENT}"
    if _VERIFICATION & {name.lower() for name in unknown}:
        return (
            "Verification of certificates cannot be switched off. For a self-signed certificate pass ca_file (the PEM "
            "file) or tls_pin (the SHA-256 of the DER certificate)."
        )
    return f"Unknown arguments: {', '.join(sorted(unknown))}." if unknown else None


def _require_types(service_url: object, ca_file: object, tls_pin: object) -> None:
    """A URL of httpx or pydantic, for one, is not text."""
    for name, value in (("service_url", service_url), ("tls_pin", tls_pin)):
        if not isinstance(value, str | None):
            raise ConfigurationError(f"{name} must be a string, not {type(value).__name__}.")
    if not isinstance(ca_file, str | Path | None):
        raise ConfigurationError(f"ca_file must be a string or a pathlib.Path, not {type(ca_file).__name__}.")


def _integer(value: object, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ConfigurationError(f"{name} must be a whole number from {low} to {high}.")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    raise ConfigurationError("timeout must be a number of seconds greater than 0.")
