"""A backend creates a challenge at the real server, the real relay pushes it, and the device's command answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sigil.device.commands import device
from tests.device.processes import Listening
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay

ACTION = {"type": "step_up", "description": "Transfer 5000 € to Zoë", "params": {"amount": 5000, "ok": [True, None]}}


@pytest.mark.parametrize("content", ["full", "reference"])
def test_a_challenge_is_pushed_approved_and_cleared(tmp_path: Path, content: str) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(device, [*arguments, "--home", str(tmp_path / "keys")])
        assert done.exit_code == 0, done.output
        return done.stdout

    with (
        LiveRelay() as relay,
        LiveServer(workers=1, RELAY_URL=relay.url, RELAY_PUBLIC_URL=relay.url, SIGIL_PUSH_CONTENT=content) as server,
        server.authorised() as backend,
    ):

        def create() -> str:
            response = backend.post(
                "/challenge", json={"device_public_key": enrolled["device_public_key"], "action": ACTION}
            )
            challenge_id: str = response.json()["challenge_id"]
            return f"/v1/auth/challenge/{challenge_id}"

        def final(path: str) -> dict[str, Any]:
            while (status := backend.get(f"{path}/status", params={"wait": 25}).json())["status"] == "pending":
                """Poll again until it has ended."""
            ended: dict[str, Any] = status
            return ended

        run("init", "--server", server.url, "--pin", server.identity.server_id, "--ca", str(server.certificate))
        enrolled = json.loads(run("whoami", "--json"))
        # The address of the relay comes from the server's /info.
        assert json.loads(run("register", "--json"))["relay"] == relay.url

        with Listening("device", "listen", "--json", "--home", str(tmp_path / "keys")) as listening:
            listening.until("connected")
            path = create()
            listening.until("challenge")
            assert backend.delete(path).status_code == 200
            assert listening.until("clear")["challenge_id"] == path.rpartition("/")[2]
            assert listening.events("challenge")[0]["action"] == ACTION
        options = ("--auto-approve", "--once", "--home", str(tmp_path / "keys"))
        with Listening("device", "listen", "--json", *options) as answering:
            answering.until("connected")
            assert final(create())["status"] == "verified"
            assert answering.end() == (0, "")
        with Listening("device", "listen", "--json", *options) as voting:
            voting.until("connected")
            group = {"members": [{"device_public_key": enrolled["device_public_key"]}]}
            created = backend.post("/mpa/request", json={"action": ACTION, "required": 1, "groups": [group]}).json()
            assert voting.until("mpa")["mpa_id"] == created["mpa_id"]
            while (status := backend.get(f"/mpa/status/{created['request_id']}?wait=25").json())["status"] == "pending":
                """Poll again until it has ended."""
            assert status["status"] == "approved"
            assert voting.end() == (0, "")


def test_a_push_that_waits_is_withdrawn_when_its_challenge_is_answered_by_hand(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = CliRunner().invoke(device, [*arguments, "--home", str(tmp_path / "keys")])
        assert done.exit_code == 0, done.output
        return done.stdout

    with (
        LiveRelay() as relay,
        LiveServer(workers=1, RELAY_URL=relay.url, RELAY_PUBLIC_URL=relay.url) as server,
        server.authorised() as backend,
    ):
        run("init", "--server", server.url, "--pin", server.identity.server_id, "--ca", str(server.certificate))
        key = json.loads(run("whoami", "--json"))["device_public_key"]
        run("register", "--json")
        created = backend.post("/challenge", json={"device_public_key": key, "action": ACTION}).json()
        path = f"/v1/auth/challenge/{created['challenge_id']}/status"
        # The relay holds it: a push that is not sent yet when its challenge is answered never is.
        with relay.client() as client:
            wait_until(lambda: "relay_pushes_queued 1.0" in client.get("/metrics").text, "the push to be queued")
        run("approve", created["challenge_id"])
        push = {"status": "failed", "error": "cleared"}
        wait_until(lambda: backend.get(path).json()["push"] == push, "the push to be cleared")
        # The relay has withdrawn it: the device gets nothing.
        with Listening("device", "listen", "--json", "--home", str(tmp_path / "keys")) as listening:
            listening.until("connected")
            later = backend.post("/challenge", json={"device_public_key": key, "action": ACTION}).json()
            assert listening.until("challenge")["challenge_id"] == later["challenge_id"]
