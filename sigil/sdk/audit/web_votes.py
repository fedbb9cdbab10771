"""Votes of web devices: what their signatures prove of the user, and whether the caller accepts them."""

from __future__ import annotations

from typing import Literal

from sigil.protocol.keys import PublicKey
from sigil.protocol.webauthn import UserVerification
from sigil.sdk.approval_results import MpaVote
from sigil.sdk.audit.errors import UserVerificationContradicted, WebVoteRefused
from sigil.sdk.errors import ConfigurationError

WebVotes = Literal["count", "refuse"]


def check_web_votes(web_votes: WebVotes) -> None:
    if web_votes not in ("count", "refuse"):
        raise ConfigurationError("web_votes must be 'count' or 'refuse'.")


def check_web_vote(vote: MpaVote, key: PublicKey, web_votes: WebVotes) -> UserVerification | None:
    """What the verified signature of `vote` proves of the user: None of a plain key, and of a rejection."""
    name = f"{vote.fingerprint[:8]}…"
    if key.suite == "WebAuthn" and web_votes == "refuse":
        raise WebVoteRefused(f"The vote of {name} is from a web device, and you refuse those.")
    proved = key.user_verification(vote.signature)
    for member, stated, fact in (
        ("user_verification", vote.user_verification, proved is not None),
        ("synced", vote.synced, proved is not None and proved.synced),
    ):
        # No signature covers these members; an older server states neither.
        if stated is not None and stated is not fact:
            raise UserVerificationContradicted(f"The vote of {name} states another {member} than its signature proves.")
    return proved
