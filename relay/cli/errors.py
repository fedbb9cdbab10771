"""Errors of the relay's commands as lines on standard error, exit code 1."""

from __future__ import annotations

from relay.registry.model import RegistryBusy, RegistryUnusable
from sigil.serving.cli_errors import CliErrors

_MODULES = ("aioapns", "asyncpg", "falcon", "granian", "h2", "jwt", "prometheus_client", "uvloop", "websockets")

cli_errors = CliErrors(
    "sigil-relay",
    dict.fromkeys(_MODULES, "relay"),
    {
        RegistryBusy: "the database cannot be reached: check DATABASE_URL, and that the database runs",
        RegistryUnusable: "the database cannot be used",
    },
)
