"""An integrator's backend, and the responses of its devices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from .server import Server
from .wire import AUTH, MATCH, REJECT, Device, note_signature, signed_message

ACTION: dict[str, Any] = {
    "type": "step_up",
    "description": "Transfer 5000 € to Zoë",
    "params": {"amount": 5000, "iban": "DE02", "tags": ["a", "b"], "urgent": False, "note": None},
}


@dataclass
class Integrator:
    server: Server
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **self.headers, **headers}
        return self.server.http.post("/challenge", content=content, headers=sent)

    def create(self, device: Device, action: Any = ACTION, **more: Any) -> httpx.Response:
        return self.post({"device_public_key": device.public, "action": action, **more})

    def challenge(self, device: Device, action: Any = ACTION, **more: Any) -> dict[str, Any]:
        answer = self.create(device, action, **more)
        assert answer.status_code == 201, answer.text
        note_signature(answer.json()["server_signature"])
        return answer.json()

    def status(self, challenge_id: str, **query: Any) -> httpx.Response:
        return self.server.http.get(f"/v1/auth/challenge/{challenge_id}/status", params=query, headers=self.headers)

    def state(self, challenge_id: str) -> dict[str, Any]:
        answer = self.status(challenge_id)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def cancel(self, challenge_id: str) -> httpx.Response:
        return self.server.http.delete(f"/v1/auth/challenge/{challenge_id}", headers=self.headers)


def approval(
    device: Device, challenge: dict[str, Any], action: Any = ACTION, *, code: str | None = None, tag: bytes = b""
) -> dict[str, Any]:
    tag = tag or (AUTH if code is None else MATCH)
    body = {
        "challenge_id": challenge["challenge_id"],
        "device_public_key": device.public,
        "decision": "approved",
        "signature": device.sign(signed_message(challenge["challenge_bytes"], action, tag, code or "")),
    }
    return body if code is None else {**body, "match_code": code}


def rejection(
    device: Device, challenge: dict[str, Any], action: Any = ACTION, reason: str | None = None
) -> dict[str, Any]:
    body = {
        "challenge_id": challenge["challenge_id"],
        "fingerprint": device.fingerprint,
        "decision": "rejected",
        "signature": device.sign(signed_message(challenge["challenge_bytes"], action, REJECT)),
    }
    return body if reason is None else {**body, "reason": reason}


def post(server: Server, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.http.post(path, content=content, headers={"Content-Type": "application/json"})


def respond(server: Server, body: Any) -> httpx.Response:
    return post(server, "/respond", body)


def approve(server: Server, device: Device, challenge: dict[str, Any], action: Any = ACTION) -> None:
    answer = respond(server, approval(device, challenge, action))
    assert answer.status_code == 200, answer.text


def assert_error(answer: Any, status: int, code: str, path: str | None = None) -> dict[str, Any]:
    """Asserts status, code and form of an error response; returns its details."""
    found = answer.status if hasattr(answer, "status") else answer.status_code
    body = answer.json()
    assert (found, body.get("error", {}).get("code")) == (status, code), body
    assert set(body) == {"error"}
    error = body["error"]
    assert set(error) <= {"code", "message", "details"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert answer.headers["content-type"].partition(";")[0] == "application/json"
    details = error.get("details", {})
    assert isinstance(details, dict)
    if code == "INVALID_REQUEST" and path is not None:
        assert path in details["path"]
    if status in {429, 503}:
        assert int(answer.headers["retry-after"]) >= 1
    return details


def assert_ok(answer: Any, status: int = 200) -> dict[str, Any]:
    """Asserts the HTTP status; returns the body."""
    found = answer.status if hasattr(answer, "status") else answer.status_code
    assert found == status, answer.json()
    return answer.json()
