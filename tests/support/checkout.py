"""The parts of a clone in a folder of its own, in which a test runs the README's commands as a newcomer would."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

ROOT = Path(__file__).parent.parent.parent


class Checkout:
    """The parts of a clone that `make dev` needs, with free ports; `output` is the output of its programs so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
        (folder / ".venv").symlink_to(sys.prefix)
        self._environ = {
            "HOME": str(folder),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "RELAY_PORT": str(free_port()),
        }
        self.port = str(free_port())
        self._output = folder / "output"

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def relay_port(self) -> str:
        return self._environ["RELAY_PORT"]

    @contextlib.contextmanager
    def running(self, *command: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        """A program in a new session, which is killed at the end."""
        with self._output.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environ_of(command),
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self._environ_of(command),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def _environ_of(self, command: tuple[str, ...]) -> dict[str, str]:
        """With the port under the name that this program takes."""
        return {**self._environ, "SIGIL_PORT" if command[-1] == WIZARD[-1] else "SIGIL_HTTP_PORT": self.port}


def sessions() -> list[str]:
    """The shell sessions of the README up to its first heading after the title."""
    first_screen = (ROOT / "README.md").read_text().split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", first_screen, re.DOTALL | re.MULTILINE)


def shown(checkout: Checkout, process: subprocess.Popen[bytes], pattern: str) -> str:
    """The last group of the first match in the output."""
    found = wait_until(lambda: re.search(pattern, checkout.output) or process.poll() is not None, pattern)
    assert isinstance(found, re.Match), checkout.output
    return str(found[len(found.groups())])


DEV = (sys.executable, "-m", "deploy.tools.dev")
WIZARD = (sys.executable, "-m", "deploy.tools.wizard")
