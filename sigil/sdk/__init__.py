"""The SDK of a backend: it requests approvals from devices (docs/sdk.md).

    from sigil.sdk import Action, SigilAuth

    with SigilAuth("https://auth.example.com") as sigil:      # the API key comes from SIGIL_API_KEY
        challenge = sigil.auth.create_challenge(device_public_key, Action("login", "Sign in to Example"))
        if sigil.auth.await_result(challenge.challenge_id).verified: ...

`AsyncSigilAuth` is the same with `async with` and `await`; `webhooks.verify` checks that an event is the server's.
Every error is a `SigilError`.
"""

from sigil.protocol.webauthn import UserVerification
from sigil.sdk import webhooks
from sigil.sdk.approval_results import MpaGroup, MpaMember, MpaRequest, MpaStatus, MpaVote
from sigil.sdk.async_client import AsyncAuth, AsyncEnrolments, AsyncMpa, AsyncSigilAuth
from sigil.sdk.audit.errors import (
    AttestationContradicted,
    AttestationMissing,
    ContextContradicted,
    CredentialExpired,
    CredentialMismatch,
    CredentialRefused,
    GroupsRefused,
    LevelTooLow,
    OutcomeContradicted,
    RequesterVoted,
    RequiredTooLow,
    ServerKeyRefused,
    ServerSignatureRefused,
    StatusMalformed,
    UserVerificationContradicted,
    VotedTwice,
    VoterNotMember,
    VoteSignatureRefused,
    VotesRefused,
    WebVoteRefused,
)
from sigil.sdk.audit.votes import VerifiedVotes, verify_votes
from sigil.sdk.client import Auth, Enrolments, Mpa, SigilAuth
from sigil.sdk.enrolment.begun import Enrolment
from sigil.sdk.enrolment.status import EnrolmentStatus
from sigil.sdk.errors import (
    AnswerUnusable,
    ApiError,
    CertificateRefused,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Expired,
    Forbidden,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    ResultTimeout,
    ServerFailed,
    SigilError,
    TooManyPending,
    Unauthorized,
    WebhookHeadersMissing,
    WebhookRefused,
    WebhookSignatureWrong,
    WebhookTooOld,
    WrongCode,
)
from sigil.sdk.http.clock import Clock
from sigil.sdk.results import Action, Attestation, Challenge, ChallengeStatus, Push
from sigil.sdk.webhooks import WebhookEvent

__all__ = [
    "Action",
    "AnswerUnusable",
    "ApiError",
    "AsyncAuth",
    "AsyncEnrolments",
    "AsyncMpa",
    "AsyncSigilAuth",
    "Attestation",
    "AttestationContradicted",
    "AttestationMissing",
    "Auth",
    "CertificateRefused",
    "Challenge",
    "ChallengeStatus",
    "Clock",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "ContextContradicted",
    "CredentialExpired",
    "CredentialMismatch",
    "CredentialRefused",
    "Enrolment",
    "EnrolmentStatus",
    "Enrolments",
    "Expired",
    "Forbidden",
    "GroupsRefused",
    "InvalidRequest",
    "LevelTooLow",
    "Mpa",
    "MpaGroup",
    "MpaMember",
    "MpaRequest",
    "MpaStatus",
    "MpaVote",
    "NotFound",
    "OutcomeContradicted",
    "Overloaded",
    "Push",
    "RateLimited",
    "RequesterVoted",
    "RequiredTooLow",
    "ResultTimeout",
    "ServerFailed",
    "ServerKeyRefused",
    "ServerSignatureRefused",
    "SigilAuth",
    "SigilError",
    "StatusMalformed",
    "TooManyPending",
    "Unauthorized",
    "UserVerification",
    "UserVerificationContradicted",
    "VerifiedVotes",
    "VoteSignatureRefused",
    "VotedTwice",
    "VoterNotMember",
    "VotesRefused",
    "WebVoteRefused",
    "WebhookEvent",
    "WebhookHeadersMissing",
    "WebhookRefused",
    "WebhookSignatureWrong",
    "WebhookTooOld",
    "WrongCode",
    "verify_votes",
    "webhooks",
]
