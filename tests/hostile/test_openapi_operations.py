"""Valid and invalid data, generated from the OpenAPI document for every operation: every response is documented."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import settings
from schemathesis.checks import CheckContext
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from sigil.device import Device
from sigil.protocol.encoding.text import format_time
from tests.hostile.raw_client import RawResponse, error_code
from tests.hostile.servers import Servers
from tests.support.live import DEADLINE, LiveServer

api = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "openapi.json")


@pytest.fixture(scope="session")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="session")
def cancelled_challenge(server: LiveServer) -> str:
    """A cancelled challenge, for whose status no request waits."""
    with server.authorised() as backend:
        action = {"type": "login", "description": "Sign in"}
        created = backend.post("/challenge", json={"device_public_key": Device.generate().wire_key, "action": action})
        challenge_id: str = created.json()["challenge_id"]
        assert backend.delete(f"/v1/auth/challenge/{challenge_id}").status_code == 200
    return challenge_id


def fill_in_valid_values(case: schemathesis.Case, challenge_id: str) -> None:
    """Replaces values that a schema cannot describe: valid keys, an existing challenge, the current time."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    valid = {"challenge_id": challenge_id, "device_public_key": Device.generate().wire_key, "fingerprint": None}
    valid["timestamp"] = format_time(int(time.time()))
    if isinstance(case.body, dict):
        case.body = {name: valid.get(name, value) for name, value in case.body.items()}
    case.path_parameters = {name: valid.get(name, value) for name, value in case.path_parameters.items()}


def has_the_error_form_of_section_4(_ctx: CheckContext, answer: schemathesis.Response, case: schemathesis.Case) -> None:
    """Checks the form of every error, also of methods that are not documented."""
    if answer.status_code >= 400:
        headers = {name: values[0] for name, values in answer.headers.items()}
        code = error_code(RawResponse(answer.status_code, headers, answer.content))
        described = case.operation.definition.raw["responses"].get(str(answer.status_code))
        codes = described["description"] if described else "METHOD_NOT_ALLOWED"
        assert code in codes.replace(",", " ").split()


def test_the_server_serves_the_tested_document(server: LiveServer) -> None:
    with server.client() as client:
        assert client.get("/openapi.json").json() == api.raw_schema


@api.parametrize()
@settings(max_examples=60)
def test_every_operation_responds_as_documented(
    case: schemathesis.Case, servers: Servers, http: requests.Session, cancelled_challenge: str
) -> None:
    server, token = servers.for_path(case.operation.path)
    fill_in_valid_values(case, cancelled_challenge)
    transport: dict[str, Any] = {"session": http, "verify": str(server.certificate), "timeout": DEADLINE}
    # Wrong tokens of the wizard are soon rate limited: 429 instead of 401.
    excluded = [ignored_auth] if case.operation.path.startswith("/init/") else []
    # Valid data may still be rejected: keys, signatures and texts have rules that a schema cannot describe.
    case.call_and_validate(
        server.url,
        headers={"Authorization": f"Bearer {token}"},
        **transport,
        excluded_checks=[positive_data_acceptance, *excluded],
        additional_checks=[has_the_error_form_of_section_4],
    )
