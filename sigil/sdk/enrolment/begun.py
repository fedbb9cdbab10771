"""An enrolment that was begun: its link, its token, and the QR code of the link."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sigil.protocol.enrolment.link import parse_uri, typed_token
from sigil.sdk.results import Time


@dataclass(frozen=True, slots=True)
class Enrolment:
    """An enrolment that was begun. `uri` and `token` let the first device that has them claim it: show them to the
    signed-in person alone, and log neither.
    """

    enrolment_id: str
    expires_at: Time
    token: str = field(repr=False)
    uri: str = field(repr=False)

    def __post_init__(self) -> None:
        # In this form the link can be put into a page or a terminal as it is.
        if parse_uri(self.uri).token != self.token:
            raise ValueError("the token is not that of the link")

    @property
    def typed_token(self) -> str:
        """The token as a person types it: XXXX-XXXX-XXXX."""
        return typed_token(self.token)

    def qr(self, format: Literal["svg", "terminal"] = "svg", *, title: str = "QR code: scan it with your phone") -> str:
        """The QR code of `uri`. ConfigurationError without segno, which the extras `qr` and `cli` install.

        svg: an element to put into a page, as large as its container; `title` is its name for screen readers. terminal:
        lines for a terminal with a dark or a light background, and under them the typed token.
        """
        from sigil.sdk.enrolment import qr

        qr.require(format)
        if format == "terminal":
            return f"{qr.terminal(self.uri)}\nOr type {self.typed_token}\n"
        return qr.svg(self.uri, title)
