"""`make dev`: server, relay and push stand-ins on loopback, ready for use, with their secrets in .dev/.

Later starts use the identity and the API key of the first start. The server has plain HTTP: browsers refuse passkeys
and service workers where they do not trust the certificate, and treat http://localhost as secure.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import certifi
import click

from deploy.tools.dev_browser import BrowserEnrolments
from deploy.tools.folder_lock import lock_folder
from relay.web_push_settings import new_key
from sigil.cli.health import query
from sigil.console.streams import standard_streams
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets, InvalidMnemonic, ServerIdentity, generate_mnemonic
from sigil.sdk import SigilAuth
from sigil.serving.settings import ConfigError, EnvReader
from sigil.serving.settings import port as parse_port

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".dev"
_START_SECONDS = 180
_TLS_PORT = (
    "make dev: SIGIL_PORT is the port of a server with TLS, and make dev serves plain HTTP on localhost: unset it; "
    "SIGIL_HTTP_PORT chooses another port than 8440"
)
_OWN_PROVIDERS = {"APNS_KEY_PATH", "FCM_SERVICE_ACCOUNT"}
# Patterns of the shell: commands about the running service. Others have the shell's environment alone.
_OF_SERVER = "attest | check-config | doctor | health | top | webhook"
_OF_RELAY = "check-config | devices | doctor | health | servers"
# The beginnings of the services' settings (docs/configuration.md, docs/relay.md).
_SETTINGS = (
    *(
        "API_KEY",
        "APNS_",
        "DATABASE_URL",
        "FCM_",
        "LOG_LEVEL",
        "METRICS_TOKEN",
        "OTEL_",
        "RELAY_",
        "SIGIL_",
        "SSL_CERT_",
    ),
    *("TLS_", "TOKEN_ENCRYPTION_KEY", "TRUSTED_PROXY_", "USE_CF_", "WEBHOOK_"),
)


def _write_once(path: Path, text: str) -> str:
    """The content of the file, which is created with `text` and mode 0600 if it does not exist."""
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    Path(name).replace(path)
    return text


def _url(port: int) -> str:
    return f"http://localhost:{port}"


def _settings(port: int, relay_port: int) -> dict[str, str]:
    """The settings of the server."""
    return {
        "SIGIL_MNEMONIC_PATH": str(HOME / "mnemonic"),
        "SIGIL_HOST": "127.0.0.1",
        "SIGIL_HTTP_PORT": str(port),
        "SIGIL_PUBLIC_URL": _url(port),
        "SIGIL_STATE_DIR": str(HOME / "state"),
        # A directory of the checkout is rarely tmpfs; its content is worthless.
        "SIGIL_STATE_DIR_INSECURE": "true",
        "SIGIL_STORE_SIZE": "256MiB",
        "SIGIL_SERVER_NAME": "Sigil development",
        # The link of `make dev` needs no code: it leads from this machine to this machine.
        "SIGIL_ENROL_WITHOUT_CODE": "true",
        "RELAY_URL": f"http://127.0.0.1:{relay_port}",
        "RELAY_PUBLIC_URL": f"http://localhost:{relay_port}",
    }


def _relay_settings(port: int, server_id: str, providers: dict[str, str]) -> dict[str, str]:
    """The settings of the relay; `providers` are its credentials for APNs and FCM."""
    return {
        **providers,
        "RELAY_HOST": "127.0.0.1",
        "RELAY_PORT": str(port),
        "RELAY_PUBLIC_URL": f"http://localhost:{port}",
        "RELAY_DATA_DIR": str(HOME / "relay"),
        "RELAY_TRUSTED_SERVERS": server_id,
        "RELAY_WEBPUSH_KEY_FILE": str(HOME / "webpush_key"),
    }


def _start_stand_ins(lock: int) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start the stand-ins of APNs and FCM, and return what they print once they listen."""
    command = [sys.executable, "-m", "deploy.providers", "--directory", str(HOME / "providers")]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(lock,))
    if started.stdout is None or not (line := started.stdout.readline()):
        raise SystemExit(started.wait() or 1)
    return started, json.loads(line)


def _providers(of_stand_ins: dict[str, str]) -> dict[str, str]:
    """The credentials of the stand-ins. None if the shell has its own: the two cannot be mixed."""
    if _OWN_PROVIDERS & os.environ.keys():
        return {}
    # Variables of the shell take precedence, and its SSL_CERT_FILE does not trust the stand-ins.
    os.environ.pop("SSL_CERT_FILE", None)
    # Pushes to browsers go to the real services of their vendors.
    authorities = (Path(path).read_text(encoding="utf-8") for path in (of_stand_ins["SSL_CERT_FILE"], certifi.where()))
    trusted = HOME / "trusted.pem"
    _replace(trusted, "\n".join(authorities))
    return {**of_stand_ins, "SSL_CERT_FILE": str(trusted)}


