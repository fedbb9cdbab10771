"""What a device proved, as rows and events keep it: those of other devices stay as small as before."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgspec

from sigil.protocol.device_credential import Payload
from sigil.protocol.encoding.text import format_time
from sigil.protocol.messages.attestation import AttestationSummary
from sigil.protocol.webauthn import KEY_LENGTH, synced


class Evidence(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a credential attests. `attested_at` in Unix seconds. The others are the texts of the wire."""

    kind: str
    level: str
    binding: str
    attested_at: int

    @property
    def summary(self) -> AttestationSummary:
        """For status responses, votes and webhook events."""
        kind: Any = self.kind
        level: Any = self.level
        binding: Any = self.binding
        return AttestationSummary(kind, level, binding, format_time(self.attested_at))


def evidence_of(payload: Payload) -> Evidence:
    return Evidence(payload.kind, payload.level, payload.binding, payload.attested_at)


class WebFacts(NamedTuple):
    """The members `user_verification` and `synced` of statuses, votes and events; None: left out."""

    user_verification: bool | None = None
    synced: bool | None = None


class WebProof(IntEnum):
    """What a signature of a web device proved about its user. One byte in a row."""

    NONE = 0
    """A key of another kind, or no signature yet."""
    LOCAL_KEY = 1
    """The local key alone, as of a rejection: a script may have signed without the user."""
    VERIFIED = 2
    VERIFIED_SYNCED = 3
    """With a passkey that may exist on several devices."""

    @property
    def facts(self) -> WebFacts:
        return _FACTS[self]


_FACTS = {
    WebProof.NONE: WebFacts(),
    WebProof.LOCAL_KEY: WebFacts(False),
    WebProof.VERIFIED: WebFacts(True, False),
    WebProof.VERIFIED_SYNCED: WebFacts(True, True),
}


def web_proof(wire: bytes, signature: bytes) -> WebProof:
    """Of a signature of the key `wire` that was verified; no key is loaded, and no JSON read."""
    if len(wire) != KEY_LENGTH:
        return WebProof.NONE
    is_synced = synced(signature)
    if is_synced is None:
        return WebProof.LOCAL_KEY
    return WebProof.VERIFIED_SYNCED if is_synced else WebProof.VERIFIED
