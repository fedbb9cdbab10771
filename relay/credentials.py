"""Credentials of the relay at APNs and FCM, with all checks that need no connection."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from sigil.protocol.messages.mistakes import mistake
from sigil.serving.settings import Secret, https_url

APNS_HOSTS = {
    "production": "https://api.push.apple.com",
    "sandbox": "https://api.sandbox.push.apple.com",
}
FCM_URL = "https://fcm.googleapis.com"
_IDENTIFIER = re.compile(r"[A-Z0-9]{10}\Z")
_TOPIC = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,254}\Z")
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}\Z")
_MIN_RSA_BITS = 2048


@dataclass(frozen=True)
class ApnsCredentials:
    """`key` is the PEM text of the .p8 file."""

    key: Secret
    key_id: str
    team_id: str
    topic: str
    url: str


@dataclass(frozen=True)
class FcmCredentials:
    """A service account. `token_url` issues access tokens, and is the audience of the assertion."""

    project_id: str
    client_email: str
    key_id: str
    key: Secret
    url: str
    token_url: str


def apns_identifier(text: str) -> str:
    if not _IDENTIFIER.match(text):
        raise ValueError("must be 10 capital letters and digits, as the Apple developer account shows it")
    return text


def apns_topic(text: str) -> str:
    if not _TOPIC.match(text):
        raise ValueError("must be the bundle id of the app, such as com.example.app")
    return text


def apns_key(text: str) -> Secret:
    """ValueError for anything but a P-256 private key in PEM."""
    if not isinstance(_private_key(text), EllipticCurvePrivateKey):
        raise ValueError("contains no P-256 private key: use the .p8 file that Apple offers once for download")
    return Secret(text)


class _ServiceAccount(msgspec.Struct):
    type: Literal["service_account"]
    project_id: str
    private_key_id: str
    private_key: str
    client_email: str
    token_uri: str


def service_account(text: str, *, url: str = FCM_URL, token_url: str | None = None) -> FcmCredentials:
    """The content of a service account's JSON file; ValueError. `token_url` replaces the `token_uri` of the file."""
    try:
        account = msgspec.json.decode(text, type=_ServiceAccount)
    except msgspec.ValidationError as error:
        raise ValueError(f"is not a service account's JSON key: {mistake(error, _ServiceAccount).message}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("is not JSON") from None
    if not _PROJECT.match(account.project_id) or not account.client_email or not account.private_key_id:
        raise ValueError("project_id, client_email and private_key_id must name a service account")
    key = _private_key(account.private_key)
    if not isinstance(key, RSAPrivateKey) or key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"private_key must be an RSA key of {_MIN_RSA_BITS} bits or more in PEM")
    try:
        audience = token_url or https_url(account.token_uri)
    except ValueError as error:
        raise ValueError(f"token_uri {error}") from None
    return FcmCredentials(
        account.project_id, account.client_email, account.private_key_id, Secret(account.private_key), url, audience
    )


def _private_key(text: str) -> object:
    """None for text that is no private key, and for a key with a password or on a curve that APNs does not accept."""
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(key, EllipticCurvePrivateKey) and not isinstance(key.curve, SECP256R1):
        return None
    return key
