"""Google's OAuth 2.0 token endpoint for a service account ("Using OAuth 2.0 for server to server applications")."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Any
from urllib.parse import parse_qs

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from deploy.providers.rules import Rule
from deploy.providers.stream import Answer

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_KEPT = 1000
_LONGEST_SECONDS = 3600
_CLOCK_SKEW_SECONDS = 300
_SHORT_LIVED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp"
    " values in the JWT claim."
)
# Status and description of what the endpoint can say.
_ERRORS = {
    "invalid_grant": (400, "Invalid JWT Signature."),
    "invalid_scope": (400, "Invalid OAuth scope or ID token audience provided."),
    "invalid_request": (400, "Bad Request"),
    "unsupported_grant_type": (400, "Invalid grant_type"),
    "invalid_client": (401, "The OAuth client was not found."),
    "unauthorized_client": (401, "Client is unauthorized to retrieve access tokens using this method."),
    "rate_limit_exceeded": (429, "Rate Limit Exceeded"),
    "internal_failure": (500, "Backend Error"),
    "temporarily_unavailable": (503, "Service Unavailable"),
}


class ServiceAccount(msgspec.Struct, frozen=True):
    key: RSAPublicKey
    key_id: str
    email: str
    token_url: str


class TokenSettings(msgspec.Struct, forbid_unknown_fields=True):
    """How long an access token lives, in seconds."""

    lifetime: float = 3600


class AccessTokens:
    """Those that were given out and until when they are good."""

    def __init__(self) -> None:
        self.settings = TokenSettings()
        self._until: OrderedDict[str, float] = OrderedDict()
        self.given = 0

    def give(self, now: float) -> str:
        # The prefix that Google's have: scanners for leaked secrets know it.
        token = "ya29.c." + secrets.token_urlsafe(64)
        self._until[token] = now + self.settings.lifetime
        self.given += 1
        if len(self._until) > _KEPT:
            self._until.popitem(last=False)
        return token

    def revoke(self) -> None:
        """All, as when the key of the account is deleted."""
        self._until = OrderedDict.fromkeys(self._until, 0.0)

    def why_not(self, authorization: str, now: float) -> str | None:
        """Google's reason for refusing a request; None when it is good."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return "CREDENTIALS_MISSING"
        until = self._until.get(token)
        if until is None:
            return "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        return "ACCESS_TOKEN_EXPIRED" if now >= until else None


class Refused(Exception):
    """One of _ERRORS, with a description of its own."""

    def __init__(self, error: str, told: str | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.told = _ERRORS[error][1] if told is None else told


class GoogleTokens:
    """The endpoint: an assertion for an access token."""

    def __init__(self, account: ServiceAccount, tokens: AccessTokens) -> None:
        self._account, self._tokens = account, tokens

    def judge(self, body: bytes, now: float) -> Answer:
        try:
            self._check(self._assertion(body), now)
        except Refused as refused:
            return _error(refused.error, refused.told)
        lifetime = max(0, int(self._tokens.settings.lifetime) - 1)
        told = {"access_token": self._tokens.give(now), "expires_in": lifetime, "token_type": "Bearer"}
        return Answer(200, "Success", body=msgspec.json.encode(told))

    def scripted(self, rule: Rule) -> Answer:
        return _error(rule.outcome or "", _ERRORS[rule.outcome or ""][1], rule.retry_after)

    def knows(self, outcome: str) -> bool:
        return outcome in _ERRORS

    def _assertion(self, body: bytes) -> str:
        try:
            form = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=10)
        except ValueError as error:
            raise Refused("invalid_request") from error
        if form.get("grant_type") != [_GRANT]:
            raise Refused("unsupported_grant_type")
        assertion = form.get("assertion", [])
        if len(assertion) != 1:
            raise Refused("invalid_request")
        return assertion[0]

    def _check(self, assertion: str, now: float) -> None:
        account = self._account
        try:
            header = jwt.get_unverified_header(assertion)
            # What Google says about times and audience differs from what it says about the signature.
            options: Any = {"verify_iat": False, "verify_exp": False, "verify_aud": False}
            claims = jwt.decode(assertion, account.key, algorithms=["RS256"], options=options)
        except jwt.PyJWTError as error:
            raise Refused("invalid_grant") from error
        if header.get("kid", account.key_id) != account.key_id:
            raise Refused("invalid_grant")
        if claims.get("iss") != account.email:
            raise Refused("invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") != account.token_url:
            raise Refused("invalid_grant", "Invalid JWT: Failed audience check.")
        if claims.get("scope") != SCOPE:
            raise Refused("invalid_scope")
        _check_times(claims.get("iat"), claims.get("exp"), now)


def _check_times(issued_at: Any, expires: Any, now: float) -> None:
    if not isinstance(issued_at, int) or not isinstance(expires, int):
        raise Refused("invalid_grant", _SHORT_LIVED)
    if not issued_at - _CLOCK_SKEW_SECONDS <= now < expires or expires - issued_at > _LONGEST_SECONDS:
        raise Refused("invalid_grant", _SHORT_LIVED)


def _error(error: str, told: str, retry_after: str | None = None) -> Answer:
    headers = () if retry_after is None else (("retry-after", retry_after),)
    body = msgspec.json.encode({"error": error, "error_description": told})
    return Answer(_ERRORS[error][0], error, headers, body)
