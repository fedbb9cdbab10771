"""`sigil device` at a real relay: registration, pushes, lost connections, and held pushes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.device.fake_server import FakeServer, as_json
from tests.device.processes import At, Phone
from tests.support.live import DEADLINE, wait_until
from tests.support.live_relay import LiveRelay, Server


@pytest.fixture(params=["set", "unset"])
def relay(request: pytest.FixtureRequest) -> Iterator[LiveRelay]:
    with LiveRelay(**({} if request.param == "set" else {"RELAY_PUBLIC_URL": ""})) as running:
        yield running


class Pushing:
    """A server that sends pushes to the relay, one after the other."""

    def __init__(self, relay: LiveRelay, phone: Phone) -> None:
        self._relay, self._phone = relay, phone
        self.register()

    def register(self) -> None:
        with self._relay.client() as client:
            assert Server(client, self._phone.server.identity).register().status_code == 200

    def push(self, payload: dict[str, Any], key: str) -> dict[str, Any]:
        request = {
            "push_key": key,
            "fingerprint": self._phone.enrolled["fingerprint"],
            "payload": json.loads(as_json(payload)),
        }
        with self._relay.client() as client:
            (result,) = Server(client, self._phone.server.identity).push(request)
        return result

    def status(self, key: str) -> str:
        with self._relay.client() as client:
            answer = Server(client, self._phone.server.identity).post("/push/outcomes", {"push_keys": [key]})
        status: str = answer.json()["results"][0]["status"]
        return status


@pytest.fixture
def phone(relay: LiveRelay, tmp_path: Path) -> Iterator[Phone]:
    with FakeServer(time.time) as server:
        server.info_changes = {"relay_url": relay.url}
        # A push is then taken for pending: these challenges are not on the server's list.
        server.lists = False
        yield Phone(server, tmp_path / "keys")


def test_a_push_is_acknowledged_and_answered_and_held_pushes_arrive_after_a_crash(
    relay: LiveRelay, phone: Phone
) -> None:
    registered = json.loads(phone.run("register", "--json"))
    assert (registered["relay"], registered["fingerprint"]) == (relay.url, phone.enrolled["fingerprint"])
    pushing = Pushing(relay, phone)
    with phone.listen("--auto-approve") as listening:
        listening.until("connected")
        result = pushing.push(phone.challenge(1), "first")
        assert listening.until("challenge")["push_id"] == result["push_id"]
        assert listening.until("answered")["status"] == "verified"
        wait_until(lambda: pushing.status("first") == "delivered", "the acknowledgement")

        relay.kill()
        listening.until("disconnected")
        listening.send(signal.SIGSTOP)
        relay.start()
        assert pushing.push(phone.challenge(2), "second")["status"] == "queued"
        listening.send(signal.SIGCONT)
        assert listening.until("answered", 2)["challenge_id"] == phone.challenge(2)["challenge_id"]
        wait_until(lambda: pushing.status("second") == "delivered", "the second acknowledgement")

        listening.send(signal.SIGTERM)
        assert listening.end() == (0, "")
    assert [answer["decision"] for answer in phone.server.answers] == ["approved"] * 2
    assert listening.events("refused") == listening.events("repeated") == []


def test_an_unacknowledged_push_arrives_again_and_is_reported_once(relay: LiveRelay, phone: Phone) -> None:
    phone.run("register")
    pushing = Pushing(relay, phone)
    with phone.listen() as listening:
        listening.until("connected")
        # The push is in the device's socket, unread and unacknowledged, when the relay dies.
        listening.send(signal.SIGSTOP)
        assert pushing.push(phone.challenge(1), "first")["status"] == "queued"
        relay.kill()
        relay.start()
        listening.send(signal.SIGCONT)
        listening.until("connected", 2)
        wait_until(lambda: pushing.status("first") == "delivered", "the acknowledgement")
        assert len(listening.events("challenge")) == 1


@pytest.mark.parametrize("relay", ["set"], indirect=True)
def test_a_push_by_reference_is_fetched_from_the_server(relay: LiveRelay, phone: Phone) -> None:
    phone.server.lists = True
    phone.run("register")
    pushing = Pushing(relay, phone)
    with phone.listen("--auto-reject", "--once") as listening:
        listening.until("connected")
        wait_until(lambda: phone.server.used_seconds, "the first query for pending challenges")
        listed = phone.server.add_challenge(phone.enrolled["device_public_key"], expires_at=int(time.time()) + 300)
        pushing.push({name: listed[name] for name in ("type", "challenge_id", "server_id")}, "first")
        assert listening.end() == (0, "")
        assert listening.events("answered")[0]["decision"] == "rejected"
        assert pushing.status("first") == "delivered"


@pytest.mark.parametrize("relay", ["set"], indirect=True)
def test_a_device_registers_again_at_a_relay_that_lost_its_data(relay: LiveRelay, phone: Phone) -> None:
    phone.run("register")
    with phone.listen("--auto-approve", "--once") as listening:
        listening.until("connected")
        relay.stop()
        lost = listening.until("disconnected")
        assert (lost["close_code"], lost["reason"]) == (1001, "The relay is stopping (1001).")
        shutil.rmtree(relay.directory / "data")
        relay.start()
        listening.until("registered")
        listening.until("connected", 2)
        Pushing(relay, phone).push(phone.challenge(1), "first")
        assert listening.end() == (0, "")


@pytest.mark.parametrize("relay", ["set"], indirect=True)
def test_the_newest_of_two_listeners_stays_and_an_unregistered_one_ends(relay: LiveRelay, phone: Phone) -> None:
    phone.run("register")
    with phone.listen() as first:
        first.until("connected")
        with phone.listen() as second:
            second.until("connected")
            code, errors = first.end()
            assert (code, errors.startswith("sigil: REPLACED: ")) == (1, True)
            second.send(signal.SIGINT)
            assert second.end() == (0, "")
    phone.run("unregister")
    with phone.listen("--relay", relay.url) as third:
        code, errors = third.end()
        assert (code, "NOT_REGISTERED_AT_RELAY" in errors) == (1, True)


@pytest.mark.parametrize("relay", ["set"], indirect=True)
def test_a_person_is_prompted_on_a_terminal_and_a_prompt_is_cancelled(relay: LiveRelay, phone: Phone) -> None:
    phone.run("register")
    pushing = Pushing(relay, phone)
    person, theirs = pty.openpty()
    with At(theirs, "listen", "--home", str(phone.home)) as terminal:
        terminal.until("Listening at")
        pushing.push(phone.challenge(1), "first")
        terminal.until("Approve? [y/N]: ")
        assert "Pay the invoice" in terminal.output
        # Acknowledged when the device has the push, not when the person has decided.
        wait_until(lambda: pushing.status("first") == "delivered", "the acknowledgement")
        os.write(person, b"y\n")
        terminal.until("Approved: the challenge is verified.")

        pushing.push(phone.challenge(2), "second")
        terminal.until("Approve? [y/N]: ", 2)
        clear = {"type": "clear", "challenge_id": phone.challenge(2)["challenge_id"], "status": "cancelled"}
        pushing.push(clear, "third")
        terminal.until(f"Dismissed: {clear['challenge_id']} cancelled")

        pushing.push(phone.challenge(3), "fourth")
        terminal.until("Approve? [y/N]: ", 3)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.process.wait(DEADLINE) == 0
    for descriptor in (person, theirs):
        os.close(descriptor)
    assert [answer["decision"] for answer in phone.server.answers] == ["approved"]
