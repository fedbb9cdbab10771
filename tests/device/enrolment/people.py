"""Both ends of enrolments at a real server: a service that begins and confirms, and devices that run `enrol`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import httpx

from sigil.device.commands import device
from sigil.device.http.connection import ServerConnection
from sigil.device.keyring import Keyring
from tests.support.live import DEADLINE, LiveServer

STEPS: tuple[tuple[type, str], ...] = (
    (Keyring, "remember_enrolment"),
    (ServerConnection, "claim_enrolment"),
    (ServerConnection, "complete_enrolment"),
    (ServerConnection, "wait_for_enrolment"),
    (Keyring, "remember_credential"),
    (Keyring, "adopt"),
    (Keyring, "forget_enrolment"),
)
"""All that an enrolment does outside its process."""


class Service:
    """The page and its backend."""

    def __init__(self, server: LiveServer, backend: httpx.Client) -> None:
        self.server, self.backend = server, backend

    def begin(self, account: str = "alice", **members: Any) -> dict[str, Any]:
        response = self.backend.post("/enrolment", json={"account": account, **members})
        assert response.status_code == 201, response.text
        begun: dict[str, Any] = response.json()
        return begun

    def status(self, begun: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.backend.get(f"/enrolment/{begun['enrolment_id']}/status").json()
        return found

    def confirm(self, begun: dict[str, Any], code: str) -> httpx.Response:
        return self.backend.post(f"/enrolment/{begun['enrolment_id']}/confirm", json={"code": code})


class Enrolling:
    """`sigil device enrol … --yes --json` in a process of its own, and the lines that it prints.

    A fork: the modules are loaded. `kill_at` counts the beginnings and ends of `STEPS`: there the process gets SIGKILL.
    """

    def __init__(self, home: Path, server: LiveServer, *arguments: str, kill_at: int | None = None) -> None:
        self.printed: list[dict[str, Any]] = []
        self.errors = ""
        self.signal = 0
        reading, writing = os.pipe()
        errors = home.parent / f"{home.name}.errors"
        self._errors = errors
        self.pid = os.fork()
        if self.pid == 0:
            _run([*arguments, "--ca", str(server.certificate), "--home", str(home)], writing, errors, kill_at)
        os.close(writing)
        self._output = os.fdopen(reading, encoding="utf-8")

    def event(self, name: str) -> dict[str, Any] | None:
        """The next line, if it is that event; the process may have ended before."""
        line = self._output.readline()
        if not line:
            return None
        self.printed.append(json.loads(line))
        assert self.printed[-1]["event"] == name, self.printed
        return self.printed[-1]

    def lines(self) -> Any:
        while line := self._output.readline():
            self.printed.append(json.loads(line))
            yield self.printed[-1]

    def end(self) -> int:
        """Its exit code; -9 when it was killed."""
        for _ in self.lines():
            """To the end of its output."""
        self._output.close()
        deadline = time.monotonic() + DEADLINE
        while (ended := os.waitpid(self.pid, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < deadline, "the command does not end"
            time.sleep(0.005)
        self.errors = self._errors.read_text(encoding="utf-8")
        return os.waitstatus_to_exitcode(ended[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.end() == -signal.SIGKILL


def _run(arguments: list[str], output: int, errors: Path, kill_at: int | None) -> None:
    """In the fork; never returns."""
    code = 99
    # Bounded: a broken device would wait for its code until the offer expires.
    signal.alarm(60)
    try:
        os.dup2(output, 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8")
        if kill_at is not None:
            _kill_at(kill_at)
        device.main(["enrol", *arguments, "--yes", "--json"], prog_name="device")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as error:
        os.write(2, repr(error).encode())
    finally:
        os._exit(code)


def _kill_at(number: int) -> None:
    count = iter(range(1 << 20))

    def point() -> None:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def call(*arguments: Any, **options: Any) -> Any:
            point()
            done = step(*arguments, **options)
            point()
            return done

        return call

    for owner, name in STEPS:
        setattr(owner, name, wrapped(getattr(owner, name)))
