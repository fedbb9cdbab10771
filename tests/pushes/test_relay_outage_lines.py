"""The line about an unreachable relay says what to look at."""

from __future__ import annotations

import json

import pytest

from sigil.telemetry.event_log import PushEventLog

STARTING = "it may still be starting"


@pytest.mark.parametrize(
    ("reason", "starting", "level", "hint"),
    [
        ("no connection (Connection refused)", True, "warn", STARTING),
        ("no connection (Connection refused)", False, "error", "RELAY_URL"),
        ("401", True, "warn", "server_request_rejected in the relay's log has the reason"),
        ("404", False, "error", "another program or a wrong path answers there"),
    ],
)
def test_only_a_relay_without_an_answer_may_be_starting(
    capfd: pytest.CaptureFixture[str], reason: str, starting: bool, level: str, hint: str
) -> None:
    PushEventLog("http://relay:8080").opened(reason, starting)
    line = json.loads(capfd.readouterr().out)
    assert (line["level"], line["reason"], line["address"]) == (level, reason, "http://relay:8080")
    assert line["message"].endswith(hint)
