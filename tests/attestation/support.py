"""What the tests of the verifiers share: a test root, a device, a fixed clock, and one statement against it."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sigil.attestation.certificates.roots import anchors
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.statements import Attested, Check, Checks, Expected, Rejected
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.attestation import Statement

NOW = 1_790_000_000
ROOT = TestRoot.memory()
DEVICE = PrivateKey.load("ES256", bytes([7]) * 32).public
ALL_KINDS = AttestationPolicy(kinds=frozenset({"android-key", "apple-appattest", "yubikey-piv"}))


def digest(key: str) -> bytes:
    """Stands for attest_digest: it differs by the member `key`."""
    return hashlib.sha256(f"attest {key}".encode()).digest()


def digest_for(_kind: str, key: str) -> bytes:
    return digest(key)


def statement_of(members: dict[str, Any]) -> Statement:
    return msgspec.convert(members, Statement)  # type: ignore[arg-type]


def expected(**changes: Any) -> Expected:
    made = Expected(digest, DEVICE, NOW, ALL_KINDS, anchors(ROOT.certificates))
    return made._replace(**changes)


def outcome(checks: Checks) -> tuple[Attested | None, list[Check]]:
    """All checks to the end, as `sigil attest explain` does: a failed one must not break the next."""
    seen: list[Check] = []
    rejected = None
    while rejected is None:
        try:
            seen.append(next(checks))
        except StopIteration as stop:
            return stop.value, seen
        except Rejected as error:
            rejected = error
    assert not seen[-1].ok
    assert (rejected.reason, rejected.check) == (seen[-1].reason, seen[-1].name)
    return None, seen


def failed(checks: Checks) -> list[tuple[str, str]]:
    """(reason, name) of the checks that failed."""
    return [(check.reason, check.name) for check in outcome(checks)[1] if not check.ok]


def encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
