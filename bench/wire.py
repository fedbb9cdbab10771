"""The request bodies of a complete challenge or approval request."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64
from tests.support.web_key import WebKey

ACTION = {
    "type": "payment.confirm",
    "description": "Pay 129.90 EUR to Example Books Ltd",
    "params": {"amount": "129.90", "currency": "EUR", "to": "Example Books Ltd", "order": 48151},
}
ACTION_JCS = canonical(ACTION)


def creation_body(device: Device | WebKey) -> bytes:
    """The body of `POST /challenge`."""
    return json.dumps({"device_public_key": device.wire_key, "action": ACTION}).encode()


def response_body(device: Device, created: bytes, credential: str = "") -> bytes:
    """The body of `POST /respond` that approves a challenge; `created` is the response to `POST /challenge`."""
    challenge = json.loads(created)
    bound = decode_base64(challenge["challenge_bytes"], "challenge_bytes")
    signature = device.sign_approval(bound, ACTION_JCS)
    body = device.response_body(challenge["challenge_id"], "approved", signature)
    return json.dumps(body | ({"device_credential": credential} if credential else {})).encode()


def web_response_body(device: WebKey, created: bytes) -> bytes:
    """The same of a web device."""
    challenge = json.loads(created)
    bound = decode_base64(challenge["challenge_bytes"], "challenge_bytes")
    signature = device.sign_base64(signed_bytes.approval(bound, ACTION_JCS))
    answer = {"fingerprint": device.fingerprint, "decision": "approved", "signature": signature}
    return json.dumps({"challenge_id": challenge["challenge_id"], **answer}).encode()


def approval_request_body(groups: Sequence[Sequence[Device]], required: int) -> bytes:
    """The body of `POST /mpa/request`."""
    members = [{"members": [{"device_public_key": device.wire_key} for device in group]} for group in groups]
    return json.dumps({"action": ACTION, "required": required, "groups": members}).encode()


def vote_body(device: Device, status: bytes) -> bytes:
    """The body of `POST /mpa/respond` that approves a request; `status` is the response to `GET /mpa/status`."""
    request = json.loads(status)
    signature = device.sign_vote(request["action_context"], "approved")
    return json.dumps(device.vote_body(request["mpa_id"], "approved", signature)).encode()
