"""A tenant (API key) that floods the server within its key, and another one whose every request succeeds."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import httpx
import pytest

from sigil.device import Device
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets
from tests.flows.backend import ACTION, Backend, approval
from tests.support.live import LiveServer

MEMBERS = 1000


@pytest.fixture(scope="module")
def small() -> Iterator[LiveServer]:
    """A store that is full after some forty requests with a thousand members each."""
    with LiveServer(
        workers=2,
        SIGIL_STORE_SIZE="16MiB",
        SIGIL_RATE_LIMIT="off",
        SIGIL_DEVICE_RATE="off",
        SIGIL_MAX_PENDING_PER_DEVICE="100",
    ) as server:
        yield server


class OtherTenant(Backend):
    def __init__(self, server: LiveServer) -> None:
        super().__init__(server)
        secret = DerivedSecrets.from_mnemonic(server.mnemonic).api_key
        self.http.headers["Authorization"] = f"Bearer {issue_api_key(secret, 'sgk_test_', os.urandom(16))}"


def request_body() -> dict[str, object]:
    members = [{"device_public_key": Device.generate().wire_key} for _ in range(MEMBERS)]
    groups = [{"members": members[start : start + 50]} for start in range(0, MEMBERS, 50)]
    return {"action": ACTION, "required": 1, "groups": groups, "expires_in_seconds": 900}


def test_every_challenge_of_one_tenant_succeeds_while_another_one_fills_the_store(small: LiveServer) -> None:
    body, done, answers = request_body(), threading.Event(), list[httpx.Response]()

    def flood() -> None:
        with Backend(small) as flooding:
            while not done.is_set():
                answers.append(flooding.http.post("/mpa/request", json=body))
                if len(answers) > 1 and answers[-1].status_code != 201:
                    rejected.set()

    rejected = threading.Event()
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        assert rejected.wait(60)
        with OtherTenant(small) as tenant:
            for _ in range(30):
                device = Device.generate()
                created = tenant.create_challenge(device)
                assert tenant.http.post("/respond", json=approval(device, created)).status_code == 200
                assert tenant.status(created)["status"] == "verified"
    finally:
        done.set()
        thread.join()
    codes = [answer.json()["error"]["code"] for answer in answers if answer.status_code != 201]
    assert set(codes) == {"TOO_MANY_PENDING"}
    assert "SIGIL_KEY_SHARE" in answers[-1].json()["error"]["message"]
    assert answers[-1].headers["Retry-After"] == "5"
