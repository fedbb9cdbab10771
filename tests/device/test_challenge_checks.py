"""A device shows no payload that fails a check, and each check has its own error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sigil.device import Device, PayloadRefused, ServerPin, ShownChallenge, verify_payload
from sigil.device.challenge_checks import CLOCK_ALLOWANCE_SECONDS
from sigil.device.errors import (
    ActionRefused,
    ChallengeBytesMismatch,
    ChallengeOver,
    ContextMismatch,
    MalformedPayload,
    NotThisDevice,
    RespondToForeign,
    ServerNotPinned,
    ServerSignatureInvalid,
)
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.keys import SUITES, Suite
from sigil.protocol.messages.challenges import ChallengePayload
from tests.device.fake_server import ACTION, NOW, as_json, identity, jcs, make_payload

SERVER, OTHER = identity(1), identity(50)
DEVICE = Device.from_secret("ES256", b"\x07" * 32)
PIN = ServerPin(
    base_url="https://auth.example.com",
    server_id=SERVER.server_id,
    server_public_keys=SERVER.server_public_keys,
    server_name="Example",
)
Payload = dict[str, Any]


def honest(**changes: Any) -> Payload:
    return make_payload(SERVER, DEVICE.public, **changes)


def check(payload: Payload, now: float = NOW) -> ShownChallenge:
    return verify_payload(as_json(payload), PIN, DEVICE.public, now)


def raw_action(text: str) -> Payload:
    """Signed over the JCS of the parsed text, as a careless server would do."""
    return honest(action=text.encode(), hashed_action=jcs(msgspec.json.decode(text)))


def without(name: str) -> Payload:
    return {key: value for key, value in honest().items() if key != name}


ZEROS = encode_base64(bytes(32))
TAMPERED: dict[str, tuple[type[PayloadRefused], Callable[[], Payload]]] = {
    "another type of message": (MalformedPayload, lambda: honest() | {"type": "mpa"}),
    "a member is missing": (MalformedPayload, lambda: without("nonce")),
    "a member of another type": (MalformedPayload, lambda: honest() | {"number_matching": "false"}),
    "an id that is no UUID": (MalformedPayload, lambda: honest() | {"challenge_id": "../../etc"}),
    "an id in upper case": (
        MalformedPayload,
        lambda: honest() | {"challenge_id": honest()["challenge_id"].upper()[:-1] + "A"},
    ),
    "a server_id in upper case": (MalformedPayload, lambda: honest() | {"server_id": SERVER.server_id.upper()}),
    "a short fingerprint": (MalformedPayload, lambda: honest() | {"fingerprint": "ab"}),
    "a time with an offset": (MalformedPayload, lambda: honest() | {"expires_at": "2027-01-15T08:05:00+00:00"}),
    "a nonce of 16 bytes": (MalformedPayload, lambda: honest() | {"nonce": encode_base64(bytes(16))}),
    "challenge_bytes without padding": (MalformedPayload, lambda: honest() | {"challenge_bytes": ZEROS.rstrip("=")}),
    "a signature of 32 bytes": (MalformedPayload, lambda: honest() | {"server_signature": ZEROS}),
    "a pinned server's name taken by another": (ServerNotPinned, lambda: make_payload(OTHER, DEVICE.public)),
    "another device's challenge": (
        NotThisDevice,
        lambda: make_payload(SERVER, Device.from_secret("ES256", b"\x08" * 32).public),
    ),
    "another challenge_id": (
        ChallengeBytesMismatch,
        lambda: honest() | {"challenge_id": honest(number=2)["challenge_id"]},
    ),
    "a later end": (ChallengeBytesMismatch, lambda: honest() | {"expires_at": "2027-01-15T08:09:00Z"}),
    "another nonce": (ChallengeBytesMismatch, lambda: honest() | {"nonce": ZEROS}),
    "number matching switched off": (
        ChallengeBytesMismatch,
        lambda: honest(number_matching=True) | {"number_matching": False},
    ),
    "a respond_to that was put in": (
        ChallengeBytesMismatch,
        lambda: honest() | {"respond_to": "https://auth.example.com/respond"},
    ),
    "half a surrogate pair": (MalformedPayload, lambda: honest() | {"respond_to": "PLACEHOLDER"}),
    "other challenge_bytes": (ChallengeBytesMismatch, lambda: honest() | {"challenge_bytes": ZEROS}),
    "an action with a member too many": (
        ActionRefused,
        lambda: honest(action=b'{"description":"d","type":"t","user":"u"}'),
    ),
    "an action in another order": (ActionRefused, lambda: raw_action('{"type":"t","description":"d"}')),
    "an action with a blank": (ActionRefused, lambda: raw_action('{"description": "d","type":"t"}')),
    "a name twice": (ActionRefused, lambda: raw_action('{"description":"d","params":{"a":1,"a":2},"type":"t"}')),
    "an escape that is not needed": (ActionRefused, lambda: raw_action('{"description":"\\u0064","type":"t"}')),
    "params of null": (ActionRefused, lambda: raw_action('{"description":"d","params":null,"type":"t"}')),
    "a fraction": (
        ActionRefused,
        lambda: honest(action=b'{"description":"d","params":{"a":1.5},"type":"t"}'),
    ),
    "a description that turns direction": (
        ActionRefused,
        lambda: honest(action='{"description":"d\u202e","type":"t"}'.encode()),
    ),
    "a newline in params": (
        ActionRefused,
        lambda: honest(action=b'{"description":"d","params":{"to":"Zoe\\nServer  other"},"type":"t"}'),
    ),
    "an override in a name in params": (
        ActionRefused,
        lambda: honest(action='{"description":"d","params":{"\u202e":1},"type":"t"}'.encode()),
    ),
    "another action than was signed": (
        ServerSignatureInvalid,
        lambda: honest() | {"action": msgspec.Raw(jcs(ACTION | {"description": "Pay another"}))},
    ),
    "a signature of another server": (
        ServerSignatureInvalid,
        lambda: make_payload(OTHER, DEVICE.public, server_id=SERVER.server_id),
    ),
    "a signature by the key of another suite": (
        ServerSignatureInvalid,
        lambda: (
            honest()
            | {
                "server_signature": make_payload(
                    SERVER, Device.from_secret("ES256K", b"\x07" * 32).public, fingerprint=DEVICE.fingerprint
                )["server_signature"]
            }
        ),
    ),
    "an answer wanted elsewhere": (RespondToForeign, lambda: honest(respond_to="https://evil.example.com/respond")),
    "an answer wanted in the clear": (RespondToForeign, lambda: honest(respond_to="http://auth.example.com/respond")),
    "an answer wanted on another port": (RespondToForeign, lambda: honest(respond_to="https://auth.example.com:444/")),
    "a host behind a user name": (RespondToForeign, lambda: honest(respond_to="https://auth.example.com@evil.com/")),
    "a host behind a backslash": (RespondToForeign, lambda: honest(respond_to="https://evil.com\\@auth.example.com/")),
    "an expired challenge": (ChallengeOver, lambda: honest(expires_at=int(NOW) - CLOCK_ALLOWANCE_SECONDS)),
}


@pytest.mark.parametrize(("error", "build"), TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_payload_is_refused_with_the_error_of_its_check(
    error: type[PayloadRefused], build: Callable[[], Payload]
) -> None:
    text = as_json(build()).replace(b"PLACEHOLDER", b"\\ud800")
    with pytest.raises(PayloadRefused) as refused:
        verify_payload(text, PIN, DEVICE.public, NOW)
    assert type(refused.value) is error


def test_the_table_has_every_check_and_every_check_its_own_code() -> None:
    errors = PayloadRefused.__subclasses__()
    # That one is for approval requests.
    assert {error for error, _ in TAMPERED.values()} == set(errors) - {ContextMismatch}
    assert len({error.code for error in errors}) == len(errors)


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b'{"type":"challenge"', b"\xff", b"[" * 5000])
def test_text_that_is_not_a_payload_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedPayload):
        verify_payload(text, PIN, DEVICE.public, NOW)


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_of_any_suite_shows_the_signed_members(suite: Suite) -> None:
    device = Device.from_secret(suite, b"\x09" * 32)
    payload = make_payload(
        SERVER, device.public, respond_to="https://AUTH.example.com:443/respond", number_matching=True
    )
    shown = verify_payload(as_json(payload), PIN, device.public, NOW)
    assert (shown.action_type, shown.description, shown.params) == tuple(ACTION.values())
    assert (shown.challenge_id, shown.number_matching, shown.server) == (payload["challenge_id"], True, PIN)
    assert shown.seconds_left(NOW) == 299


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("signer", SUITES)
def test_only_the_servers_key_of_the_devices_suite_is_accepted(suite: Suite, signer: Suite) -> None:
    device, other = (Device.from_secret(name, b"\x09" * 32) for name in (suite, signer))
    payload = make_payload(SERVER, other.public, fingerprint=device.fingerprint)
    if suite == signer:
        assert verify_payload(as_json(payload), PIN, device.public, NOW)
    else:
        with pytest.raises(ServerSignatureInvalid):
            verify_payload(as_json(payload), PIN, device.public, NOW)


def test_members_of_later_versions_are_tolerated() -> None:
    assert check(honest() | {"later": {"a": [1]}, "respond_to": None})


def test_a_decoded_payload_is_checked_like_its_json() -> None:
    decoded = msgspec.json.decode(as_json(honest()), type=ChallengePayload)
    assert verify_payload(decoded, PIN, DEVICE.public, NOW) == check(honest())


def test_half_a_surrogate_pair_in_a_decoded_payload_binds_nothing() -> None:
    decoded = msgspec.json.decode(as_json(honest()), type=ChallengePayload)
    with pytest.raises(ChallengeBytesMismatch):
        verify_payload(msgspec.structs.replace(decoded, respond_to="\ud800"), PIN, DEVICE.public, NOW)


def test_a_device_clock_a_minute_fast_still_shows_a_live_challenge() -> None:
    payload = honest(expires_at=int(NOW))
    assert check(payload, int(NOW) + CLOCK_ALLOWANCE_SECONDS - 1).seconds_left(NOW + 30) == 0
    with pytest.raises(ChallengeOver):
        check(payload, int(NOW) + CLOCK_ALLOWANCE_SECONDS)


def test_text_beyond_ascii_is_shown_unchanged() -> None:
    action = {"type": "t", "description": "Überweisung 🍎", "params": {"é": "ü", "\U0001f600": 1, "\ufb33": 2}}
    assert check(honest(action=jcs(action))).params == action["params"]
