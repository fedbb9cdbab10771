"""Where this host's own server gives its metrics, and what a reader needs for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sigil.config.address import own_server, read_address
from sigil.config.settings import tls_pair
from sigil.serving.health_check import OwnService
from sigil.serving.settings import ConfigError, EnvReader, Secret

_NAME = re.compile(r"\AMETRICS_TOKEN(?:_FILE)?")


class OwnMetrics(NamedTuple):
    """`certificate` is the file with the certificate that the server shows."""

    service: OwnService
    token: Secret | None
    certificate: Path


def own_metrics(environ: Mapping[str, str]) -> OwnMetrics:
    """Of the settings of the server, which need no mnemonic here; ConfigError."""
    reader = EnvReader(environ)
    token, _ = reader.token("METRICS_TOKEN")
    certificate, _ = tls_pair(reader, read_address(reader))
    if reader.faults:
        raise ConfigError(reader.faults)
    return OwnMetrics(own_server(environ), token, certificate)


def token_in(path: str, option: str) -> Secret:
    """The token in a file that an `option` of a command names; ConfigError."""
    reader = EnvReader({"METRICS_TOKEN_FILE": path})
    token, _ = reader.token("METRICS_TOKEN")
    if token is None and not reader.faults:
        reader.faults.append(f"{option}: {path} has no token")
    if token is None or reader.faults:
        raise ConfigError([_NAME.sub(option, fault) for fault in reader.faults])
    return token
