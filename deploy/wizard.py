"""`make wizard`: a server without an identity, on loopback, as someone meets it who starts Sigil for the first time.

Each run begins anew: what the one before was set up as is gone. The certificate in .dev/wizard/ stays.
"""

from __future__ import annotations

import os
import shutil
import signal

import click

from deploy.dev import HOME, start, wait_until_healthy

FOLDER = HOME / "wizard"


def _settings(port: int) -> dict[str, str]:
    return {
        "SIGIL_MODE": "init",
        "SIGIL_HOST": "127.0.0.1",
        "SIGIL_PORT": str(port),
        "SIGIL_STATE_DIR": str(FOLDER / "state"),
        # A directory of the checkout is rarely tmpfs: make no identity here that is to be kept.
        "SIGIL_STATE_DIR_INSECURE": "true",
        "SIGIL_STORE_SIZE": "64MiB",
        "TLS_CERT_PATH": str(FOLDER / "tls" / "cert.pem"),
        "TLS_KEY_PATH": str(FOLDER / "tls" / "key.pem"),
        "SIGIL_INIT_RESET": "true",
        "RELAY_URL": "",
    }


def _forget() -> None:
    shutil.rmtree(FOLDER / "state", ignore_errors=True)


def main() -> int:
    """Run until Ctrl-C; the exit code of the server."""
    FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
    port = int(os.environ.get("SIGIL_PORT", "8443"))
    settings = _settings(port)
    # For the health check, which asks as the settings say.
    os.environ.setdefault("SIGIL_PORT", str(port))
    os.environ.setdefault("TLS_CERT_PATH", settings["TLS_CERT_PATH"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _forget()
    server = start("sigil", settings)
    try:
        if wait_until_healthy([server]):
            click.echo(
                f"\nOpen https://localhost:{port}/init\n"
                "Your browser does not know the certificate yet: that is expected here, go on.\n"
                "What you make is for a look around: Ctrl-C ends it and forgets it.\n",
                err=True,
            )
        return server.wait()
    except KeyboardInterrupt:
        # Ctrl-C reached it too; a signal to this process alone did not.
        server.terminate()
        return max(0, server.wait())
    finally:
        _forget()


if __name__ == "__main__":
    raise SystemExit(main())
