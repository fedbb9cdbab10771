"""The credential that the server issues for a verified statement: when it counts, and how it is renewed.

It holds facts. Policy is applied to them at each use, so that a stricter setting or a new revocation acts at once, on
credentials of any age.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.policy_checks import check_attested, listable_serials
from sigil.attestation.statements import LEVELS, Attested, Kind, Rejected
from sigil.protocol import device_credential
from sigil.protocol.device_credential import DeviceCredential, MalformedCredential, Payload
from sigil.protocol.keys import PrivateKey, PublicKey

_DAY = 86_400


class Times(NamedTuple):
    """Unix seconds. `attested_at` survives renewals."""

    attested_at: int
    issued_at: int
    expires_at: int

    @property
    def renew_after(self) -> int:
        """Two thirds of the life."""
        return self.issued_at + (self.expires_at - self.issued_at) * 2 // 3


def times(now: float, policy: AttestationPolicy, attested_at: int | None = None) -> Times:
    issued_at = int(now)
    return Times(attested_at or issued_at, issued_at, issued_at + policy.credential_days * _DAY)


def issue(attested: Attested, device: PublicKey, at: Times, server_key: PrivateKey, salt: bytes) -> str:
    """The text of the credential; `server_key` is the ES256 key."""
    payload = Payload(
        server_id=server_key.public.fingerprint,
        fingerprint=device.fingerprint,
        kind=attested.kind,
        level=attested.level,
        binding=attested.binding,
        app=attested.app,
        attested_at=at.attested_at,
        issued_at=at.issued_at,
        expires_at=at.expires_at,
    )
    return device_credential.issue(payload, attested.facts, server_key.sign, salt=salt)


class Known:
    """A credential whose signature verified. `accepted_by`: the last policy that its facts satisfied."""

    __slots__ = ("accepted_by", "credential", "serials")

    def __init__(self, credential: DeviceCredential) -> None:
        self.credential = credential
        self.serials = listable_serials(attested_by(credential))
        self.accepted_by: AttestationPolicy | None = None


def verified(text: str, server_key: PublicKey) -> DeviceCredential:
    """A credential that this server, or another with the same mnemonic, has issued. Rejected."""
    try:
        credential = device_credential.parse(text)
    except MalformedCredential as error:
        raise Rejected("malformed", "credential_form") from error
    if not credential.is_signed_by(server_key):
        raise Rejected("chain", "credential_signature")
    return credential


def attested_by(credential: DeviceCredential) -> Attested:
    payload = credential.payload
    return Attested(payload.kind, payload.level, payload.binding, payload.app, credential.facts)


def check_facts(
    known: Known,
    device: PublicKey,
    *,
    policy: AttestationPolicy,
    now: float,
    revoked: Callable[[str], bool],
) -> None:
    """Whether a verified credential counts for this device now; at each use. Rejected.

    A policy never changes, so its settings are applied to the facts once; what changes meanwhile is checked each time.
    """
    payload = known.credential.payload
    _check_life(known, device, policy, revoked)
    if now >= _expiry(payload, policy):
        raise Rejected("expired", "credential_expiry")
    if known.accepted_by is not policy:
        check_attested(attested_by(known.credential), policy, revoked)
        known.accepted_by = policy


def check_renewable(
    known: Known,
    device: PublicKey,
    kind: Kind,
    *,
    policy: AttestationPolicy,
    now: float,
    revoked: Callable[[str], bool],
) -> None:
    """Whether a verified credential may be renewed by a statement of `kind`. Rejected.

    The new statement has to satisfy the policy, not the old facts: an update of the phone is the usual remedy.
    """
    payload = known.credential.payload
    _check_life(known, device, policy, revoked)
    if payload.kind != kind:
        raise Rejected("kind", "credential_kind")
    if kind == "android-key" and payload.binding != "direct":
        raise Rejected("kind", "credential_binding")
    if now >= _expiry(payload, policy) + policy.credential_days * _DAY:
        raise Rejected("expired", "credential_age")


def renewed(previous: Attested, new: Attested) -> Attested:
    """What a renewal proves: no more than the first attestation did, and the state of the phone as it is now."""
    if new.kind == "apple-appattest":
        # How the app is signed now: a changed copy of it is no longer of the App Store.
        facts = msgspec.structs.replace(previous.facts, counter=new.facts.counter, category=new.facts.category)
        return previous._replace(facts=facts)
    # The serials of the first chain stay: when it is revoked, all that was derived from it is.
    facts = msgspec.structs.replace(
        new.facts,
        user_auth=previous.facts.user_auth,
        first_serials=previous.facts.first_serials or previous.facts.serials,
        test_roots=tuple(sorted({*previous.facts.test_roots, *new.facts.test_roots})),
    )
    return previous._replace(level=min(previous.level, new.level, key=LEVELS.index), facts=facts)


def _expiry(payload: Payload, policy: AttestationPolicy) -> int:
    """A shorter SIGIL_CREDENTIAL_DAYS holds for credentials that were issued before."""
    return min(payload.expires_at, payload.issued_at + policy.credential_days * _DAY)


def _check_life(known: Known, device: PublicKey, policy: AttestationPolicy, revoked: Callable[[str], bool]) -> None:
    payload = known.credential.payload
    if payload.fingerprint != device.fingerprint:
        raise Rejected("key_properties", "credential_device")
    if device.fingerprint in policy.revoked_devices:
        raise Rejected("revoked", "device_revoked")
    if payload.issued_at < policy.credentials_not_before:
        raise Rejected("revoked", "credentials_not_before")
    if any(map(revoked, known.serials)):
        raise Rejected("revoked", "status_list")
