"""The log of the server: one JSON object per line, without secrets."""

from __future__ import annotations

import datetime
import re
from typing import Any

from .integrator import ACTION, Integrator, approval, approve, assert_error, rejection, respond
from .server import Server, wait_until
from .wire import MPA, Device


def lines_about(server: Server, challenge_id: str, count: int = 1) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        lines = [line for line in server.lines() if line.get("challenge_id") == challenge_id]
        return lines if len(lines) >= count else []

    lines: list[dict[str, Any]] = wait_until(found, 10, "the log has too few lines about this challenge")
    return lines


def test_every_line_is_one_json_object_with_the_common_members(server: Server) -> None:
    server.http.get('/%0a{"event":"forged"}')
    server.http.get("/%22%0d%0aforged")
    raw = [line for line in server.output().splitlines() if line.strip()]
    lines = server.lines()
    assert len(lines) == len(raw)
    for line in lines:
        assert line["service"] == "sigil"
        assert line["level"] in {"debug", "info", "warn", "warning", "error"}
        assert re.fullmatch("[a-z0-9_.]+", line["event"])
        moment = datetime.datetime.fromisoformat(line["timestamp"])
        assert moment.utcoffset() == datetime.timedelta(0)
        assert line["timestamp"].endswith("Z")
    assert not server.events("forged")


def test_the_creation_of_a_challenge_is_logged_with_its_context(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    line = next(
        line for line in lines_about(owner.server, challenge["challenge_id"]) if line["event"] == "challenge_created"
    )
    assert line["level"] == "info"
    assert line["action_type"] == ACTION["type"]
    assert line["fingerprint"].rstrip(".…") == device.fingerprint[:6]
    assert line["fingerprint"] != device.fingerprint[:6]
    assert line["key_id"] == owner.key[9:17]
    assert line["request_id"]


def test_every_final_state_is_logged(owner: Integrator, device: Device) -> None:
    ended = []
    for respond_with in (approval, rejection):
        challenge = owner.challenge(device)
        respond(owner.server, respond_with(device, challenge))
        ended.append(challenge["challenge_id"])
    challenge = owner.challenge(device)
    owner.cancel(challenge["challenge_id"])
    ended.append(challenge["challenge_id"])
    events = [lines_about(owner.server, one, 2)[-1]["event"] for one in ended]
    assert len(set(events)) == 3


def test_the_log_has_no_full_fingerprint_of_a_device(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device)
    assert_error(respond(owner.server, approval(device, challenge, tag=MPA)), 401, "INVALID_SIGNATURE")
    approve(owner.server, device, challenge)
    lines_about(owner.server, challenge["challenge_id"], 2)
    assert device.fingerprint not in owner.server.output()
    assert device.public not in owner.server.output()


def test_the_output_so_far_contains_no_secret(owner: Integrator, device: Device) -> None:
    challenge = owner.challenge(device, number_matching=True)
    for i in (1, 2, 3):
        wrong = f"{(int(challenge['match_code']) + i) % 100:02}"
        respond(owner.server, approval(device, challenge, code=wrong))
    lines_about(owner.server, challenge["challenge_id"], 2)
    assert owner.server.secrets_in_output() == []


def test_two_requests_have_two_request_ids(owner: Integrator, device: Device) -> None:
    made = [owner.challenge(device)["challenge_id"] for _ in range(2)]
    assert len({lines_about(owner.server, one)[0]["request_id"] for one in made}) == 2


def test_minimal_telemetry_writes_warnings_only(public_server: Server) -> None:
    Integrator(public_server, public_server.identity.api_key()).challenge(Device())
    assert {line["level"] for line in public_server.lines()} <= {"warn", "warning", "error"}
