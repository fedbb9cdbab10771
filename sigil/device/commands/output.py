"""The output of `listen`: text for people, or one JSON object per line for scripts.

A `challenge_id` is the id of a challenge or of an approval request, as in the events of the relay.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import click

from sigil.console.style import styled
from sigil.device.approval_checks import Shown, ShownApproval
from sigil.device.challenge_checks import ShownChallenge
from sigil.device.commands.context import one_line
from sigil.device.display import lines_of
from sigil.device.errors import DeviceError, MatchCodeWrong
from sigil.device.relay import events
from sigil.protocol.encoding.display_text import printable
from sigil.protocol.messages.base import Decision


@dataclass(frozen=True)
class Answered:
    challenge_id: str
    decision: Decision
    status: str


@dataclass(frozen=True)
class NotAnswered:
    """`then` is what follows: the answer is sent again, the device prompts again, or nothing."""

    challenge_id: str
    error: DeviceError
    then: Literal["sent_again", "asked_again", "dropped"]


@dataclass(frozen=True)
class LeftPending:
    """Left for a person: the digits that approve it are not known here."""

    challenge_id: str


@dataclass(frozen=True)
class Dismissed:
    """Was queued or prompted for, and is not any more."""

    challenge_id: str
    why: str


@dataclass(frozen=True)
class Ended:
    """Listening ended because of a permanent error."""

    error: DeviceError


ListenEvent = events.Event | Answered | NotAnswered | LeftPending | Dismissed | Ended
Report = Callable[[ListenEvent], None]


class Interruptible(Protocol):
    """Lets lines be written while a prompt is open on the terminal."""

    def interrupted(self) -> AbstractContextManager[None]: ...


def print_text(event: ListenEvent, terminal: Interruptible | None = None) -> None:
    """A received challenge is not printed here but before its prompt. Answers go to stdout, the rest to stderr."""
    if not (lines := list(_lines(event))):
        return
    with terminal.interrupted() if terminal is not None else nullcontext():
        for line in lines:
            click.echo(_coloured(printable(line), event), err=not isinstance(event, Answered))


def _coloured(line: str, event: ListenEvent) -> str:
    match event:
        case Answered(_, decision, _):
            return styled(line, "good" if decision == "approved" else "notice", sys.stdout)
        case events.Refused() | NotAnswered():
            return styled(line, "bad", sys.stderr)
    return line


def show(shown: Shown, now: float) -> None:
    click.echo()
    for line in lines_of(shown, now):
        click.echo(line)


def print_json(event: ListenEvent, now: float) -> None:
    click.echo(json.dumps(_members(event, now)))


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


def _lines(event: ListenEvent) -> Iterator[str]:
    match event:
        case events.Connected(relay):
            yield f"Listening at {relay}. Press Ctrl-C to stop."
        case events.Disconnected(reason, _, seconds):
            yield f"{reason} Reconnecting in {seconds:.1f} s."
        case events.Registered(relay):
            yield f"{relay} had lost the registration of this device. The device is registered again."
        case events.Refused(challenge_id, error, _):
            yield f"REFUSED {challenge_id} {one_line(error)}"
        case events.Ignored(kind, _):
            yield f"Ignored a message of type {kind or 'nothing'}, which this version does not support."
        case events.PendingFailed(error):
            yield f"The pending challenges could not be fetched. {one_line(error)}"
        case Answered(_, decision, status):
            yield answer_text(decision, status)
        case NotAnswered(_, MatchCodeWrong() as error, _):
            yield error.message
        case NotAnswered(challenge_id, error, then):
            more = " The answer will be sent again." if then == "sent_again" else ""
            yield f"Not answered: {challenge_id} {one_line(error)}{more}"
        case LeftPending(challenge_id):
            yield how_to_approve(challenge_id)
        case Dismissed(challenge_id, why):
            yield f"Dismissed: {challenge_id} {why}"


def _members(event: ListenEvent, now: float) -> dict[str, Any]:
    name = _NAMES[type(event)]
    match event:
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
    return {"event": name, **vars(event)}


_ANSWERS: dict[tuple[Decision, str], str] = {
    ("approved", "verified"): "Approved: the challenge is verified.",
    ("approved", "recorded"): "Approved: recorded, more groups are needed.",
    ("approved", "already_satisfied"): "Approved: recorded, this group was satisfied before.",
    ("approved", "approved"): "Approved: the request is approved.",
    ("rejected", "rejected"): "Rejected.",
    ("rejected", "recorded"): "Rejected: recorded, the request is still pending.",
    ("rejected", "already_satisfied"): "Rejected: recorded, this group was satisfied before.",
}


def answer_text(decision: Decision, status: str) -> str:
    """One line about an answer that the server accepted; `status` is the server's."""
    return _ANSWERS.get((decision, status), f"{decision.capitalize()}: {status}.")


def how_to_approve(challenge_id: str) -> str:
    return f"Left pending. To approve it, run 'sigil device approve {challenge_id} --match-code NN'."


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
    LeftPending: "left",
    Dismissed: "dismissed",
    Ended: "ended",
}
