"""Text for people. Nothing from a server or an action reaches the terminal unfiltered."""

from __future__ import annotations

import json
from collections.abc import Iterator

from sigil.device.approval_checks import Shown, ShownApproval
from sigil.device.challenge_checks import ShownChallenge
from sigil.device.server_pin import ServerPin
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.encoding.pictogram import pictogram, speakable


def picture(fingerprint: str) -> str:
    """Computed here, never taken from the server."""
    return f"{' '.join(pictogram(fingerprint))}  ({speakable(fingerprint)})"


def server_lines(server: ServerPin) -> Iterator[str]:
    yield f"Server       {printable(server.server_name)}  {server.base_url}"
    yield f"server_id    {server.server_id}"
    yield f"             {picture(server.server_id)}"


def challenge_lines(shown: ShownChallenge, now: float) -> Iterator[str]:
    """Everything that an approval signs, one member per line (2.4)."""
    yield f"Challenge    {shown.challenge_id}"
    yield from _server_and_action(shown)
    yield f"Time left    {shown.seconds_left(now)} s"
    if shown.number_matching:
        yield "Number       approving needs the two digits that the service shows"


def approval_lines(shown: ShownApproval, now: float) -> Iterator[str]:
    """The same for an approval request, and how many groups must approve."""
    yield f"Request      {shown.mpa_id}  ({printable(shown.request_id)})"
    yield from _server_and_action(shown)
    rejected = "; one rejection ends the request" if shown.reject_policy == "reject_on_first" else ""
    yield f"Required     {shown.required} group{'s' * (shown.required != 1)} must approve{rejected}"
    yield f"Time left    {shown.seconds_left(now)} s"


def lines_of(shown: Shown, now: float) -> Iterator[str]:
    return approval_lines(shown, now) if isinstance(shown, ShownApproval) else challenge_lines(shown, now)


def _server_and_action(shown: Shown) -> Iterator[str]:
    server = shown.server
    yield f"Requested by {printable(server.server_name)}  {server.base_url}"
    yield f"             {picture(server.server_id)}"
    yield f"Type         {printable(shown.action_type)}"
    yield f"Description  {printable(shown.description)}"
    for name, value in (shown.params or {}).items():
        yield f"  {_as_json(name)}: {_as_json(value)}"


def _as_json(value: object) -> str:
    """As JSON, so that a string cannot look like a number, nor a name like two members."""
    return printable(json.dumps(value, ensure_ascii=False))
