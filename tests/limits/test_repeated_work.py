"""Work that an unauthenticated client repeats: each repetition is charged, and its log lines are bounded."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from sigil.device import Device
from tests.flows.backend import Backend, approval
from tests.flows.test_approvals import ApprovalRequest
from tests.support.live import DEADLINE, LiveServer

# The default rate, on one worker: 600 units at once.
REPETITIONS = 300


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=1, SIGIL_DEVICE_RATE="off", TRUSTED_PROXY_IP="127.0.0.1") as running:
        yield running


def repeat(server: LiveServer, path: str, bodies: list[dict[str, str]], address: str) -> Counter[int]:
    """The statuses of one request for each of `bodies`, from one address."""
    with httpx.Client(
        base_url=server.url,
        verify=server.tls(),
        trust_env=False,
        timeout=DEADLINE,
        headers={"X-Forwarded-For": address},
    ) as client:
        return Counter(client.post(path, json=body).status_code for body in bodies)


def pending_body(server: LiveServer, device: Device, skew: int = 0) -> dict[str, str]:
    return device.pending_body(server.identity.server_id, int(time.time()) + skew)


def test_one_signed_query_for_pending_challenges_works_once_and_its_repetition_is_a_failure(server: LiveServer) -> None:
    body = pending_body(server, Device.generate())
    statuses = repeat(server, "/device/pending", [body] * REPETITIONS, "198.51.100.1")
    assert statuses[200] == 1
    assert statuses[401] <= 70
    assert statuses[429] >= REPETITIONS - 71


def test_an_address_that_guesses_enrolment_tokens_is_limited_and_another_one_is_not(server: LiveServer) -> None:
    guesses = [{"token": f"{number:012}", "claim_id": f"{number:032x}"} for number in range(REPETITIONS)]
    statuses = repeat(server, "/enrolment/claim", guesses, "198.51.100.21")
    assert statuses[404] <= 70
    assert statuses[429] >= REPETITIONS - 70
    # The same for a client that knows the enrolment_id, which is no secret, and guesses the claim_id.
    with server.authorised() as client:
        begun = client.post("/enrolment", json={"account": "alice"}).json()
    waits = [{"enrolment_id": begun["enrolment_id"], "claim_id": f"{number:032x}"} for number in range(REPETITIONS)]
    statuses = repeat(server, "/enrolment/wait", waits, "198.51.100.22")
    assert statuses[409] <= 70
    right = {"token": begun["token"], "claim_id": "0" * 32}
    assert repeat(server, "/enrolment/claim", [right], "198.51.100.21") == {429: 1}
    # Repetitions of the device that has claimed it cost a fifth of a request each.
    assert repeat(server, "/enrolment/claim", [right] * 100, "198.51.100.23") == {200: 100}


def test_queries_of_new_keys_that_find_nothing_are_charged_but_so_little_that_many_devices_share_an_address() -> None:
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="60/min", TRUSTED_PROXY_IP="127.0.0.1") as limited:
        bodies = [pending_body(limited, Device.generate()) for _ in range(500)]
        statuses = repeat(limited, "/device/pending", bodies, "198.51.100.2")
    # 60 units at once, a fifth for each query; one unit comes back each second.
    assert statuses[200] >= 250
    assert statuses[429] >= 1
    assert set(statuses) == {200, 429}


def test_a_device_with_a_pending_challenge_is_not_charged(server: LiveServer) -> None:
    device = Device.generate()
    with Backend(server) as backend:
        backend.create_challenge(device)
    bodies = [pending_body(server, device, skew) for skew in range(-40, 40)]
    assert repeat(server, "/device/pending", bodies, "198.51.100.3") == {200: 80}
    assert repeat(server, "/device/pending", bodies[:100], "198.51.100.3")[429] > 0, "replays of a known device"


def test_one_used_answer_is_charged_when_it_is_repeated_and_logged_a_few_times(server: LiveServer) -> None:
    device = Device.generate()
    with Backend(server) as backend:
        created = backend.create_challenge(device)
    answer = approval(device, created)
    statuses = repeat(server, "/respond", [answer] * REPETITIONS, "198.51.100.4")
    assert statuses[200] == 1
    assert statuses[409] <= 70
    assert statuses[429] >= REPETITIONS - 71
    blocked = [
        line
        for line in server.log()
        if line["event"] == "replay_blocked" and line["challenge_id"] == created["challenge_id"]
    ]
    assert [line.get("count") for line in blocked] == [None, 10]


def test_late_answers_of_many_devices_behind_one_address_limit_none_of_them(server: LiveServer) -> None:
    """All members of a large approval request may be late at once."""
    answers = []
    with Backend(server) as backend:
        for _ in range(150):
            device = Device.generate()
            created = backend.create_challenge(device)
            answers.append(approval(device, created))
            backend.cancel(created)
    assert repeat(server, "/respond", answers, "198.51.100.5") == {409: 150}


def test_rejections_of_wrong_signatures_are_logged_a_few_times(server: LiveServer) -> None:
    device = Device.generate()
    with Backend(server) as backend:
        created = backend.create_challenge(device)
    forged = {**approval(device, created), "signature": approval(Device.generate(), created)["signature"]}
    for number in range(5):
        repeat(server, "/respond", [forged] * 25, f"198.51.100.{100 + number}")
    failed = [
        line
        for line in server.log()
        if line["event"] == "signature_failed" and line["challenge_id"] == created["challenge_id"]
    ]
    assert [line.get("count") for line in failed] == [None, 10, 100]
    with Backend(server) as backend:
        assert backend.status(created)["status"] == "pending"


def test_an_ipv6_site_cannot_escape_its_limit_by_changing_its_network() -> None:
    """65 536 networks of one /48 with a failure each."""
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="60/min", TRUSTED_PROXY_IP="127.0.0.1") as limited:
        unknown = {"device_public_key": "AA", "timestamp": "", "signature": ""}
        with limited.client() as client:

            def attempt(address: str) -> int:
                answer = client.post("/device/pending", json=unknown, headers={"X-Forwarded-For": address})
                return answer.status_code

            statuses = Counter(attempt(f"2001:db8:7:{number:x}::1") for number in range(300))
            assert statuses[429] >= 150
            assert attempt("2001:db8:8::1") == 400, "another site"


def test_a_used_vote_is_charged_when_it_is_repeated_and_those_of_other_members_are_not(server: LiveServer) -> None:
    members = [Device.generate() for _ in range(50)]
    with Backend(server) as backend:
        request = ApprovalRequest.create(backend, [members], 1)
        votes = [request.vote_body_of(member) for member in members]
    first, *late = votes
    assert repeat(server, "/mpa/respond", [first], "198.51.100.6") == {200: 1}
    assert repeat(server, "/mpa/respond", late, "198.51.100.6") == {409: 49}
    statuses = repeat(server, "/mpa/respond", [first] * REPETITIONS, "198.51.100.6")
    assert statuses[429] >= REPETITIONS - 71
