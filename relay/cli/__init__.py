"""The `sigil-relay` command. Each subcommand imports its modules when it runs."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script."""
    try:
        import click  # noqa: F401 - an extra brings it
    except ImportError:
        sys.stderr.write(
            "sigil-relay: click is not installed: run pip install '.[relay]' in a checkout of this repository, "
            "or pip install 'sigil-auth[relay]'\n"
        )
        sys.exit(1)
    from relay.cli.commands import relay

    relay(prog_name="sigil-relay")
