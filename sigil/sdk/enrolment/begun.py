"""An enrolment that was begun: its link, its token, and the QR code of the link."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sigil.protocol.enrolment.link import parse_uri, typed_token, web_uri
from sigil.sdk.errors import ConfigurationError
from sigil.sdk.results import Time


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An enrolment that was begun. `uri`, `web_uri` and `token` let the first device that has them claim it: show them
    to the signed-in person alone, and log none. `web_uri` opens in any browser, and is None where the server has no web
    app, or where this enrolment needs an attestation or replaces a key; `uri` opens in an app.
    """

    enrolment_id: str
    expires_at: Time
    token: str = field(repr=False)
    uri: str = field(repr=False)
    web_uri: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # In these forms the links can be put into a page or a terminal as they are.
        link = parse_uri(self.uri)
        if link.token != self.token:
            raise ValueError("the token is not that of the link")
        if self.web_uri is not None and self.web_uri != web_uri(link):
            raise ValueError("the web link is not that of the link")

    @property
    def typed_token(self) -> str:
        """The token as a person types it: XXXX-XXXX-XXXX."""
        return typed_token(self.token)

    def qr(
        self,
        format: Literal["svg", "terminal"] = "svg",
        *,
        form: Literal["web", "device"] | None = None,
        title: str = "QR code: scan it with your phone",
    ) -> str:
        """The QR code of a link: `web_uri` where there is one, else `uri`; `form` demands one of them.
        ConfigurationError where there is none of this form, and without segno, which the extras `qr` and `cli` install.

        svg: an element to put into a page, as large as its container; `title` is its name for screen readers. terminal:
        lines for a terminal with a dark or a light background, and under them the typed token.
        """
        from sigil.sdk.enrolment import qr

        qr.require(format)
        link = self._link(form)
        if format == "terminal":
            return f"{qr.terminal(link)}\nOr type {self.typed_token}\n"
        return qr.svg(link, title)

    def _link(self, form: Literal["web", "device"] | None) -> str:
        if form not in (None, "web", "device"):
            raise ConfigurationError('form must be "web" or "device".')
        if form == "device":
            return self.uri
        if self.web_uri is None and form == "web":
            raise ConfigurationError(
                "This enrolment has no web link: the server needs SIGIL_DEVICE_APP and a host name "
                "in SIGIL_PUBLIC_URL, and the enrolment no attestation and no replaced key."
            )
        return self.web_uri or self.uri
