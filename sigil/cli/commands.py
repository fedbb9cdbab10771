"""Commands that run and inspect a server, and generate its secrets."""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sigil import __version__
from sigil.cli.errors import cli_errors
from sigil.console.completion import completion
from sigil.console.errors import write_warning
from sigil.console.json_lines import json_line
from sigil.console.program import Program
from sigil.console.style import Style, styled
from sigil.serving.files.secret_output import name_is_taken, output

if TYPE_CHECKING:
    from sigil.config.settings import Config
    from sigil.protocol.identity import ServerIdentity

_LAZY_GROUPS = {
    "ask": "sigil.cli.devices.ask",
    "attest": "sigil.cli.attest",
    "backup-key": "sigil.cli.backup_key",
    "device": "sigil.device.commands",
    "doctor": "sigil.cli.doctor",
    "enrol": "sigil.cli.devices.enrol",
    "top": "sigil.cli.top",
    "webhook": "sigil.cli.webhook",
}


_LIVE_HELP = "A key for production (sgk_live_): the default where SIGIL_ATTESTATION_REQUIRED is true, else sgk_test_."
_STATES: dict[str, Style] = {"ok": "good", "open": "notice", "failed": "bad"}


class _LazyGroup(Program):
    """Imports the modules of `_LAZY_GROUPS` only when their commands are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LAZY_GROUPS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LAZY_GROUPS:
            return super().get_command(ctx, cmd_name)
        group: click.Command = getattr(importlib.import_module(_LAZY_GROUPS[cmd_name]), cmd_name.replace("-", "_"))
        return group


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sigil")
def sigil() -> None:
    """Self-hosted push authentication: a person's device signs the answer to a challenge."""


sigil.add_command(completion)


@sigil.command()
def serve() -> None:
    """Run the server; settings come from the environment."""
    with cli_errors:
        from sigil.app.master import run

        sys.exit(run())


@sigil.command("check-config")
def check_config() -> None:
    """Check all settings without starting anything."""
    with cli_errors:
        from sigil.app.checks import check

        checked = check(os.environ)
        config = checked.config
        for line in checked.warnings:
            write_warning(line)
        click.echo(f"mode       {config.mode}")
        if checked.identity:
            click.echo(f"server_id  {checked.identity.server_id}")
            click.echo(f"pictogram  {' '.join(checked.identity.pictogram)}  {checked.identity.pictogram_speakable}")
        else:
            _show_wizard(config)
        click.echo(f"listen     {config.host} port {config.port} ({config.scheme})")
        if not config.http_only:
            click.echo(f"tls        {config.tls_cert}, {config.tls_key}")
        click.echo(f"public     {config.public_url or 'no SIGIL_PUBLIC_URL'}")
        click.echo(f"web app    {_web_app(config)}")
        click.echo(f"relay      {config.relay_url or 'none: no pushes'}")
        click.echo(f"workers    {config.workers}")
        click.echo(f"state      {config.state_dir}, {config.store_size >> 20} MiB")
        click.echo(f"attest     {_attestation(config)}")
        click.echo(f"webhooks   {'enabled' if config.webhook else 'disabled'}")
        code = "with or without code" if config.enrol_without_code else "with code"
        click.echo(f"enrolment  {code}, {config.max_enrolments} open per API key")
        click.echo(f"devices    {len(config.revoked_devices)} revoked")
        click.echo(styled("Configuration OK", "good", sys.stdout))


@sigil.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable: one JSON object per check and line.")
def preflight(as_json: bool) -> None:
    """Check settings, secrets, certificate and host for production, without starting anything. Exit code 1 when a check
    failed. Run it as the server's user, in a container with the server's settings, mounts and limits.
    """
    with cli_errors:
        import datetime

        from sigil.preflight.checklist import run_checks

        results = run_checks(os.environ, datetime.datetime.now(datetime.UTC))
        for result in results:
            if as_json:
                click.echo(json_line(result))
            else:
                step = f"; {result.next_step}" if result.next_step else ""
                state = styled(f"{result.state:<6}", _STATES[result.state], sys.stdout)
                click.echo(f"{state}  {result.name}: {result.text}{step}")
        sys.exit(1 if any(result.state == "failed" for result in results) else 0)


def _web_app(config: Config) -> str:
    if not config.device_app:
        return "off"
    if config.device_app_origin is None:
        return "not served: SIGIL_PUBLIC_URL is no https address with a host name"
    return f"{config.device_app_origin}/device/"


def _attestation(config: Config) -> str:
    kinds = ", ".join(sorted(config.attestation.kinds))
    return f"{'required' if config.attestation.required else 'optional'}: {kinds}" if kinds else "off"


def _show_wizard(config: Config) -> None:
    from sigil.app import init_mode

    place = "SIGIL_INIT_TOKEN" if config.init_token else "in the log at the start"
    click.echo(f"wizard     {init_mode.wizard_address(config)}")
    click.echo(f"token      {'off' if config.init_token_off else place}")
    click.echo(f"identity   {init_mode.expected_server_id(config) or 'any: create or restore'}")


