"""The port through which an enrolment verifies an attestation."""

from __future__ import annotations

from typing import Protocol

from sigil.protocol.errors import Problem
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import Kind, Statement


class EnrolmentAttestation(Protocol):
    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds that the server accepts, sorted; empty: none."""

    @property
    def required(self) -> bool:
        """Whether a device without an attestation cannot enrol."""

    def verify_for_enrolment(
        self,
        device_key: PublicKey,
        attestation: Statement,
        *,
        enrolment_id: str,
        nonce: bytes,
        min_level: str,
    ) -> str:
        """The device_credential. AttestationInvalid: also a level below `min_level`, if that is not empty."""

    def rejected_enrolment(self, device_key: PublicKey, kind: str) -> Problem:
        """The error where a required attestation is missing (`kind` is empty), or is of a kind that the offer does not
        list. It is logged and counted as any other rejected attestation.
        """
