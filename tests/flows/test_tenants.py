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

SIZES = (1000, 50, 1, 0)
"""Members of the requests of the flood, 0 for a challenge: when the store has no space for large ones, smaller ones
follow.
"""


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


def create(backend: Backend, size: int) -> httpx.Response:
    if not size:
        return backend.http.post("/challenge", json={"device_public_key": Device.generate().wire_key, "action": ACTION})
    members = [{"device_public_key": Device.generate().wire_key} for _ in range(size)]
    groups = [{"members": members[start : start + 50]} for start in range(0, size, 50)]
    body = {"action": ACTION, "required": 1, "groups": groups, "expires_in_seconds": 900}
    return backend.http.post("/mpa/request", json=body)


def test_every_challenge_of_one_tenant_succeeds_while_another_one_fills_the_store(small: LiveServer) -> None:
    rejected, done, answers = threading.Event(), threading.Event(), list[httpx.Response]()

    def flood() -> None:
        size = 0
        with Backend(small) as flooding:
            while not done.is_set():
                answers.append(create(flooding, SIZES[size]))
                if answers[-1].status_code != 201:
                    size = min(size + 1, len(SIZES) - 1)
                    if len({answer.status_code for answer in answers[-100:]}) == 1:
                        rejected.set()

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