def _prepare(port: int, control_url: str) -> ServerIdentity:
    try:
        secrets = DerivedSecrets.from_mnemonic(_write_once(HOME / "mnemonic", generate_mnemonic()))
    except InvalidMnemonic as error:
        line = f"make dev: {HOME / 'mnemonic'}: {error}; remove the file for a new identity"
        raise SystemExit(line) from None
    _write_once(HOME / "webpush_key", new_key())
    api_key = _write_once(HOME / "api_key", issue_api_key(secrets.api_key, "sgk_test_", os.urandom(16)))
    identity = ServerIdentity.from_secrets(secrets)
    _replace(
        HOME / "env",
        shell_variables(
            [HOME / "bin", ROOT / ".venv" / "bin"],
            {
                "SIGIL_SERVICE_URL": _url(port),
                "SIGIL_API_KEY_FILE": str(HOME / "api_key"),
                "SIGIL_SERVER_ID": identity.server_id,
                "SIGIL_STATE_DIR": str(HOME / "state"),
                "SIGIL_STATE_DIR_INSECURE": "true",
                "SIGIL_HTTP_PORT": str(port),
                "SIGIL_DEVICE_HOME": str(HOME / "device"),
                "PUSH_STAND_INS": control_url,
            },
        ),
    )
    # curl reads the key from this file: every user of the machine could read it on curl's command line.
    _replace(
        HOME / "curl",
        f'header = "Authorization: Bearer {api_key}"\n'
        'header = "Content-Type: application/json"\nsilent\nshow-error\nwrite-out = "\\n"\n',
    )
    return identity


def shell_variables(folders: list[Path], variables: dict[str, str]) -> str:
    """What a POSIX shell or zsh reads with `.`, quoted: a checkout's path may hold a blank, a $ or a quote.

    A key of the shell's own is unset: the SDK takes a key or a file, not both. So are settings of a server with TLS.
    """
    path = ":".join(shlex.quote(str(folder)) for folder in folders)
    lines = [f'export PATH={path}:"$PATH"', "unset SIGIL_API_KEY SIGIL_CA_FILE SIGIL_PORT"]
    return "\n".join([*lines, *(f"export {name}={shlex.quote(value)}" for name, value in variables.items())]) + "\n"


def _write_commands(of_server: dict[str, str], of_relay: dict[str, str]) -> None:
    """The programs of a shell with .dev/env. Operators' commands get the settings with which the services run: with
    others, `sigil doctor` would examine another installation.

    pip's own launchers do not start in a path with both a blank and a $.
    """
    (HOME / "bin").mkdir(mode=0o700, exist_ok=True)
    python = shlex.quote(str(ROOT / ".venv" / "bin" / "python"))
    programs = (("sigil", "sigil", of_server, _OF_SERVER), ("sigil-relay", "relay", of_relay, _OF_RELAY))
    for name, package, settings, commands in programs:
        lines = [f"export {key}={shlex.quote(value)}" for key, value in _with_shell(settings).items()]
        text = "\n".join(
            ["#!/bin/sh", f"case ${{1-}} in {commands})", *lines, ";; esac", f'exec {python} -m {package} "$@"']
        )
        _write_program(HOME / "bin" / name, text)


def _write_doctor() -> None:
    """A script for `make doctor`. Of the options and subcommands the relay's doctor has --json alone."""
    sigil, relay = (shlex.quote(str(HOME / "bin" / name)) for name in ("sigil", "sigil-relay"))
    lines = [
        "#!/bin/sh",
        "code=0",
        f'{sigil} doctor "$@" || code=$?',
        'case "$code $* " in "2 "* | *" push "* | *" --help "*) exit $code ;;',
        '*" --json "*) set -- --json ;; *) set -- ;; esac',
        f'{relay} doctor "$@" || code=$?',
        "exit $code",
    ]
    _write_program(HOME / "doctor", "\n".join(lines))


def _with_shell(settings: dict[str, str]) -> dict[str, str]:
    """What a service gets: variables of the shell take precedence, such as WEBHOOK_URL."""
    return {**settings, **{name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}}


def _write_program(path: Path, text: str) -> None:
    _replace(path, text)
    path.chmod(0o700)


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    _write_once(path, text.rstrip("\n"))


def chosen_ports(program: str, defaults: dict[str, int]) -> dict[str, int]:
    """The ports by the name of their setting. Exits with a line for each that is no port."""
    reader = EnvReader(os.environ)
    chosen = {name: reader.value(name, default, parse_port) for name, default in defaults.items()}
    for line in reader.faults:
        click.echo(f"{program}: {line}", err=True)
    if reader.faults:
        raise SystemExit(1)
    return chosen


