"""Data made from the description, good and bad, for every operation: no answer is outside of the description."""

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
from sigil.protocol.encoding import format_time
from tests.hostile.offering import Offering
from tests.hostile.stranger import Answer, code_of
from tests.support.live import DEADLINE, LiveServer

api = schemathesis.openapi.from_path(Path(__file__).parents[2] / "docs" / "openapi.json")


@pytest.fixture(scope="session")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture(scope="session")
def cancelled(server: LiveServer) -> str:
    """A challenge whose status nobody has to wait for."""
    with server.authorised() as backend:
        action = {"type": "login", "description": "Sign in"}
        asked = backend.post("/challenge", json={"device_public_key": Device.generate().wire_key, "action": action})
        challenge_id: str = asked.json()["challenge_id"]
        assert backend.delete(f"/v1/auth/challenge/{challenge_id}").status_code == 200
    return challenge_id


def complete(case: schemathesis.Case, challenge_id: str) -> None:
    """Puts into good data what no description can say: a key that is one, a challenge that is there, the time."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    known = {"challenge_id": challenge_id, "device_public_key": Device.generate().wire_key, "fingerprint": None}
    known["timestamp"] = format_time(int(time.time()))
    if isinstance(case.body, dict):
        case.body = {name: known.get(name, value) for name, value in case.body.items()}
    case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}


def has_the_form_of_section_4(_ctx: CheckContext, answer: schemathesis.Response, case: schemathesis.Case) -> None:
    """Every error, also of methods that are not described."""
    if answer.status_code >= 400:
        headers = {name: values[0] for name, values in answer.headers.items()}
        code = code_of(Answer(answer.status_code, headers, answer.content))
        described = case.operation.definition.raw["responses"].get(str(answer.status_code))
        codes = described["description"] if described else "METHOD_NOT_ALLOWED"
        assert code in codes.replace(",", " ").split()


def test_what_is_served_is_the_description_that_is_tested(server: LiveServer) -> None:
    with server.client() as client:
        assert client.get("/openapi.json").json() == api.raw_schema


@api.parametrize()
@settings(max_examples=60)
def test_every_operation_answers_as_described(
    case: schemathesis.Case, offers: Offering, http: requests.Session, cancelled: str
) -> None:
    server, token = offers.of(case.operation.path)
    complete(case, cancelled)
    transport: dict[str, Any] = {"session": http, "verify": str(server.certificate), "timeout": DEADLINE}
    # Whoever guesses a token of the wizard is soon not heard any more: 429 instead of 401.
    limited = [ignored_auth] if case.operation.path.startswith("/init/") else []
    # Not every good datum is acceptable: keys, signatures and texts have rules that no schema can say.
    case.call_and_validate(
        server.url,
        headers={"Authorization": f"Bearer {token}"},
        **transport,
        excluded_checks=[positive_data_acceptance, *limited],
        additional_checks=[has_the_form_of_section_4],
    )
