"""`sigil device` in processes, as people and scripts run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from sigil.device.commands import device
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.keys import PublicKey
from tests.device.fake_server import FakeServer, make_payload
from tests.support.live import DEADLINE, wait_until

ROOT = Path(__file__).parent.parent.parent


class Phone:
    """An enrolled device, used through the command line."""

    def __init__(self, server: FakeServer, home: Path) -> None:
        self.server, self.home = server, home
        self.run("init", "--server", server.url, "--pin", server.identity.server_id)
        self.enrolled = json.loads(self.run("whoami", "--json"))

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(device, [*arguments, "--home", str(self.home)])
        assert done.exit_code == 0, done.output
        return done.stdout

    def challenge(self, number: int) -> dict[str, Any]:
        key = PublicKey.parse(decode_base64(self.enrolled["device_public_key"], "$"))
        return make_payload(self.server.identity, key, number=number, expires_at=int(time.time()) + 300)

    def listen(self, *options: str) -> Listening:
        return Listening("device", "listen", "--json", *options, "--home", str(self.home))


class Listening:
    """A `sigil device listen --json` in its own process, and the events that it printed."""

    def __init__(self, *arguments: str) -> None:
        self.printed: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sigil", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", "")},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(json.loads(line))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.printed if event["event"] == name]

    def until(self, name: str, count: int = 1) -> dict[str, Any]:
        found: Callable[[], bool] = lambda: len(self.events(name)) >= count  # noqa: E731
        wait_until(lambda: found() or self.process.poll() is not None, f"{count} {name} in {self.printed}")
        assert found(), f"it ended: {self.printed} {self.process.stderr.read() if self.process.stderr else ''}"
        return self.events(name)[count - 1]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it wrote to standard error."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self.process.stderr is not None
        assert self.process.stdout is not None
        with self.process.stdout, self.process.stderr as stderr:
            return code, stderr.read()

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.end()


class At:
    """A command on a terminal, and its output."""

    def __init__(self, terminal: int, *arguments: str) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sigil", "device", *arguments],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONUNBUFFERED": "1"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while some := os.read(self.process.stdout.fileno(), 4096):
            self.output += some.decode(errors="replace")

    def until(self, text: str, count: int = 1) -> None:
        wait_until(
            lambda: self.output.count(text) >= count or self.process.poll() is not None, f"{text!r} in {self.output}"
        )
        assert self.output.count(text) >= count, self.output

    def __enter__(self) -> At:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()
