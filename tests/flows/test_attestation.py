"""Attestation through a real server with two workers, as each kind of phone: attest, approve, renew, vote, enrol; and
every hostile statement over HTTP.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from deploy.attestation.hostile import CASES
from sigil.device import Device, commands, verify_info
from sigil.device.attestation import DigestFor
from sigil.device.enrolment.client import EnrolmentClient
from sigil.device.enrolment.steps import Offer, completion_body
from sigil.device.enrolment.target import parse_target
from sigil.device.errors import DeviceError
from sigil.device.http.connection import ServerConnection
from sigil.device.http.tls import TlsTrust
from sigil.device.test_phone.phones import NAMES, TestAttester
from sigil.device.test_phone.roots import ROOTS_FILE, TestRoot
from sigil.protocol import signed_bytes
from sigil.protocol.device_credential import parse
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.sdk import verify_votes
from tests.flows.backend import ACTION, Backend, approval, rejection
from tests.flows.test_approvals import ApprovalRequest
from tests.hostile.test_memory import memory
from tests.support.live import LiveServer

KIND = {"android": "android-key", "apple": "apple-appattest", "yubikey": "yubikey-piv"}
DIRECT = {"android-key", "yubikey-piv"}
_ADDRESSES = (f"198.51.{number // 250}.{number % 250 + 1}" for number in count())
MAX_GROWTH = 16 << 20


class Phones:
    """Devices of a server, and what attests them."""

    def __init__(self, server: LiveServer, backend: Backend, directory: Path) -> None:
        self.server, self.backend, self.directory = server, backend, directory
        self.root = TestRoot.load(directory)

    def challenge(self) -> dict[str, Any]:
        answer = self.backend.http.get("/device/attest/challenge")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def body(self, device: Device, statement: Any, previous: str | None = None) -> dict[str, Any]:
        """`POST /device/attest` with what `statement(digest_for)` makes."""
        challenge = self.challenge()
        nonce, server_id = decode_base64(challenge["nonce"], "nonce"), self.server.identity.server_id

        def digest_for(kind: str, key: str) -> bytes:
            return signed_bytes.attest_digest(context="", key=key, kind=kind, nonce=nonce, server_id=server_id)

        sent = statement(digest_for)
        holds_key = sent["kind"] in DIRECT and not sent.get("witness")
        digest = digest_for(sent["kind"], "" if holds_key else device.wire_key)
        proof = device.sign_attestation(digest, canonical(sent))
        body = {
            "device_public_key": device.wire_key,
            "challenge_id": challenge["challenge_id"],
            "attestation": sent,
            "signature": encode_base64(proof),
        }
        return body if previous is None else body | {"device_credential": previous}

    def send(self, body: dict[str, Any]) -> httpx.Response:
        """From an address of its own: the server allows 30 attestations a minute of one address."""
        return self.backend.http.post("/device/attest", json=body, headers={"X-Forwarded-For": next(_ADDRESSES)})

    def attest(self, name: str, device: Device, previous: str | None = None, **fields: Any) -> dict[str, Any]:
        attester = TestAttester(name, self.root, **fields)
        renewal = previous is not None

        def statement(digest_for: DigestFor) -> dict[str, Any]:
            return attester.statement(digest_for, device.public, renewal=renewal)

        answer = self.send(self.body(device, statement, previous))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def answer(self, device: Device, credential: str | None) -> tuple[httpx.Response, dict[str, Any]]:
        """An approval with that credential, and the challenge's status."""
        created = self.backend.create_challenge(device)
        body: dict[str, Any] = approval(device, created)
        if credential is not None:
            body |= {"device_credential": credential}
        return self.backend.http.post("/respond", json=body), self.backend.status(created)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("attestation") / "roots"
    TestRoot.create(directory)
    return directory


