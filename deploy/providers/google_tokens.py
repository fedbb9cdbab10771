"""Google's OAuth 2.0 token endpoint for a service account ("Using OAuth 2.0 for server to server applications")."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Any
from urllib.parse import parse_qs

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from deploy.providers.http.stream import Response
from deploy.providers.rules import Rule

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_KEPT = 1000
_MAX_LIFETIME_SECONDS = 3600
_CLOCK_SKEW_SECONDS = 300
_SHORT_LIVED = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp"
    " values in the JWT claim."
)
# Status and description of each error.
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
    """Lifetime of an access token in seconds."""

    lifetime: float = 3600


class AccessTokens:
    """The issued access tokens and when they expire."""

    def __init__(self) -> None:
        self.settings = TokenSettings()
        self._expires_at: OrderedDict[str, float] = OrderedDict()
        self.issued = 0

    def issue(self, now: float) -> str:
        # Google's prefix: scanners for leaked secrets recognise it.
        token = "ya29.c." + secrets.token_urlsafe(64)
        self._expires_at[token] = now + self.settings.lifetime
        self.issued += 1
        if len(self._expires_at) > _KEPT:
            self._expires_at.popitem(last=False)
        return token

    def revoke(self) -> None:
        """Revoke all, as if the key of the account were deleted."""
        self._expires_at = OrderedDict.fromkeys(self._expires_at, 0.0)

    def rejection_reason(self, authorization: str, now: float) -> str | None:
        """Google's reason to reject a request; None for a valid token."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return "CREDENTIALS_MISSING"
        expires_at = self._expires_at.get(token)
        if expires_at is None:
            return "ACCESS_TOKEN_TYPE_UNSUPPORTED"
        return "ACCESS_TOKEN_EXPIRED" if now >= expires_at else None


class Rejected(Exception):
    """One of _ERRORS; `description` replaces its text."""

    def __init__(self, error: str, description: str | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.description = _ERRORS[error][1] if description is None else description


class GoogleTokens:
    """Exchanges an assertion for an access token."""

    def __init__(self, account: ServiceAccount, tokens: AccessTokens) -> None:
        self._account, self._tokens = account, tokens

    def respond(self, body: bytes, now: float) -> Response:
        try:
            self._check(self._assertion(body), now)
        except Rejected as rejected:
            return _error(rejected.error, rejected.description)
        lifetime = max(0, int(self._tokens.settings.lifetime) - 1)
        token = {"access_token": self._tokens.issue(now), "expires_in": lifetime, "token_type": "Bearer"}
        return Response(200, "Success", body=msgspec.json.encode(token))

    def scripted(self, rule: Rule) -> Response:
        return _error(rule.outcome or "", _ERRORS[rule.outcome or ""][1], rule.retry_after)

    def supports(self, outcome: str) -> bool:
        return outcome in _ERRORS

    def _assertion(self, body: bytes) -> str:
        try:
            form = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=10)
        except ValueError as error:
            raise Rejected("invalid_request") from error
        if form.get("grant_type") != [_GRANT]:
            raise Rejected("unsupported_grant_type")
        assertion = form.get("assertion", [])
        if len(assertion) != 1:
            raise Rejected("invalid_request")
        return assertion[0]

    def _check(self, assertion: str, now: float) -> None:
        account = self._account
        try:
            header = jwt.get_unverified_header(assertion)
            # Google has other errors for times and audience than for the signature: they are checked below.
            options: Any = {"verify_iat": False, "verify_exp": False, "verify_aud": False}
            claims = jwt.decode(assertion, account.key, algorithms=["RS256"], options=options)
        except jwt.PyJWTError as error:
            raise Rejected("invalid_grant") from error
        if header.get("kid", account.key_id) != account.key_id:
            raise Rejected("invalid_grant")
        if claims.get("iss") != account.email:
            raise Rejected("invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") != account.token_url:
            raise Rejected("invalid_grant", "Invalid JWT: Failed audience check.")
        if claims.get("scope") != SCOPE:
            raise Rejected("invalid_scope")
        _check_times(claims.get("iat"), claims.get("exp"), now)


def _check_times(issued_at: Any, expires: Any, now: float) -> None:
    if not isinstance(issued_at, int) or not isinstance(expires, int):
        raise Rejected("invalid_grant", _SHORT_LIVED)
    if not issued_at - _CLOCK_SKEW_SECONDS <= now < expires or expires - issued_at > _MAX_LIFETIME_SECONDS:
        raise Rejected("invalid_grant", _SHORT_LIVED)


def _error(error: str, description: str, retry_after: str | None = None) -> Response:
    headers = () if retry_after is None else (("retry-after", retry_after),)
    body = msgspec.json.encode({"error": error, "error_description": description})
    return Response(_ERRORS[error][0], error, headers, body)
