"""What `enrol` shows: text for people, or one JSON object per line for scripts."""

from __future__ import annotations

import json
from typing import Protocol

import click
import msgspec

from sigil.device.commands.enrol import registration_lines, registration_members
from sigil.device.display import picture, server_lines
from sigil.device.enrolment.steps import Offer
from sigil.device.keyring import Registration
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.enrolment.code import Session


class Output(Protocol):
    def offer(self, offer: Offer, now: float) -> None: ...

    def code(self, session: Session) -> None: ...

    def enrolled(self, registration: Registration, replaced: str) -> None: ...


class Text:
    def offer(self, offer: Offer, now: float) -> None:
        # The name that is signed: that of /info is not.
        server = msgspec.structs.replace(offer.server, server_name=offer.members.server_name)
        _echo(*server_lines(server), f"Account      {offer.account}")
        if offer.replaces:
            _echo(f"Replaces     {offer.replaces}", f"             {picture(offer.replaces)}")
        if offer.members.confirm == "none":
            _echo("Code         none: the device is enrolled when you agree")
        _echo(f"Time left    {offer.seconds_left(now)} s")

    def code(self, session: Session) -> None:
        _echo(
            "",
            f"Code         {session.code}",
            f"Pictures     {' '.join(session.pictogram)}  ({session.speakable})",
            "",
            "Enter the code on the page where this enrolment was begun, if it shows the same pictures.",
            "",
        )

    def enrolled(self, registration: Registration, replaced: str) -> None:
        click.echo("Enrolled.", err=True)
        _echo(*registration_lines(registration), *server_lines(registration.server))
        click.echo("Continue with 'sigil device register'.", err=True)


class JsonLines:
    def offer(self, offer: Offer, now: float) -> None:
        members = offer.members
        self._line(
            "offer",
            account=members.account,
            server=offer.server.base_url,
            server_id=members.server_id,
            server_name=members.server_name,
            enrolment_id=members.enrolment_id,
            confirm=members.confirm,
            replaces=members.replaces,
            seconds_left=offer.seconds_left(now),
        )

    def code(self, session: Session) -> None:
        self._line(
            "code",
            code=session.code,
            session_pictogram=session.pictogram,
            session_pictogram_speakable=session.speakable,
        )

    def enrolled(self, registration: Registration, replaced: str) -> None:
        self._line("enrolled", **registration_members(registration), replaced=replaced)

    def _line(self, event: str, **members: object) -> None:
        # At once: a script waits for the code.
        click.echo(json.dumps({"event": event, **members}))


def _echo(*lines: str) -> None:
    for line in lines:
        click.echo(printable(line) if line else "")
