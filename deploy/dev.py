"""`make dev`: everything that exists so far, operational, on loopback, with its secrets in .dev/.

The second start finds what the first one made: the same identity, API key and certificate.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from sigil.cli.health import ask
from sigil.protocol.api_key import issue
from sigil.protocol.identity import DerivedSecrets, ServerIdentity, generate_mnemonic

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".dev"
_START_SECONDS = 30


def _write_once(path: Path, text: str) -> str:
    """The file's content, which is `text` when there was none; mode 0600 from its first moment."""
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text + "\n")
    Path(name).replace(path)
    return text


def _settings(port: int) -> dict[str, str]:
    return {
        "SIGIL_MNEMONIC_PATH": str(HOME / "mnemonic"),
        "SIGIL_HOST": "127.0.0.1",
        "SIGIL_PORT": str(port),
        "SIGIL_STATE_DIR": str(HOME / "state"),
        # A directory of the checkout is rarely tmpfs; what is in it is worth nothing.
        "SIGIL_STATE_DIR_INSECURE": "true",
        "SIGIL_STORE_SIZE": "256MiB",
        "SIGIL_SERVER_NAME": "Sigil development",
        "TLS_CERT_PATH": str(HOME / "tls" / "cert.pem"),
        "TLS_KEY_PATH": str(HOME / "tls" / "key.pem"),
        "RELAY_URL": "",
    }


def _prepare(port: int) -> ServerIdentity:
    HOME.mkdir(mode=0o700, exist_ok=True)
    secrets = DerivedSecrets.from_mnemonic(_write_once(HOME / "mnemonic", generate_mnemonic()))
    api_key = _write_once(HOME / "api_key", issue(secrets.api_key, "sgk_test_", os.urandom(16)))
    identity = ServerIdentity.from_secrets(secrets)
    certificate, url = HOME / "tls" / "cert.pem", f"https://localhost:{port}"
    _replace(
        HOME / "env",
        f'export PATH="{ROOT / ".venv" / "bin"}:$PATH"\n'
        f'export SIGIL_SERVICE_URL="{url}"\nexport SIGIL_SERVER_ID="{identity.server_id}"\n'
        f'export SIGIL_DEVICE_HOME="{HOME / "device"}"\n',
    )
    # curl reads the key from here: on its command line every user of the machine could read it.
    _replace(
        HOME / "curl",
        f'cacert = "{certificate}"\nheader = "Authorization: Bearer {api_key}"\n'
        'header = "Content-Type: application/json"\nsilent\nshow-error\nwrite-out = "\\n"\n',
    )
    return identity


def _replace(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    _write_once(path, text.rstrip("\n"))


def _wait_until_healthy(server: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if Path(os.environ["TLS_CERT_PATH"]).exists() and ask(None).healthy:
            return True
        time.sleep(0.1)
    return False


def main() -> int:
    """Run until Ctrl-C; the exit code of the server."""
    port = int(os.environ.get("SIGIL_PORT", "8443"))
    identity = _prepare(port)
    # Settings of the shell win: `SIGIL_PORT=9443 make dev`.
    os.environ.pop("SIGIL_MNEMONIC", None)
    os.environ.update({name: value for name, value in _settings(port).items() if name not in os.environ})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen([sys.executable, "-m", "sigil", "serve"])
    try:
        if _wait_until_healthy(server):
            click.echo(
                f"\nSigil answers on https://localhost:{port}\n"
                f"  server_id  {identity.server_id}\n"
                f"  pictogram  {' '.join(identity.pictogram)}  {identity.pictogram_speakable}\n\n"
                "Next, in another terminal in this directory:\n\n"
                "  . .dev/env && sigil device init --server $SIGIL_SERVICE_URL --pin $SIGIL_SERVER_ID"
                " --ca .dev/tls/cert.pem\n\n"
                "README.md goes on from there. Ctrl-C stops the server.\n",
                err=True,
            )
        return server.wait()
    except KeyboardInterrupt:
        # Ctrl-C reached the server too, which drains; a signal to this process alone did not.
        server.terminate()
        return server.wait()


if __name__ == "__main__":
    raise SystemExit(main())
