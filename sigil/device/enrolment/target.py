"""What a person scans, pastes or types to enrol: a link, which names its server, or a token, which does not."""

from __future__ import annotations

from dataclasses import dataclass, field

from sigil.device.enrolment.errors import LinkForeign, ServerNeeded, TargetUnusable
from sigil.device.http.origin import base_url as normalised
from sigil.protocol.enrolment.link import NotALink, NotAToken, normalised_token, parse_uri
from sigil.protocol.signed_bytes import enrolment_token_sha256

_SCHEME = "sigil:"


@dataclass(frozen=True)
class Target:
    """A server and a token of it. `server_id` is the expected one: of a link, a pin, or None.

    `from_link`: the server_id came with the token, from the service's page.
    """

    base_url: str
    token: str = field(repr=False)
    server_id: str | None
    from_link: bool

    @property
    def token_sha256(self) -> str:
        return enrolment_token_sha256(self.token).hex()


def parse_target(text: str, server: str | None = None, pin: str | None = None) -> Target:
    """A link, or a token with the address of its server; TargetUnusable, ServerNeeded, LinkForeign, AddressRefused.

    `server` and `pin` (a server_id) are what the person gave beside it: a link must name the same.
    """
    text = text.strip()
    if text[: len(_SCHEME)].lower() != _SCHEME:
        return _typed(text, server, pin)
    try:
        link = parse_uri(text)
    except NotALink as error:
        raise TargetUnusable(str(error)) from error
    if server is not None and normalised(server) != link.base_url:
        raise LinkForeign(f"{LinkForeign.summary} Its server is {link.base_url}, and --server is {normalised(server)}.")
    if pin is not None and pin != link.server_id:
        raise LinkForeign(f"{LinkForeign.summary} Its server_id is {link.server_id}, and --pin is {pin}.")
    return Target(link.base_url, link.token, link.server_id, from_link=True)


def _typed(text: str, server: str | None, pin: str | None) -> Target:
    try:
        token = normalised_token(text)
    except NotAToken as error:
        raise TargetUnusable from error
    if server is None:
        raise ServerNeeded
    return Target(normalised(server), token, pin, from_link=False)
