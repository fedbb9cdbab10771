"""Attestation of devices: verify a statement once, issue a credential, check it at each approval.

docs/protocol.md, 5.6. Nothing is stored: every replica with the mnemonic verifies what another has issued.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol, cast

from sigil.attestation import credentials
from sigil.attestation.credentials import Known
from sigil.attestation.observer import AttestationObserver, Unobserved, Use
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.policy_checks import check_attested
from sigil.attestation.statements import LEVELS, Anchors, Attested, Expected, Kind, Rejected
from sigil.attestation.verify import Verifiers, credential_kind, holds_signing_key, is_renewal, kind_of, verified
from sigil.protocol import device_credential, signed_bytes, timed_nonce
from sigil.protocol.device_credential import DeviceCredential
from sigil.protocol.encoding.text import decode_base64, decode_hex, encode_base64, format_time
from sigil.protocol.errors import (
    AttestationInvalid,
    AttestationRequired,
    DeviceRevoked,
    InvalidPublicKey,
    InvalidRequest,
    InvalidSignature,
    Problem,
)
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey, WebAuthnPublicKey
from sigil.protocol.messages.attestation import (
    MAX_STATEMENT,
    AppleAssertion,
    AppleAttestation,
    AttestChallenge,
    AttestDevice,
    DeviceAttested,
    Level,
    Statement,
    statement_jcs,
)

NONCE_LABEL = b"sigil/attest-nonce/v1\0"
MAX_CACHED = 4096
"""Verified credentials of a worker, 3.4 KB each. The same devices come back, and a verification costs 0.1 ms."""


class StatusList(Protocol):
    """Android's list of revoked certificates."""

    def revoked(self, serial: str) -> bool:
        """`serial`: lower-case hex without leading zeros."""

    def is_old(self, now: float) -> bool:
        """Whether it is too old for SIGIL_ANDROID_STATUS_STRICT."""


class NoStatusList:
    def revoked(self, serial: str) -> bool:
        return False

    def is_old(self, now: float) -> bool:
        return False


class Opened(NamedTuple):
    """A request of the right form with a nonce that is valid now."""

    request: AttestDevice
    device: PublicKey
    nonce: bytes
    signature: bytes