def require_free_ports(program: str, ports: dict[str, int]) -> None:
    """Exit with a line for each port in use: its listener would be mistaken for a service started here.

    `ports` are the ports by the name of their setting.
    """
    in_use = []
    for name, port in ports.items():
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                in_use.append(f"port {port} is in use; stop that program, or set {name} to another port")
    for line in in_use:
        click.echo(f"{program}: {line}", err=True)
    if in_use:
        raise SystemExit(1)


def wait_until_healthy(services: list[subprocess.Popen[bytes]]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while not _ended(services) and time.monotonic() < deadline:
        try:
            if query(None).healthy:
                return True
        except ConfigError:
            return False  # the server names the setting, and ends
        time.sleep(0.1)
    return False


def _ended(services: list[subprocess.Popen[bytes]]) -> list[int]:
    return [code for service in services if (code := service.poll()) is not None]


def _wait(services: list[subprocess.Popen[bytes]]) -> int:
    """Wait until one service ends: its exit code, or the number of its signal."""
    while not (codes := _ended(services)):
        time.sleep(0.2)
    return max(abs(code) for code in codes)


def start(package: str, settings: dict[str, str], keep_open: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    """Variables of the shell take precedence over `settings`: `SIGIL_HTTP_PORT=9000 make dev`."""
    command = [sys.executable, "-m", package, "serve"]
    return subprocess.Popen(command, env={**settings, **os.environ}, pass_fds=keep_open)


def main() -> int:
    """Run until Ctrl-C; the exit code of the service that ended first."""
    if os.environ.get("SIGIL_PORT"):
        raise SystemExit(_TLS_PORT)
    ports = chosen_ports("make dev", {"SIGIL_HTTP_PORT": 8440, "RELAY_PORT": 8080})
    require_free_ports("make dev", ports)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    lock = lock_folder("make dev", HOME)
    services: list[subprocess.Popen[bytes]] = []
    try:
        code = _run(services, ports["SIGIL_HTTP_PORT"], ports["RELAY_PORT"], lock)
    except KeyboardInterrupt:
        code = 0
    finally:
        # Ctrl-C reaches the services too, and they drain; a signal to only this process does not reach them.
        for service in services:
            service.terminate()
        codes = [service.wait() for service in services]
    return max(code, *codes)


def _run(services: list[subprocess.Popen[bytes]], port: int, relay_port: int, lock: int) -> int:
    """Starts the services, which are appended, and waits until one ends."""
    stand_ins, printed = _start_stand_ins(lock)
    services.append(stand_ins)
    identity = _prepare(port, printed["control_url"])
    os.environ.pop("SIGIL_MNEMONIC", None)
    # The health check reads its port from the environment.
    os.environ.setdefault("SIGIL_HTTP_PORT", str(port))
    of_relay = _relay_settings(relay_port, identity.server_id, _providers(printed["env"]))
    of_server = _settings(port, relay_port)
    _write_commands(of_server, of_relay)
    _write_doctor()
    services.append(start("relay", of_relay, (lock,)))
    services.append(start("sigil", of_server, (lock,)))
    if not wait_until_healthy(services):
        return _wait(services)
    # The SDK reads its settings from the environment; those of the shell are for another server.
    for name in ("SIGIL_API_KEY", "SIGIL_CA_FILE"):
        os.environ.pop(name, None)
    os.environ["SIGIL_API_KEY_FILE"] = str(HOME / "api_key")
    with SigilAuth(_url(port)) as sigil:
        browsers = BrowserEnrolments(sigil, _browser_enrolled)
        click.echo(
            f"\nSigil answers on {_url(port)}, its relay on {_url(relay_port)}\n"
            f"  server_id  {identity.server_id}\n"
            f"  pictogram  {' '.join(identity.pictogram)}  {identity.pictogram_speakable}\n\n"
            "To enrol a device with a code, in another terminal in this directory:\n\n"
            "  . .dev/env && sigil enrol alice\n\n"
            "README.md has the next steps; `make doctor` examines both services. Pushes to APNs and FCM go to "
            "stand-ins, which list them:"
            f" curl -s {printed['control_url']}/seen\nCtrl-C stops everything.\n\n"
            "Open this link in a browser on this machine to make it an authenticator:\n\n"
            f"  {browsers.url}\n",
            err=True,
        )
        try:
            return _wait(services)
        finally:
            browsers.close()


def _browser_enrolled(key: str) -> None:
    _replace(HOME / "browser_key", key)
    click.echo(
        "\nThe browser is enrolled. Send it a challenge, from another terminal in this directory:\n\n"
        '  . .dev/env && sigil ask --device "$(cat .dev/browser_key)" "Sign in to Example"\n',
        err=True,
    )


if __name__ == "__main__":
    with standard_streams("make dev"):
        raise SystemExit(main())
