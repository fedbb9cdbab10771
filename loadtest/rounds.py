"""The requests that one connection repeats, round by round, as HTTP/1.1 bytes."""

from __future__ import annotations

import json
from typing import Protocol

import msgspec

from loadtest.approvals import ACTION, creation_body, response_body, sign_approval
from sigil.device import Device
from sigil.protocol.keys import Suite
from sigil.protocol.messages.approvals import MpaCreated, MpaStatus
from sigil.protocol.messages.challenges import ChallengeCreated
from sigil.protocol.messages.decoding import decode


class Round(Protocol):
    """`names` are those of the requests in order. The response to the last one completes the round."""

    names: tuple[str, ...]

    def request(self, step: int, before: bytes) -> bytes:
        """The request of a step, from the response to the step before it."""


class Http:
    """Complete HTTP requests to one host."""

    def __init__(self, host: str, api_key: str) -> None:
        self._head = f"Host: {host}\r\nContent-Type: application/json\r\n"
        self._key = f"Authorization: Bearer {api_key}\r\n"

    def post(self, path: str, body: bytes, *, key: bool = False) -> bytes:
        head = f"POST {path} HTTP/1.1\r\n{self._head}{self._key if key else ''}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\n{self._head}{self._key}\r\n".encode()


class ChallengeRound:
    """A challenge for one device, and its approval."""

    names = ("create", "answer")

    def __init__(self, http: Http, suite: Suite) -> None:
        self._http, self._device = http, Device.generate(suite)
        self._create = http.post("/challenge", creation_body(self._device), key=True)

    def request(self, step: int, before: bytes) -> bytes:
        if step == 0:
            return self._create
        created = decode(before, ChallengeCreated)
        return self._http.post("/respond", response_body(self._device, created, sign_approval(self._device, created)))


class ApprovalRound:
    """An approval request for five devices in three groups, of which two must approve, and the two approvals.

    A device gets the bytes to sign by push or by `POST /device/pending`. Here they come from the status, which costs
    the server as much.
    """

    names = ("request", "context", "vote", "decide")

    def __init__(self, http: Http, suite: Suite) -> None:
        self._http = http
        self._devices = [Device.generate(suite) for _ in range(5)]
        keys = [{"device_public_key": device.wire_key} for device in self._devices]
        groups = json.dumps([{"members": keys[:2]}, {"members": keys[2:4]}, {"members": keys[4:]}])
        body = b'{"required":2,"action":%s,"groups":%s}' % (ACTION, groups.encode())
        self._create = http.post("/mpa/request", body, key=True)
        self._mpa_id = ""
        self._context: dict[str, object] = {}

    def request(self, step: int, before: bytes) -> bytes:
        if step == 0:
            return self._create
        if step == 1:
            created = decode(before, MpaCreated)
            self._mpa_id = created.mpa_id
            return self._http.get(f"/mpa/status/{created.request_id}")
        if step == 2:
            self._context = msgspec.json.decode(decode(before, MpaStatus).action_context)
        return self._vote(self._devices[0 if step == 2 else 4])

    def _vote(self, device: Device) -> bytes:
        body = device.vote_body(self._mpa_id, "approved", device.sign_vote(self._context, "approved"))
        return self._http.post("/mpa/respond", msgspec.json.encode(body))


ROUNDS: dict[str, type[ChallengeRound] | type[ApprovalRound]] = {
    "challenges": ChallengeRound,
    "approvals": ApprovalRound,
}
