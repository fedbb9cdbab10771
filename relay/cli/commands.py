"""Commands that run and inspect a relay."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from relay import __version__
from relay.cli.errors import cli_errors
from relay.cli.registered import devices, servers
from sigil.console.completion import completion
from sigil.console.errors import write_warning
from sigil.console.program import Program
from sigil.console.style import styled
from sigil.serving.files.secret_output import output


class _Relay(Program):
    program = "sigil-relay"


@click.group(cls=_Relay, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sigil-relay")
def relay() -> None:
    """The push relay of Sigil: fingerprints of devices to push tokens, and pushes to devices."""


relay.add_command(servers)
relay.add_command(devices)
relay.add_command(completion)


@relay.command()
def serve() -> None:
    """Run the relay; settings come from the environment."""
    with cli_errors:
        from relay.app.master import run

        sys.exit(run())


@relay.command()
def migrate() -> None:
    """Migrate the database to the schema of this version; serve does this too."""
    with cli_errors:
        from relay.app.master import migrate
        from relay.app.wiring import open_registry
        from relay.config import load_storage

        migrate(open_registry(load_storage(os.environ), "sigil-relay migrate", cli_errors.note))
        click.echo("the database schema is up to date")


@relay.command("check-config")
def check_config() -> None:
    """Check all settings without starting anything."""
    with cli_errors:
        from relay.app.checks import check

        config, warnings = check(os.environ)
        for line in warnings:
            write_warning(line)
        database = "PostgreSQL" if config.database_url else f"SQLite, {config.database_file}"
        sockets = f", WebSockets on port {config.ws_port}" if config.ws_port else ""
        click.echo(f"listen     {config.host} port {config.port} (http){sockets}")
        click.echo(f"workers    {config.workers}")
        click.echo(f"database   {database}")
        click.echo(f"origin     {config.public_url or 'from the Host header (development)'}")
        click.echo(f"servers    {len(config.trusted_servers)} in RELAY_TRUSTED_SERVERS")
        click.echo(f"providers  {', '.join(config.providers) or 'none: WebSockets only'}")
        if config.webpush is not None:
            click.echo(f"web push   {', '.join(key.public_text for key in config.webpush.keys)}")
        click.echo(styled("Configuration OK", "good", sys.stdout))


@relay.command("webpush-key")
@click.option("--out", type=click.Path(path_type=Path), help="Write a new file with mode 0600 instead of printing.")
def webpush_key(out: Path | None) -> None:
    """Generate the key with which the relay signs Web Pushes (VAPID), for RELAY_WEBPUSH_KEY_FILE. Keep a copy: without
    it all browsers have to subscribe again."""
    with cli_errors:
        from relay.web_push_settings import new_key

        output(new_key(), out, cli_errors)


@relay.command()
@click.option("--url", default=None, help="URL to query; default: this host's relay, from the settings.")
@click.option("--ca", default=None, metavar="FILE", help="With --url: the certificate to trust, in PEM.")
def health(url: str | None, ca: str | None) -> None:
    """Query the health of a running relay; exit code 0 when it is healthy."""
    with cli_errors:
        from relay.cli.health import query

        found = query(url, ca)
        click.echo(found.text)
        sys.exit(0 if found.healthy else 1)


@relay.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one JSON object, described in docs/doctor.md.")
def doctor(as_json: bool) -> None:
    """Examine the running relay and everything it needs: settings, database, provider credentials, host. Each finding
    names its remedy. It changes nothing, sends nothing to a device, and takes at most 30 seconds. Exit code 1 when a
    finding failed. Run it as the relay's user, with the relay's settings.
    """
    with cli_errors:
        from relay.doctor.checklist import run_checks
        from sigil.serving.probes.steps import examine

        examine(lambda: run_checks(os.environ), as_json=as_json)
