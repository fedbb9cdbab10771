"""The `sigil` command. Each subcommand imports what it needs when it runs, so it works without other extras."""

from __future__ import annotations

import sys


def main() -> None:
    """The console script."""
    try:
        import click  # noqa: F401 - an extra brings it
    except ImportError:
        sys.stderr.write("sigil: install the command line with: pip install 'sigil-auth[cli]' (or [server])\n")
        sys.exit(1)
    from sigil.cli.commands import sigil

    sigil(prog_name="sigil")
