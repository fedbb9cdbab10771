"""A real PgBouncer in front of the tests' PostgreSQL, on a free port of loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal

import pytest

from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port
from tests.support.postgres import UNPRIVILEGED_UID, PostgresServer

Mode = Literal["session", "transaction", "statement"]


class PgBouncer:
    """`with PgBouncer(postgres, "session") as pooler: …`; `switch` starts it again on its port in another mode."""

    def __init__(self, postgres: PostgresServer, mode: Mode) -> None:
        # It is in /usr/sbin, which is not on the PATH of every user.
        self._program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if self._program is None:
            pytest.skip("pgbouncer is not installed: make test-deps")
        self._postgres, self._mode = postgres, mode
        self._port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="sigil-pgbouncer-"))
        self._process: subprocess.Popen[bytes] | None = None

    def dsn(self, database: str) -> str:
        """That of the database `database`, itself a DSN of `postgres`, through this pooler."""
        name = database.split("@/", 1)[1].split("?", 1)[0]
        return f"postgresql://relay@127.0.0.1:{self._port}/{name}"

    def __enter__(self) -> PgBouncer:
        self._start()
        return self

    def switch(self, mode: Mode) -> None:
        self._stop()
        self._mode = mode
        self._start()

    def _start(self) -> None:
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self._port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(self.directory / "users"),
            "pool_mode": self._mode,
            "default_pool_size": "40",
            "max_client_conn": "200",
        }
        if os.geteuid() == 0:
            # It does not run as root.
            settings["user"] = pwd.getpwuid(UNPRIVILEGED_UID).pw_name
        lines = [f"{name} = {value}" for name, value in settings.items()]
        configuration = self.directory / "pgbouncer.ini"
        configuration.write_text(
            "\n".join(["[databases]", f"* = host={self._postgres.directory}", "[pgbouncer]", *lines, ""])
        )
        (self.directory / "users").write_text('"relay" ""\n')
        self.directory.chmod(0o755)
        assert self._program is not None
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, configuration], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(self._accepts, "PgBouncer")

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE)
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        shutil.rmtree(self.directory, ignore_errors=True)
