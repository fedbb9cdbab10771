"""The public vectors that the project shares with other implementations, run through this code."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sigil.protocol import signed_bytes, webhook
from sigil.protocol.action import action_jcs
from sigil.protocol.api_key import PREFIXES, KeyRing, issue_api_key
from sigil.protocol.encoding.text import decode_base64, encode_base64, format_time, parse_time
from sigil.protocol.errors import InvalidPublicKey
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.keys import SUITES, PrivateKey, PublicKey
from sigil.protocol.messages.challenges import CreateChallenge
from sigil.protocol.messages.decoding import decode

Vector = dict[str, Any]


@pytest.fixture(scope="module")
def vector(shared_vectors: Path) -> Vector:
    vectors = json.loads((shared_vectors / "identity.json").read_text(encoding="utf-8"))["vectors"]
    assert len(vectors) == 1
    whole: Vector = vectors[0]
    return whole


@pytest.fixture(scope="module")
def identity(vector: Vector) -> ServerIdentity:
    return ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(vector["mnemonic"]))


@pytest.fixture(scope="module")
def device(vector: Vector) -> PrivateKey:
    return PrivateKey.load("ES256", bytes.fromhex(vector["challenge"]["device_private_key_hex"]))


@pytest.fixture(scope="module")
def signed(vector: Vector) -> dict[str, bytes]:
    """The signed bytes of the challenge, from the members of its request."""
    given = vector["challenge"]
    request = {"device_public_key": given["device_public_key"], "action": given["action"]}
    jcs = action_jcs(decode(json.dumps(request).encode(), CreateChallenge).action)
    assert jcs == given["action_jcs"].encode()
    challenge = decode_base64(given["challenge_bytes"], "$", length=32)
    return {
        "device_approval": signed_bytes.approval(challenge, jcs),
        "device_approval_with_match_code_07": signed_bytes.matched_approval(challenge, jcs, "07"),
        "device_rejection": signed_bytes.rejection(challenge, jcs),
    }


def test_the_mnemonic_gives_the_identity(vector: Vector, identity: ServerIdentity) -> None:
    assert identity.server_id == vector["server_id"]
    assert identity.server_public_keys == vector["server_public_keys"]
    assert identity.keys_signature == vector["keys_signature"]


def test_the_servers_keys_are_signed_by_its_es256_key(vector: Vector) -> None:
    key = PublicKey.parse(base64.b64decode(vector["server_public_keys"]["ES256"]))
    assert key.fingerprint == vector["server_id"]
    message = signed_bytes.server_keys(vector["server_public_keys"])
    assert key.verify(message, base64.b64decode(vector["keys_signature"]))


def test_the_api_keys_are_issued_and_authenticate(vector: Vector, identity: ServerIdentity) -> None:
    key_id, keys = bytes(range(16)), vector["api_keys_for_id_000102030405060708090a0b0c0d0e0f"]
    assert {prefix: issue_api_key(identity.api_key_secret, prefix, key_id) for prefix in PREFIXES} == keys
    for key in keys.values():
        assert KeyRing(identity.api_key_secret).authenticate(f"Bearer {key}").owner == key_id


def test_the_challenge_is_bound(vector: Vector, device: PrivateKey) -> None:
    given = vector["challenge"]
    bind = given["bind"]
    assert device.public.fingerprint == bind["fingerprint"]
    assert encode_base64(device.public.wire) == given["device_public_key"]
    seconds = parse_time(bind["expires_at"], "$")
    assert format_time(seconds) == bind["expires_at"]
    nonce = decode_base64(bind["nonce"], "$", length=32)
    bound = signed_bytes.challenge_bytes(**bind | {"expires_at": seconds, "nonce": nonce})
    assert encode_base64(bound) == given["challenge_bytes"]


@pytest.mark.parametrize("suite", SUITES)
def test_the_server_signs_the_challenge_with_the_suite_of_the_device(
    vector: Vector, identity: ServerIdentity, signed: dict[str, bytes], suite: str
) -> None:
    expected = vector["challenge"][f"server_signature_{suite}"]
    like = next(key.public for key in identity.keys.values() if key.public.suite == suite)
    assert encode_base64(identity.sign_for(like, signed["device_approval"])) == expected
    assert like.verify(signed["device_approval"], base64.b64decode(expected))


def test_the_device_answers_with_its_signatures(vector: Vector, device: PrivateKey, signed: dict[str, bytes]) -> None:
    for use, message in signed.items():
        assert encode_base64(device.sign(message)) == vector["challenge"][use]
        verified = [
            other for other in signed if device.public.verify(message, base64.b64decode(vector["challenge"][other]))
        ]
        assert verified == [use]


def test_the_groups_have_their_hash(vector: Vector) -> None:
    assert signed_bytes.groups_sha256(vector["groups"]) == vector["groups_sha256"]


def test_the_webhook_has_its_two_signatures(vector: Vector) -> None:
    given = vector["webhook"]
    secret, timestamp, body = given["secret"], given["timestamp"], given["body"].encode()
    assert webhook.sigil_signature(secret, timestamp, body) == given["x_sigil_signature"]
    assert webhook.standard_signature(secret, given["id"], timestamp, body) == given["webhook_signature"]


def test_the_relay_request_has_its_signature(vector: Vector, identity: ServerIdentity) -> None:
    given = vector["relay_request"]
    message = signed_bytes.relay_request(
        given["method"], given["target"], given["timestamp"], given["nonce"], given["body"].encode()
    )
    assert encode_base64(identity.keys["ES256"].sign(message)) == given["signature"]


def _compressed(prefix: bytes) -> Callable[[Vector], bytes]:
    def wire(key: Vector) -> bytes:
        point = bytes.fromhex(key["uncompressed"])
        assert len(point) == 65
        assert point[0] == 4
        return prefix + bytes([2 + point[64] % 2]) + point[1:33]

    return wire


WIRE: dict[str, Callable[[Vector], bytes]] = {
    "ecdsa_secp256r1_sha256_p1363_test.json": _compressed(b""),
    "ecdsa_secp256k1_sha256_p1363_test.json": _compressed(b"\xe7\x01"),
    "ed25519_test.json": lambda key: b"\xed\x01" + bytes.fromhex(key["pk"]),
}


@pytest.mark.parametrize("file", WIRE)
def test_every_wycheproof_case_is_decided_as_wycheproof_does(shared_vectors: Path, file: str) -> None:
    whole = json.loads((shared_vectors / "wycheproof" / file).read_text(encoding="utf-8"))
    ran, wrong = 0, []
    for group in whole["testGroups"]:
        wire = WIRE[file](group["publicKey"])
        for test in group["tests"]:
            try:
                verified = PublicKey.parse(wire).verify(bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
            except InvalidPublicKey:
                verified = False
            ran += 1
            if test["result"] != "acceptable" and verified != (test["result"] == "valid"):
                wrong.append(f"tcId {test['tcId']}, {test['comment']}: {test['result']}, but verify is {verified}")
    assert wrong == []
    assert ran == whole["numberOfTests"] > 100


def test_every_wycheproof_file_is_run(shared_vectors: Path) -> None:
    assert {path.name for path in (shared_vectors / "wycheproof").glob("*.json")} == set(WIRE)
