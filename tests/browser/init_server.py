"""A real server in init mode, for the browser."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.first_boot.init_mode_server import InitModeServer

TOKEN = "a-token-of-these-tests"
NAME = "Example Sign-in"


class InitServer(InitModeServer):
    """Requires TOKEN, unless the settings differ."""

    def __init__(self, *, workers: int = 1, **settings: str) -> None:
        # With the default rate limit: a browser must stay within it.
        usual = {"SIGIL_INIT_TOKEN": TOKEN, "SIGIL_SERVER_NAME": NAME, "SIGIL_RATE_LIMIT": "600/min"}
        super().__init__(workers=workers, **usual | settings)
        # With the host name that the log and the documentation use.
        self.url = f"https://localhost:{self.port}"

    def in_a_shell(self, lines: str, *, typed: str = "", **settings: str) -> str:
        """The output of commands of the pages, run in a shell on the server's machine in an empty folder."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{Path(sys.executable).parent}:{self.environ['PATH']}"
            # With -e, so that a failing line is noticed.
            done = subprocess.run(
                ["sh", "-ec", lines],
                env={**self.environ, "PATH": path, **settings},
                cwd=folder,
                input=typed,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode == 0, done.stderr
        return done.stdout