@pytest.fixture(scope="module")
def phones(directory: Path) -> Iterator[Phones]:
    settings = {
        "SIGIL_ATTESTATION_ROOTS": str(directory / ROOTS_FILE),
        "SIGIL_ATTESTATION_KINDS": ",".join(KIND.values()),
        "SIGIL_APPLE_APPS": "ABCDE12345.org.example.sigil",
        "SIGIL_ANDROID_APPS": f"org.example.sigil:{bytes(range(32)).hex()}",
        "TRUSTED_PROXY_IP": "127.0.0.1",
        "SIGIL_DEVICE_RATE": "off",
        "SIGIL_ENROL_WITHOUT_CODE": "true",
        # That of attestations stays.
        "SIGIL_RATE_LIMIT": "off",
    }
    live = LiveServer(workers=2, **settings)
    live.environ["SIGIL_PUBLIC_URL"] = live.url
    with live as server, Backend(server) as backend:
        yield Phones(server, backend, directory)


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_attests_approves_and_renews(phones: Phones, name: str) -> None:
    device = Device.generate()
    attested = phones.attest(name, device)
    payload = parse(attested["device_credential"]).payload
    assert attested["kind"] == payload.kind == KIND[name]
    assert attested["binding"] == ("witness" if name == "apple" else "direct")
    assert payload.fingerprint == device.fingerprint

    answer, status = phones.answer(device, attested["device_credential"])
    assert answer.status_code == 200, answer.text
    shown = {key: attested[key] for key in ("kind", "level", "binding")}
    assert {key: status["attestation"][key] for key in shown} == shown

    renewed = phones.attest(name, device, attested["device_credential"])
    again = parse(renewed["device_credential"]).payload
    assert (again.kind, again.level, again.binding) == (payload.kind, payload.level, payload.binding)
    assert again.attested_at == payload.attested_at
    assert phones.answer(device, renewed["device_credential"])[0].status_code == 200


@pytest.mark.parametrize("name", NAMES)
def test_a_credential_counts_for_its_own_device_alone(phones: Phones, name: str) -> None:
    owner, other = Device.generate(), Device.generate()
    credential = phones.attest(name, owner)["device_credential"]
    answer, status = phones.answer(other, credential)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "ATTESTATION_INVALID"
    assert status["status"] == "pending", "a refusal changes nothing"


def test_a_rejection_needs_no_credential_and_an_unattested_approval_says_so(phones: Phones) -> None:
    device = Device.generate()
    created = phones.backend.create_challenge(device)
    assert phones.backend.http.post("/respond", json=rejection(device, created)).status_code == 200
    answer, status = phones.answer(device, None)
    assert answer.status_code == 200
    assert "attestation" not in status


def test_an_approval_request_is_audited_offline_with_what_each_member_attested(phones: Phones) -> None:
    members = {name: Device.generate() for name in NAMES}
    credentials = {name: phones.attest(name, device)["device_credential"] for name, device in members.items()}
    request = ApprovalRequest.create(phones.backend, [[device] for device in members.values()], 3)
    for name, device in members.items():
        body: dict[str, Any] = request.vote_body_of(device)
        answer = phones.backend.http.post("/mpa/respond", json=body | {"device_credential": credentials[name]})
        assert answer.status_code == 200, answer.text
    document = phones.backend.http.get(f"/mpa/status/{request.created['request_id']}").content
    proved = verify_votes(document, server_id=phones.server.identity.server_id, required=3)
    assert proved.status == "approved"
    kinds = {vote["fingerprint"]: vote["attestation"]["kind"] for vote in request.status()["votes"]}
    assert kinds == {device.fingerprint: KIND[name] for name, device in members.items()}
    for credential in credentials.values():
        facts = credential.rpartition(".")[2]
        assert facts.encode() not in document, "serial numbers are for the server alone"


def test_an_answer_that_got_lost_is_sent_again(phones: Phones) -> None:
    """Apple attests a key once: the same statement within the time of its challenge must do."""
    device = Device.generate()
    attester = TestAttester("apple", phones.root)
    body = phones.body(device, lambda digest_for: attester.statement(digest_for, device.public))
    first, second = phones.send(body), phones.send(body)
    assert (first.status_code, second.status_code) == (200, 200)
    keys = [parse(answer.json()["device_credential"]).facts.app_attest_key for answer in (first, second)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("name", "level"), [("android", "hardware"), ("apple", "hardware"), ("yubikey", "secure_element")]
)
def test_a_device_enrols_with_an_attestation_of_the_level_that_the_offer_names(
    phones: Phones, name: str, level: str
) -> None:
    with enrolment(phones, min_level=level) as (client, offer, enrolment_id):
        device = Device.generate()
        statement = TestAttester(name, phones.root).statement(offer.attest_digest, device.public)
        shown, _completed = client.complete(offer, completion_body(device, offer, attestation=statement))
        confirmed = phones.backend.http.post(f"/enrolment/{enrolment_id}/confirm", json={"code": shown.code})
        assert confirmed.status_code == 200, confirmed.text
        assert confirmed.json()["attestation"]["kind"] == KIND[name]
        credential = client.wait(offer)
    assert credential is not None
    answer, status = phones.answer(device, credential)
    assert answer.status_code == 200, answer.text
    assert status["attestation"]["level"] == level


