"""The OpenAPI description: complete, valid, and the same as the committed file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import falcon.inspect
import falcon.testing
import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from openapi_spec_validator import validate

from sigil import __version__
from sigil.app.operational import Snapshot, build
from sigil.app.services import Dependencies
from sigil.app.state import KINDS
from sigil.app.wizard import InitSnapshot, build_wizard
from sigil.attestation.policy import AttestationPolicy
from sigil.config.settings import Config
from sigil.core.evidence import Evidence
from sigil.core.webhooks.event import Enrolled, Event, EventKind
from sigil.first_boot.commitment import Session
from sigil.first_boot.vault import FileVault
from sigil.protocol.errors import Problem
from sigil.protocol.messages.webhooks import EventType
from sigil.protocol.webhook import signed_headers
from sigil.resources.first_boot import NotInitializedResource
from sigil.resources.openapi.document import document
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.store.memory import MemoryStore
from sigil.telemetry.metrics import Metrics
from sigil.webhooks import messages
from tests.support.services import SECRETS, START

PAGES = {"/", "/init", "/status", "/assets/{path:path}", "/favicon.ico"}
CHECKED_IN = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture
def app() -> Any:
    store = MemoryStore(kinds=KINDS, clock=time.time)
    metrics = Metrics(store, version=__version__, memory=None)
    # Its routes exist only where a kind is accepted.
    config = Config(attestation=AttestationPolicy(kinds=frozenset({"yubikey-piv"})))
    snapshot = Snapshot(config, SECRETS, Session(b"", 0))
    return build(snapshot, Dependencies(store=store, long_polls=LongPolls(), metrics=metrics), WorkerLifecycle(0, 1))


@pytest.fixture(scope="module")
def wizard(tmp_path_factory: pytest.TempPathFactory) -> Any:
    snapshot = InitSnapshot(Config(), None, None, loopback_only=True)
    return build_wizard(snapshot, FileVault(tmp_path_factory.mktemp("state")), WorkerLifecycle(0, 1))


def test_the_description_is_valid_openapi() -> None:
    validate(document(__version__))


def test_docs_openapi_json_is_up_to_date() -> None:
    """`make openapi` updates it."""
    assert json.loads(CHECKED_IN.read_text(encoding="utf-8")) == document(__version__)


async def test_the_server_serves_the_same_description(app: Any) -> None:
    async with falcon.testing.ASGIConductor(app) as conductor:
        assert (await conductor.simulate_get("/openapi.json")).json == document(__version__)


def test_every_route_is_described_and_nothing_else(app: Any, wizard: Any) -> None:
    routed = _routed(app) | _routed(wizard)
    described = {(path, method) for path, methods in document(__version__)["paths"].items() for method in methods}
    assert described == routed


def test_head_works_wherever_get_does(app: Any, wizard: Any) -> None:
    for built in (app, wizard):
        for route in falcon.inspect.inspect_routes(built._app):
            methods = {method.method for method in route.methods if not method.internal}
            assert ("GET" in methods) == ("HEAD" in methods), route.path


def _routed(app: Any) -> set[tuple[str, str]]:
    return {
        (route.path, method.method.lower())
        for route in falcon.inspect.inspect_routes(app._app)
        for method in route.methods
        if not method.internal and method.method not in {"HEAD", "OPTIONS"}
        # Paths that init mode rejects are described for the operational server; pages are not part of the API.
        if route.class_name != NotInitializedResource.__name__ and route.path not in PAGES
    }


def test_every_event_is_described_with_its_headers() -> None:
    events = document(__version__)["webhooks"]
    assert set(events) == set(get_args(EventType))
    for event in events.values():
        named = {header["name"] for header in event["post"]["parameters"]}
        assert named == {*signed_headers(["s" * 32], "evt_", 0, b""), "traceparent"}


@pytest.mark.parametrize("kind", EventKind)
def test_posted_events_match_the_description(kind: EventKind) -> None:
    described = document(__version__)
    reason = "wrong_code" if kind.name.startswith("ENROLMENT") else "cancelled"
    row = Event(
        kind,
        int(START),
        b"abcd",
        "login",
        0,
        0,
        b"f" * 32,
        reason,
        request_id="r",
        groups_satisfied=(0, 2),
        enrolled=Enrolled("alice", "code", b"k" * 33, b"r" * 32),
        evidence=Evidence("yubikey-piv", "hardware", "direct", int(START)),
    )
    sent = json.loads(messages.body(b"u" * 16, row))
    assert sent["type"] in described["webhooks"]
    schema = described["webhooks"][sent["type"]]["post"]["requestBody"]["content"]["application/json"]["schema"]
    checked = Draft202012Validator({"components": described["components"], **schema}, format_checker=FormatChecker())
    checked.validate(sent)
    own = "enrolment_id" if kind.name.startswith("ENROLMENT") else "action_type"
    for name in ("id", "type", "status", "timestamp", "key_id", own):
        with pytest.raises(ValidationError):
            checked.validate({member: value for member, value in sent.items() if member != name})
    with pytest.raises(ValidationError):
        checked.validate(sent | {"type": "mpa.cancelled"})


def test_every_error_code_is_one_of_the_protocol() -> None:
    codes = {kind.code for kind in _all(Problem)}
    for methods in document(__version__)["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                schema = answer["content"].get("application/json", {}).get("schema")
                if schema == {"$ref": "#/components/schemas/ErrorAnswer"}:
                    named = set(answer["description"].replace(",", " ").replace(" or ", " ").split())
                    assert named <= codes, (operation["operationId"], status)


def _all(kind: type[Problem]) -> set[type[Problem]]:
    return {kind}.union(*(_all(sub) for sub in kind.__subclasses__()))


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the description."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _schemas(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _schemas(inner)


def test_no_member_that_may_be_absent_has_a_default() -> None:
    """openapi-typescript made such members required: `fingerprint: string | null`."""
    assert [part for part in _schemas(document(__version__)["components"]) if part.get("default", ...) is None] == []
    create = document(__version__)["components"]["schemas"]["CreateChallenge"]
    assert create["required"] == ["device_public_key", "action"]
    # Requests may have null; responses leave the member out.
    assert {"type": "null"} in create["properties"]["fingerprint"]["anyOf"]
    created = document(__version__)["components"]["schemas"]["ChallengeCreated"]
    assert created["properties"]["match_code"] == {"type": "string"}


def test_an_object_without_members_is_a_map() -> None:
    """It was `Record<string, never>` in TypeScript: no value could be assigned."""
    for part in _schemas(document(__version__)):
        if part.get("type") == "object" and "title" not in part:
            assert {"properties", "additionalProperties"} & part.keys(), part
    schemas = document(__version__)["components"]["schemas"]
    params = schemas["Action"]["properties"]["params"]["anyOf"][0]
    assert params == {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/ParamValue"}}
    checked = Draft202012Validator({"components": {"schemas": schemas}, **schemas["Action"]})
    action = {"type": "a", "description": "b"}
    checked.validate(action | {"params": {"a": 1, "b": None, "c": ["x", {"y": [True]}], "d": {}}})
    for wrong in ([], 1, {"a": 0.5}, {"a": 2**53}):
        with pytest.raises(ValidationError):
            checked.validate(action | {"params": wrong})


def test_no_pattern_has_a_form_of_python_alone() -> None:
    patterns = [part["pattern"] for part in _schemas(document(__version__)) if isinstance(part.get("pattern"), str)]
    assert len(patterns) > 3
    assert not [pattern for pattern in patterns if "\\n" in pattern or "\\Z" in pattern]


_ERRORS = [
    ("post", "/challenge", 401, {}),
    ("get", "/mpa/status/{request_id}", 401, {}),
    ("post", "/respond", 415, {"Content-Type": "text/plain"}),
    ("post", "/respond", 415, {"Content-Type": "application/json", "Content-Encoding": "gzip"}),
    ("post", "/respond", 400, {"Content-Type": "application/json"}),
    ("post", "/init/api-keys", 401, {}),
    ("get", "/health", 200, {}),
]


@pytest.mark.parametrize(("method", "path", "status", "fields"), _ERRORS)
async def test_a_response_has_the_headers_that_are_described(
    app: Any, method: str, path: str, status: int, fields: dict[str, str]
) -> None:
    described = document(__version__)
    async with falcon.testing.ASGIConductor(app) as conductor:
        answer = await conductor.simulate_request(method.upper(), path.replace("{request_id}", "r"), headers=fields)
    assert answer.status_code == status
    headers = described["paths"][path][method]["responses"][str(status)]["headers"]
    for name in headers:
        header = described["components"]["headers"][name]
        value = answer.headers.get(name.lower())
        assert value is not None or not header.get("required"), name
        if value is not None:
            assert header["schema"].get("const", value) == value
    for name in ("WWW-Authenticate", "Retry-After", "Accept-Encoding", "Idempotent-Replayed"):
        assert name.lower() not in answer.headers or name in headers


async def test_a_rate_limit_is_described_with_its_header(wizard: Any) -> None:
    async with falcon.testing.ASGIConductor(wizard) as conductor:
        answer = await conductor.simulate_post("/challenge")
    assert answer.status_code == 503
    for methods in document(__version__)["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                limited = any(code in response["description"] for code in ("LIMITED", "PENDING", "OVERLOADED"))
                assert ("Retry-After" in response["headers"]) == limited, (operation["operationId"], status)
    assert int(answer.headers["retry-after"]) >= 1
