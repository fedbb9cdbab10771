"""An enrolment on disk: written before its claim, and again with the new key before the key is sent.

A process that ends between two steps leaves either of both, and the same command goes on from there: the same claim_id
gets the same offer, and the same completion the same answer.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sigil.device.server_pin import ServerPin
from sigil.protocol.keys import Suite


class PreparedKey(msgspec.Struct, frozen=True, kw_only=True):
    """The new key, and what it answers: `offer` is the canonical JSON of the offer, `completion` the signed body.

    `supersedes` is the fingerprint of the key whose place it takes, by the person's or the offer's will; or empty.
    """

    suite: Suite
    private_key: str
    offer: str
    completion: dict[str, Any]
    supersedes: str = ""

    def __repr__(self) -> str:
        return "<prepared key>"  # The generated one would print the private key.


class PendingEnrolment(msgspec.Struct, frozen=True, kw_only=True):
    """`prepared` is None until the person agreed to the offer."""

    token_sha256: str
    claim_id: str
    server: ServerPin
    prepared: PreparedKey | None = None
    attested_by: dict[str, str] | None = None
