"""A real server before its first boot, as the browser opens it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.first_boot.newborn import Newborn

TOKEN = "a-token-of-these-tests"
NAME = "Example Sign-in"


class InitServer(Newborn):
    """Asks for TOKEN unless it is told otherwise."""

    def __init__(self, *, workers: int = 1, **settings: str) -> None:
        # Limited as everybody's is: what a browser asks for has to fit.
        usual = {"SIGIL_INIT_TOKEN": TOKEN, "SIGIL_SERVER_NAME": NAME, "SIGIL_RATE_LIMIT": "600/min"}
        super().__init__(workers=workers, **usual | settings)
        # By its name, as the log and the documentation give it.
        self.url = f"https://localhost:{self.port}"

    def in_a_shell(self, lines: str, *, typed: str = "", **settings: str) -> str:
        """What lines of the pages say when they are pasted into a shell on the server's machine, in an empty folder."""
        with tempfile.TemporaryDirectory() as folder:
            path = f"{Path(sys.executable).parent}:{self.environ['PATH']}"
            # With -e, so that no line fails unseen.
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
