"""The Locust scenario counts only complete challenges as complete, and connects only to a server that it trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sigil.device import Device
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.messages.challenges import ChallengeCreated, ChallengeStatus, PushStatus, Responded
from sigil.protocol.messages.server import Health
from tests.loadtest.canned_server import canned_server, run_one_challenge

FINGERPRINT = Device.from_secret("ES256", b"\x07" * 32).fingerprint
PICTOGRAM = {"pictogram": ["apple"] * 5, "pictogram_speakable": "apple"}
BYTES = encode_base64(bytes(32))
HEALTH = Health("healthy", "operational", "0")
CREATED = ChallengeCreated(
    "one", FINGERPRINT, **PICTOGRAM, expires_at="", challenge_bytes=BYTES, nonce="", server_signature=""
)
RESPONDED = Responded("verified", True, FINGERPRINT, **PICTOGRAM, action=msgspec.Raw(b"{}"))
STATUS = ChallengeStatus(
    "one", "verified", FINGERPRINT, **PICTOGRAM, action=msgspec.Raw(b"{}"), expires_at="", push=PushStatus("disabled"),
    decision="approved",
)  # fmt: skip
REQUESTS = ["connect", "create", "answer", "status", "complete"]


def responses(
    created: Any = CREATED,
    responded: Any = RESPONDED,
    status: Any = STATUS,
    codes: tuple[int, int, int] = (201, 200, 200),
) -> dict[str, tuple[int, bytes]]:
    encode = msgspec.json.encode
    return {
        "/health": (200, encode(HEALTH)),
        "/challenge": (codes[0], encode(created)),
        "/respond": (codes[1], encode(responded)),
        "/v1/auth/challenge/one/status": (codes[2], encode(status)),
    }


def test_a_verified_challenge_is_complete(tmp_path: Path) -> None:
    with canned_server(tmp_path, responses()) as url:
        assert run_one_challenge(url, tmp_path / "cert.pem") == [(name, None) for name in REQUESTS]


@pytest.mark.parametrize(
    ("wrong_responses", "requests", "message"),
    [
        (responses(codes=(429, 200, 200)), 2, "status 429 instead of 201"),
        (responses(created={"challenge_id": "one"}), 2, "not a ChallengeCreated"),
        (responses(created=msgspec.structs.replace(CREATED, fingerprint="00")), 2, "wrong fingerprint"),
        (responses(responded=msgspec.structs.replace(RESPONDED, verified=False)), 3, "wrong verified"),
        (responses(codes=(201, 409, 200)), 3, "status 409 instead of 200"),
        (
            responses(status=msgspec.structs.replace(STATUS, status="pending", decision=None)),
            4,
            "wrong status, decision",
        ),
    ],
)
def test_a_wrong_status_or_content_is_a_failure_and_ends_the_challenge(
    tmp_path: Path, wrong_responses: dict[str, tuple[int, bytes]], requests: int, message: str
) -> None:
    with canned_server(tmp_path, wrong_responses) as url:
        *successful, (name, failure) = run_one_challenge(url, tmp_path / "cert.pem")
    assert [*successful, (name, None)] == [(each, None) for each in REQUESTS[:requests]]
    assert message in (failure or "")


def test_a_certificate_of_an_unknown_authority_is_rejected(tmp_path: Path) -> None:
    with canned_server(tmp_path, responses()) as url:
        ((name, failure),) = run_one_challenge(url, None)
    assert name == "connect"
    assert "CERTIFICATE_VERIFY_FAILED" in (failure or "")


def test_a_certificate_for_another_name_is_rejected(tmp_path: Path) -> None:
    with canned_server(tmp_path, responses(), host="127.0.0.2") as url:
        ((name, failure),) = run_one_challenge(url, tmp_path / "cert.pem")
    assert name == "connect"
    assert "not valid for '127.0.0.2'" in (failure or "")
