"""Faults of the settings, of the database and of the installation as lines on standard error, exit code 1."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click

_EXTRA = frozenset(
    {"aioapns", "asyncpg", "falcon", "granian", "h2", "jwt", "prometheus_client", "uvloop", "websockets"}
)
# Named by type, not imported: the modules that define them need the extra.
_TOLD = frozenset({"StartupError", "RegistryBusy", "RegistryUnusable"})


def die(*lines: str) -> NoReturn:
    for line in lines:
        click.echo(f"sigil-relay: {line}", err=True)
    sys.exit(1)


@contextmanager
def refusals() -> Iterator[None]:
    try:
        from sigil.serving.settings import ConfigError

        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        die("install what this needs with: pip install 'sigil-auth[relay]'")
    except ConfigError as error:
        die(*error.lines)
    except Exception as error:
        if type(error).__name__ not in _TOLD:
            raise
        die(str(error) or "the database cannot be reached")
