"""Enrolment (docs/protocol.md, 5.5): the whole of it, the order of its checks, and who sees which part."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .enrolling import COMPLETION, CONSENT, Backend, Enrolling, other_code, read_link, sha256
from .integrator import approve, assert_error, assert_ok, post
from .server import Server
from .wire import SUITES, Device, pictogram_of, unix


@pytest.fixture
def backend(server: Server) -> Backend:
    return Backend(server, server.identity.api_key())


@pytest.fixture
def begun(backend: Backend) -> dict[str, Any]:
    return backend.begin()


@pytest.fixture
def enrolling(server: Server, begun: dict[str, Any]) -> Enrolling:
    """A device that has scanned the link of `begun`."""
    return Enrolling.scan(server, begun["uri"])


def confirming(backend: Backend) -> tuple[str, Enrolling]:
    begun = backend.begin()
    device = Enrolling.scan(backend.server, begun["uri"])
    device.claim()
    device.complete()
    return begun["enrolment_id"], device


@pytest.mark.parametrize("suite", SUITES)
def test_a_device_is_enrolled_and_can_then_be_challenged(backend: Backend, suite: str) -> None:
    before = int(time.time())
    begun = backend.begin("Zoë 🙂")
    assert set(begun) == {"enrolment_id", "token", "uri", "expires_at"}
    assert uuid.UUID(begun["enrolment_id"]).version == 4
    assert before + 600 <= unix(begun["expires_at"]) <= time.time() + 601
    base_url, server_id, token = read_link(begun["uri"])
    assert (server_id, token) == (backend.server.identity.server_id, begun["token"])
    assert base_url == f"https://127.0.0.1:{backend.server.port}"

    common = {
        "enrolment_id": begun["enrolment_id"],
        "account": "Zoë 🙂",
        "confirm": "code",
        "expires_at": begun["expires_at"],
    }
    assert backend.enrolment(begun["enrolment_id"]) == {**common, "status": "pending"}
    device = Enrolling.scan(backend.server, begun["uri"], Device(suite))
    offer = device.claim()
    assert (offer["account"], offer["confirm"], offer["replaces"]) == ("Zoë 🙂", "code", "")
    assert (offer["enrolment_id"], offer["expires_at"]) == (begun["enrolment_id"], begun["expires_at"])
    assert offer["attestation"] == {"kinds": [], "min_level": ""}
    assert backend.enrolment(begun["enrolment_id"]) == {**common, "status": "claimed"}

    assert device.complete()["status"] == "confirming"
    emoji, names = pictogram_of(device.device.fingerprint)
    shown = backend.enrolment(begun["enrolment_id"])
    assert shown.pop("session_pictogram_speakable")
    common |= {
        "fingerprint": device.device.fingerprint,
        "pictogram": emoji,
        "pictogram_speakable": names,
        "session_pictogram": device.pictogram,
    }
    assert shown == {**common, "status": "confirming"}
    assert device.wait().json() == {"status": "confirming"}

    enrolled = assert_ok(backend.confirm(begun["enrolment_id"], device.code))
    assert unix(begun["expires_at"]) >= unix(enrolled.pop("enrolled_at")) >= before
    assert enrolled.pop("session_pictogram_speakable")
    assert enrolled == {**common, "status": "enrolled", "device_public_key": device.device.public}
    assert device.wait(25).json() == {"status": "enrolled"}
    approve(backend.server, device.device, backend.challenge(device.device))


def test_responses_are_not_stored(backend: Backend, begun: dict[str, Any], enrolling: Enrolling) -> None:
    claimed = enrolling.send_claim()
    for answer in (claimed, backend.get(begun["enrolment_id"]), backend.call("/enrolment", {"account": "a"})):
        assert answer.headers["cache-control"] == "no-store"


# Begin


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "$.account"),
        ({"account": ""}, "$.account"),
        ({"account": "a" * 129}, "$.account"),
        ({"account": "a\nb"}, "$.account"),
        ({"account": "   "}, "$.account"),
        ({"account": 7}, "$.account"),
        ({"account": "a", "confirm": "pin"}, "$.confirm"),
        ({"account": "a", "confirm": "none"}, "$.confirm"),
        ({"account": "a", "expires_in_seconds": 59}, "$.expires_in_seconds"),
        ({"account": "a", "expires_in_seconds": 901}, "$.expires_in_seconds"),
        ({"account": "a", "min_level": "high"}, "$.min_level"),
        ({"account": "a", "min_level": "hardware"}, "$.min_level"),
        ({"account": "a", "replaces": "x"}, "$.replaces"),
    ],
)
def test_a_malformed_begin_names_its_member(backend: Backend, body: dict[str, Any], path: str) -> None:
    assert_error(backend.call("/enrolment", body), 400, "INVALID_REQUEST", path)


def test_a_begin_needs_a_key_and_no_key_of_the_server_can_be_replaced(backend: Backend) -> None:
    assert_error(post(backend.server, "/enrolment", {"account": "a"}), 401, "UNAUTHORIZED")
    for key in backend.server.identity.public_keys.values():
        assert_error(backend.call("/enrolment", {"account": "a", "replaces": key}), 400, "INVALID_PUBLIC_KEY")


def test_an_idempotency_key_gives_the_same_token(backend: Backend) -> None:
    first = backend.call("/enrolment", {"account": "a"}, **{"Idempotency-Key": "k"})
    again = backend.call("/enrolment", {"account": "a"}, **{"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotent-replayed"] == "true"
    assert_error(backend.call("/enrolment", {"account": "b"}, **{"Idempotency-Key": "k"}), 409, "IDEMPOTENCY_CONFLICT")


def test_a_server_with_a_public_url_names_it_in_the_link(public_server: Server) -> None:
    backend = Backend(public_server, public_server.identity.api_key("sgk_test_"))
    assert read_link(backend.begin()["uri"])[0] == "https://sigil.example.com"


# Claim


def test_a_token_has_one_spelling_on_the_wire(server: Server, enrolling: Enrolling) -> None:
    token = enrolling.token
    for other in (token.lower(), f"{token[:4]}-{token[4:8]}-{token[8:]}", f" {token}", token + "\n", token[:-1], ""):
        if other != token:
            answer = post(server, "/enrolment/claim", {"token": other, "claim_id": enrolling.claim_id})
            assert_error(answer, 400, "INVALID_REQUEST", "$.token")
    for claim_id in ("ab" * 15, "AB" * 16, "xy" * 16, ""):
        answer = post(server, "/enrolment/claim", {"token": token, "claim_id": claim_id})
        assert_error(answer, 400, "INVALID_REQUEST", "$.claim_id")
    enrolling.claim()


def test_a_wrong_token_does_not_exist(enrolling: Enrolling) -> None:
    last = "0" if enrolling.token[-1] != "0" else "1"
    enrolling.token = enrolling.token[:-1] + last
    assert_error(enrolling.send_claim(), 404, "ENROLMENT_NOT_FOUND")


def test_the_first_claim_wins_and_gets_the_same_answer_again(server: Server, enrolling: Enrolling) -> None:
    first = enrolling.send_claim()
    assert_ok(first)
    thief = Enrolling(server, enrolling.server_id, enrolling.token)
    assert_error(thief.send_claim(), 409, "ENROLMENT_CLAIMED")
    assert enrolling.send_claim().content == first.content


def test_of_many_claims_at_once_one_wins(server: Server, begun: dict[str, Any]) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: Enrolling.scan(server, begun["uri"]).send_claim(), range(24)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 23
    assert {a.json()["error"]["code"] for a in answers if a.status_code == 409} == {"ENROLMENT_CLAIMED"}


def test_each_claim_of_each_enrolment_has_its_own_nonce_and_commitment(backend: Backend) -> None:
    offers = [Enrolling.scan(backend.server, backend.begin()["uri"]).claim() for _ in range(5)]
    for member in ("nonce", "commitment", "token_sha256", "enrolment_id"):
        assert len({offer[member] for offer in offers}) == 5
    assert len({offer[member] for offer in offers for member in ("nonce", "commitment")}) == 10


# Complete


def test_a_completion_is_repeated_with_the_same_answer(enrolling: Enrolling) -> None:
    enrolling.claim()
    body = enrolling.completion()
    first, again = enrolling.send_completion(body), enrolling.send_completion(body)
    assert assert_ok(first) == assert_ok(again)


def test_another_key_is_rejected_once_the_code_is_known(server: Server, enrolling: Enrolling) -> None:
    """Else a client could try keys until the code is the one that it needs."""
    enrolling.claim()
    revealed = enrolling.complete()["sas_nonce"]
    enrolling.device = Device()
    answer = enrolling.send_completion(enrolling.completion())
    assert assert_error(answer, 409, "ENROLMENT_CLOSED") == {"status": "confirming"}
    assert revealed not in answer.text


def test_every_wrong_signature_is_rejected_and_changes_nothing(backend: Backend, enrolling: Enrolling) -> None:
    enrolling.claim()
    digest, device = enrolling.digest(), enrolling.device
    other_offer = sha256(b"{}") + digest[32:]
    other_key = digest[:32] + sha256(Device().key.public) + digest[64:]
    attested = digest[:64] + sha256(b"{}")
    wrong = [device.sign(COMPLETION + other) for other in (other_offer, other_key, attested, b"")]
    wrong += [device.sign(CONSENT + digest), device.sign(digest), Device().sign(COMPLETION + digest)]
    for signature in wrong:
        answer = enrolling.send_completion(enrolling.completion(signature=signature))
        assert_error(answer, 401, "INVALID_SIGNATURE")
        assert "sas_nonce" not in answer.text
    assert backend.enrolment(enrolling.offer["enrolment_id"])["status"] == "claimed"
    assert enrolling.complete()["status"] == "confirming"


def test_a_completion_is_of_its_claim(backend: Backend, enrolling: Enrolling) -> None:
    enrolling.claim()
    other = enrolling.completion(claim_id="0" * 32)
    assert_error(enrolling.send_completion(other), 409, "ENROLMENT_CLAIMED")
    unknown = enrolling.completion(enrolment_id=str(uuid.uuid4()))
    assert_error(enrolling.send_completion(unknown), 404, "ENROLMENT_NOT_FOUND")
    unclaimed = enrolling.completion(enrolment_id=backend.begin()["enrolment_id"])
    assert_error(enrolling.send_completion(unclaimed), 409, "ENROLMENT_CLAIMED")
    assert_error(enrolling.wait(claim_id="0" * 32), 409, "ENROLMENT_CLAIMED")
    assert_error(enrolling.wait(enrolment_id=str(uuid.uuid4())), 404, "ENROLMENT_NOT_FOUND")


def test_no_key_of_the_server_and_no_malformed_key_is_enrolled(server: Server, enrolling: Enrolling) -> None:
    enrolling.claim()
    for suite, key in server.identity.keys.items():
        enrolling.device = Device(suite, key)
        assert_error(enrolling.send_completion(enrolling.completion()), 400, "INVALID_PUBLIC_KEY")
    body = enrolling.completion(device_public_key="AAAA")
    assert_error(enrolling.send_completion(body), 400, "INVALID_PUBLIC_KEY")


def test_an_attestation_that_the_offer_does_not_name_is_rejected(enrolling: Enrolling) -> None:
    enrolling.claim()
    body = enrolling.completion({"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"]})
    assert assert_error(enrolling.send_completion(body), 403, "ATTESTATION_INVALID") == {"reason": "kind"}


@pytest.mark.parametrize(
    ("attestation", "path"),
    [
        ({}, "$.attestation"),
        ({"kind": "tpm"}, "$.attestation.kind"),
        ({"kind": "yubikey-piv"}, "$.attestation.x5c"),
        ({"kind": "yubikey-piv", "x5c": ["AAAA"]}, "$.attestation.x5c"),
        ({"kind": "yubikey-piv", "x5c": ["AAAA"] * 11}, "$.attestation.x5c"),
        ({"kind": "yubikey-piv", "x5c": ["AAAA", "A" * 10928]}, "$.attestation.x5c"),
        ({"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"], "witness": False}, "$.attestation.witness"),
        ({"kind": "android-key", "x5c": ["AAAA", "AAAA"]}, "$.attestation.witness"),
        ({"kind": "android-key", "x5c": ["AAAA", "AAAA"], "witness": None}, "$.attestation.witness"),
        ({"kind": "apple-appattest"}, "$.attestation.object"),
        ({"kind": "apple-assertion", "object": "AAAA"}, "$.attestation"),
    ],
)
def test_a_malformed_attestation_names_its_member(enrolling: Enrolling, attestation: dict[str, Any], path: str) -> None:
    enrolling.offer = {"enrolment_id": str(uuid.uuid4())}
    body = {**enrolling.completion(), "attestation": attestation}
    assert_error(enrolling.send_completion(body), 400, "INVALID_REQUEST", path)


@pytest.mark.parametrize("path", ["/enrolment/claim", "/enrolment/complete", "/enrolment/wait"])
def test_devices_may_send_no_unknown_member(enrolling: Enrolling, path: str) -> None:
    enrolling.offer = {"enrolment_id": str(uuid.uuid4())}
    bodies = {
        "/enrolment/claim": {"token": enrolling.token, "claim_id": enrolling.claim_id},
        "/enrolment/complete": enrolling.completion(),
        "/enrolment/wait": {"enrolment_id": str(uuid.uuid4()), "claim_id": enrolling.claim_id},
    }
    assert_error(post(enrolling.server, path, bodies[path] | {"more": 1}), 400, "INVALID_REQUEST", "$.more")
    for member in bodies[path]:
        less = {name: value for name, value in bodies[path].items() if name != member}
        assert_error(post(enrolling.server, path, less), 400, "INVALID_REQUEST", f"$.{member}")


# Confirm


def test_the_third_wrong_code_ends_the_enrolment(backend: Backend) -> None:
    enrolment_id, device = confirming(backend)
    for left in (2, 1, 0):
        answer = backend.confirm(enrolment_id, other_code(device.code))
        assert assert_error(answer, 403, "WRONG_CODE") == {"attempts_left": left}
        assert device.code not in answer.text
    failed = backend.enrolment(enrolment_id)
    assert (failed["status"], failed["reason"]) == ("failed", "wrong_code")
    assert "device_public_key" not in failed
    answer = backend.confirm(enrolment_id, device.code)
    assert assert_error(answer, 409, "ENROLMENT_CLOSED") == {"status": "failed"}
    assert device.wait().json() == {"status": "failed"}


def test_the_right_code_again_is_no_error_and_another_is(backend: Backend) -> None:
    enrolment_id, device = confirming(backend)
    assert_error(backend.confirm(enrolment_id, other_code(device.code)), 403, "WRONG_CODE")
    first = assert_ok(backend.confirm(enrolment_id, device.code))
    assert assert_ok(backend.confirm(enrolment_id, device.code)) == first
    answer = backend.confirm(enrolment_id, other_code(device.code))
    assert assert_error(answer, 409, "ENROLMENT_CLOSED") == {"status": "enrolled"}


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "１２３４５６", "123456\n", " 12345"])
def test_a_code_has_six_digits(backend: Backend, begun: dict[str, Any], code: str) -> None:
    assert_error(backend.confirm(begun["enrolment_id"], code), 400, "INVALID_REQUEST", "$.code")


def test_only_a_completed_enrolment_can_be_confirmed(backend: Backend, enrolling: Enrolling) -> None:
    answer = backend.confirm(backend.begin()["enrolment_id"], "000000")
    assert assert_error(answer, 409, "ENROLMENT_CLOSED") == {"status": "pending"}
    answer = backend.confirm(enrolling.claim()["enrolment_id"], "000000")
    assert assert_error(answer, 409, "ENROLMENT_CLOSED") == {"status": "claimed"}


def test_a_key_that_is_swapped_on_the_way_is_found_by_the_code(backend: Backend, enrolling: Enrolling) -> None:
    """A client between device and server enrols its own key, and relays everything else."""
    enrolling.claim()
    between = Enrolling(backend.server, enrolling.server_id, enrolling.token, claim_id=enrolling.claim_id)
    between.offer = enrolling.offer
    revealed = between.complete()["sas_nonce"]
    enrolling.compare(revealed)
    assert enrolling.code != between.code
    assert_error(backend.confirm(enrolling.offer["enrolment_id"], enrolling.code), 403, "WRONG_CODE")


# Replacement


def test_a_replaced_key_consents(backend: Backend) -> None:
    old = Device("Ed25519")
    begun = backend.begin(replaces=old.public)
    device = Enrolling.scan(backend.server, begun["uri"])
    assert device.claim()["replaces"] == old.fingerprint
    plain = device.completion()
    assert_error(device.send_completion(plain), 400, "INVALID_REQUEST", "$.replaces_signature")
    digest = device.digest()
    for signature in (Device("Ed25519").sign(CONSENT + digest), old.sign(COMPLETION + digest), old.sign(CONSENT)):
        answer = device.send_completion({**plain, "replaces_signature": signature})
        assert_error(answer, 401, "INVALID_SIGNATURE")
    assert device.complete(replaced=old)["status"] == "confirming"
    assert "replaced" not in backend.enrolment(begun["enrolment_id"])
    enrolled = assert_ok(backend.confirm(begun["enrolment_id"], device.code))
    assert (enrolled["replaced"], enrolled["device_public_key"]) == (old.fingerprint, device.device.public)


def test_a_replacement_needs_no_code_where_the_backend_wants_none(backend: Backend) -> None:
    old = Device()
    begun = backend.begin(replaces=old.public, confirm="none")
    assert unix(begun["expires_at"]) <= time.time() + 121
    device = Enrolling.scan(backend.server, begun["uri"])
    assert device.claim()["confirm"] == "none"
    assert device.complete(replaced=old)["status"] == "enrolled"
    status = backend.enrolment(begun["enrolment_id"])
    assert (status["status"], status["confirm"], status["replaced"]) == ("enrolled", "none", old.fingerprint)


def test_a_consent_that_no_one_wants_is_rejected(enrolling: Enrolling) -> None:
    enrolling.claim()
    body = enrolling.completion(replaced=Device())
    assert_error(enrolling.send_completion(body), 400, "INVALID_REQUEST", "$.replaces_signature")


# Status, wait, cancel


def test_only_the_owner_sees_an_enrolment(server: Server, backend: Backend) -> None:
    enrolment_id, device = confirming(backend)
    other = Backend(server, server.identity.api_key())
    for answer in (
        other.get(enrolment_id),
        other.confirm(enrolment_id, device.code),
        other.cancel_enrolment(enrolment_id),
        backend.get(str(uuid.uuid4())),
        backend.get("x"),
    ):
        assert_error(answer, 404, "ENROLMENT_NOT_FOUND")
    assert_error(server.http.get(f"/enrolment/{enrolment_id}/status"), 401, "UNAUTHORIZED")
    assert_ok(backend.get(enrolment_id.upper()))


def test_a_cancelled_enrolment_is_closed(backend: Backend, enrolling: Enrolling) -> None:
    offer = enrolling.claim()
    first = assert_ok(backend.cancel_enrolment(offer["enrolment_id"]))
    assert first["status"] == "cancelled"
    assert assert_ok(backend.cancel_enrolment(offer["enrolment_id"])) == first
    for answer in (enrolling.send_claim(), enrolling.send_completion(enrolling.completion())):
        assert assert_error(answer, 409, "ENROLMENT_CLOSED") == {"status": "cancelled"}
    assert enrolling.wait(25).json() == {"status": "cancelled"}


def test_an_enrolled_device_cannot_be_cancelled(backend: Backend) -> None:
    enrolment_id, device = confirming(backend)
    assert_ok(backend.confirm(enrolment_id, device.code))
    answer = backend.cancel_enrolment(enrolment_id)
    assert assert_error(answer, 409, "ENROLMENT_CLOSED") == {"status": "enrolled"}


def test_a_page_waits_for_the_next_state_and_a_device_for_the_last(backend: Backend, begun: dict[str, Any]) -> None:
    device = Enrolling.scan(backend.server, begun["uri"])
    enrolment_id = begun["enrolment_id"]
    with ThreadPoolExecutor(2) as pool:
        page = pool.submit(backend.enrolment, enrolment_id, wait=25)
        device.claim()
        assert page.result()["status"] in {"claimed", "pending"}
        # It knows `pending`, so that no state is missed between two requests.
        assert backend.enrolment(enrolment_id, wait=25, known="pending")["status"] == "claimed"
        page = pool.submit(backend.enrolment, enrolment_id, wait=25, known="claimed")
        device.complete()
        assert page.result()["status"] == "confirming"
        phone = pool.submit(device.wait, 25)
        assert_ok(backend.confirm(enrolment_id, device.code))
        assert phone.result().json() == {"status": "enrolled"}


@pytest.mark.parametrize("query", [{"wait": "26"}, {"wait": "x"}, {"wait": "-1"}, {"known": "open"}, {"known": ""}])
def test_a_malformed_query_is_invalid(backend: Backend, begun: dict[str, Any], query: dict[str, str]) -> None:
    assert_error(backend.get(begun["enrolment_id"], **query), 400, "INVALID_REQUEST")


@pytest.mark.parametrize("wait", [-1, 26, "1", 1.5, True])
def test_a_device_waits_at_most_25_seconds(enrolling: Enrolling, wait: Any) -> None:
    enrolling.claim()
    body = json.dumps(
        {"enrolment_id": enrolling.offer["enrolment_id"], "claim_id": enrolling.claim_id, "wait": wait}
    ).encode()
    assert_error(post(enrolling.server, "/enrolment/wait", body), 400, "INVALID_REQUEST", "$.wait")
