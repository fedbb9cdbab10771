"""A development stack that `make up` started and the wizard set up, and a software device for it."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from sigil.device.commands import device
from tests.containers.stack import Stack
from tests.device.processes import Listening
from tests.flows.backend import ACTION
from tests.support.live import wait_until

WIZARD = re.compile(r"https://localhost:\d+/init#token=\S+")


class Installation(Stack):
    """`set_up()` does what the owner does after `git clone`, by the wizard's HTTP interface."""

    started: subprocess.CompletedProcess[str]
    """The first `make up`."""
    seconds: float
    address: str
    words: str
    server_id: str
    session: str

    def set_up(self) -> Installation:
        begin = time.monotonic()
        self.started = self.make("up")
        self.seconds = time.monotonic() - begin
        (self.address,) = WIZARD.findall(self.started.stdout) or [""]
        assert self.address, f"make up printed no address of the wizard:\n{self.started.stdout}{self.started.stderr}"
        self.commit()
        self.api_key = self.new_key()
        return self

    def commit(self) -> None:
        """New words, and the commit that makes the server operational."""
        token = self.address.partition("#token=")[2]
        with self.client(headers={"Authorization": f"Bearer {token}"}) as wizard:
            self.words = " ".join(wizard.post("/init/words", json={}).json()["words"])
            made = wizard.post("/init/commit", json={"words": self.words})
            assert made.status_code == 201, made.text
        self.server_id = made.json()["identity"]["server_id"]
        self.session = made.json()["session"]

    def new_key(self) -> str:
        with self.client(headers={"Authorization": f"Bearer {self.session}"}) as wizard:
            answer = wizard.post("/init/api-keys", json={})
            assert answer.status_code == 201, answer.text
            key: str = answer.json()["api_key"]
            return key

    def create(self, phone: Phone) -> str:
        """The path of a new challenge for a device."""
        with self.authorised() as backend:
            answer = backend.post("/challenge", json={"device_public_key": phone.key, "action": ACTION})
            assert answer.status_code == 201, answer.text
            return f"/v1/auth/challenge/{answer.json()['challenge_id']}"

    def status(self, path: str, wait: int = 0) -> dict[str, Any]:
        with self.authorised() as backend:
            answer = backend.get(f"{path}/status", params={"wait": wait})
            assert answer.status_code == 200, answer.text
            status: dict[str, Any] = answer.json()
            return status

    def final(self, path: str) -> str:
        """The final state of a challenge, which is waited for."""
        return str(wait_until(lambda: self._final(path), f"the end of {path}"))

    def _final(self, path: str) -> str:
        status = str(self.status(path, wait=25)["status"])
        return "" if status == "pending" else status


class Phone:
    """`sigil device` on this machine, enrolled at a stack and registered at its relay."""

    def __init__(self, stack: Installation, home: Path) -> None:
        self.home = home
        self.run("init", "--server", stack.url, "--pin", stack.server_id, "--ca", str(stack.certificate()))
        self.key: str = json.loads(self.run("whoami", "--json"))["device_public_key"]
        self.relay: str = json.loads(self.run("register", "--json"))["relay"]

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(device, [*arguments, "--home", str(self.home)])
        assert done.exit_code == 0, done.output
        return done.stdout

    def approve(self, path: str) -> None:
        """Without a push, as a person does who opens the list of pending challenges."""
        self.run("approve", path.rpartition("/")[2])

    @contextmanager
    def listening(self, *options: str) -> Iterator[Listening]:
        """Connected to the relay, until the block ends; with `--once` until it has answered."""
        with Listening("device", "listen", "--json", *options, "--home", str(self.home)) as listening:
            listening.until("connected")
            yield listening
            if "--once" in options:
                assert listening.end() == (0, "")