class Attestation:
    """`clock` gives the time of day: credentials and nonces are compared with those of other hosts."""

    def __init__(
        self,
        identity: ServerIdentity,
        policy: AttestationPolicy,
        *,
        verifiers: Verifiers,
        anchors: Anchors,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        status: StatusList | None = None,
        observer: AttestationObserver | None = None,
    ) -> None:
        self.policy = policy
        self._server_key = identity.keys["ES256"]
        self._server_id = identity.server_id
        self._own_keys = identity.own_public_keys
        self._secret = identity.attest_nonce_secret
        self._verifiers = verifiers
        self._anchors = anchors
        self._clock = clock
        self._randomness = randomness
        self._status = status or NoStatusList()
        self._observer = observer or Unobserved()
        self._cache: OrderedDict[bytes, Known] = OrderedDict()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Those that this server accepts, sorted."""
        return tuple(sorted(self.policy.kinds))

    @property
    def required(self) -> bool:
        """Whether an approval needs a credential."""
        return self.policy.required

    @property
    def enabled(self) -> bool:
        """Whether this server accepts any kind; otherwise devices send no credential, and one is ignored."""
        return bool(self.policy.kinds)

    def challenge(self) -> AttestChallenge:
        """The nonce is not spent by an attestation: an answer may get lost, and Apple attests a key only once."""
        now = self._clock()
        nonce = timed_nonce.issue(self._secret, NONCE_LABEL, now, self._randomness(timed_nonce.RANDOM_BYTES))
        return AttestChallenge(nonce.hex(), encode_base64(nonce), format_time(int(now) + timed_nonce.NONCE_SECONDS))

    def open(self, request: AttestDevice) -> Opened:
        """The cheap checks, before the rate of the address. InvalidRequest, InvalidPublicKey, AttestationInvalid."""
        device = PublicKey.parse(decode_base64(request.device_public_key, "$.device_public_key"))
        if device.is_among(self._own_keys):
            raise InvalidPublicKey
        _check_size(request.attestation)
        signature = decode_base64(request.signature, "$.signature")
        nonce = decode_hex(request.challenge_id, "$.challenge_id", length=timed_nonce.LENGTH)
        if timed_nonce.expiry(self._secret, NONCE_LABEL, nonce, self._clock()) is None:
            raise self._invalid("attest", device, kind_of(request.attestation), Rejected("challenge", "nonce"))
        return Opened(request, device, nonce, signature)

    def attest(self, opened: Opened) -> DeviceAttested:
        """A new or renewed credential. InvalidSignature, DeviceRevoked, AttestationInvalid."""
        request, device, nonce, signature = opened
        digest = self._digest(request.attestation, "", nonce)
        proven = digest("" if holds_signing_key(request.attestation) else encode_base64(device.wire))
        if not device.verify(signed_bytes.attestation_proof(proven, statement_jcs(request.attestation)), signature):
            raise InvalidSignature
        if is_renewal(request.attestation) and request.device_credential is None:
            raise InvalidRequest(
                "This kind of attestation renews a device_credential: send the one that it renews.",
                path="$.device_credential",
            )
        return self._issue("attest", device, request.attestation, digest, renews=request.device_credential)[1]

    def verify_for_enrolment(
        self,
        device_key: PublicKey,
        attestation: Statement,
        *,
        enrolment_id: str,
        nonce: bytes,
        min_level: str,
    ) -> str:
        """The credential of a new key, whose signature over the enrolment is the proof of possession.

        AttestationInvalid: also a level below `min_level`, if that is not empty. DeviceRevoked, InvalidRequest.
        """
        _check_size(attestation)
        digest = self._digest(attestation, enrolment_id, nonce)
        return self._issue("enrolment", device_key, attestation, digest, min_level=min_level)[0]

    def rejected_enrolment(self, device_key: PublicKey, kind: str) -> Problem:
        """The error where a required attestation is missing (`kind` is empty), or its kind is not in the offer."""
        if kind:
            return self._invalid("enrolment", device_key, kind, Rejected("kind", "kind_offered"))
        self._observer.rejected("enrolment", device_key.fingerprint, "", "required", "attestation")
        return AttestationRequired("This enrolment needs an attestation of the device's key.")

    def check(self, device: PublicKey, text: str | None) -> DeviceCredential | None:
        """The credential of an approval, if it counts now; None without one where none is required.
        AttestationRequired, AttestationInvalid.
        """
        # A server that requires attestation never ignores a credential, whichever kinds it accepts.
        if not self.policy.required and (text is None or not self.enabled):
            return None
        if text is None:
            self._observer.rejected("approval", device.fingerprint, "", "required", "credential")
            raise AttestationRequired
        kind = ""
        try:
            known = self._known(text)
            kind = known.credential.payload.kind
            credentials.check_facts(known, device, policy=self.policy, now=self._clock(), revoked=self._status.revoked)
        except Rejected as error:
            raise self._invalid("approval", device, kind, error) from error
        return known.credential

    def _issue(
        self,
        use: Use,
        device: PublicKey,
        statement: Statement,
        digest: Callable[[str], bytes],
        *,
        renews: str | None = None,
        min_level: str = "",
    ) -> tuple[str, DeviceAttested]:
        if device.fingerprint in self.policy.revoked_devices:
            raise DeviceRevoked
        kind = kind_of(statement)
        now = self._clock()
        try:
            # Its page attests nothing, and a phone's app that vouches for a key of a browser proves nothing of it.
            if isinstance(device, WebAuthnPublicKey):
                raise Rejected("key_properties", "web_device")
            previous = self._renewable(statement, device, now, renews) if is_renewal(statement) else None
            attested = self._attested(statement, device, digest, now, previous)
            if min_level and LEVELS.index(attested.level) < LEVELS.index(cast(Level, min_level)):
                raise Rejected("level", "min_level")
        except Rejected as error:
            raise self._invalid(use, device, kind, error) from error
        times = credentials.times(now, self.policy, previous.payload.attested_at if previous else None)
        salt = self._randomness(device_credential.SALT_BYTES)
        text = credentials.issue(attested, device, times, self._server_key, salt)
        self._observer.issued(use, self._known(text).credential.payload, renewal=bool(previous))
        return text, DeviceAttested(
            device_credential=text,
            kind=attested.kind,
            level=attested.level,
            binding=attested.binding,
            expires_at=format_time(times.expires_at),
            renew_after=format_time(times.renew_after),
        )

    def _renewable(self, statement: Statement, device: PublicKey, now: float, text: str | None) -> DeviceCredential:
        if text is None:
            raise Rejected("kind", "renewal_without_credential")
        known = self._known(text)
        credentials.check_renewable(
            known, device, credential_kind(statement), policy=self.policy, now=now, revoked=self._status.revoked
        )
        return known.credential

    def _attested(
        self,
        statement: Statement,
        device: PublicKey,
        digest: Callable[[str], bytes],
        now: float,
        previous: DeviceCredential | None,
    ) -> Attested:
        """What the statement proves, with the policy applied. Rejected."""
        before = credentials.attested_by(previous) if previous else None
        expected = Expected(
            digest, device, now, self.policy, self._anchors, revoked=self._status.revoked, previous=before
        )
        kind = credential_kind(statement)
        if kind not in self.policy.kinds:
            raise Rejected("kind", "kind_accepted")
        if kind == "android-key" and self.policy.status_strict and self._status.is_old(now):
            raise Rejected("revoked", "status_list_age")
        new = verified(statement, expected, self._verifiers)
        attested = new if before is None else credentials.renewed(before, new)
        if before is not None:
            # The app that vouches now has to be one of the operator's, as the one that did at first.
            check_attested(attested._replace(app=new.app), self.policy, self._status.revoked)
        check_attested(attested, self.policy, self._status.revoked)
        return attested

    def _digest(self, statement: Statement, context: str, nonce: bytes) -> Callable[[str], bytes]:
        def digest(key: str) -> bytes:
            return signed_bytes.attest_digest(
                context=context, key=key, kind=kind_of(statement), nonce=nonce, server_id=self._server_id
            )

        return digest

    def _known(self, text: str) -> Known:
        """Only what verified is kept: a client without a credential of this server displaces none."""
        key = hashlib.sha256(text.encode()).digest()
        known = self._cache.pop(key, None) or Known(credentials.verified(text, self._server_key.public))
        self._cache[key] = known
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return known

    def _invalid(self, use: Use, device: PublicKey, kind: str, error: Rejected) -> AttestationInvalid:
        self._observer.rejected(use, device.fingerprint, kind, error.reason, error.check)
        return AttestationInvalid(error.reason)


def _check_size(statement: Statement) -> None:
    """The schema limits each part; this limits the sum of the decoded parts. InvalidRequest."""
    if isinstance(statement, AppleAssertion):
        parts, at = [statement.assertion], "$.attestation.assertion"
    elif isinstance(statement, AppleAttestation):
        parts, at = [statement.object], "$.attestation.object"
    else:
        parts, at = statement.x5c, "$.attestation.x5c"
    if sum(len(decode_base64(part, at)) for part in parts) > MAX_STATEMENT:
        raise InvalidRequest(f"The attestation has more than {MAX_STATEMENT} bytes.", path=at)
