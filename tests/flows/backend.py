"""The integrator's backend of a flow, and the responses of its devices."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import httpx

from sigil.device import Device
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.keys import Suite
from tests.support.live import LiveServer

ACTION = {"type": "step_up", "description": "Transfer 5000 € to Zoë", "params": {"amount": 5000, "tags": ["a"]}}


class Backend:
    """An integrator's backend."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.http = server.authorised()

    def __enter__(self) -> Backend:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.http.close()

    def create_challenge(
        self, device: Device, *, headers: dict[str, str] | None = None, **members: Any
    ) -> dict[str, Any]:
        """The body of the 201 response to `POST /challenge`."""
        body = {"device_public_key": device.wire_key, "action": ACTION, **members}
        answer = self.http.post("/challenge", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def status(self, created: dict[str, Any], wait: int = 0) -> dict[str, Any]:
        answer = self.http.get(status_path(created), params={"wait": wait})
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def cancel(self, created: dict[str, Any]) -> httpx.Response:
        return self.http.delete(f"/v1/auth/challenge/{created['challenge_id']}")


def status_path(created: dict[str, Any]) -> str:
    return f"/v1/auth/challenge/{created['challenge_id']}/status"


def approval(device: Device, created: dict[str, Any], match_code: str | None = None) -> dict[str, str]:
    """The body of `POST /respond` that approves a challenge."""
    bound = decode_base64(created["challenge_bytes"], "challenge_bytes")
    signature = device.sign_approval(bound, canonical(ACTION), match_code)
    return device.response_body(created["challenge_id"], "approved", signature, match_code=match_code)


def rejection(device: Device, created: dict[str, Any]) -> dict[str, str]:
    bound = decode_base64(created["challenge_bytes"], "challenge_bytes")
    signature = device.sign_rejection(bound, canonical(ACTION))
    return device.response_body(created["challenge_id"], "rejected", signature, reason="cancelled")


# The server keeps results for 600 s. On a machine so busy that the first challenge is older than this, the test creates
# another one.
_MAX_AGE_SECONDS = 400


@dataclass(frozen=True)
class ExpiringChallenge:
    """A challenge that expires without a response."""

    device: Device
    created: dict[str, Any]
    created_at: float = field(default_factory=time.monotonic)

    @classmethod
    def create(cls, backend: Backend, suite: Suite = "ES256") -> ExpiringChallenge:
        device = Device.generate(suite)
        return cls(device, backend.create_challenge(device, expires_in_seconds=30))

    def or_newer(self, backend: Backend) -> ExpiringChallenge:
        """This challenge, or a new one when the server may soon delete its result."""
        return self if time.monotonic() - self.created_at < _MAX_AGE_SECONDS else ExpiringChallenge.create(backend)
