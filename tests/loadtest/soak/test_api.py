"""Requests of the load: retried only where a client may retry, and every error recorded."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import pytest

from loadtest.soak.api import Api, Record, describe
from tests.loadtest.canned_server import canned_server

ERROR = b'{"error": {"code": "%s", "message": "-"}}'


async def call(folder: Path, answers: dict[str, tuple[int, bytes]], patience: float = 60) -> Record:
    record = Record()
    with canned_server(folder, answers) as url:
        tls = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        api = Api(url, tls, "127.1.9.1", record)
        await api.call("create", "POST", "/challenge", body=b"{}", expect=frozenset({201}), patience=patience)
        await api.aclose()
    return record


async def test_an_expected_response_is_a_success(tmp_path: Path) -> None:
    record = await call(tmp_path, {"/challenge": (201, b"{}")})
    assert record.successes == {"create": 1}
    assert not record.failures
    assert not record.violations


class Recovering(dict[str, tuple[int, bytes]]):
    """The error in the first response, and 201 later."""

    def __getitem__(self, path: str) -> tuple[int, bytes]:
        return self.pop(path) if path in self else (201, b"{}")


@pytest.mark.parametrize(("status", "code"), [(503, b"OVERLOADED"), (429, b"RATE_LIMITED"), (429, b"TOO_MANY_PENDING")])
async def test_a_typed_error_is_recorded_and_retried(tmp_path: Path, status: int, code: bytes) -> None:
    record = await call(tmp_path, Recovering({"/challenge": (status, ERROR % code)}))
    assert [failure.what for failure in record.failures] == [f"{status} {code.decode()}"]
    assert (record.retries, record.successes, record.violations) == (1, {"create": 1}, [])


async def test_a_service_that_does_not_recover_is_a_violation(tmp_path: Path) -> None:
    record = await call(tmp_path, {"/challenge": (503, ERROR % b"OVERLOADED")}, patience=0)
    assert [violation.kind for violation in record.violations] == ["unexpected response"]
    assert "the last error was 503 OVERLOADED" in record.violations[0].text


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, ERROR % b"INTERNAL"), (503, b"<html>"), (401, ERROR % b"UNAUTHORIZED"), (404, ERROR % b"NOT_FOUND")],
)
async def test_any_other_response_is_a_violation_at_once(tmp_path: Path, status: int, body: bytes) -> None:
    record = await call(tmp_path, {"/challenge": (status, body)})
    assert record.retries == 0
    assert len(record.violations) == 1


def test_a_malformed_response_is_no_error_of_a_fault() -> None:
    assert describe(httpx.ReadError("reset")) == "ReadError"
    assert describe(httpx.RemoteProtocolError("Server disconnected without sending a response.")) is not None
    assert describe(httpx.RemoteProtocolError("illegal status line")) is None
