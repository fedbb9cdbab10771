"""POST /challenge: its response, and invalid keys and members."""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any

import nacl.bindings
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from .integrator import ACTION, Integrator, assert_error, assert_ok
from .server import Server
from .wire import (
    AUTH,
    SUITES,
    Device,
    ServerIdentity,
    b64,
    bound_bytes,
    pictogram_of,
    signed_message,
    unb64,
    unix,
    verifies,
)

FIELDS = {
    "challenge_id",
    "fingerprint",
    "pictogram",
    "pictogram_speakable",
    "expires_at",
    "challenge_bytes",
    "nonce",
    "server_signature",
}


@pytest.mark.parametrize("suite", SUITES)
def test_the_response_has_exactly_the_documented_members(owner: Integrator, suite: str) -> None:
    answer = owner.create(Device(suite))
    assert set(assert_ok(answer, 201)) == FIELDS
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("suite", SUITES)
def test_the_response_has_the_fingerprint_and_the_pictogram_of_the_device(owner: Integrator, suite: str) -> None:
    device = Device(suite)
    challenge = owner.challenge(device)
    assert challenge["fingerprint"] == device.fingerprint
    assert (challenge["pictogram"], challenge["pictogram_speakable"]) == pictogram_of(device.fingerprint)


def test_the_id_is_a_version_4_uuid_in_lower_case(owner: Integrator) -> None:
    text = owner.challenge(Device())["challenge_id"]
    assert str(uuid.UUID(text)) == text
    assert uuid.UUID(text).version == 4


@pytest.mark.parametrize("matching", [False, True])
@pytest.mark.parametrize("suite", SUITES)
def test_challenge_bytes_are_the_hash_of_the_bound_members(owner: Integrator, suite: str, matching: bool) -> None:
    challenge = owner.challenge(Device(suite), number_matching=matching)
    assert len(unb64(challenge["nonce"])) == 32
    expected = bound_bytes(challenge, owner.server.identity.server_id, number_matching=matching)
    assert challenge["challenge_bytes"] == expected


@pytest.mark.parametrize("suite", SUITES)
def test_the_server_signs_with_its_key_of_the_devices_suite(owner: Integrator, suite: str) -> None:
    challenge = owner.challenge(Device(suite))
    identity = owner.server.identity
    message = signed_message(challenge["challenge_bytes"], ACTION, AUTH)
    assert verifies(identity.keys[suite].public, message, unb64(challenge["server_signature"]))
    assert challenge["server_signature"] == identity.signature(suite, message)


def test_two_challenges_share_neither_id_nor_nonce(owner: Integrator, device: Device) -> None:
    first, second = owner.challenge(device), owner.challenge(device)
    assert first["challenge_id"] != second["challenge_id"]
    assert first["nonce"] != second["nonce"]


@pytest.mark.parametrize(
    ("more", "ttl"), [({}, 300), ({"expires_in_seconds": 30}, 30), ({"expires_in_seconds": 300}, 300)]
)
def test_a_challenge_expires_a_whole_number_of_seconds_after_its_creation(
    owner: Integrator, more: dict[str, int], ttl: int
) -> None:
    before = int(time.time())
    expires_at = unix(owner.challenge(Device(), **more)["expires_at"])
    assert before + ttl <= expires_at <= int(time.time()) + ttl


@pytest.mark.parametrize("ttl", [29, 301, 0, -1, 2**70, 60.5, 60.0, "60", True, [60]])
def test_a_lifetime_out_of_bounds_is_rejected(owner: Integrator, ttl: Any) -> None:
    assert_error(owner.create(Device(), expires_in_seconds=ttl), 400, "INVALID_REQUEST", "expires_in_seconds")


def test_the_fingerprint_of_the_key_is_accepted(owner: Integrator, device: Device) -> None:
    assert owner.challenge(device, fingerprint=device.fingerprint)["fingerprint"] == device.fingerprint


def test_the_fingerprint_of_another_device_is_a_mismatch(owner: Integrator, device: Device) -> None:
    assert_error(owner.create(device, fingerprint=Device().fingerprint), 400, "FINGERPRINT_MISMATCH")


def test_a_malformed_fingerprint_is_an_invalid_request(owner: Integrator, device: Device) -> None:
    right = device.fingerprint
    for wrong in (right.upper(), right[:-1], right + "0", f" {right}", f"{right}\n", "g" * 64, "", 7):
        assert_error(owner.create(device, fingerprint=wrong), 400, "INVALID_REQUEST", "fingerprint")


@pytest.mark.parametrize("suite", SUITES)
def test_the_keys_of_the_server_are_rejected_as_device_keys(
    owner: Integrator, identity: ServerIdentity, suite: str
) -> None:
    assert_error(owner.create(Device(suite, identity.keys[suite])), 400, "INVALID_PUBLIC_KEY")


def _off_curve() -> bytes:
    while True:
        raw = b"\x02" + secrets.token_bytes(32)
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw)
        except ValueError:
            return raw


def _off_secp256k1() -> bytes:
    while True:
        raw = b"\x02" + secrets.token_bytes(32)
        try:
            ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), raw)
        except ValueError:
            return b"\xe7\x01" + raw


def _not_ed25519() -> bytes:
    while True:
        raw = secrets.token_bytes(32)
        if not nacl.bindings.crypto_core_ed25519_is_valid_point(raw):
            return b"\xed\x01" + raw


def _small_order() -> bytes:
    return b"\xed\x01" + bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


