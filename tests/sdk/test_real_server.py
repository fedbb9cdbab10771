"""Both clients against the real server, with devices that respond."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from sigil.device import Device
from sigil.protocol.encoding.canonical import canonical
from sigil.sdk import (
    Action,
    Challenge,
    Conflict,
    InvalidRequest,
    NotFound,
    RateLimited,
    ResultTimeout,
    SigilAuth,
    Unauthorized,
)
from tests.sdk.conftest import SOME_KEY, Calls, Connect, MovingClock
from tests.support.live import DEADLINE, LiveServer, wait_until

MEMBERS = {"type": "payment", "description": "Pay 12 € to Zoë", "params": {"amount": 12, "to": ["zoë", None, True]}}
ACTION = Action(**MEMBERS)
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def answer(server: LiveServer, device: Device, challenge: Challenge, *, approve: bool = True) -> None:
    if approve:
        signature = device.sign_approval(challenge.challenge_bytes, canonical(MEMBERS), challenge.match_code)
        body = device.response_body(challenge.challenge_id, "approved", signature, match_code=challenge.match_code)
    else:
        signature = device.sign_rejection(challenge.challenge_bytes, canonical(MEMBERS))
        body = device.response_body(challenge.challenge_id, "rejected", signature, reason="cancelled")
    with server.client() as http:
        response = http.post("/respond", json=body)
    assert response.status_code == 200, response.text


def test_an_approved_challenge_is_verified(server: LiveServer, auth: Calls) -> None:
    device = Device.generate()
    challenge = auth.create_challenge(device.wire_key, ACTION, fingerprint=device.fingerprint, expires_in_seconds=60)
    assert timedelta(seconds=50) < challenge.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    before = auth.get_status(challenge.challenge_id)
    assert (before.status, before.is_final, before.verified, before.action) == ("pending", False, False, ACTION)
    answer(server, device, challenge)
    after = auth.await_result(challenge.challenge_id)
    assert (after.is_final, after.verified, after.decision) == (True, True, "approved")
    assert after.verified_at is not None
    assert after.verified_at.tzinfo is UTC or after.verified_at.utcoffset() == timedelta(0)


def test_a_rejected_challenge_is_final_and_not_verified(server: LiveServer, auth: Calls) -> None:
    device = Device.generate("Ed25519")
    challenge = auth.create_challenge(device.wire_key, MEMBERS)
    answer(server, device, challenge, approve=False)
    status = auth.await_result(challenge.challenge_id)
    assert (status.status, status.verified, status.reason) == ("rejected", False, "cancelled")


def test_a_match_code_is_returned_and_must_be_typed_on_the_device(server: LiveServer, auth: Calls) -> None:
    device = Device.generate("ES256K")
    challenge = auth.create_challenge(device.wire_key, ACTION, number_matching=True)
    assert challenge.match_code is not None
    assert auth.get_status(challenge.challenge_id).match_code == challenge.match_code
    answer(server, device, challenge)
    assert auth.await_result(challenge.challenge_id).verified


def test_waiting_ends_when_the_device_responds(server: LiveServer, auth: Calls) -> None:
    device = Device.generate()
    challenge = auth.create_challenge(device.wire_key, ACTION)
    later = threading.Timer(0.5, answer, (server, device, challenge))
    later.start()
    assert auth.await_result(challenge.challenge_id, timeout=DEADLINE).verified
    later.join()


def test_a_timeout_carries_the_last_status(auth: Calls) -> None:
    challenge = auth.create_challenge(Device.generate().wire_key, ACTION)

    def waited() -> ResultTimeout | None:
        with pytest.raises(ResultTimeout) as late:
            auth.await_result(challenge.challenge_id, timeout=1.2)
        # On a machine that stalls for seconds there may be no response within the timeout.
        return late.value if late.value.last is not None else None

    late = wait_until(waited, "a response within the timeout")
    assert late.challenge_id == challenge.challenge_id
    assert late.last.status == "pending"


def test_cancelling_is_final_and_may_be_repeated(auth: Calls) -> None:
    challenge = auth.create_challenge(Device.generate().wire_key, ACTION)
    assert [auth.cancel(challenge.challenge_id).status for _ in range(2)] == ["cancelled"] * 2
    assert auth.await_result(challenge.challenge_id).status == "cancelled"


def test_an_approved_challenge_cannot_be_cancelled(server: LiveServer, auth: Calls) -> None:
    device = Device.generate()
    challenge = auth.create_challenge(device.wire_key, ACTION)
    answer(server, device, challenge)
    with pytest.raises(Conflict) as conflict:
        auth.cancel(challenge.challenge_id)
    assert (conflict.value.status, conflict.value.code) == (409, "CHALLENGE_ALREADY_USED")
    assert conflict.value.details == {"status": "verified", "decision": "approved"}


def test_one_idempotency_key_makes_one_challenge(auth: Calls) -> None:
    device = Device.generate()
    order = f"order-{device.fingerprint}"
    created = [auth.create_challenge(device.wire_key, ACTION, idempotency_key=order) for _ in range(2)]
    assert created[0] == created[1]
    other = Action("payment", "Pay 13 € to Zoë")
    with pytest.raises(Conflict) as conflict:
        auth.create_challenge(device.wire_key, other, idempotency_key=order)
    assert conflict.value.code == "IDEMPOTENCY_CONFLICT"


def test_two_calls_make_two_challenges(auth: Calls) -> None:
    device = Device.generate()
    assert len({auth.create_challenge(device.wire_key, ACTION).challenge_id for _ in range(2)}) == 2


def test_an_unknown_challenge_is_not_found(auth: Calls) -> None:
    with pytest.raises(NotFound) as missing:
        auth.get_status(UNKNOWN)
    assert (missing.value.status, missing.value.code) == (404, "CHALLENGE_NOT_FOUND")
    assert missing.value.request_id


def test_a_foreign_key_is_unauthorized(server: LiveServer, connect: Connect) -> None:
    other = connect(server.url, ca_file=server.certificate)
    with pytest.raises(Unauthorized) as refused:
        other.get_status(UNKNOWN)
    assert refused.value.code == "UNAUTHORIZED"
    assert refused.value.message == (
        "The server does not accept this API key: check SIGIL_API_KEY, or the file of SIGIL_API_KEY_FILE."
    )
    assert SOME_KEY not in str(refused.value)


def test_an_error_of_the_server_names_the_member(auth: Calls) -> None:
    with pytest.raises(InvalidRequest) as refused:
        auth.create_challenge(Device.generate().wire_key, ACTION, expires_in_seconds=301)
    assert (refused.value.status, refused.value.path) == (400, "$.expires_in_seconds")
    with pytest.raises(InvalidRequest, match=r"^device_public_key must be base64") as refused:
        auth.create_challenge("abc", ACTION)
    assert refused.value.path == "$.device_public_key"
    with pytest.raises(InvalidRequest) as refused:
        auth.create_challenge("AAAA", ACTION)
    assert refused.value.code == "INVALID_PUBLIC_KEY"


def test_a_device_with_too_many_pending_challenges_is_rate_limited(
    server: LiveServer, connect: Connect, clock: MovingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", server.api_key)
    auth = connect(server.url, ca_file=server.certificate, clock=clock.as_clock())
    device = Device.generate()
    for _ in range(5):
        auth.create_challenge(device.wire_key, ACTION)
    with pytest.raises(RateLimited) as limited:
        auth.create_challenge(device.wire_key, ACTION)
    assert limited.value.code == "TOO_MANY_PENDING"
    assert limited.value.retry_after is not None


def test_threads_share_a_client(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_API_KEY", server.api_key)
    with SigilAuth(server.url, ca_file=server.certificate) as sigil, ThreadPoolExecutor(8) as threads:
        devices = [Device.generate() for _ in range(24)]
        created = list(threads.map(lambda device: sigil.auth.create_challenge(device.wire_key, ACTION), devices))
    assert [challenge.fingerprint for challenge in created] == [device.fingerprint for device in devices]
    assert len({challenge.challenge_id for challenge in created}) == 24
