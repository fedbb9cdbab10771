"""Errors of the server's commands as lines on standard error, exit code 1."""

from __future__ import annotations

from sigil.serving.cli_errors import CliErrors

cli_errors = CliErrors(
    "sigil",
    {
        "aiohttp": "server",
        "granian": "server",
        "falcon": "server",
        "lmdb": "server",
        "prometheus_client": "server",
        "rich": "server",
        "uvloop": "server",
        "mnemonic": "cli",
    },
)
