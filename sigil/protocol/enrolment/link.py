"""The token and the link of an enrolment: what a person scans or types (docs/protocol.md, 5.5)."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from sigil.protocol.encoding.text import decode_base64url, encode_base64url
from sigil.protocol.origin import NotAnOrigin, server_origin

TOKEN_LENGTH = 12
TOKEN_BYTES = 8
"""Random bytes of a token, of which it has 60 bits."""
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
TOKEN_FORM = r"^[0-9A-HJKMNP-TV-Z]{12}$(?!\n)"  # noqa: S105 - a pattern

WEB_PATH = "/device/"

_TOKEN = re.compile(r"[0-9A-HJKMNP-TV-Z]{12}\Z")
_TYPED = str.maketrans("OILoil", "011011", " -")
_MAX_TYPED = 64
_URI = re.compile(r"sigil:enrol\?u=([A-Za-z0-9._~%-]+)&s=([A-Za-z0-9_-]{43})&t=([0-9A-Z]{12})\Z")
_MAX_URI = 1024


class NotAToken(ValueError):
    """The message is a sentence for the person who typed it, and repeats nothing of the text."""


class NotALink(ValueError):
    """The message is a sentence for the person who scanned or pasted it, and repeats nothing of the text."""


def token_of(random: bytes) -> str:
    """The token of 8 random bytes: their first 60 bits, five a character, the most significant first."""
    if len(random) != TOKEN_BYTES:
        raise ValueError(f"a token is drawn from {TOKEN_BYTES} bytes")
    bits = int.from_bytes(random) >> 4
    return "".join(ALPHABET[bits >> shift & 31] for shift in range(55, -1, -5))


def typed_token(token: str) -> str:
    """The form for people: XXXX-XXXX-XXXX."""
    return f"{token[:4]}-{token[4:8]}-{token[8:]}"


def is_token(text: str) -> bool:
    """Whether it is the canonical form, the only one on the wire."""
    return _TOKEN.match(text) is not None


def normalised_token(text: str) -> str:
    """The canonical form of what a person typed: any case, spaces and hyphens anywhere, I and L for 1, O for 0.
    Raises NotAToken.
    """
    # ASCII alone: upper() makes an S of U+017F and an I of U+0131.
    token = text.translate(_TYPED).upper() if text.isascii() and len(text) <= _MAX_TYPED else ""
    if not is_token(token):
        raise NotAToken(
            f"This is not an enrolment code: it has {TOKEN_LENGTH} letters and digits, no U, such as 7K3M-Q9XP-2RTB."
        )
    return token


class Link(NamedTuple):
    """What an enrolment link holds. `base_url` is a canonical origin, `server_id` 64 hex characters."""

    base_url: str
    server_id: str
    token: str

    def __repr__(self) -> str:
        return f"Link({self.base_url!r}, {self.server_id!r}, …)"


def link_uri(link: Link) -> str:
    """`sigil:enrol?u=…&s=…&t=…`, for a QR code or a link on the same device."""
    server = encode_base64url(bytes.fromhex(link.server_id))
    return f"sigil:enrol?u={quote(link.base_url, safe='')}&s={server}&t={link.token}"


def web_uri(link: Link) -> str:
    """`<base_url>/device/#s=…&t=…`: the same for a browser, which never sends a fragment to a server."""
    return f"{link.base_url}{WEB_PATH}#s={encode_base64url(bytes.fromhex(link.server_id))}&t={link.token}"


def parse_uri(text: str) -> Link:
    """Accepts only what `link_uri` makes of a canonical origin. Raises NotALink."""
    found = _URI.match(text) if len(text) <= _MAX_URI else None
    server = decode_base64url(found[2]) if found else None
    if found is None or server is None or not is_token(found[3]):
        raise NotALink("This is not an enrolment link: it has the form sigil:enrol?u=…&s=…&t=…; scan or copy it whole.")
    link = Link(_origin(found[1]), server.hex(), found[3])
    if link_uri(link) != text:
        raise NotALink("This is not an enrolment link: its address is not in canonical form.")
    return link


def _origin(quoted: str) -> str:
    try:
        return server_origin(unquote_to_bytes(quoted).decode())
    except (NotAnOrigin, UnicodeDecodeError) as error:
        raise NotALink("This is not an enrolment link: its address is not the https address of a server.") from error
