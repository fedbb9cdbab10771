"""What a backend imports to ask people's devices (docs/sdk.md).

    from sigil.sdk import Action, SigilAuth

    with SigilAuth("https://auth.example.com") as sigil:      # the API key comes from SIGIL_API_KEY
        asked = sigil.auth.create_challenge(device_public_key, Action("login", "Sign in to Example"))
        if sigil.auth.await_result(asked.challenge_id).verified: ...

`AsyncSigilAuth` is the same with `async with` and `await`; `webhooks.verify` tells whether an event is the server's.
Every error is a `SigilError`.
"""

from sigil.sdk import webhooks
from sigil.sdk.async_client import AsyncAuth, AsyncSigilAuth
from sigil.sdk.client import Auth, SigilAuth
from sigil.sdk.clockwork import Clockwork
from sigil.sdk.errors import (
    AnswerUnusable,
    ApiError,
    CertificateRefused,
    ConfigurationError,
    Conflict,
    ConnectionFailed,
    Forbidden,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    ResultTimeout,
    ServerFailed,
    SigilError,
    Unauthorized,
    WebhookHeadersMissing,
    WebhookRefused,
    WebhookSignatureWrong,
    WebhookTooOld,
)
from sigil.sdk.results import Action, Challenge, ChallengeStatus, Push
from sigil.sdk.webhooks import WebhookEvent

__all__ = [
    "Action",
    "AnswerUnusable",
    "ApiError",
    "AsyncAuth",
    "AsyncSigilAuth",
    "Auth",
    "CertificateRefused",
    "Challenge",
    "ChallengeStatus",
    "Clockwork",
    "ConfigurationError",
    "Conflict",
    "ConnectionFailed",
    "Forbidden",
    "InvalidRequest",
    "NotFound",
    "Overloaded",
    "Push",
    "RateLimited",
    "ResultTimeout",
    "ServerFailed",
    "SigilAuth",
    "SigilError",
    "Unauthorized",
    "WebhookEvent",
    "WebhookHeadersMissing",
    "WebhookRefused",
    "WebhookSignatureWrong",
    "WebhookTooOld",
    "webhooks",
]
