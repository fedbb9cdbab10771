"""What `listen` writes: lines for people, or one JSON object a line for scripts.

A `challenge_id` is that of a challenge or of a multi-party request, as in the events of the relay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import click

from sigil.device.approval_checks import Shown, ShownApproval
from sigil.device.challenge_checks import ShownChallenge
from sigil.device.commands.context import one_line
from sigil.device.display import lines_of, printable
from sigil.device.errors import DeviceError
from sigil.device.relay import events
from sigil.protocol.forms import Decision


@dataclass(frozen=True)
class Answered:
    challenge_id: str
    decision: Decision
    status: str


@dataclass(frozen=True)
class NotAnswered:
    """`then` says what becomes of it: sent again, asked again, or nothing."""

    challenge_id: str
    error: DeviceError
    then: Literal["sent_again", "asked_again", "dropped"]


@dataclass(frozen=True)
class Left:
    """For a person: nobody here has seen the number that it is approved with."""

    challenge_id: str


@dataclass(frozen=True)
class Dismissed:
    """Was waiting or being asked about, and is not any more."""

    challenge_id: str
    why: str


@dataclass(frozen=True)
class Ended:
    """Listening is over, for a reason that will not pass by itself."""

    error: DeviceError


ListenEvent = events.Event | Answered | NotAnswered | Left | Dismissed | Ended
Tell = Callable[[ListenEvent], None]


class Interrupts(Protocol):
    """Makes room for lines while a question stands on the terminal."""

    def interrupted(self) -> AbstractContextManager[None]: ...


def tell_people(told: ListenEvent, terminal: Interrupts | None = None) -> None:
    """What is asked is shown by whoever asks, when its turn comes. Answers go to stdout, the rest to stderr."""
    if not (lines := list(_lines(told))):
        return
    with terminal.interrupted() if terminal is not None else nullcontext():
        for line in lines:
            click.echo(printable(line), err=not isinstance(told, Answered))


def show(shown: Shown, now: float) -> None:
    for line in lines_of(shown, now):
        click.echo(line)


def tell_scripts(told: ListenEvent, now: float) -> None:
    click.echo(json.dumps(_members(told, now)))


def challenge_members(shown: ShownChallenge, now: float) -> dict[str, Any]:
    return {
        "challenge_id": shown.challenge_id,
        "server": shown.server.base_url,
        "server_id": shown.server.server_id,
        "action": json.loads(shown.action_jcs),
        "expires_at": shown.expires_at,
        "seconds_left": shown.seconds_left(now),
        "number_matching": shown.number_matching,
    }


def approval_members(shown: ShownApproval, now: float) -> dict[str, Any]:
    return {
        "mpa_id": shown.mpa_id,
        "request_id": shown.request_id,
        "server": shown.server.base_url,
        "server_id": shown.server.server_id,
        "action": json.loads(shown.action_jcs),
        "groups_required": shown.required,
        "reject_policy": shown.reject_policy,
        "expires_at": shown.expires_at,
        "seconds_left": shown.seconds_left(now),
    }


def _lines(told: ListenEvent) -> Iterator[str]:
    match told:
        case events.Connected(relay):
            yield f"Listening at {relay}. Ctrl-C ends it."
        case events.Disconnected(reason, _, seconds):
            yield f"{reason} Again in {seconds:.1f} s."
        case events.Registered(relay):
            yield f"{relay} had lost this device and knows it again."
        case events.Refused(challenge_id, error, _):
            yield f"REFUSED {challenge_id} {one_line(error)}"
        case events.Ignored(kind, _):
            yield f"Ignored a message of type {kind or 'nothing'}, which this version cannot answer."
        case events.PendingFailed(error):
            yield f"What is pending could not be asked. {one_line(error)}"
        case Answered(_, decision, status):
            yield f"{decision.capitalize()}: {status}"
        case NotAnswered(challenge_id, error, then):
            more = " It is sent again." if then == "sent_again" else ""
            yield f"Not answered: {challenge_id} {one_line(error)}{more}"
        case Left(challenge_id):
            yield f"Left: 'sigil device approve {challenge_id} --match-code NN' answers it."
        case Dismissed(challenge_id, why):
            yield f"Dismissed: {challenge_id} {why}"


def _members(told: ListenEvent, now: float) -> dict[str, Any]:
    name = _NAMES[type(told)]
    match told:
        case events.Received(ShownApproval() as shown, push_id):
            return {"event": "mpa", **approval_members(shown, now), "push_id": push_id}
        case events.Received(ShownChallenge() as shown, push_id):
            return {"event": name, **challenge_members(shown, now), "push_id": push_id}
        case events.Refused(challenge_id, error, push_id):
            return {"event": name, "challenge_id": challenge_id, **_error(error), "push_id": push_id}
        case events.PendingFailed(error) | Ended(error):
            return {"event": name, **_error(error)}
        case NotAnswered(challenge_id, error, then):
            return {"event": name, "challenge_id": challenge_id, **_error(error), "then": then}
    return {"event": name, **vars(told)}


def _error(error: DeviceError) -> dict[str, str]:
    return {"code": error.code, "message": error.message}


_NAMES: dict[type[ListenEvent], str] = {
    events.Connected: "connected",
    events.Disconnected: "disconnected",
    events.Registered: "registered",
    events.Received: "challenge",
    events.Refused: "refused",
    events.Cleared: "clear",
    events.Repeated: "repeated",
    events.Gone: "gone",
    events.Ignored: "ignored",
    events.PendingFailed: "pending_failed",
    Answered: "answered",
    NotAnswered: "not_answered",
    Left: "left",
    Dismissed: "dismissed",
    Ended: "ended",
}
