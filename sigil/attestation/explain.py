"""Every check of one statement with its result, for an operator: `sigil attest explain`.

The checks are those of the verifiers and of the policy; what a file cannot show is `open`, never `ok`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from sigil.attestation import credentials
from sigil.attestation.android.key_description import EXTENSION
from sigil.attestation.certificates.chain import read_certificate
from sigil.attestation.credentials import Known
from sigil.attestation.encoding.der import DerError
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.policy_checks import policy_checks
from sigil.attestation.statements import Anchors, Attested, Check, Expected, Rejected
from sigil.attestation.verify import Verifiers, credential_kind, holds_signing_key, is_renewal, kind_of
from sigil.attestation.yubikey import FIRMWARE
from sigil.protocol import signed_bytes, timed_nonce
from sigil.protocol.encoding.text import decode_base64, decode_hex, encode_base64
from sigil.protocol.errors import Problem
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey, WebAuthnPublicKey
from sigil.protocol.messages.attestation import (
    AndroidAttestation,
    AttestDevice,
    Statement,
    YubikeyAttestation,
    statement_jcs,
)

State = Literal["ok", "failed", "open"]
# The generator of P-256: a valid key that belongs to no device.
_NO_DEVICE = PublicKey.parse(bytes.fromhex("036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"))
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,20000})-----END CERTIFICATE-----")


class Unreadable(ValueError):
    """What is wrong with the file, and what it may hold."""


class Subject(NamedTuple):
    """A statement, and what of its request is known."""

    statement: Statement
    request: AttestDevice | None


class Explained(NamedTuple):
    """`reason` is that of ATTESTATION_INVALID, if this check alone failed."""

    name: str
    state: State
    reason: str
    text: str


class Explanation(NamedTuple):
    checks: list[Explained]
    attested: Attested | None

    @property
    def failed(self) -> Explained | None:
        """The check that the server would have stopped at."""
        return next((check for check in self.checks if check.state == "failed"), None)


def read(content: bytes) -> Subject:
    """The body of POST /device/attest, its `attestation`, or the certificates of a chain in PEM; Unreadable."""
    if b"-----BEGIN CERTIFICATE-----" in content:
        return Subject(_statement_of([b"".join(found.split()) for found in _PEM.findall(content)]), None)
    try:
        given = msgspec.json.decode(content)
        if isinstance(given, dict) and "attestation" in given and "kind" not in given:
            if set(given) >= {"device_public_key", "challenge_id", "signature"}:
                request = msgspec.convert(given, AttestDevice)
                return Subject(request.attestation, request)
            given = given["attestation"]
        return Subject(msgspec.convert(given, Statement), None)
    except msgspec.ValidationError as error:
        raise Unreadable(f"it is not a statement: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unreadable(
            "it is neither JSON nor PEM: give the attestation, the body of POST /device/attest, or the certificates"
        ) from None


def explain(
    subject: Subject,
    *,
    policy: AttestationPolicy,
    anchors: Anchors,
    revoked: Callable[[str], bool],
    now: float,
    verifiers: Verifiers,
    identity: ServerIdentity | None,
    old_list: bool = False,
) -> Explanation:
    """`old_list`: whether Android's status list is too old for SIGIL_ANDROID_STATUS_STRICT. `identity`: of the server
    to which the request was sent; without it, what is bound to the server is open.
    """
    checks: list[Explained] = []
    statement, request = subject
    device = _NO_DEVICE
    digest: Callable[[str], bytes] | None = None
    try:
        if request is not None:
            device = PublicKey.parse(decode_base64(request.device_public_key, "$.device_public_key"))
            digest = _digest_of(request, identity)
        renewed = _renewed(request, identity)
        if request is not None:
            # As the server does before all others: 403 NOT_ELIGIBLE.
            good = device.fingerprint not in policy.revoked_devices
            checks.append(Explained("device", "ok" if good else "failed", "", "SIGIL_REVOKED_DEVICES"))
            if digest is not None:
                checks.append(_proof(request, device, digest))
            if isinstance(device, WebAuthnPublicKey):
                checks.append(
                    Explained("web_device", "failed", "key_properties", "no statement attests a browser's key")
                )
    except (Problem, Rejected) as error:
        reason = error.reason if isinstance(error, Rejected) else "malformed"
        return Explanation([Explained("request", "failed", reason, str(error))], None)
    if is_renewal(statement) and renewed is None:
        text = "needs the body of POST /device/attest with its device_credential, and the mnemonic of the server"
        return Explanation([*checks, Explained("renewal", "open", "", text)], None)
    previous = None
    if renewed is not None:
        previous = credentials.attested_by(renewed.credential)
        checks.append(_renewal(renewed, device, statement, policy=policy, now=now, revoked=revoked))
    if policy.status_strict and credential_kind(statement) == "android-key":
        state: State = "failed" if old_list else "ok"
        checks.append(Explained("status_list_age", state, "revoked", "SIGIL_ANDROID_STATUS_STRICT"))
    expected = Expected(digest or (lambda _key: b""), device, now, policy, anchors, revoked, previous)
    found, attested = _run(verifiers, statement, expected)
    for check in found:
        checks.append(_explained(check, request, digest))
    if attested is not None:
        # What a verifier has found good by itself is not shown twice.
        shown = {check.name for check in checks}
        checks += [
            _explained(check, request, digest)
            for check in _policy_checks(attested, previous, policy, revoked)
            if not check.ok or check.name not in shown
        ]
        attested = credentials.renewed(previous, attested) if previous else attested
    return Explanation(checks, attested)


def _statement_of(certificates: list[bytes]) -> Statement:
    texts = [text.decode("ascii") for text in certificates]
    try:
        leaf = read_certificate(decode_base64(texts[0], "$"), (0x00, 0x01, 0xFF)) if texts else None
    except (DerError, Problem):
        leaf = None
    members: dict[str, Any] = {"x5c": texts}
    try:
        if leaf is not None and EXTENSION in leaf.extensions:
            return msgspec.convert({**members, "witness": False}, AndroidAttestation, strict=True)
        if leaf is not None and FIRMWARE in leaf.extensions:
            return msgspec.convert(members, YubikeyAttestation, strict=True)
    except msgspec.ValidationError as error:
        raise Unreadable(f"it is not a chain of certificates: {error}") from None
    raise Unreadable("the first certificate is of neither Android key attestation nor a YubiKey: it has to be the leaf")


def _digest_of(request: AttestDevice, identity: ServerIdentity | None) -> Callable[[str], bytes] | None:
    nonce = decode_hex(request.challenge_id, "$.challenge_id", length=timed_nonce.LENGTH)
    if identity is None:
        return None
    server_id = identity.server_id
    return lambda key: signed_bytes.attest_digest(
        context="", key=key, kind=kind_of(request.attestation), nonce=nonce, server_id=server_id
    )


def _renewed(request: AttestDevice | None, identity: ServerIdentity | None) -> Known | None:
    """The credential that the request renews. Rejected. One that is sent without need is ignored, as by the server."""
    if request is None or request.device_credential is None or identity is None or not is_renewal(request.attestation):
        return None
    return Known(credentials.verified(request.device_credential, identity.keys["ES256"].public))


def _renewal(
    renewed: Known,
    device: PublicKey,
    statement: Statement,
    *,
    policy: AttestationPolicy,
    now: float,
    revoked: Callable[[str], bool],
) -> Explained:
    try:
        credentials.check_renewable(
            renewed, device, credential_kind(statement), policy=policy, now=now, revoked=revoked
        )
    except Rejected as error:
        return Explained("renewal", "failed", error.reason, error.check)
    return Explained("renewal", "ok", "", "the credential that is renewed")


def _policy_checks(
    attested: Attested, previous: Attested | None, policy: AttestationPolicy, revoked: Callable[[str], bool]
) -> Iterator[Check]:
    """Of a renewal: on what its credential will state, and on the app that vouches now."""
    if previous is not None:
        renewed = credentials.renewed(previous, attested)
        yield from policy_checks(renewed._replace(app=attested.app), policy, revoked)
        attested = renewed
    yield from policy_checks(attested, policy, revoked)


def _proof(request: AttestDevice, device: PublicKey, digest: Callable[[str], bytes]) -> Explained:
    key = "" if holds_signing_key(request.attestation) else encode_base64(device.wire)
    proof = signed_bytes.attestation_proof(digest(key), statement_jcs(request.attestation))
    good = device.verify(proof, decode_base64(request.signature, "$.signature"))
    return Explained("proof", "ok" if good else "failed", "", "the device's signature over challenge and statement")


def _run(verifiers: Mapping[str, Any], statement: Statement, expected: Expected) -> tuple[list[Check], Attested | None]:
    """All checks, also after one that failed, as far as they do not need its result."""
    found: list[Check] = []
    verifier = verifiers.get(kind_of(statement))
    if verifier is None:
        return [Check("kind_known", False, "kind", kind_of(statement))], None
    checks: Iterator[Check] = verifier(statement, expected)
    try:
        while True:
            found.append(next(checks))
    except StopIteration as stop:
        return found, stop.value
    except Rejected as error:
        if all(check.ok for check in found):
            found.append(Check(error.check, False, error.reason))
        return found, None


def _explained(check: Check, request: AttestDevice | None, digest: Callable[[str], bytes] | None) -> Explained:
    if digest is None and check.reason == "challenge":
        text = "needs the body of POST /device/attest, and the mnemonic of the server"
        return Explained(check.name, "open", check.reason, text)
    if request is None and check.name == "leaf_key":
        return Explained(check.name, "open", check.reason, "needs the body of POST /device/attest")
    return Explained(check.name, "ok" if check.ok else "failed", check.reason, check.text)