@pytest.mark.parametrize("name", ["android", "apple"])
def test_an_enrolment_that_demands_a_secure_element_takes_nothing_less(phones: Phones, name: str) -> None:
    with enrolment(phones, min_level="secure_element") as (client, offer, _enrolment_id):
        device = Device.generate()
        statement = TestAttester(name, phones.root).statement(offer.attest_digest, device.public)
        with pytest.raises(DeviceError) as refused:
            client.complete(offer, completion_body(device, offer, attestation=statement))
        assert "level" in str(refused.value)
        with pytest.raises(DeviceError):
            client.complete(offer, completion_body(device, offer))


@pytest.mark.parametrize(("name", "fields"), [("android", {"witness": True}), ("apple", {"assertion": True})])
def test_a_renewal_does_not_enrol_a_key(phones: Phones, name: str, fields: dict[str, Any]) -> None:
    """It proves something only together with a credential, which a new key cannot have."""
    device = Device.generate()
    with enrolment(phones) as (client, offer, _enrolment_id):
        statement = TestAttester(name, phones.root, **fields).statement(offer.attest_digest, device.public)
        with pytest.raises(DeviceError) as refused:
            client.complete(offer, completion_body(device, offer, attestation=statement))
        assert "kind" in str(refused.value)


def test_the_largest_statement_attests_and_enrols_and_a_larger_one_is_a_typed_error(phones: Phones) -> None:
    """40 KiB, decoded: the base64 of more would not fit a body of 64 KiB."""
    device = Device.generate()

    def attester(receipt: int) -> TestAttester:
        return TestAttester("apple", phones.root, receipt=bytes(receipt))

    def send(receipt: int) -> httpx.Response:
        return phones.send(
            phones.body(device, lambda digest_for: attester(receipt).statement(digest_for, device.public))
        )

    without = attester(0).statement(lambda _kind, _key: bytes(32), device.public)["object"]
    # The lengths of signatures vary by a few bytes.
    largest = 40 * 1024 - len(without) * 3 // 4 - 32
    assert send(largest).status_code == 200
    with enrolment(phones) as (client, offer, _enrolment_id):
        statement = attester(largest).statement(offer.attest_digest, device.public)
        client.complete(offer, completion_body(device, offer, attestation=statement))
    for receipt, answer in ((42 * 1024, (400, "INVALID_REQUEST")), (64 * 1024, (413, "PAYLOAD_TOO_LARGE"))):
        refused = send(receipt)
        assert (refused.status_code, refused.json()["error"]["code"]) == answer


def test_an_attestation_of_another_enrolment_or_of_none_does_not_enrol(phones: Phones) -> None:
    device = Device.generate()
    attester = TestAttester("android", phones.root)
    with enrolment(phones) as (_, other, _), enrolment(phones) as (client, offer, _):
        outside = phones.body(device, lambda digest_for: attester.statement(digest_for, device.public))["attestation"]
        for statement in (attester.statement(other.attest_digest, device.public), outside):
            with pytest.raises(DeviceError, match="challenge"):
                client.complete(offer, completion_body(device, offer, attestation=statement))


@contextmanager
def enrolment(phones: Phones, **members: Any) -> Iterator[tuple[EnrolmentClient, Offer, str]]:
    """An enrolment that a device has claimed."""
    begun = phones.backend.http.post("/enrolment", json={"account": "zoë@example.org", **members})
    assert begun.status_code == 201, begun.text
    server = phones.server
    target = parse_target(begun.json()["token"], server.url, server.identity.server_id)
    tls = TlsTrust(ca_pem=server.certificate.read_text())
    with ServerConnection(server.url, tls=tls) as connection:
        pin = verify_info(connection.info(), server.url, pin=server.identity.server_id)
        client = EnrolmentClient(pin, connection)
        yield client, client.claim(target, secrets.token_hex(16)), begun.json()["enrolment_id"]


