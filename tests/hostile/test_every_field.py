"""Every field of every message that the server takes, enumerated from the types, with everything that JSON can hold."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator

from sigil import __version__
from sigil.device import Device
from sigil.protocol import messages
from sigil.protocol.encoding import format_time
from sigil.resources.openapi import document
from tests.hostile.stranger import Answer, code_of
from tests.hostile.values import JSON, NOT_JSON
from tests.live import LiveServer

DESCRIPTION = document(__version__)
UNKNOWN_CHALLENGE = "11111111-1111-4111-8111-111111111111"
MARK = "the hostile value"


def taken() -> Iterator[tuple[str, type]]:
    """Paths and the messages that they take."""
    for path, methods in DESCRIPTION["paths"].items():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield path, getattr(messages, content["schema"]["$ref"].rpartition("/")[2])


@dataclass(frozen=True)
class Field:
    """One place in one message, the type that has it, and its names from the outermost."""

    path: str
    message: type
    holder: type
    names: tuple[str, ...]

    @property
    def location(self) -> str:
        return ".".join(["$", *self.names])

    def body(self, raw: bytes) -> bytes:
        """A good message with other bytes in this place."""
        message = sample(self.message)
        at = message
        for name in self.names[:-1]:
            at = at[name]
        at[self.names[-1]] = MARK
        return json.dumps(message).encode().replace(json.dumps(MARK).encode(), raw)

    def permits(self, raw: bytes) -> bool:
        """Whether it may have a value, by the description."""
        member = {"$ref": f"#/components/schemas/{self.holder.__name__}/properties/{self.names[-1]}"}
        value = json.loads(raw, parse_int=lambda digits: int(digits[:1000]))
        valid: bool = Draft202012Validator({**member, "components": DESCRIPTION["components"]}).is_valid(value)
        return valid


def fields(path: str, message: type, holder: type, *above: str) -> Iterator[Field]:
    for member in msgspec.structs.fields(holder):
        names = (*above, member.encode_name)
        yield Field(path, message, holder, names)
        for part in (member.type, *typing.get_args(member.type)):
            if inspect.isclass(part) and issubclass(part, msgspec.Struct):
                yield from fields(path, message, part, *names)


EVERY = [field for path, message in taken() for field in fields(path, message, message)]


def sample(kind: type) -> dict[str, Any]:
    """A good message of a kind, but for its signature."""
    good = {
        "device_public_key": Device.generate().wire_key,
        "action": {"type": "login", "description": "Sign in", "params": {}},
        "challenge_id": UNKNOWN_CHALLENGE,
        "timestamp": format_time(0),
        "signature": "AAAA",
    }
    members = msgspec.structs.fields(kind)
    return {member.name: good[member.name] for member in members if member.required or member.name in good}


def refusal(answer: httpx.Response) -> str | None:
    """The path of an INVALID_REQUEST; None for another error, or none."""
    if answer.status_code < 400:
        return None
    code = code_of(Answer(answer.status_code, answer.headers, answer.content))
    return answer.json()["error"]["details"]["path"] if code == "INVALID_REQUEST" else None


@pytest.fixture(scope="module")
def backend(server: LiveServer) -> Iterator[httpx.Client]:
    with server.authorised() as client:
        client.headers["Content-Type"] = "application/json"
        yield client


each_field = pytest.mark.parametrize("field", EVERY, ids=lambda field: f"{field.message.__name__}{field.location[1:]}")


def test_every_message_that_is_no_answer_is_among_them() -> None:
    public = [kind for name, kind in vars(messages).items() if not name.startswith("_") and inspect.isclass(kind)]
    own = {kind for kind in public if kind.__module__ == messages.__name__ and issubclass(kind, msgspec.Struct)}
    assert {field.message for field in EVERY} == {kind for kind in own if not issubclass(kind, messages._Answer)}


@each_field
def test_a_field_takes_no_more_than_is_described_and_is_named_when_it_refuses(
    backend: httpx.Client, field: Field
) -> None:
    for told, raw in NOT_JSON.items():
        assert refusal(backend.post(field.path, content=field.body(raw))) == "$", told
    for told, raw in JSON.items():
        refused_at = refusal(backend.post(field.path, content=field.body(raw)))
        if not field.permits(raw):
            assert refused_at is not None, told
            assert refused_at.startswith(field.location), (told, refused_at)


@each_field
def test_a_field_that_comes_twice_is_refused(backend: httpx.Client, field: Field) -> None:
    name = field.names[-1]
    for again in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
        twice = b'"login","%s":"login"' % again.encode()
        assert refusal(backend.post(field.path, content=field.body(twice))) == "$"
