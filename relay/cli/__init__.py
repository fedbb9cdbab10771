"""The `sigil-relay` command. Each subcommand imports its modules when it runs."""

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
    with standard_streams("sigil-relay"):
        if sys.argv[1:2] == ["health"]:
            from relay.cli import health

            # Before click: a container engine runs this check every ten seconds.
            health.main(sys.argv[2:])
        try:
            import click  # noqa: F401 - an extra brings it
        except ImportError:
            write_error(
                "sigil-relay",
                "click is not installed: run pip install '.[relay]' in a checkout of this repository",
            )
            sys.exit(1)
        from relay.cli.commands import relay

        relay(prog_name="sigil-relay")