def _mixed_order() -> bytes:
    good_point = Device("Ed25519").key.public[2:]
    mixed = nacl.bindings.crypto_core_ed25519_add(good_point, _small_order()[2:])
    assert not nacl.bindings.crypto_core_ed25519_is_valid_point(mixed)
    return b"\xed\x01" + mixed


def _with_first_byte(suite: str, byte: int) -> bytes:
    raw = bytearray(Device(suite).key.public)
    raw[len(raw) - 33] = byte
    return bytes(raw)


INVALID_KEYS = {
    "32 bytes": lambda: Device().key.public[:-1],
    "36 bytes": lambda: b"\xe7\x01\x02" + secrets.token_bytes(33),
    "one byte": lambda: b"\x02",
    "an uncompressed point": lambda: b"\x04" + secrets.token_bytes(64),
    "P-256 with first byte 04": lambda: _with_first_byte("ES256", 4),
    "P-256 with first byte 00": lambda: _with_first_byte("ES256", 0),
    "P-256 hybrid 06": lambda: _with_first_byte("ES256", 6),
    "secp256k1 hybrid 07": lambda: _with_first_byte("ES256K", 7),
    "secp256k1 with first byte 04": lambda: _with_first_byte("ES256K", 4),
    "not on P-256": _off_curve,
    "not on secp256k1": _off_secp256k1,
    "x beyond the field of P-256": lambda: b"\x02" + b"\xff" * 32,
    "x beyond the field of secp256k1": lambda: b"\xe7\x01\x02" + b"\xff" * 32,
    "secp256k1 under an unknown prefix": lambda: b"\xe7\x02" + Device("ES256K").key.public[2:],
    "secp256k1 under the Ed25519 prefix": lambda: b"\xed\x01" + Device("ES256K").key.public[2:],
    "Ed25519 under the secp256k1 prefix": lambda: b"\xe7\x01" + Device("Ed25519").key.public[2:],
    "Ed25519 under an unknown prefix": lambda: b"\xed\x02" + Device("Ed25519").key.public[2:],
    "not a point of Ed25519": _not_ed25519,
    "the identity of Ed25519": lambda: b"\xed\x01\x01" + bytes(31),
    "all zeros as Ed25519": lambda: b"\xed\x01" + bytes(32),
    "a small order": _small_order,
    "a mixed order": _mixed_order,
    "Ed25519 not reduced": lambda: b"\xed\x01" + b"\xee" + b"\xff" * 30 + b"\x7f",
}


@pytest.mark.parametrize("kind", INVALID_KEYS)
def test_an_invalid_public_key_is_rejected(owner: Integrator, kind: str) -> None:
    body = {"device_public_key": b64(INVALID_KEYS[kind]()), "action": ACTION}
    assert_error(owner.post(body), 400, "INVALID_PUBLIC_KEY")


def test_a_public_key_in_another_encoding_is_an_invalid_request(owner: Integrator) -> None:
    right = Device("Ed25519").public
    assert right.endswith("==")
    loose = right[:-3] + chr(ord(right[-3]) + 1) + "=="
    url_safe = b64(b"\xfb" * 33).replace("+", "-").replace("/", "_")
    for wrong in (right[:-2], right[:-1], f"{right}\n", f" {right}", right[:20] + " " + right[20:], loose, url_safe):
        assert_error(
            owner.post({"device_public_key": wrong, "action": ACTION}), 400, "INVALID_REQUEST", "device_public_key"
        )


@pytest.mark.parametrize("wrong", [7, True, [], {}, 1.5])
def test_a_member_of_the_wrong_type_is_named(owner: Integrator, device: Device, wrong: Any) -> None:
    for member in ("device_public_key", "fingerprint", "action", "number_matching"):
        if member == "number_matching" and wrong is True:
            continue
        body = {"device_public_key": device.public, "action": ACTION, member: wrong}
        assert_error(owner.post(body), 400, "INVALID_REQUEST", "action" if member == "action" else member)


@pytest.mark.parametrize("missing", ["device_public_key", "action"])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_a_missing_member_is_named(owner: Integrator, device: Device, missing: str, how: str) -> None:
    body: dict[str, Any] = {"device_public_key": device.public, "action": ACTION}
    body[missing] = None
    if how == "absent":
        del body[missing]
    assert_error(owner.post(body), 400, "INVALID_REQUEST", missing)


def test_null_counts_as_absent(owner: Integrator, device: Device) -> None:
    before = int(time.time())
    challenge = owner.challenge(device, fingerprint=None, expires_in_seconds=None, number_matching=None)
    assert set(challenge) == FIELDS
    assert before + 300 <= unix(challenge["expires_at"]) <= int(time.time()) + 300


def test_unknown_members_of_an_integrators_request_are_tolerated(owner: Integrator, device: Device) -> None:
    assert set(owner.challenge(device, metadata={"a": [1, 2.5]}, user_id="alice")) == FIELDS


def test_respond_to_is_derived_from_the_public_url_and_bound(public_server: Server) -> None:
    owner = Integrator(public_server, public_server.identity.api_key())
    body = {"device_public_key": Device().public, "action": ACTION}
    challenge = assert_ok(owner.post(body, Host="evil.example.net"), 201)
    assert challenge["respond_to"] == "https://sigil.example.com/respond"
    expected = bound_bytes(challenge, public_server.identity.server_id, number_matching=True)
    assert challenge["challenge_bytes"] == expected


def test_a_host_header_does_not_set_respond_to(owner: Integrator, device: Device) -> None:
    body = {"device_public_key": device.public, "action": ACTION}
    sent = {"Host": "evil.example.net", "X-Forwarded-Host": "evil.example.net"}
    assert "evil" not in owner.post(body, **sent).text
