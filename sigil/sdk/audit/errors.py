"""Errors of `verify_votes`, one class for each failed check: all are `VotesRefused`, and so `SigilError`."""

from __future__ import annotations

from typing import ClassVar

from sigil.sdk.errors import SigilError


class VotesRefused(SigilError):
    """The votes do not prove the status. `code` is stable."""

    default_code = "VOTES_REFUSED"
    summary: ClassVar[str] = "The votes do not prove the status."

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.summary)


class StatusMalformed(VotesRefused):
    default_code = "STATUS_MALFORMED"
    summary = "This is not the status of an approval request."


class ServerKeyRefused(VotesRefused):
    default_code = "SERVER_KEY_MISMATCH"
    summary = "The request was signed by another server than that of server_id."


class ServerSignatureRefused(VotesRefused):
    default_code = "SERVER_SIGNATURE_INVALID"
    summary = "The server did not sign this request: its action, groups or rule was changed."


class ContextContradicted(VotesRefused):
    default_code = "CONTEXT_CONTRADICTED"
    summary = "The status differs from the content that the server signed."


class GroupsRefused(VotesRefused):
    default_code = "GROUPS_MISMATCH"
    summary = "The groups are not those that the server signed."


class RequiredTooLow(VotesRefused):
    default_code = "REQUIRED_TOO_LOW"
    summary = "The request required fewer groups than you do."


class VoterNotMember(VotesRefused):
    default_code = "NOT_A_MEMBER"
    summary = "A vote is from a device that is not a member of the group in which it is counted."


class RequesterVoted(VotesRefused):
    default_code = "REQUESTER_VOTED"
    summary = "The requester's device voted on the request."


class VotedTwice(VotesRefused):
    default_code = "VOTED_TWICE"
    summary = "A device is counted twice."


class VoteSignatureRefused(VotesRefused):
    default_code = "VOTE_SIGNATURE_INVALID"
    summary = "A device did not sign the vote that is counted as its own."


class WebVoteRefused(VotesRefused):
    default_code = "WEB_VOTE"
    summary = "A vote is from a web device, and you refuse those."


class UserVerificationContradicted(VotesRefused):
    default_code = "USER_VERIFICATION_CONTRADICTED"
    summary = "A vote states another user verification than its signature proves."


class OutcomeContradicted(VotesRefused):
    default_code = "OUTCOME_CONTRADICTED"
    summary = "The votes lead to another result."


class AttestationMissing(VotesRefused):
    default_code = "ATTESTATION_MISSING"
    summary = "An approval has no attestation, but you require one."


class CredentialRefused(VotesRefused):
    default_code = "CREDENTIAL_INVALID"
    summary = "The server did not sign the credential of a vote, or it is malformed."


class CredentialMismatch(VotesRefused):
    default_code = "CREDENTIAL_MISMATCH"
    summary = "The credential in a vote is that of another device, or was issued after the vote."


class CredentialExpired(VotesRefused):
    default_code = "CREDENTIAL_EXPIRED"
    summary = "The credential of a vote had expired when the vote was given."


class AttestationContradicted(VotesRefused):
    default_code = "ATTESTATION_CONTRADICTED"
    summary = "A vote's attestation differs from its credential."


class LevelTooLow(VotesRefused):
    default_code = "LEVEL_TOO_LOW"
    summary = "A device attested a lower level than you require."
