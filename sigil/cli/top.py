"""`sigil top`: the figures of a running server, in the terminal."""

from __future__ import annotations

import os
import sys

import click

from sigil.cli.errors import cli_errors
from sigil.console.json_lines import json_line
from sigil.console.style import is_terminal


@click.command()
@click.option("--url", default=None, help="URL of another server; default: this host's server, from the settings.")
@click.option("--ca", default=None, metavar="FILE", help="With --url: the certificate to trust, in PEM.")
@click.option("--token-file", default=None, metavar="FILE", help="With --url: the file with its METRICS_TOKEN.")
@click.option(
    "--interval", default=2.0, show_default=True, type=click.FloatRange(1, 3600), help="Seconds between two scrapes."
)
@click.option("--once", is_flag=True, help="Two scrapes, then one table; so too when standard output is no terminal.")
@click.option("--json", "json_output", is_flag=True, help="Two scrapes, then one JSON object.")
def top(
    *, url: str | None, ca: str | None, token_file: str | None, interval: float, once: bool, json_output: bool
) -> None:
    """Show rates, latencies, outboxes and workers of a running server, from its /metrics.

    Without --url it reads the settings of the server: address, METRICS_TOKEN, certificate. q or Ctrl-C ends it.
    """
    with cli_errors:
        from sigil.serving.settings import ConfigError
        from sigil.status import figures
        from sigil.status import top as status
        from sigil.status.scrape import Source, Unreadable

        if url is None and (ca or token_file):
            raise ConfigError(["--ca and --token-file need --url: without it, the settings of the server apply"])
        source = Source.of_settings(os.environ) if url is None else Source.at(url, ca, token_file)
        table = figures.load()
        if not (once or json_output) and is_terminal(sys.stdout):
            sys.exit(status.live(source, table, interval))
        try:
            found = status.once(source, table, interval)
        except Unreadable as error:
            cli_errors.die(f"{source.base}: {error}")
        if json_output:
            click.echo(json_line(status.as_json(table, found)))
        else:
            status.print_listing(table, found)
