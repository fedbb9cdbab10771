"""`make wizard`: a server in init mode on loopback, as on the first start of Sigil.

Each run starts without an identity: the identity of the previous run is deleted. The certificate in .dev/wizard/ stays.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

from deploy.tools.dev import HOME, require_free_ports, start, wait_until_healthy

FOLDER = HOME / "wizard"


def _settings(port: int) -> dict[str, str]:
    return {
        "SIGIL_MODE": "init",
        "SIGIL_HOST": "127.0.0.1",
        "SIGIL_PORT": str(port),
        "SIGIL_STATE_DIR": str(FOLDER / "state"),
        # A directory of the checkout is rarely tmpfs: an identity for real use must not be made here.
        "SIGIL_STATE_DIR_INSECURE": "true",
        "SIGIL_STORE_SIZE": "64MiB",
        "TLS_CERT_PATH": str(FOLDER / "tls" / "cert.pem"),
        "TLS_KEY_PATH": str(FOLDER / "tls" / "key.pem"),
        "SIGIL_INIT_RESET": "true",
        "RELAY_URL": "",
    }


def _remove_state() -> None:
    shutil.rmtree(FOLDER / "state", ignore_errors=True)


@contextmanager
def _locked_folder() -> Iterator[None]:
    """Exit if another `make wizard` uses the folder: it would lose its identity and its session store."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            click.echo(f"make wizard: another `make wizard` uses {FOLDER}; stop it first", err=True)
            raise SystemExit(1) from None
        yield


def main() -> int:
    """Run until Ctrl-C; the exit code of the server."""
    port = int(os.environ.get("SIGIL_PORT", "8443"))
    require_free_ports("make wizard", {"SIGIL_PORT": port})
    with _locked_folder():
        return _run(port)


def _run(port: int) -> int:
    settings = _settings(port)
    address = f"https://localhost:{port}/init"
    # The page prompts for a token of the operator's own.
    if not {"SIGIL_INIT_TOKEN", "SIGIL_INIT_TOKEN_FILE"} & os.environ.keys():
        settings["SIGIL_INIT_TOKEN"] = secrets.token_urlsafe(24)
        address += f"#token={settings['SIGIL_INIT_TOKEN']}"
    # The health check reads its settings from the environment.
    os.environ.setdefault("SIGIL_PORT", str(port))
    os.environ.setdefault("TLS_CERT_PATH", settings["TLS_CERT_PATH"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _remove_state()
    server = start("sigil", settings)
    try:
        if wait_until_healthy([server]):
            click.echo(
                f"\nOpen {address}\n"
                "Your browser does not trust the certificate yet: that is expected here, go on.\n"
                "The identity is only for trying the wizard out: Ctrl-C stops the server and deletes it.\n",
                err=True,
            )
        return server.wait()
    except KeyboardInterrupt:
        # Ctrl-C reaches the server too; a signal to only this process does not.
        server.terminate()
        return max(0, server.wait())
    finally:
        _remove_state()


if __name__ == "__main__":
    raise SystemExit(main())
