"""`sigil doctor …`: examines a running installation, with its network."""

from __future__ import annotations

import os

import click

from sigil.cli.errors import cli_errors


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one JSON object, described in docs/doctor.md.")
@click.option("--send-test", is_flag=True, help="Also send a signed sample event to the webhook receiver.")
@click.pass_context
def doctor(context: click.Context, as_json: bool, send_test: bool) -> None:
    """Examine the running server and everything it needs: settings, certificate, relay, webhooks, store, host. Each
    finding names its remedy. It changes nothing, and takes at most 30 seconds. Exit code 1 when a finding failed. Run
    it as the server's user, with the server's settings.
    """
    if context.invoked_subcommand is not None:
        if as_json or send_test:
            raise click.UsageError(f"put the options after `{context.invoked_subcommand}`")
        return
    with cli_errors:
        from sigil.doctor.checklist import run_checks
        from sigil.serving.probes.steps import examine

        examine(lambda: run_checks(os.environ, send_test=send_test), as_json=as_json)


@doctor.command()
@click.argument("fingerprint")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one JSON object, described in docs/doctor.md.")
def push(fingerprint: str, as_json: bool) -> None:
    """Follow one device: its registration at the relay, its last pushes and what became of each, what is pending for it
    at this server, and its limits. FINGERPRINT may be the first 6 characters or more, such as the log has, or the
    device's public key. Exit code 1 when a finding failed.
    """
    with cli_errors:
        from sigil.cli.webhook import ignore_stops
        from sigil.config.settings import load
        from sigil.doctor.push import follow
        from sigil.protocol.encoding.fingerprints import parse_beginning
        from sigil.serving.probes.steps import examine

        try:
            found = parse_beginning(fingerprint)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        ignore_stops()
        config = load(os.environ)
        examine(lambda: follow(config, found), as_json=as_json)
