"""The two sides of an enrolment: a backend that begins it, and a device that claims and completes it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
import rfc8785

from .integrator import Integrator, assert_ok, post
from .server import Server
from .wire import TOKENS, Device, b64, note_signature, pictogram_of, unb64, unix, verifies

OFFER = b"SIGIL-ENROL-OFFER-V1\0"
TOKEN = b"SIGIL-ENROL-TOKEN-V1\0"
COMMIT = b"SIGIL-ENROL-COMMIT-V1\0"
COMPLETION = b"SIGIL-ENROL-V1\0"
CONSENT = b"SIGIL-ENROL-REPLACE-V1\0"
SAS = b"SIGIL-ENROL-SAS-V1\0"
MEMBERS = {
    "account",
    "attestation",
    "claim_id",
    "commitment",
    "confirm",
    "enrolment_id",
    "expires_at",
    "nonce",
    "replaces",
    "server_id",
    "server_name",
    "token_sha256",
}


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def read_link(uri: str) -> tuple[str, str, str]:
    """base_url, server_id and token of an enrolment link."""
    found = re.fullmatch(r"sigil:enrol\?u=([A-Za-z0-9._~%-]+)&s=([A-Za-z0-9_-]{43})&t=([0-9A-HJKMNP-TV-Z]{12})", uri)
    assert found is not None, uri
    assert not re.search(r"%(?![0-9A-F]{2})", found[1])
    server_id = base64.urlsafe_b64decode(found[2] + "=")
    assert base64.urlsafe_b64encode(server_id).decode() == found[2] + "="
    return unquote(found[1]), server_id.hex(), found[3]


@dataclass
class Backend(Integrator):
    """An integrator that enrols."""

    def call(self, path: str, body: Any, **headers: str) -> httpx.Response:
        sent = {"Content-Type": "application/json", **self.headers, **headers}
        return self.server.http.post(path, content=json.dumps(body).encode(), headers=sent)

    def begin(self, account: str = "alice", **more: Any) -> dict[str, Any]:
        begun = assert_ok(self.call("/enrolment", {"account": account, **more}), 201)
        TOKENS.append(begun["token"])
        return begun

    def confirm(self, enrolment_id: str, code: str) -> httpx.Response:
        return self.call(f"/enrolment/{enrolment_id}/confirm", {"code": code})

    def enrolment(self, enrolment_id: str, **query: Any) -> dict[str, Any]:
        return assert_ok(self.get(enrolment_id, **query))

    def get(self, enrolment_id: str, **query: Any) -> httpx.Response:
        return self.server.http.get(f"/enrolment/{enrolment_id}/status", params=query, headers=self.headers)

    def cancel_enrolment(self, enrolment_id: str) -> httpx.Response:
        return self.server.http.delete(f"/enrolment/{enrolment_id}", headers=self.headers)


@dataclass
class Enrolling:
    """A device in one claim: it trusts what it scanned, and verifies all that the server sends."""

    server: Server
    server_id: str
    token: str
    device: Device = field(default_factory=Device)
    claim_id: str = field(default_factory=lambda: secrets.token_hex(16))
    offer: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    pictogram: list[str] = field(default_factory=list)

    @classmethod
    def scan(cls, server: Server, uri: str, device: Device | None = None) -> Enrolling:
        _, server_id, token = read_link(uri)
        return cls(server, server_id, token, device or Device())

    def send_claim(self) -> httpx.Response:
        return post(self.server, "/enrolment/claim", {"token": self.token, "claim_id": self.claim_id})

    def claim(self) -> dict[str, Any]:
        answer = self.send_claim()
        body = assert_ok(answer)
        assert set(body) == {"offer", "server_signature"}
        self.offer = offer = body["offer"]
        # Sent as the text of its JCS.
        assert rfc8785.dumps(offer).decode() in answer.text
        assert set(offer) == MEMBERS
        assert set(offer["attestation"]) == {"kinds", "min_level"}
        assert offer["attestation"]["kinds"] == sorted(offer["attestation"]["kinds"])
        info = assert_ok(self.server.http.get("/info"))
        assert offer["server_id"] == self.server_id == info["server_id"]
        assert offer["server_name"] == info["server_name"]
        assert offer["claim_id"] == self.claim_id
        assert offer["token_sha256"] == sha256(TOKEN + self.token.encode()).hex()
        assert len(unb64(offer["nonce"])) == len(unb64(offer["commitment"])) == 32
        unix(offer["expires_at"])
        key = unb64(info["server_public_keys"]["ES256"])
        assert verifies(key, OFFER + rfc8785.dumps(offer), unb64(note_signature(body["server_signature"])))
        return offer

    def digest(self, attestation: dict[str, Any] | None = None) -> bytes:
        stated = rfc8785.dumps(attestation) if attestation else b""
        return sha256(rfc8785.dumps(self.offer)) + sha256(self.device.key.public) + sha256(stated)

    def completion(
        self, attestation: dict[str, Any] | None = None, replaced: Device | None = None, **changes: Any
    ) -> dict[str, Any]:
        digest = self.digest(attestation)
        body = {
            "enrolment_id": self.offer["enrolment_id"],
            "claim_id": self.claim_id,
            "device_public_key": self.device.public,
            "signature": self.device.sign(COMPLETION + digest),
        }
        if attestation:
            body["attestation"] = attestation
        if replaced:
            body["replaces_signature"] = replaced.sign(CONSENT + digest)
        return body | changes

    def send_completion(self, body: dict[str, Any]) -> httpx.Response:
        return post(self.server, "/enrolment/complete", body)

    def complete(self, attestation: dict[str, Any] | None = None, replaced: Device | None = None) -> dict[str, Any]:
        body = assert_ok(self.send_completion(self.completion(attestation, replaced)))
        assert set(body) - {"device_credential"} == {"sas_nonce", "status"}
        self.compare(body["sas_nonce"], attestation)
        return body

    def compare(self, sas_nonce: str, attestation: dict[str, Any] | None = None) -> None:
        """What the device shows, once it knows that the server had committed to it."""
        assert b64(sha256(COMMIT + unb64(sas_nonce))) == self.offer["commitment"]
        sas = sha256(SAS + self.digest(attestation) + unb64(sas_nonce))
        self.code = f"{int.from_bytes(sas[:8]) % 1_000_000:06d}"
        self.pictogram, _ = pictogram_of(sas[8:12].hex())

    def wait(self, seconds: int | None = None, **changes: Any) -> httpx.Response:
        body = {"enrolment_id": self.offer["enrolment_id"], "claim_id": self.claim_id, "wait": seconds} | changes
        return post(self.server, "/enrolment/wait", body)


def other_code(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06d}"
