"""The push_token of a device with Web Push: the one accepted form (docs/protocol.md, section 6).

A push_token is the JCS of exactly {app, auth, endpoint, key, p256dh}. `auth`, `p256dh` and `key` are unpadded
base64url: the secret and the key of the subscription (RFC 8291), and the relay's VAPID key that it was made with
(RFC 8292). `endpoint` is its URL, and `app` the page that a notification opens.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64url, encode_base64url
from sigil.protocol.origin import NotAnOrigin, parse_origin, server_origin

MAX_ENDPOINT = 1024
MAX_APP = 512
AUTH_BYTES = 16
POINT_BYTES = 65

# No port, no user, no address literal in brackets: the relay connects to this host, and to port 443 alone.
_ENDPOINT = re.compile(r"https://([a-z0-9.-]+)(/[!-~]*)\Z", re.ASCII)
# What RFC 3986 allows in a URL, without the `#` of a fragment: no character that JSON escapes.
_APP = re.compile(r"(https?://[a-z0-9.-]+(?::[0-9]{1,5})?)/[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]*\Z", re.ASCII)


class NotAWebPushToken(ValueError):
    """The message names the member and what is wrong with it, and repeats nothing of the token."""


class _Members(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    app: str
    auth: str
    endpoint: str
    key: str
    p256dh: str


class WebPushToken(NamedTuple):
    """`host` and `path` are the two parts of `endpoint`. `key` and `p256dh` are uncompressed points."""

    app: str
    auth: bytes
    endpoint: str
    host: str
    path: str
    key: bytes
    p256dh: bytes

    def __repr__(self) -> str:
        """Without the endpoint and the secret: who has both can push to the device."""
        return f"<Web Push token at {self.host}>"

    def text(self) -> str:
        """The push_token."""
        members = {
            "app": self.app,
            "auth": encode_base64url(self.auth),
            "endpoint": self.endpoint,
            "key": encode_base64url(self.key),
            "p256dh": encode_base64url(self.p256dh),
        }
        return canonical(members).decode()


def parse(text: str) -> WebPushToken:
    """NotAWebPushToken for everything but the one form. Which hosts and keys it accepts, the relay decides."""
    try:
        found = _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise NotAWebPushToken(
            "must be a JSON object with exactly the strings app, auth, endpoint, key and p256dh"
        ) from None
    host, path = endpoint_parts(found.endpoint)
    token = WebPushToken(
        app=_app(found.app),
        auth=_binary("auth", found.auth, AUTH_BYTES),
        endpoint=found.endpoint,
        host=host,
        path=path,
        key=_point("key", found.key),
        p256dh=_point("p256dh", found.p256dh),
    )
    # One spelling alone: two would be two tokens of one subscription.
    if token.text() != text:
        raise NotAWebPushToken("must be canonical JSON (RFC 8785): sorted members, no blanks, no needless escapes")
    return token


def endpoint_parts(endpoint: str) -> tuple[str, str]:
    """Host and path; NotAWebPushToken."""
    match = _ENDPOINT.match(endpoint)
    if len(endpoint) > MAX_ENDPOINT or match is None or "#" in endpoint or "\\" in endpoint:
        raise NotAWebPushToken(
            f"endpoint must be an https URL of at most {MAX_ENDPOINT} visible ASCII characters, "
            "without user, port, backslash or fragment, and its host in lower case"
        )
    return host_name("endpoint", match[1]), match[2]


def host_name(subject: str, host: str) -> str:
    """A DNS name that cannot be read as an address; NotAWebPushToken."""
    try:
        origin = parse_origin(f"https://{host}")
    except NotAnOrigin as error:
        raise NotAWebPushToken(f"{subject} {error}") from None
    if origin.host != host or host.replace(".", "").isdigit():
        raise NotAWebPushToken(f"{subject} must have a host name, not an address")
    return host


def _app(app: str) -> str:
    match = _APP.match(app)
    if len(app) > MAX_APP or match is None:
        raise NotAWebPushToken(
            f"app must be the https URL of a page, of at most {MAX_APP} characters, without user and fragment"
        )
    try:
        if server_origin(match[1]) != match[1]:
            raise NotAWebPushToken("app must have its origin in the canonical form: lower case, no default port")
    except NotAnOrigin as error:
        raise NotAWebPushToken(f"app {error}") from None
    return app


def _binary(name: str, text: str, length: int) -> bytes:
    data = decode_base64url(text)
    if data is None or len(data) != length:
        raise NotAWebPushToken(f"{name} must be {length} bytes in base64url without padding")
    return data


def _point(name: str, text: str) -> bytes:
    data = _binary(name, text, POINT_BYTES)
    try:
        # It fails for a point that is not on the curve (RFC 8291, section 7).
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), data)
    except ValueError:
        raise NotAWebPushToken(f"{name} must be an uncompressed point of P-256") from None
    return data


_decode = msgspec.json.Decoder(_Members).decode
