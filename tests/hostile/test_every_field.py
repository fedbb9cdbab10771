"""Every field of every message that the server takes, enumerated from the types, with everything that JSON can hold."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator

from sigil import __version__
from sigil.device import Device
from sigil.protocol import approval_messages, first_boot_messages, messages
from sigil.protocol.action import Action
from sigil.protocol.approval_messages import WantedGroup, WantedMember
from sigil.protocol.encoding import format_time
from sigil.protocol.forms import Answer as Answered
from sigil.resources.openapi.document import document
from tests.hostile.offering import Offering
from tests.hostile.stranger import Answer, code_of
from tests.hostile.values import JSON, NOT_JSON

DESCRIPTION = document(__version__)
UNKNOWN_CHALLENGE = "11111111-1111-4111-8111-111111111111"
MARK = "the hostile value"
_JSON_BODY = {"Content-Type": "application/json"}


MESSAGES = {
    name: kind
    for module in (messages, approval_messages, first_boot_messages)
    for name, kind in vars(module).items()
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
}


def taken() -> Iterator[tuple[str, type]]:
    """Paths and the messages that they take."""
    for path, methods in DESCRIPTION["paths"].items():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield path, MESSAGES[content["schema"]["$ref"].rpartition("/")[2]]


@dataclass(frozen=True)
class Field:
    """One place in one message, the type that has it, and its names from the outermost; 0 for the first of a list."""

    path: str
    message: type
    holder: type
    names: tuple[str | int, ...]

    @property
    def location(self) -> str:
        return "$" + "".join("[...]" if name == 0 else f".{name}" for name in self.names)

    @property
    def name(self) -> str:
        return str(self.names[-1])

    def body(self, raw: bytes) -> bytes:
        """A good message with other bytes in this place."""
        message = sample(self.message)
        at: Any = message
        for name in self.names[:-1]:
            at = at[name]
        at[self.name] = MARK
        return json.dumps(message).encode().replace(json.dumps(MARK).encode(), raw)

    def permits(self, raw: bytes) -> bool:
        """Whether it may have a value, by the description."""
        member = {"$ref": f"#/components/schemas/{self.holder.__name__}/properties/{self.name}"}
        value = json.loads(raw, parse_int=lambda digits: int(digits[:1000]))
        valid: bool = Draft202012Validator({**member, "components": DESCRIPTION["components"]}).is_valid(value)
        return valid


def parts(kind: Any, *at: str | int) -> Iterator[tuple[type, tuple[str | int, ...]]]:
    """The messages in a type, and where they stand in its value."""
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        yield kind, at
    steps = (0,) if typing.get_origin(kind) is list else ()
    for part in (*typing.get_args(kind), *([kind.__origin__] if hasattr(kind, "__metadata__") else [])):
        yield from parts(part, *at, *steps)


def fields(path: str, message: type, holder: type, *above: str | int) -> Iterator[Field]:
    for member in msgspec.structs.fields(holder):
        names = (*above, member.encode_name)
        yield Field(path, message, holder, names)
        for part, at in parts(member.type, *names):
            yield from fields(path, message, part, *at)


EVERY = [field for path, message in taken() for field in fields(path, message, message)]


def sample(kind: type) -> dict[str, Any]:
    """A good message of a kind, but for its signature."""
    good = {
        "device_public_key": Device.generate().wire_key,
        "action": {"type": "login", "description": "Sign in", "params": {}},
        "challenge_id": UNKNOWN_CHALLENGE,
        "timestamp": format_time(0),
        "signature": "AAAA",
        "mpa_id": UNKNOWN_CHALLENGE,
        "decision": "approved",
        "required": 1,
        "words": "abandon",
        "groups": [{"members": [{"device_public_key": Device.generate().wire_key}]}],
    }
    members = msgspec.structs.fields(kind)
    return {member.name: good[member.name] for member in members if member.required or member.name in good}


def refusal(answer: httpx.Response) -> str | None:
    """The path of an INVALID_REQUEST; None for another error, or none."""
    if answer.status_code < 400:
        return None
    code = code_of(Answer(answer.status_code, answer.headers, answer.content))
    # Which one of a list is not always told.
    return answer.json()["error"]["details"]["path"].replace("[0]", "[...]") if code == "INVALID_REQUEST" else None


Ask = Callable[[Field, bytes], httpx.Response]


@pytest.fixture(scope="module")
def ask(offers: Offering) -> Iterator[Ask]:
    """Sends the field's message, with `raw` in its place, to a server that offers to take it."""
    with ExitStack() as stack:

        @cache
        def client(path: str) -> httpx.Client:
            server, token = offers.of(path)
            return stack.enter_context(server.client(headers={"Authorization": f"Bearer {token}", **_JSON_BODY}))

        yield lambda field, raw: client(field.path).post(field.path, content=field.body(raw))


each_field = pytest.mark.parametrize("field", EVERY, ids=lambda field: f"{field.message.__name__}{field.location[1:]}")


def test_every_message_that_is_no_answer_is_among_them() -> None:
    public = {kind for name, kind in MESSAGES.items() if not name.startswith("_") and not issubclass(kind, Answered)}
    taken_whole = {field.message for field in EVERY}
    # One stands in a payload, one is an answer with members that may be null, and one has no fields.
    public -= {approval_messages.ActionContext, first_boot_messages.InitState, first_boot_messages.Nothing}
    assert taken_whole | {field.holder for field in EVERY} == public | {Action}
    assert taken_whole == public - {WantedGroup, WantedMember}


@each_field
def test_a_field_takes_no_more_than_is_described_and_is_named_when_it_refuses(ask: Ask, field: Field) -> None:
    for told, raw in NOT_JSON.items():
        assert refusal(ask(field, raw)) == "$", told
    for told, raw in JSON.items():
        refused_at = refusal(ask(field, raw))
        if not field.permits(raw):
            assert refused_at is not None, told
            assert refused_at.startswith(field.location), (told, refused_at)


@each_field
def test_a_field_that_comes_twice_is_refused(ask: Ask, field: Field) -> None:
    name = field.name
    for again in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
        twice = b'"login","%s":"login"' % again.encode()
        assert refusal(ask(field, twice)) == "$"
