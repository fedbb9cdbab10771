"""Every error has a public code and message without its cause (docs/protocol.md, section 4)."""

from __future__ import annotations

import inspect

import pytest

from sigil.protocol import errors

# The codes of the protocol, except those of features that the server does not have yet.
CODES = {
    *("INVALID_REQUEST", "INVALID_PUBLIC_KEY", "FINGERPRINT_MISMATCH", "UNAUTHORIZED", "INVALID_SIGNATURE"),
    *("CHALLENGE_NOT_FOUND", "NOT_FOUND", "METHOD_NOT_ALLOWED", "CHALLENGE_ALREADY_USED", "IDEMPOTENCY_CONFLICT"),
    *("CHALLENGE_EXPIRED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "TOO_MANY_PENDING", "RATE_LIMITED"),
    *("MPA_NOT_FOUND", "NOT_ELIGIBLE", "ALREADY_ANSWERED", "MPA_CLOSED", "REQUEST_ID_CONFLICT", "MPA_EXPIRED"),
    *("NOT_INITIALIZED", "OVERLOADED", "INTERNAL", "UPGRADE_REQUIRED"),
}
PROBLEMS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.Problem)]


def test_every_code_of_the_protocol_has_its_error() -> None:
    assert {problem.code for problem in PROBLEMS} >= CODES


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.__name__)
def test_every_error_has_a_default_message(problem: type[errors.Problem]) -> None:
    plain = problem()
    assert plain.message == str(plain) == problem.summary
    assert plain.message.endswith(".")
    assert not plain.details


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.__name__)
def test_a_cause_is_kept_for_the_log_and_out_of_the_message(problem: type[errors.Problem]) -> None:
    with pytest.raises(problem) as raised:
        raise problem from ValueError("the secret cause")
    assert "secret" not in str(raised.value) + raised.value.message + repr(raised.value.details)
    assert str(raised.value.__cause__) == "the secret cause"


@pytest.mark.parametrize(("given", "expected"), [(-5, 1), (0, 1), (1, 1), (900, 900)])
def test_retry_after_is_a_positive_number_of_seconds(given: int, expected: int) -> None:
    assert errors.RateLimited(retry_after=given).retry_after == expected
    assert errors.Overloaded().retry_after == 1


def test_details_are_those_of_the_constructor() -> None:
    assert errors.InvalidRequest("m", path="$.x").details == {"path": "$.x"}
    assert errors.ChallengeAlreadyUsed(status="verified", decision="approved").details == {
        "status": "verified",
        "decision": "approved",
    }
