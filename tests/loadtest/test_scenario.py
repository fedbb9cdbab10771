"""The scenario takes nothing for a complete challenge that is none, and talks to nobody but the server it trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sigil.device import Device
from sigil.protocol.encoding import encode_base64
from sigil.protocol.messages import ChallengeCreated, ChallengeStatus, Health, PushStatus, Responded
from tests.loadtest.canned import answering, one_challenge

MINE = Device.from_secret("ES256", b"\x07" * 32).fingerprint
PICTOGRAM = {"pictogram": ["apple"] * 5, "pictogram_speakable": "apple"}
BYTES = encode_base64(bytes(32))
HEALTH = Health("healthy", "operational", "0")
CREATED = ChallengeCreated(
    "one", MINE, **PICTOGRAM, expires_at="", challenge_bytes=BYTES, nonce="", server_signature=""
)
RESPONDED = Responded("verified", True, MINE, **PICTOGRAM, action=msgspec.Raw(b"{}"))
STATUS = ChallengeStatus(
    "one", "verified", MINE, **PICTOGRAM, action=msgspec.Raw(b"{}"), expires_at="", push=PushStatus("disabled"),
    decision="approved",
)  # fmt: skip
ASKED = ["connect", "create", "answer", "status", "complete"]


def answers(
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
    with answering(tmp_path, answers()) as url:
        assert one_challenge(url, tmp_path / "cert.pem") == [(name, None) for name in ASKED]


@pytest.mark.parametrize(
    ("wrong", "asked", "told"),
    [
        (answers(codes=(429, 200, 200)), 2, "status 429 in place of 201"),
        (answers(created={"challenge_id": "one"}), 2, "not a ChallengeCreated"),
        (answers(created=msgspec.structs.replace(CREATED, fingerprint="00")), 2, "wrong fingerprint"),
        (answers(responded=msgspec.structs.replace(RESPONDED, verified=False)), 3, "wrong verified"),
        (answers(codes=(201, 409, 200)), 3, "status 409 in place of 200"),
        (answers(status=msgspec.structs.replace(STATUS, status="pending", decision=None)), 4, "wrong status, decision"),
    ],
)
def test_a_wrong_status_or_content_is_a_failure_and_ends_the_challenge(
    tmp_path: Path, wrong: dict[str, tuple[int, bytes]], asked: int, told: str
) -> None:
    with answering(tmp_path, wrong) as url:
        *good, (name, failure) = one_challenge(url, tmp_path / "cert.pem")
    assert [*good, (name, None)] == [(each, None) for each in ASKED[:asked]]
    assert told in (failure or "")


def test_a_certificate_of_no_known_authority_is_refused(tmp_path: Path) -> None:
    with answering(tmp_path, answers()) as url:
        ((name, failure),) = one_challenge(url, None)
    assert name == "connect"
    assert "CERTIFICATE_VERIFY_FAILED" in (failure or "")


def test_a_certificate_with_another_name_is_refused(tmp_path: Path) -> None:
    with answering(tmp_path, answers(), host="127.0.0.2") as url:
        ((name, failure),) = one_challenge(url, tmp_path / "cert.pem")
    assert name == "connect"
    assert "not valid for '127.0.0.2'" in (failure or "")
