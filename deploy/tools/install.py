"""`make install`: .venv from the lock file, with a line about what goes on. The standard library alone.

pip is silent for minutes when it is quiet, and writes 600 lines when it is not. So its output goes to a file, which is
shown when pip fails; the progress is the number of packages in that output, and then in the environment.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from deploy.tools.folder_lock import lock_folder

ROOT = Path(__file__).resolve().parent.parent.parent
LOCK = ROOT / "requirements.lock"
_PIN = re.compile(r"^[A-Za-z0-9._-]+==", re.MULTILINE)
_COLLECTED = re.compile(r"^(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)", re.MULTILINE)
_LOOK_SECONDS = 0.5
_LINE_SECONDS = 10.0
"""Without a terminal a line of progress is written so often, and not replaced."""


class Progress:
    """The state of a step: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._began = self._written = time.monotonic()
        self._width = 0

    def step(self, text: str) -> None:
        self._clear()
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
        self._written = time.monotonic()

    def show(self, text: str) -> None:
        line = f"      {text}, {self.elapsed()}"
        if self._terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write("\r" + line.ljust(self._width))
            self._width = len(line)
        elif time.monotonic() - self._written >= _LINE_SECONDS:
            sys.stderr.write(line + "\n")
            self._written = time.monotonic()
        sys.stderr.flush()

    def elapsed(self) -> str:
        seconds = round(time.monotonic() - self._began)
        return f"{seconds // 60} min {seconds % 60:02} s"

    def _clear(self) -> None:
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0


def run(command: list[str], state: Callable[[str], str], progress: Progress) -> None:
    """Runs `python -m …` and exits with its output when it fails. `state` turns the output so far into a line."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with output.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as running:
            while running.poll() is None:
                progress.show(state(output.read_text(encoding="utf-8", errors="replace")))
                time.sleep(_LOOK_SECONDS)
        if running.returncode:
            progress.step(output.read_text(encoding="utf-8", errors="replace").rstrip())
            raise SystemExit(
                f"make install: {command[2]} failed with {running.returncode}, its output is above; mend that and "
                "run it again: it starts from the beginning"
            )


def packages(site: Path, pinned: int) -> Callable[[str], str]:
    """How far pip is: it collects all packages first, and then installs them."""

    def state(output: str) -> str:
        if "Installing collected packages" in output:
            return f"installed {len(list(site.glob('*.dist-info')))} of about {pinned}"
        names = _COLLECTED.findall(output)
        return f"collected {len(names)} of about {pinned}" + (f" ({names[-1]})" if names else "")

    return state


def install(target: Path, lock: Path = LOCK, source: Path = ROOT) -> None:
    pinned = len(_PIN.findall(lock.read_text(encoding="utf-8")))
    version = ".".join(map(str, sys.version_info[:3]))
    doing = "removing the old one, copying pip" if target.exists() else "copying pip"
    target.mkdir(parents=True, exist_ok=True)
    # Each would remove what the other has installed. The lock ends with this process.
    lock_folder("make install", target)
    progress = Progress()
    progress.step(
        f"make install: one to three minutes and 650 MB in {target}, once and after changes of the dependencies\n"
        f"[1/3] a virtual environment of {sys.executable} ({version})"
    )
    run([sys.executable, "-m", "venv", "--clear", str(target)], lambda _: doing, progress)
    pip = [str(target / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    (site,) = (target / "lib").glob("python*/site-packages")
    progress.step(f"[2/3] {pinned} packages of {lock.name}, with their hashes")
    run(
        [*pip, "--progress-bar", "off", "--require-hashes", "-r", str(lock)],
        packages(site, pinned),
        progress,
    )
    progress.step("[3/3] Sigil itself, from this checkout")
    run([*pip, "--no-deps", "--no-build-isolation", "-e", str(source)], lambda _: "building", progress)
    progress.step(f"installed in {progress.elapsed()}")


if __name__ == "__main__":
    try:
        install(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".venv"))
    except KeyboardInterrupt:
        sys.stderr.write("\nmake install: interrupted; run it again, it starts from the beginning\n")
        sys.exit(130)
    except OSError as error:
        sys.exit(f"make install: {error.strerror}: {error.filename}")
