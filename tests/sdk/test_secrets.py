"""API keys, signatures and match codes do not appear in printed or logged text."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from sigil.sdk import (
    AnswerUnusable,
    Challenge,
    ConfigurationError,
    Conflict,
    InvalidRequest,
    ResultTimeout,
    SigilAuth,
    SigilError,
)
from sigil.sdk.api_key import ApiKey
from sigil.sdk.errors import RateLimited
from tests.sdk.conftest import SOME_KEY, Calls
from tests.sdk.faults import FaultServer, answer, cut, refuse
from tests.sdk.test_faults import ACTION, ID, status_body

CODE = "73"
SIGNATURE = base64.b64encode(b"s" * 64).decode()


def created_body(**members: Any) -> bytes:
    body = {name: value for name, value in json.loads(status_body()).items() if name not in {"status", "push"}}
    body |= {"challenge_bytes": "AAAA", "nonce": "AAAA", "server_signature": SIGNATURE, "match_code": CODE}
    return json.dumps(body | members).encode()


def shown(error: BaseException) -> str:
    """The text of the error and its tracebacks, with the local variables of the code under test."""
    text = [str(error), repr(error)]
    seen: BaseException | None = error
    while seen is not None:
        frames = traceback.TracebackException.from_exception(seen, capture_locals=True)
        text += [repr(frame.locals) for frame in frames.stack if "/tests/" not in frame.filename]
        seen = seen.__cause__ or seen.__context__
    return "\n".join(text)


ODD = {
    "wrong form": answer(201, created_body(expires_at="soon")),
    "refused, with the request sent back": refuse(409, message=f"GET / Authorization: Bearer {SOME_KEY}"),
    "not HTTP": lambda handler: handler.wfile.write(handler.headers["Authorization"].encode() + b"\r\n\r\n"),
    "cut": cut,
    "redirect": answer(302, Location="https://elsewhere.example.com"),
    "large": answer(200, created_body() * 9000),
}


@pytest.mark.parametrize("step", ODD.values(), ids=ODD)
def test_no_error_shows_a_secret_even_with_local_variables(faulty: FaultServer, scripted: Calls, step: Any) -> None:
    faulty.script = [step] * 5
    with pytest.raises(SigilError) as failed:
        scripted.create_challenge("AAAA", ACTION)
    text = shown(failed.value)
    for secret in (SOME_KEY, SOME_KEY[9:], SIGNATURE, f'"match_code": "{CODE}"', f"match_code='{CODE}'"):
        assert secret not in text
    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None


def test_a_timeout_does_not_print_the_code_of_the_last_status(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [answer(200, status_body(match_code=CODE))]
    with pytest.raises(ResultTimeout) as late:
        scripted.await_result(ID, timeout=0)
    assert late.value.last is not None
    assert late.value.last.match_code == CODE
    assert f"'{CODE}'" not in shown(late.value)


@pytest.mark.parametrize("arguments", [{"api_key": SOME_KEY}, {"service_url": SOME_KEY}, {"options": [SOME_KEY]}])
def test_a_key_passed_as_an_argument_is_not_kept_in_the_frames_of_the_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SigilAuth(**arguments)
    assert SOME_KEY not in shown(refused.value)


def test_a_key_of_the_wrong_form_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", SOME_KEY[:-2])
    with pytest.raises(ConfigurationError) as refused:
        SigilAuth("https://auth.example.com")
    assert SOME_KEY[:-2] not in shown(refused.value)


def test_results_print_neither_codes_nor_signatures(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [answer(201, created_body())]
    created: Challenge = scripted.create_challenge("AAAA", ACTION)
    assert (created.match_code, created.server_signature) == (CODE, b"s" * 64)
    assert created.expires_at == datetime(2030, 1, 1, tzinfo=UTC)
    for text in (repr(created), str(created), pprint.pformat(created)):
        assert CODE not in text
        assert "ssss" not in text
        assert "nonce" not in text


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """The logs of all libraries at every level, independent of the levels that other tests set."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    loggers = [logging.getLogger(name) for name in ("", "httpx", "httpcore")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(handler)
    yield text
    loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


def test_nothing_secret_is_logged(faulty: FaultServer, scripted: Calls, logged: io.StringIO) -> None:
    faulty.script = [refuse(503), answer(201, created_body())]
    scripted.create_challenge("AAAA", ACTION)
    assert logged.getvalue()
    for secret in (SOME_KEY, SIGNATURE, "match_code"):
        assert secret not in logged.getvalue()


def test_the_key_is_hidden_and_cannot_be_copied() -> None:
    key = ApiKey(SOME_KEY)
    assert SOME_KEY not in f"{key} {key!r} {[key]}"
    for make_copy in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            make_copy(key)


def test_a_status_has_no_truth_value(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [answer(200, status_body(status="rejected"))]
    status = scripted.get_status(ID)
    with pytest.raises(TypeError, match="verified"):
        assert status


def test_results_are_frozen(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [answer(200, status_body())]
    status = scripted.get_status(ID)
    with pytest.raises(AttributeError):
        status.status = "verified"  # type: ignore[misc]


def test_errors_are_one_tree_and_can_be_pickled() -> None:
    error = RateLimited("Slow down.", code="RATE_LIMITED", status=429, details={"a": 1}, request_id="x")
    error.retry_after = 3
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.retry_after, again.details) == (str(error), 3, {"a": 1})
    assert str(error) == "Slow down. [RATE_LIMITED, HTTP 429, x]"
    assert all(issubclass(kind, SigilError) for kind in (AnswerUnusable, Conflict, InvalidRequest, ResultTimeout))


def test_an_untrusted_message_is_one_line(faulty: FaultServer, scripted: Calls) -> None:
    faulty.script = [refuse(409, code="Not A Code\n", message="a\r\nlevel=error \x1b[31m" + "x" * 5000)]
    with pytest.raises(Conflict) as conflict:
        scripted.get_status(ID)
    assert conflict.value.code == "HTTP_409"
    assert str(conflict.value).isprintable()
    assert len(str(conflict.value)) < 400
