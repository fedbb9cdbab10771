"""What a person reads. Nothing from a server or an action reaches the terminal unfiltered."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sigil.device.checks import ShownChallenge
from sigil.device.pin import ServerPin
from sigil.protocol.pictogram import pictogram, speakable


def printable(text: str) -> str:
    """Escapes all but printable characters and the plain space.

    Control characters would drive the terminal, direction marks reorder what is read, invisible ones hide it.
    """
    return "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text)


def picture(fingerprint: str) -> str:
    """Computed here, never taken from a server's own claim."""
    return f"{' '.join(pictogram(fingerprint))}  ({speakable(fingerprint)})"


def server_lines(server: ServerPin) -> Iterator[str]:
    yield f"Server       {printable(server.server_name)}  {server.base_url}"
    yield f"server_id    {server.server_id}"
    yield f"             {picture(server.server_id)}"


def challenge_lines(shown: ShownChallenge, now: float) -> Iterator[str]:
    """Everything that an approval would sign for, one member to a line (2.4)."""
    server = shown.server
    yield f"Challenge    {shown.challenge_id}"
    yield f"Asked by     {printable(server.server_name)}  {server.base_url}"
    yield f"             {picture(server.server_id)}"
    yield f"Type         {printable(shown.action_type)}"
    yield f"Description  {printable(shown.description)}"
    for name, value in (shown.params or {}).items():
        yield f"  {_as_json(name)}: {_as_json(value)}"
    yield f"Time left    {shown.seconds_left(now)} s"
    if shown.number_matching:
        yield "Number       approved with the two digits that the service shows"


def _as_json(value: object) -> str:
    """As JSON, so that a string cannot pass for a number nor a name for two members."""
    return printable(json.dumps(value, ensure_ascii=False))
