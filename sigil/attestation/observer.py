"""The port through which attestation reports what it issues and rejects; never with serials or a chain."""

from __future__ import annotations

from typing import Literal, Protocol

from sigil.protocol.device_credential import Payload

Use = Literal["attest", "enrolment", "approval"]


class AttestationObserver(Protocol):
    def issued(self, use: Use, payload: Payload, *, renewal: bool) -> None: ...

    def rejected(self, use: Use, fingerprint: str, kind: str, reason: str, check: str) -> None:
        """`kind`: empty without a credential; `reason`: of ATTESTATION_INVALID, or `required`."""


class Unobserved:
    """For tools and tests that watch the results alone."""

    def issued(self, use: Use, payload: Payload, *, renewal: bool) -> None: ...

    def rejected(self, use: Use, fingerprint: str, kind: str, reason: str, check: str) -> None: ...
