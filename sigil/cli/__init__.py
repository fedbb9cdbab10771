"""The `sigil` command. Each subcommand imports its modules when it runs, so it needs no other extras."""

from __future__ import annotations

import sys

from sigil.console.errors import write_error
from sigil.console.streams import standard_streams
from sigil.serving.certificate_variables import drop_empty_certificate_variables
from sigil.serving.inherited import signals


def main() -> None:
    """The console script."""
    signals.set_for_command(serves=sys.argv[1:2] == ["serve"])
    drop_empty_certificate_variables()
    with standard_streams("sigil"):
        if sys.argv[1:2] == ["health"]:
            from sigil.cli import health

            # Before click: a container engine runs this check every ten seconds.
            health.main(sys.argv[2:])
        try:
            import click  # noqa: F401 - an extra brings it
        except ImportError:
            write_error(
                "sigil",
                "click is not installed: run pip install '.[cli]' (or [server]) in a checkout of this repository",
            )
            sys.exit(1)
        from sigil.cli.commands import sigil

        sigil(prog_name="sigil")
