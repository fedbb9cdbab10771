"""`make wizard`: a server in init mode on loopback, as on the first start of Sigil.

Each run starts without an identity, in a folder of its own that it removes at its end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

from deploy.tools.dev import HOME, chosen_ports, require_free_ports, start, wait_until_healthy
from deploy.tools.folder_lock import lock_folder

FOLDER = HOME / "wizard"
_OF_AN_IDENTITY = ("SIGIL_MNEMONIC", "SIGIL_MNEMONIC_PATH", "SIGIL_PUBLIC_URL", "SIGIL_HTTP_PORT")
_FREE = {"SIGIL_PORT", "SIGIL_HOST", "SIGIL_STORE_SIZE"}


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


@contextmanager
def _own_folder() -> Iterator[int]:
    """The folder, empty and locked; removed at the end. Yields the descriptor that holds the lock."""
    handle = lock_folder("make wizard", FOLDER)
    try:
        _empty()
        yield handle
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
        os.close(handle)


def _empty() -> None:
    """What a killed run has left."""
    for path in FOLDER.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def main() -> int:
    """Run until Ctrl-C; the exit code of the server."""
    ports = chosen_ports("make wizard", {"SIGIL_PORT": 8443})
    require_free_ports("make wizard", ports)
    with _own_folder() as lock:
        return _run(ports["SIGIL_PORT"], lock)


def _run(port: int, lock: int) -> int:
    settings = _settings(port)
    # Variables of the shell take precedence, and those of .dev/env name the files of `make dev`.
    for name in (*_OF_AN_IDENTITY, *(name for name in settings if name not in _FREE)):
        os.environ.pop(name, None)
    address = f"https://localhost:{port}/init"
    # The page prompts for a token of the operator's own.
    if not {"SIGIL_INIT_TOKEN", "SIGIL_INIT_TOKEN_FILE"} & os.environ.keys():
        settings["SIGIL_INIT_TOKEN"] = secrets.token_urlsafe(24)
        address += f"#token={settings['SIGIL_INIT_TOKEN']}"
    # The health check reads its settings from the environment.
    os.environ.setdefault("SIGIL_PORT", str(port))
    os.environ["TLS_CERT_PATH"] = settings["TLS_CERT_PATH"]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    server = start("sigil", settings, keep_open=(lock,))
    try:
        if wait_until_healthy([server]):
            click.echo(
                f"\nOpen {address}\n"
                "Your browser does not trust the certificate yet: that is expected here, go on.\n"
                "The identity is only for trying the wizard out: Ctrl-C stops the server and deletes it.\n"
                "Before the commands of its last page: `. .venv/bin/activate` in another terminal in this directory.\n",
                err=True,
            )
        return server.wait()
    except KeyboardInterrupt:
        # Ctrl-C reaches the server too; a signal to only this process does not.
        server.terminate()
        return max(0, server.wait())


if __name__ == "__main__":
    raise SystemExit(main())