@sigil.command()
@click.option("--url", default=None, help="URL to query; default: this host's server, from the settings.")
@click.option("--ca", default=None, metavar="FILE", help="With --url: the certificate to trust, in PEM.")
def health(url: str | None, ca: str | None) -> None:
    """Query the health of a running server; exit code 0 when it is healthy."""
    with cli_errors:
        from sigil.cli.health import query

        found = query(url, ca)
        click.echo(found.text)
        sys.exit(0 if found.healthy else 1)


@sigil.command()
@click.option("--create", is_flag=True, help="A new mnemonic.")
@click.option("--restore", is_flag=True, help="The mnemonic of an existing server.")
@click.option(
    "--mnemonic-out", type=click.Path(path_type=Path), help="Write the mnemonic to a new file with mode 0600."
)
@click.option("--api-key-out", type=click.Path(path_type=Path), help="Write the API key to a new file with mode 0600.")
@click.option("--yes", is_flag=True, help="No prompts; the mnemonic to restore comes from standard input.")
def init(create: bool, restore: bool, mnemonic_out: Path | None, api_key_out: Path | None, yes: bool) -> None:
    """Set up a server in the terminal: mnemonic, identity, API key. For the browser's wizard, set SIGIL_MODE=init."""
    for path in (mnemonic_out, api_key_out):
        if path and os.path.lexists(path):
            cli_errors.die(name_is_taken(path))
    if create and restore:
        cli_errors.die("pass either --create or --restore")
    if yes and not (create or restore):
        cli_errors.die("--yes needs --create or --restore")
    # Standard output must be a terminal too: a file or a pipe would keep the mnemonic that is shown for a moment.
    if not yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
        cli_errors.die("there is no terminal for prompts and for the mnemonic: use --yes with --create or --restore")
    with cli_errors:
        from sigil.cli.init import InitOptions, TerminalWizard
        from sigil.protocol.identity import InvalidMnemonic
        from sigil.serving.process.memory_protection import forbid_core_dumps

        forbid_core_dumps()
        choice = restore if create or restore else None
        try:
            TerminalWizard(InitOptions(choice, mnemonic_out, api_key_out, yes)).run()
        except InvalidMnemonic as error:
            cli_errors.die(str(error))


@sigil.command()
@click.option("--out", type=click.Path(path_type=Path), help="Write a new file with mode 0600 instead of printing.")
def mnemonic(out: Path | None) -> None:
    """Generate a mnemonic of 24 words: the server's master secret. Write it down: nothing else restores the server."""
    with cli_errors:
        from sigil.protocol.identity import generate_mnemonic

        output(generate_mnemonic(), out, cli_errors)
        if out:
            click.echo("Write the 24 words on paper too: nothing else restores the server.", err=True)


@sigil.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--server-id", "only_id", is_flag=True, help="The server_id alone, for RELAY_TRUSTED_SERVERS.")
def identity(as_json: bool, only_id: bool) -> None:
    """Show the public identity that is derived from the mnemonic of the settings."""
    public = _identity()
    if only_id:
        click.echo(public.server_id)
        return
    fields: dict[str, Any] = {
        "server_id": public.server_id,
        "server_public_keys": public.server_public_keys,
        "keys_signature": public.keys_signature,
        "server_pictogram": public.pictogram,
        "server_pictogram_speakable": public.pictogram_speakable,
    }
    if as_json:
        click.echo(json_line(fields))
        return
    click.echo(f"server_id   {public.server_id}")
    click.echo(f"pictogram   {' '.join(public.pictogram)}  {public.pictogram_speakable}")
    for suite, key in public.server_public_keys.items():
        click.echo(f"{suite:<11} {key}")


@sigil.command()
@click.option(
    "--live",
    is_flag=True,
    help="A key for production (sgk_live_): the default where SIGIL_ATTESTATION_REQUIRED is true, else sgk_test_.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a new file with mode 0600 instead of printing.")
def keygen(live: bool, out: Path | None) -> None:
    """Generate an API key from the mnemonic of the settings; the server accepts it without storing it."""
    with cli_errors:
        from sigil.config.settings import load_key_prefix
        from sigil.protocol.api_key import ID_LENGTH, issue_api_key

        prefix = "sgk_live_" if live else load_key_prefix(os.environ)
        secret = _identity().api_key_secret
        output(issue_api_key(secret, prefix, secrets.token_bytes(ID_LENGTH)), out, cli_errors)


def _identity() -> ServerIdentity:
    with cli_errors:
        from sigil.config.settings import load_mnemonic
        from sigil.protocol.identity import DerivedSecrets, InvalidMnemonic, ServerIdentity

        try:
            return ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(load_mnemonic(os.environ).reveal()))
        except InvalidMnemonic as error:
            cli_errors.die(f"SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH: {error}")
