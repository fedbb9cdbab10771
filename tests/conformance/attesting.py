"""A device that attests its key: the signed bytes of attestation, and the reading of a device_credential.

The statements come from the phone for tests of the software device: it stands for the hardware.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

import httpx
import rfc8785

from sigil.device.test_phone.phones import phone
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.keys import PublicKey

from .integrator import assert_ok
from .server import Server
from .wire import Device, b64, unb64, unix, verifies

DIGEST = b"SIGIL-ATTEST-V1\0"
PROOF = b"SIGIL-ATTEST-PROOF-V1\0"
CREDENTIAL = b"SIGIL-DEVICE-CREDENTIAL-V1\0"
KINDS = {"android": "android-key", "apple": "apple-appattest", "yubikey": "yubikey-piv"}
APPS = {
    "SIGIL_ATTESTATION_KINDS": ",".join(KINDS.values()),
    "SIGIL_ANDROID_APPS": "org.example.sigil:" + bytes(range(32)).hex(),
    "SIGIL_APPLE_APPS": "ABCDE12345.org.example.sigil",
}
"""The apps of the phones for tests."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def digest_of(nonce: str, server_id: str, context: str = "", /, **forged: str) -> Callable[[str, str], bytes]:
    """attest_digest, by the kind of the statement and the member `key`."""

    def digest(kind: str, key: str) -> bytes:
        bound = {"context": context, "key": key, "kind": kind, "nonce": nonce, "server_id": server_id} | forged
        return sha256(DIGEST + rfc8785.dumps(bound))

    return digest


def statement_of(
    name: str, root: TestRoot, device: Device, digest: Callable[[str, str], bytes], /, **fields: Any
) -> dict[str, Any]:
    return phone(name, root, PublicKey.parse(device.key.public), **fields).statement(digest)


def key_member(statement: dict[str, Any], device: Device) -> str:
    """Empty where the attested certificate holds the device's key."""
    direct = statement["kind"] == "yubikey-piv" or (statement["kind"] == "android-key" and not statement["witness"])
    return "" if direct else device.public


_ADDRESSES = IPv4Network("198.18.0.0/15").hosts()


@dataclass
class Attesting:
    server: Server
    root: TestRoot
    device: Device
    address: str = field(default_factory=lambda: str(next(_ADDRESSES)))
    """An address has 30 attestations a minute; the tests together need more."""

    def challenge(self) -> dict[str, Any]:
        challenge = assert_ok(self.server.http.get("/device/attest/challenge"))
        assert set(challenge) == {"challenge_id", "nonce", "expires_at"}
        assert len(unb64(challenge["nonce"])) == 32
        return challenge

    def body(self, name: str, challenge: dict[str, Any] | None = None, /, **fields: Any) -> dict[str, Any]:
        challenge = challenge or self.challenge()
        digest = digest_of(challenge["nonce"], self.server.identity.server_id)
        statement = statement_of(name, self.root, self.device, digest, **fields)
        bound = digest(statement["kind"], key_member(statement, self.device))
        return {
            "device_public_key": self.device.public,
            "challenge_id": challenge["challenge_id"],
            "attestation": statement,
            "signature": self.device.sign(PROOF + bound + sha256(rfc8785.dumps(statement))),
        }

    def send(self, body: dict[str, Any]) -> httpx.Response:
        headers = {"Content-Type": "application/json", "X-Forwarded-For": self.address}
        return self.server.http.post("/device/attest", content=json.dumps(body).encode(), headers=headers)

    def attest(self, name: str, **fields: Any) -> dict[str, Any]:
        return assert_ok(self.send(self.body(name, **fields)))


def unb64url(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert base64.urlsafe_b64encode(raw).decode().rstrip("=") == text
    return raw


def read_public(text: str, server: Server) -> dict[str, Any]:
    """The payload of the first three parts, verified as an auditor does."""
    prefix, payload, signature = text.split(".")
    assert prefix == "sdc1"
    assert verifies(server.identity.keys["ES256"].public, CREDENTIAL + unb64url(payload), unb64url(signature))
    members: dict[str, Any] = json.loads(unb64url(payload))
    assert rfc8785.dumps(members) == unb64url(payload)
    assert set(members) == {
        "v", "server_id", "fingerprint", "kind", "level", "binding", "app", "attested_at", "issued_at", "expires_at",
        "facts_sha256",
    }  # fmt: skip
    assert (members["v"], members["server_id"]) == (1, server.identity.server_id)
    assert unix(members["attested_at"]) <= unix(members["issued_at"]) < unix(members["expires_at"])
    return members


def read_credential(text: str, server: Server) -> tuple[dict[str, Any], dict[str, Any]]:
    """Payload and facts of a whole credential."""
    assert len(text) <= 4096
    public, _, facts = text.rpartition(".")
    members = read_public(public, server)
    assert members["facts_sha256"] == sha256(unb64url(facts)).hex()
    found: dict[str, Any] = json.loads(unb64url(facts))
    assert rfc8785.dumps(found) == unb64url(facts)
    assert len(unb64url(found["salt"])) == 16
    return members, found


def signed_by(server: Server, credential: str, **changes: Any) -> str:
    """The same credential with other members, signed by that server: what only the holder of its mnemonic can make."""
    prefix, payload, _, facts = credential.split(".")
    text = rfc8785.dumps(json.loads(unb64url(payload)) | changes)
    signature = server.identity.keys["ES256"].sign(CREDENTIAL + text)
    return ".".join([prefix, *(b64url(part) for part in (text, signature)), facts])


def b64url(data: bytes) -> str:
    return b64(data).replace("+", "-").replace("/", "_").rstrip("=")
