"""Commands that run and inspect a server, and make its secrets."""

from __future__ import annotations

import importlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sigil import __version__

if TYPE_CHECKING:
    from sigil.config.settings import Config
    from sigil.protocol.identity import ServerIdentity

_LAZY_GROUPS = {"device": "sigil.device.commands", "webhook": "sigil.cli.webhook"}
_EXTRAS = {
    "aiohttp": "server",
    "granian": "server",
    "falcon": "server",
    "lmdb": "server",
    "uvloop": "server",
    "mnemonic": "cli",
}


class _Lazy(click.Group):
    """Groups that live elsewhere are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LAZY_GROUPS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LAZY_GROUPS:
            return super().get_command(ctx, cmd_name)
        group: click.Command = getattr(importlib.import_module(_LAZY_GROUPS[cmd_name]), cmd_name)
        return group


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sigil")
def sigil() -> None:
    """Sigil asks a person's device "do you approve this?" and gets a signed answer."""


def die(*lines: str) -> NoReturn:
    for line in lines:
        click.echo(f"sigil: {line}", err=True)
    sys.exit(1)


@contextmanager
def refusals() -> Iterator[None]:
    """Faults of the settings and missing extras as lines on standard error, exit code 1."""
    try:
        from sigil.serving.settings import ConfigError

        yield
    except ImportError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        die(f"install what this needs with: pip install 'sigil-auth[{extra}]'")
    except ConfigError as error:
        die(*error.lines)
    except Exception as error:
        # Named by type, not imported: the module that defines it needs the server extra.
        if type(error).__name__ not in {"StartupError", "InvalidMnemonic"}:
            raise
        die(str(error))


@sigil.command()
def serve() -> None:
    """Run the server; settings come from the environment."""
    with refusals():
        from sigil.app.master import run

        sys.exit(run())


@sigil.command("check-config")
def check_config() -> None:
    """Check all settings without starting anything."""
    with refusals():
        from sigil.app.master import check

        config, identity = check()
        for line in config.warnings:
            click.echo(f"warning: {line}", err=True)
        click.echo(f"mode       {config.mode}")
        if identity:
            click.echo(f"server_id  {identity.server_id}")
            click.echo(f"pictogram  {' '.join(identity.pictogram)}  {identity.pictogram_speakable}")
        else:
            _show_wizard(config)
        click.echo(f"listen     {config.host} port {config.port} ({'http' if config.http_only else 'https'})")
        click.echo(f"workers    {config.workers}")
        click.echo(f"state      {config.state_dir}")
        click.echo(f"webhooks   {'enabled' if config.webhook else 'disabled'}")
        click.echo("the settings are good")


def _show_wizard(config: Config) -> None:
    from sigil.app import init_mode

    own = "SIGIL_INIT_TOKEN" if config.init_token else "the token of the log"
    click.echo(f"wizard     {init_mode.address_of(config)}")
    click.echo(f"asks for   {own if init_mode.asks_for_token(config) else 'no token'}")
    click.echo(f"restores   {init_mode.expected(config) or 'any identity, or makes one'}")


@sigil.command()
@click.option("--url", default=None, help="Address to ask; default: this host's server, as the settings say.")
def health(url: str | None) -> None:
    """Ask a running server how it is; exit code 0 when it is healthy."""
    with refusals():
        from sigil.cli.health import ask

        answer = ask(url)
        click.echo(answer.text)
        sys.exit(0 if answer.healthy else 1)


@sigil.command()
@click.option("--create/--restore", "create", default=None, help="New words, or those of a server that was lost.")
@click.option("--mnemonic-out", type=click.Path(path_type=Path), help="Write the words to a new file with mode 0600.")
@click.option("--api-key-out", type=click.Path(path_type=Path), help="Write the API key to a new file with mode 0600.")
@click.option("--yes", is_flag=True, help="Ask nothing; words to restore come from standard input.")
def init(create: bool | None, mnemonic_out: Path | None, api_key_out: Path | None, yes: bool) -> None:
    """Set a server up in the terminal: words, identity, API key. The browser's wizard is SIGIL_MODE=init."""
    for path in (mnemonic_out, api_key_out):
        if path and path.exists():
            die(f"{path} exists; it is not overwritten")
    if yes and create is None:
        die("--yes asks nothing: say --create or --restore")
    # Standard output as well: in a file or a pipe the words that are shown for a moment would stay.
    if not yes and not (sys.stdin.isatty() and sys.stdout.isatty()):
        die("there is no terminal to ask on and show words on: say --yes, and --create or --restore")
    with refusals():
        from sigil.cli.init import Wanted, Wizard
        from sigil.serving.process.memory_protection import forbid_core_dumps

        forbid_core_dumps()
        restore = None if create is None else not create
        Wizard(Wanted(restore, mnemonic_out, api_key_out, yes), _give).run()


@sigil.command()
@click.option("--out", type=click.Path(path_type=Path), help="Write a new file with mode 0600 instead of printing.")
def mnemonic(out: Path | None) -> None:
    """Make 24 words: the server's master secret. Write them down; nothing else can bring the server back."""
    with refusals():
        from sigil.protocol.identity import generate_mnemonic

        _give(generate_mnemonic(), out)


@sigil.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def identity(as_json: bool) -> None:
    """Show the public identity that the mnemonic of the settings gives."""
    shown = _identity()
    fields: dict[str, Any] = {
        "server_id": shown.server_id,
        "server_public_keys": shown.server_public_keys,
        "keys_signature": shown.keys_signature,
        "server_pictogram": shown.pictogram,
        "server_pictogram_speakable": shown.pictogram_speakable,
    }
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(fields).decode())
        return
    click.echo(f"server_id   {shown.server_id}")
    click.echo(f"pictogram   {' '.join(shown.pictogram)}  {shown.pictogram_speakable}")
    for suite, key in shown.server_public_keys.items():
        click.echo(f"{suite:<11} {key}")


@sigil.command()
@click.option("--live", is_flag=True, help="A key for production (sgk_live_) instead of one for tests (sgk_test_).")
@click.option("--out", type=click.Path(path_type=Path), help="Write a new file with mode 0600 instead of printing.")
def keygen(live: bool, out: Path | None) -> None:
    """Make an API key under the mnemonic of the settings; the server accepts it with nothing stored."""
    with refusals():
        from sigil.protocol.api_key import ID_LENGTH, issue

        secret = _identity().api_key_secret
        _give(issue(secret, "sgk_live_" if live else "sgk_test_", secrets.token_bytes(ID_LENGTH)), out)


def _identity() -> ServerIdentity:
    with refusals():
        from sigil.config.settings import load_mnemonic
        from sigil.protocol.identity import DerivedSecrets, ServerIdentity

        return ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(load_mnemonic(os.environ).reveal()))
    raise AssertionError("unreachable: refusals exit")


def _give(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text)
        return
    try:
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        die(f"cannot create {out}: {error.strerror}")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text + "\n")
