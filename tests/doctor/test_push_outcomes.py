"""What `sigil doctor push` says of the pushes of a browser, and what mends them."""

from __future__ import annotations

import pytest

from sigil.console.findings.result import Result
from sigil.doctor.push_outcomes import push_results, registration_result
from sigil.protocol.messages.relay import PastPush, PushHistory, PushStatus, Registration


def result(status: PushStatus, error: str | None, key: str = "c1:challenge") -> Result:
    past = PastPush(key, "ab" * 16, "webpush", status, 1, "2026-11-30T12:00:00Z", error)
    (found,) = push_results(PushHistory("ab" * 32, Registration("registered", "webpush"), [past]))
    return found


@pytest.mark.parametrize(
    ("error", "step"),
    [
        ("http_403", "RELAY_WEBPUSH_CONTACT"),
        ("BadJwtToken", "RELAY_WEBPUSH_CONTACT"),
        ("key_not_of_relay", "RELAY_WEBPUSH_KEY"),
        ("host_not_listed", "RELAY_WEBPUSH_HOSTS"),
        ("provider_off", "RELAY_WEBPUSH_KEY_FILE"),
    ],
)
def test_a_push_that_failed_names_the_setting_to_mend(error: str, step: str) -> None:
    found = result("failed", error)
    assert found.state == "failed"
    assert step in found.next_step


def test_a_clear_to_a_browser_is_no_failure() -> None:
    assert result("failed", "not_carried", "c1:clear").state == "ok"


def test_an_ended_subscription_is_mended_by_opening_the_app() -> None:
    evicted = registration_result(Registration("token_evicted", "webpush", "http_410"), "https://relay.example.com")
    assert "the browser has ended the subscription" in evicted.text
    assert "open the app" in evicted.next_step
    assert "accepted by the browser's push service" in result("delivered", None).text
