"""Every field of every request message, enumerated from the types, with every kind of JSON value."""

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
from sigil.protocol.action import Action
from sigil.protocol.encoding.text import format_time
from sigil.protocol.messages import approvals as approval_messages
from sigil.protocol.messages import attestation as attestation_messages
from sigil.protocol.messages import challenges as messages
from sigil.protocol.messages import enrolment as enrolment_messages
from sigil.protocol.messages import first_boot as first_boot_messages
from sigil.protocol.messages.approvals import WantedGroup, WantedMember
from sigil.protocol.messages.base import Answer as Answered
from sigil.resources.openapi.document import document
from tests.hostile.json_values import INVALID_JSON, VALID_JSON
from tests.hostile.raw_client import RawResponse, error_code
from tests.hostile.servers import Servers

DESCRIPTION = document(__version__)
UNKNOWN_CHALLENGE = "11111111-1111-4111-8111-111111111111"
MARK = "the hostile value"
_JSON_BODY = {"Content-Type": "application/json"}


MESSAGES = {
    name: kind
    for module in (messages, approval_messages, first_boot_messages, enrolment_messages, attestation_messages)
    for name, kind in vars(module).items()
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct) and kind.__module__ == module.__name__
}


STATEMENTS = frozenset(typing.get_args(attestation_messages.Statement))


def request_messages() -> Iterator[tuple[str, type]]:
    """The paths with a request body, and the types of their messages."""
    for path, methods in DESCRIPTION["paths"].items():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield path, MESSAGES[content["schema"]["$ref"].rpartition("/")[2]]


@dataclass(frozen=True)
class Field:
    """One field in one message: the type that owns it, and its path of names; 0 is the first item of a list."""

    path: str
    message: type
    owner: type
    names: tuple[str | int, ...]

    @property
    def location(self) -> str:
        return "$" + "".join("[...]" if name == 0 else f".{name}" for name in self.names)

    @property
    def name(self) -> str:
        return str(self.names[-1])

    def body(self, raw: bytes) -> bytes:
        """A valid message with `raw` as the value of this field."""
        message = sample(self.message)
        at: Any = message
        for name in self.names[:-1]:
            at = at[name]
        at[self.name] = MARK
        return json.dumps(message).encode().replace(json.dumps(MARK).encode(), raw)

    def permits(self, raw: bytes) -> bool:
        """Whether the OpenAPI document permits the value."""
        member = {"$ref": f"#/components/schemas/{self.owner.__name__}/properties/{self.name}"}
        value = json.loads(raw, parse_int=lambda digits: int(digits[:1000]))
        valid: bool = Draft202012Validator({**member, "components": DESCRIPTION["components"]}).is_valid(value)
        return valid


def parts(kind: Any, *at: str | int) -> Iterator[tuple[type, tuple[str | int, ...]]]:
    """The message types inside a type, and their paths in its value. Not those of a statement, whose members depend on
    its kind (tests/attestation)."""
    if kind == attestation_messages.Statement or kind in STATEMENTS:
        return
    if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
        yield kind, at
    steps = (0,) if typing.get_origin(kind) is list else ()
    for part in (*typing.get_args(kind), *([kind.__origin__] if hasattr(kind, "__metadata__") else [])):
        yield from parts(part, *at, *steps)


def fields(path: str, message: type, owner: type, *above: str | int) -> Iterator[Field]:
    for member in msgspec.structs.fields(owner):
        names = (*above, member.encode_name)
        yield Field(path, message, owner, names)
        for part, at in parts(member.type, *names):
            yield from fields(path, message, part, *at)


FIELDS = [field for path, message in request_messages() for field in fields(path, message, message)]


def sample(kind: type) -> dict[str, Any]:
    """A valid message of a type, except for its signature."""
    valid = {
        "device_public_key": Device.generate().wire_key,
        "action": {"type": "login", "description": "Sign in", "params": {}},
        "challenge_id": UNKNOWN_CHALLENGE,
        "timestamp": format_time(0),
        "signature": "AAAA",
        "mpa_id": UNKNOWN_CHALLENGE,
        "decision": "approved",
        "required": 1,
        "words": "abandon",
        "account": "alice",
        "attestation": {"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"]},
        "claim_id": "0" * 32,
        "code": "000000",
        "device_credential": "sdc1",
        "enrolment_id": UNKNOWN_CHALLENGE,
        "token": "0" * 12,
        "groups": [{"members": [{"device_public_key": Device.generate().wire_key}]}],
    }
    members = msgspec.structs.fields(kind)
    return {member.name: valid[member.name] for member in members if member.required or member.name in valid}


def rejected_path(answer: httpx.Response) -> str | None:
    """The path that an INVALID_REQUEST names; None for other errors and for success."""
    if answer.status_code < 400:
        return None
    code = error_code(RawResponse(answer.status_code, answer.headers, answer.content))
    # The index in a list is not always known.
    return answer.json()["error"]["details"]["path"].replace("[0]", "[...]") if code == "INVALID_REQUEST" else None


PostField = Callable[[Field, bytes], httpx.Response]


@pytest.fixture(scope="module")
def post_field(servers: Servers) -> Iterator[PostField]:
    """Sends the field's message, with `raw` as its value, to the server for its path."""
    with ExitStack() as stack:

        @cache
        def client(path: str) -> httpx.Client:
            server, token = servers.for_path(path)
            return stack.enter_context(server.client(headers={"Authorization": f"Bearer {token}", **_JSON_BODY}))

        yield lambda field, raw: client(field.path).post(field.path, content=field.body(raw))


each_field = pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field.message.__name__}{field.location[1:]}")


def test_every_request_message_is_tested() -> None:
    public = {kind for name, kind in MESSAGES.items() if not name.startswith("_") and not issubclass(kind, Answered)}
    request_types = {field.message for field in FIELDS}
    # ActionContext is part of a payload, InitState is a response with members that may be null, Nothing has no fields.
    public -= {approval_messages.ActionContext, first_boot_messages.InitState, first_boot_messages.Nothing}
    # An offer is signed by the server.
    public -= {enrolment_messages.Offer, enrolment_messages.OfferedAttestation, *STATEMENTS}
    assert request_types | {field.owner for field in FIELDS} == public | {Action}
    assert request_types == public - {WantedGroup, WantedMember}


@each_field
def test_a_field_accepts_only_documented_values_and_an_error_names_it(post_field: PostField, field: Field) -> None:
    for case, raw in INVALID_JSON.items():
        assert rejected_path(post_field(field, raw)) == "$", case
    for case, raw in VALID_JSON.items():
        path = rejected_path(post_field(field, raw))
        if not field.permits(raw):
            assert path is not None, case
            assert path.startswith(field.location), (case, path)


@each_field
def test_a_duplicate_field_is_rejected(post_field: PostField, field: Field) -> None:
    name = field.name
    for again in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
        value = b'"login","%s":"login"' % again.encode()
        assert rejected_path(post_field(field, value)) == "$"
