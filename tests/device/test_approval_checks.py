"""A device shows no approval request that fails a check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sigil.device import Device, PayloadRefused, ServerPin
from sigil.device.approval_checks import ShownApproval, verify_mpa_payload
from sigil.device.challenge_checks import CLOCK_ALLOWANCE_SECONDS
from sigil.device.errors import (
    ActionRefused,
    ChallengeOver,
    ContextMismatch,
    MalformedPayload,
    RespondToForeign,
    ServerNotPinned,
    ServerSignatureInvalid,
)
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import encode_base64, format_time
from sigil.protocol.keys import SUITES, Suite
from tests.device.fake_server import ACTION, NOW, as_json, identity, make_mpa_payload

SERVER, OTHER = identity(1), identity(50)
DEVICE = Device.from_secret("ES256", b"\x07" * 32)
PIN = ServerPin(
    base_url="https://auth.example.com", server_id=SERVER.server_id, server_public_keys=SERVER.server_public_keys
)
Payload = dict[str, Any]


def honest(**changes: Any) -> Payload:
    return make_mpa_payload(SERVER, DEVICE.public, **changes)


def check(payload: Payload, now: float = NOW, device: Device = DEVICE) -> ShownApproval:
    return verify_mpa_payload(as_json(payload), PIN, device.public, now)


def rewritten(change: Callable[[bytes], bytes]) -> Payload:
    """An honest payload whose context is written in another form; the signature covers its JCS and is still valid."""
    payload = honest()
    return payload | {"action_context": msgspec.Raw(change(bytes(payload["action_context"])))}


TAMPERED: dict[str, tuple[type[PayloadRefused], Callable[[], Payload]]] = {
    "another type of message": (MalformedPayload, lambda: honest() | {"type": "challenge"}),
    "no context": (MalformedPayload, lambda: honest() | {"action_context": 1}),
    "an id that is not a UUID": (MalformedPayload, lambda: honest() | {"mpa_id": "../../etc"}),
    "a signature of 32 bytes": (MalformedPayload, lambda: honest() | {"server_signature": encode_base64(bytes(32))}),
    "an unknown policy": (MalformedPayload, lambda: honest(reject_policy="never")),
    "another server": (ServerNotPinned, lambda: make_mpa_payload(OTHER, DEVICE.public)),
    "another id outside the context": (ContextMismatch, lambda: honest() | {"mpa_id": honest(number=2)["mpa_id"]}),
    "a later expiry outside the context": (ContextMismatch, lambda: honest() | {"expires_at": "2027-01-15T08:09:00Z"}),
    "an address outside the context": (ContextMismatch, lambda: honest() | {"respond_to": PIN.base_url}),
    "another server in the context": (ContextMismatch, lambda: honest() | {"server_id": SERVER.server_id}
                                      | {"action_context": honest(server_id="a" * 64)["action_context"]}),
    "a blank": (ContextMismatch, lambda: rewritten(lambda text: text.replace(b":", b": ", 1))),
    "a member twice": (ContextMismatch, lambda: rewritten(lambda text: text[:-1] + b',"type":"payment"}')),
    "a fraction": (ContextMismatch, lambda: rewritten(lambda text: text.replace(b'"amount":12', b'"amount":12.0'))),
    "a member too many": (ContextMismatch, lambda: honest(zeal=1)),
    "an invalid type": (ActionRefused, lambda: honest(type="Pay")),
    "a description that changes the text direction": (ActionRefused, lambda: honest(description="d\u202e")),
    "a newline in params": (ActionRefused, lambda: honest(params={"to": ["Zoë\nServer  other"]})),
    "an escape sequence in a name in params": (ActionRefused, lambda: honest(params={"\x1b[2J": 1})),
    "another amount than was signed": (
        ServerSignatureInvalid,
        lambda: honest() | {"action_context": honest(params={"amount": 13})["action_context"]},
    ),
    "another number of groups than was signed": (
        ServerSignatureInvalid,
        lambda: honest() | {"action_context": honest(required=1)["action_context"]},
    ),
    "other groups than were signed": (
        ServerSignatureInvalid,
        lambda: honest() | {"action_context": honest(groups_sha256="0" * 64)["action_context"]},
    ),
    "a signature of another server": (
        ServerSignatureInvalid,
        lambda: make_mpa_payload(OTHER, DEVICE.public, server_id=SERVER.server_id),
    ),
    "another address for the answer": (RespondToForeign, lambda: honest(respond_to="https://evil.example.com/mpa/respond")),
    "an expired request": (
        ChallengeOver, lambda: honest(expires_at=format_time(int(NOW) - CLOCK_ALLOWANCE_SECONDS)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("error", "build"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_request_is_refused_with_the_error_of_its_check(
    error: type[PayloadRefused], build: Callable[[], Payload]
) -> None:
    with pytest.raises(PayloadRefused) as refused:
        check(build())
    assert type(refused.value) is error


@pytest.mark.parametrize("suite", SUITES)
def test_the_shown_and_signed_members_are_those_that_the_server_signed(suite: Suite) -> None:
    device = Device.from_secret(suite, b"\x09" * 32)
    payload = make_mpa_payload(SERVER, device.public, respond_to="https://auth.example.com/mpa/respond")
    shown = check(payload, device=device)
    assert (shown.action_type, shown.description, shown.params) == tuple(ACTION.values())
    assert (shown.id, shown.request_id, shown.required) == (payload["mpa_id"], "order-7", 2)
    context = msgspec.json.decode(payload["action_context"])
    for decision, message in (
        ("approved", signed_bytes.mpa_approval(context)),
        ("rejected", signed_bytes.mpa_rejection(context)),
    ):
        assert device.public.verify(message, device.sign_vote(shown.context, decision))  # type: ignore[arg-type]
