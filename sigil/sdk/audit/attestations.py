"""The attestation that a vote carries: the public part of its device's credential, which the server signed."""

from __future__ import annotations

from dataclasses import dataclass

from sigil.protocol.device_credential import MalformedCredential, PublicCredential, parse_public
from sigil.protocol.encoding.text import format_time
from sigil.protocol.keys import PublicKey
from sigil.protocol.messages.attestation import LEVELS, Level
from sigil.sdk.approval_results import MpaVote
from sigil.sdk.audit.errors import (
    AttestationContradicted,
    AttestationMissing,
    CredentialExpired,
    CredentialMismatch,
    CredentialRefused,
    LevelTooLow,
)
from sigil.sdk.errors import ConfigurationError

_CLOCK_SLACK = 300
"""Seconds by which the clocks of the hosts that issued the credential and counted the vote may differ."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the caller requires of each approval. A rejection needs no attestation, as at the server."""

    required: bool
    min_level: Level | None

    def __post_init__(self) -> None:
        if self.min_level is not None and self.min_level not in LEVELS:
            raise ConfigurationError(f"min_level must be one of {', '.join(LEVELS)}.")

    def check(self, vote: MpaVote, server_key: PublicKey, ends_at: float) -> Level | None:
        """The proved level, None without an attestation. Checked where there is one, also when none is required.

        ends_at: the signed end of the request, Unix seconds.
        """
        name = f"{vote.fingerprint[:8]}…"
        if vote.device_credential is None:
            if vote.attestation is not None:
                raise AttestationContradicted(f"The vote of {name} claims an attestation without its credential.")
            if vote.decision == "approved" and (self.required or self.min_level):
                raise AttestationMissing(f"The approval of {name} has no attestation.")
            return None
        credential = _signed(vote.device_credential, server_key, name)
        level = credential.payload.level
        _check_use(vote, credential, name, ends_at)
        if vote.decision == "approved" and self.min_level and LEVELS.index(level) < LEVELS.index(self.min_level):
            raise LevelTooLow(f"The device {name} attested '{level}', but you require '{self.min_level}'.")
        return level


def _signed(text: str, server_key: PublicKey, name: str) -> PublicCredential:
    try:
        credential = parse_public(text)
    except MalformedCredential as error:
        fault = f"The credential of {name} {error}."
    else:
        if not credential.is_signed_by(server_key):
            raise CredentialRefused(f"The server did not sign the credential of {name}.")
        return credential
    raise CredentialRefused(fault)


def _check_use(vote: MpaVote, credential: PublicCredential, name: str, ends_at: float) -> None:
    payload = credential.payload
    at = vote.at.timestamp()
    if payload.fingerprint != vote.fingerprint:
        raise CredentialMismatch(f"The credential in the vote of {name} is that of another device.")
    # No signature covers the vote's time: a credential that the device got afterwards would pass with a later one.
    if payload.issued_at > min(at, ends_at) + _CLOCK_SLACK:
        raise CredentialMismatch(f"The credential in the vote of {name} was issued after the vote.")
    if at >= payload.expires_at:
        raise CredentialExpired(f"The credential of {name} expired on {format_time(payload.expires_at)}.")
    claimed = vote.attestation
    if claimed is None or (claimed.kind, claimed.level, claimed.binding, claimed.attested_at.timestamp()) != (
        payload.kind,
        payload.level,
        payload.binding,
        payload.attested_at,
    ):
        raise AttestationContradicted(f"The attestation in the vote of {name} is not that of its credential.")
