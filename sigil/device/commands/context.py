"""Shared by all device commands: the key directory, the choice of the server, TLS trust and error output."""

from __future__ import annotations

import os
import re
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sigil.console.countdown import countdown_before_prompt
from sigil.console.program import Program
from sigil.device.approval_checks import Shown
from sigil.device.client import DeviceClient
from sigil.device.credential.files import credentials_of
from sigil.device.errors import AddressRefused, CertificateUntrusted, DeviceError, NotRegistered, Peer, TrustUnusable
from sigil.device.http.connection import ServerConnection
from sigil.device.http.origin import base_url
from sigil.device.http.tls import TlsTrust
from sigil.device.keyring import Keyring, Registration
from sigil.device.timestamps import Clock, Sleep
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.encoding.plain_text import NotPlainText, check, text_of

# Generic since click 8.2 only, and only for the type checker of interest.
if TYPE_CHECKING:
    _TextParam = click.ParamType[str]
else:
    _TextParam = click.ParamType


def _on_terminal() -> bool:
    return sys.stdin.isatty()


@dataclass(frozen=True)
class CommandContext:
    """Replaced in tests, as `obj` of the click context."""

    clock: Clock = time.time
    sleep: Sleep = time.sleep
    interactive: Callable[[], bool] = _on_terminal


def command_context() -> CommandContext:
    return click.get_current_context().find_object(CommandContext) or CommandContext()


class DeviceGroup(Program):
    """Prints a DeviceError or OSError as one line on stderr, with exit code 1; usage errors are click's, with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DeviceError as error:
            raise click.ClickException(one_line(error)) from error
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            raise click.ClickException(printable(f"{error.strerror or error}{where}")) from error


def one_line(error: DeviceError) -> str:
    message = f"{error.fault} {_trust_hint(error.peer)}" if isinstance(error, CertificateUntrusted) else error.message
    return printable(f"{error.code}: {message}")


def _trust_hint(peer: Peer) -> str:
    """Only `init` and `enrol` take trust options for the server; those of the relay commands are for the relay."""
    context = click.get_current_context()
    if peer == "relay":
        return "Pass --ca FILE or --tls-pin SHA256."
    if {"init", "enrol"} & {context.info_name, context.invoked_subcommand}:
        return (
            "Pass --ca FILE with the server's own certificate: its file is TLS_CERT_PATH on the server's host, by "
            "default /var/lib/sigil/tls/cert.pem (`make dev`: .dev/tls/cert.pem). Or pass --tls-pin SHA256."
        )
    return (
        "This device trusts what 'sigil device init' was given. If the operator changed the certificate, run "
        "'sigil device init --force' with the new --ca or --tls-pin, and enrol the new key."
    )


class _ServerUrl(_TextParam):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return base_url(str(value))
        except AddressRefused as error:
            self.fail(error.message, param, ctx)


class Matching(_TextParam):
    """Text that matches a pattern; `normalise` is applied first."""

    def __init__(self, name: str, pattern: str, expected: str, normalise: Callable[[str], str] = str) -> None:
        self.name, self._pattern = name, re.compile(pattern, re.ASCII)
        self._expected, self._normalise = expected, normalise

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = self._normalise(str(value))
        if not self._pattern.fullmatch(text):
            self.fail(f"expected {self._expected}", param, ctx)
        return text


SERVER_URL = _ServerUrl()
MATCH_CODE = Matching("NN", "[0-9]{2}", "two digits")
# Also in the form that `openssl x509 -fingerprint -sha256` prints.
_SHA256 = Matching("sha256", "[0-9a-f]{64}", "64 hex characters", lambda text: text.replace(":", "").lower())
# As in the SDK; a device file has no end.
_MAX_CA = 1 << 20
_Command = TypeVar("_Command", bound=Callable[..., Any])


def trust_options(peer: str) -> Callable[[_Command], _Command]:
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    ca = click.option("--ca", type=file, help=f"Trust these PEM certificates for {peer}.")
    pin = click.option("--tls-pin", type=_SHA256, help=f"Trust only {peer}'s certificate with this SHA-256.")
    return lambda command: ca(pin(command))


def trust_of(url: str, ca: Path | None, tls_pin: str | None) -> TlsTrust:
    """The trust of `trust_options` for an address."""
    if ca is not None and tls_pin is not None:
        raise click.UsageError("Pass either --ca or --tls-pin, not both.")
    if (ca or tls_pin) and url.startswith("http:"):
        raise click.UsageError("--ca and --tls-pin are for https addresses.")
    try:
        return TlsTrust(ca_pem=text_of(_certificates(ca)) if ca else None, sha256=tls_pin)
    except NotPlainText as error:
        raise TrustUnusable(f"{ca} {error}.") from error


def _certificates(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(_MAX_CA + 1)
    if len(content) > _MAX_CA:
        raise TrustUnusable(f"{path} is larger than {_MAX_CA >> 20} MiB: it holds more than certificates.")
    return content


def _default_home() -> Path:
    configured = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    # The XDG specification requires that a relative path is ignored.
    if configured.is_absolute():
        return configured / "sigil" / "device"
    try:
        return Path.home() / ".config" / "sigil" / "device"
    except RuntimeError:
        raise click.UsageError(
            "This user has no home directory: set HOME, or pass --home DIR (or SIGIL_DEVICE_HOME)."
        ) from None


def _keyring(_context: click.Context, _option: click.Parameter, home: Path) -> Keyring:
    """A variable may have quotes, which a shell would take off an option: the keys would go to another directory."""
    try:
        check(str(home))
    except NotPlainText as error:
        raise click.UsageError(f"--home (or SIGIL_DEVICE_HOME) {error}.") from error
    return Keyring(home)


home_option = click.option(
    "--home",
    "keyring",
    envvar="SIGIL_DEVICE_HOME",
    type=click.Path(file_okay=False, path_type=Path),
    default=_default_home,
    callback=_keyring,
    help="Directory of the key files. [default: ~/.config/sigil/device]",
)
server_option = click.option(
    "--server", type=SERVER_URL, help="The server's address. Needed only when several servers are known."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


def selected_registration(keyring: Keyring, server: str | None) -> Registration:
    """The registration for --server, or the only one; NotRegistered, and a usage error when there are several."""
    if server is not None:
        return keyring.load(server)
    known = keyring.known()
    if not known:
        raise NotRegistered("This device knows no server; run 'sigil device enrol' with a link first, or 'init'.")
    if len(known) > 1:
        raise click.UsageError(printable(f"Several servers are known. Select one with --server: {', '.join(known)}"))
    return keyring.load(known[0])


def discard_typed_ahead() -> None:
    """What was typed before a prompt appeared does not answer it."""
    with suppress(OSError, ValueError, termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def prompt_number(shown: Shown, context: CommandContext) -> str:
    discard_typed_ahead()
    with countdown_before_prompt(shown.seconds_left(context.clock())) as seconds:
        code: str = click.prompt(f"{seconds}The number that the service shows", type=MATCH_CODE, err=True)
    return code


@contextmanager
def open_client(keyring: Keyring, registration: Registration) -> Iterator[DeviceClient]:
    context, server = command_context(), registration.server
    with ServerConnection(server.base_url, server.tls) as connection:
        timestamps = keyring.timestamps(server.base_url, context.clock, context.sleep)
        yield DeviceClient(
            registration.device,
            server,
            connection,
            timestamps=timestamps,
            clock=context.clock,
            wrong_codes=keyring.wrong_codes(server.base_url),
            credentials=credentials_of(keyring, registration, connection, context.clock),
        )