@pytest.mark.parametrize(
    ("phone", "suite"), [("android", "ES256"), ("apple", "ES256"), ("apple", "Ed25519"), ("yubikey", "ES256")]
)
def test_the_command_attests_renews_and_answers(phones: Phones, tmp_path: Path, phone: str, suite: str) -> None:
    server, ca = phones.server, str(phones.server.certificate)
    home = ["--home", str(tmp_path / "keys")]

    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(commands.device, [*arguments, *home])
        assert done.exit_code == 0, done.output
        return done

    run("init", "--server", server.url, "--pin", server.identity.server_id, "--ca", ca, "--suite", suite)
    play = ["--test-root", str(phones.directory), "--as", phone]
    first = json.loads(run("attest", *play, "--json").stdout)
    assert first["kind"] == KIND[phone]
    # What attested the key is stored, so that it can renew.
    assert json.loads(run("attest", "--json").stdout)["kind"] == KIND[phone]
    key = run("whoami", "--key").stdout.strip()
    created = phones.backend.http.post("/challenge", json={"device_public_key": key, "action": ACTION}).json()
    run("approve", created["challenge_id"])
    status = phones.backend.status(created)
    assert (status["status"], status["attestation"]["kind"]) == ("verified", KIND[phone])


@pytest.mark.parametrize("phone", NAMES)
def test_the_command_enrols_with_an_attestation(phones: Phones, tmp_path: Path, phone: str) -> None:
    members = {"account": "zoë@example.org", "confirm": "none", "expires_in_seconds": 120, "min_level": "hardware"}
    begun = phones.backend.http.post("/enrolment", json=members)
    assert begun.status_code == 201, begun.text
    options = ["--ca", str(phones.server.certificate), "--yes", "--home", str(tmp_path / "keys")]
    play = ["--test-root", str(phones.directory), "--attest-as", phone]
    done = CliRunner().invoke(commands.device, ["enrol", begun.json()["uri"], *options, *play])
    assert done.exit_code == 0, done.output
    status = phones.backend.http.get(f"/enrolment/{begun.json()['enrolment_id']}/status").json()
    assert (status["status"], status["attestation"]["kind"]) == ("enrolled", KIND[phone])


@pytest.mark.parametrize("level", ["software", "hardware", "secure_element"])
def test_an_emulator_is_refused_also_where_attestation_is_optional(phones: Phones, level: str) -> None:
    device = Device.generate()
    attester = TestAttester("android", phones.root, root="software", level=level)
    answer = phones.send(phones.body(device, lambda digest_for: attester.statement(digest_for, device.public)))
    assert answer.status_code == 403
    assert answer.json()["error"]["details"]["reason"] == "emulator"


def test_every_hostile_statement_gets_its_reason_over_http_in_flat_memory(phones: Phones) -> None:
    device = Device.generate()

    def send_all() -> None:
        for name, case in CASES.items():
            answer = phones.send(phones.body(device, partial(case.statement, phones.root, device.public)))
            error = answer.json()["error"]
            # An assertion without a credential is no renewal: the request says so itself.
            expected = (403, case.reason) if case.reason and name != "apple-assertion-alone" else (400, None)
            assert (answer.status_code, error.get("details", {}).get("reason")) == expected, (name, error)

    send_all()
    before = memory(phones.server)
    send_all()
    assert memory(phones.server) - before < MAX_GROWTH


def test_one_address_attests_30_times_a_minute_and_no_more(phones: Phones) -> None:
    device = Device.generate()
    body = phones.body(device, partial(CASES["apple-deep"].statement, phones.root, device.public))
    before, codes = memory(phones.server), []
    begun = time.monotonic()
    for _ in range(400):
        answer = phones.backend.http.post("/device/attest", json=body, headers={"X-Forwarded-For": "203.0.113.9"})
        codes.append(answer.json()["error"]["code"])
    minutes = (time.monotonic() - begun) / 60
    assert set(codes) <= {"ATTESTATION_INVALID", "RATE_LIMITED"}
    # Each of two workers counts by itself, and a slow machine gets more of them.
    assert 30 <= codes.count("ATTESTATION_INVALID") <= 2 * 30 * (1 + minutes)
    assert memory(phones.server) - before < MAX_GROWTH
