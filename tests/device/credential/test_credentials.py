"""The credential goes with approvals alone, is renewed when it is due or was refused as expired, and checked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from sigil.device import Device
from sigil.device.approval_checks import Shown, verify_mpa_payload
from sigil.device.async_client import AsyncDeviceClient
from sigil.device.attestation import DigestFor
from sigil.device.challenge_checks import verify_payload
from sigil.device.client import DeviceClient
from sigil.device.credential.async_client import AsyncCredentials
from sigil.device.credential.client import Credentials, MemoryCredential
from sigil.device.credential.steps import AttestationOff, CredentialRefused, checked_credential
from sigil.device.errors import ServerRefused
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.connection import ServerConnection
from sigil.protocol import signed_bytes
from sigil.protocol.device_credential import Facts, Payload, issue
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64, format_time
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PublicKey
from tests.device.clock import MovingClock
from tests.device.enrolment.http import response
from tests.device.enrolment.offers import OWN, URL, pin
from tests.device.fake_server import NOW, as_json, honest_info, identity, make_mpa_payload, make_payload

DAY = 86400
DEVICE = Device.generate()


def credential(device: Device = DEVICE, issued: int = int(NOW), signer: ServerIdentity = OWN) -> str:
    payload = Payload(
        server_id=signer.server_id,
        fingerprint=device.fingerprint,
        kind="yubikey-piv",
        level="secure_element",
        binding="direct",
        app="",
        attested_at=issued,
        issued_at=issued,
        expires_at=issued + 90 * DAY,
    )
    key = PublicKey.parse(decode_base64(signer.server_public_keys["ES256"], "$"))
    return issue(payload, Facts(), lambda message: signer.sign_for(key, message), salt=b"s" * 16)


class Phone:
    """Attests as the kind that it is given, and keeps which digest it used."""

    def __init__(self, statement: dict[str, Any], key: str) -> None:
        self._statement, self._key = statement, key
        self.digests: list[bytes] = []
        self.renewals: list[bool] = []

    def statement(self, digest_for: DigestFor, device: PublicKey, *, renewal: bool = False) -> dict[str, Any]:
        self.digests.append(digest_for(self._statement["kind"], self._key))
        self.renewals.append(renewal)
        return self._statement


YUBIKEY = {"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"]}


class Server:
    """Issues credentials, and refuses approvals without the one that it wants."""

    def __init__(self, *, attestation: bool = True, wanted: str | None = None) -> None:
        self.attestation, self.wanted = attestation, wanted
        self.issues = credential(issued=int(NOW) + 100)
        self.answers: list[dict[str, Any]] = []
        self.attested: list[dict[str, Any]] = []
        self.refusals: list[tuple[str, dict[str, Any]]] = []
        self.infos = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/info":
            self.infos += 1
            info = honest_info(OWN)
            return response(200, info | {"features": info["features"] | {"attestation": self.attestation}})
        if path == "/device/attest/challenge":
            challenge = {"challenge_id": "c1", "nonce": encode_base64(b"a" * 32), "expires_at": format_time(int(NOW))}
            return response(200, challenge)
        if path == "/device/attest":
            self.attested.append(json.loads(request.content))
            if self.refusals:
                code, details = self.refusals.pop(0)
                return response(403, {"error": {"code": code, "message": "No.", "details": details}})
            self.wanted = self.issues
            issued = {"device_credential": self.issues, "kind": "yubikey-piv", "level": "secure_element"}
            times = {"expires_at": format_time(int(NOW)), "renew_after": format_time(int(NOW))}
            return response(200, issued | {"binding": "direct"} | times)
        answer = json.loads(request.content)
        self.answers.append(answer)
        approved = answer["decision"] == "approved"
        if approved and self.wanted is not None and answer.get("device_credential") != self.wanted:
            details = {"reason": "expired"} if "device_credential" in answer else {}
            code = "ATTESTATION_INVALID" if details else "ATTESTATION_REQUIRED"
            return response(403, {"error": {"code": code, "message": "No.", "details": details}})
        common = {"fingerprint": DEVICE.fingerprint, "pictogram": [], "pictogram_speakable": ""}
        if path == "/mpa/respond":
            progress = {"group_satisfied": True, "groups_satisfied": 1, "groups_required": 2, "quorum_reached": False}
            return response(200, common | progress | {"status": "recorded"})
        status = {"status": "verified" if approved else "rejected", "verified": approved}
        return response(200, common | status | {"action": {}})


class Run:
    """One device of either kind against a server."""

    def __init__(self, kind: str, server: Server, clock: MovingClock, stored: str | None, phone: Phone | None) -> None:
        self.kind, self.server, self.clock, self.phone = kind, server, clock, phone
        self.store = MemoryCredential(stored)

    def _call(self, use: Callable[[Any, Any], Any]) -> Any:
        options: dict[str, Any] = {"attester": self.phone, "clock": self.clock}
        transport = httpx.MockTransport(self.server)
        if self.kind == "sync":
            with ServerConnection(URL, transport=transport) as connection:
                credentials = Credentials(DEVICE, pin(), connection, self.store, **options)
                client = DeviceClient(DEVICE, pin(), connection, clock=self.clock, credentials=credentials)
                return use(client, credentials)

        async def run() -> Any:
            async with AsyncServerConnection(URL, transport=transport) as connection:
                credentials = AsyncCredentials(DEVICE, pin(), connection, self.store, **options)
                client = AsyncDeviceClient(DEVICE, pin(), connection, clock=self.clock, credentials=credentials)
                return await use(client, credentials)

        return asyncio.run(run())

    def approve(self, shown: Shown) -> Any:
        return self._call(lambda client, _: client.approve(shown))

    def reject(self, shown: Shown) -> Any:
        return self._call(lambda client, _: client.reject(shown))

    def obtain(self, phone: Phone) -> Any:
        return self._call(lambda _, credentials: credentials.obtain(phone))


Start = Callable[..., Run]


@pytest.fixture(params=["sync", "async"])
def start(request: pytest.FixtureRequest, clock: MovingClock) -> Start:
    return lambda server, stored=None, phone=None: Run(request.param, server, clock, stored, phone)


def challenge() -> Shown:
    return verify_payload(as_json(make_payload(OWN, DEVICE.public)), pin(), DEVICE.public, NOW)


def request_() -> Shown:
    return verify_mpa_payload(as_json(make_mpa_payload(OWN, DEVICE.public)), pin(), DEVICE.public, NOW)


@pytest.mark.parametrize("shown", [challenge(), request_()], ids=["challenge", "request"])
def test_an_approval_has_the_credential_and_a_rejection_never(start: Start, shown: Shown) -> None:
    server = Server()
    run = start(server, credential())
    run.approve(shown)
    run.reject(shown)
    assert [answer.get("device_credential") for answer in server.answers] == [credential(), None]


def test_a_server_without_attestation_gets_no_credential(start: Start) -> None:
    server = Server(attestation=False)
    start(server, credential()).approve(challenge())
    assert "device_credential" not in server.answers[0]


@pytest.mark.parametrize(
    "stored",
    [None, "damaged", credential(Device.generate()), credential(signer=identity(9))],
    ids=["none", "damaged", "of another device", "of another server"],
)
def test_without_a_credential_of_its_own_the_device_sends_none(start: Start, stored: str | None) -> None:
    server = Server()
    start(server, stored).approve(challenge())
    assert "device_credential" not in server.answers[0]
    assert server.infos == 0


def test_a_credential_is_renewed_after_two_thirds_of_its_life(start: Start, clock: MovingClock) -> None:
    for age, renewed in ((60 * DAY - 1, False), (60 * DAY + 1, True)):
        server, phone = Server(), Phone(YUBIKEY, "")
        run = start(server, credential(issued=int(NOW) - age), phone)
        run.approve(challenge())
        assert [bool(server.attested), phone.renewals] == [renewed, [True] * renewed]
        expected = server.issues if renewed else credential(issued=int(NOW) - age)
        assert (server.answers[0]["device_credential"], run.store.load()) == (expected, expected)


def test_a_renewal_that_fails_before_the_end_does_not_stop_the_approval(start: Start) -> None:
    old = credential(issued=int(NOW) - 70 * DAY)
    server = Server()
    server.refusals = [("RATE_LIMITED", {})]
    start(server, old, Phone(YUBIKEY, "")).approve(challenge())
    assert server.answers[0]["device_credential"] == old


def test_an_expired_credential_is_renewed_and_the_approval_sent_again(start: Start) -> None:
    server = Server(wanted="another")
    run = start(server, credential(), Phone(YUBIKEY, ""))
    assert run.approve(challenge()).verified
    first, second = server.answers
    assert (first.pop("device_credential"), second.pop("device_credential")) == (credential(), server.issues)
    assert first == second
    assert server.attested[0]["device_credential"] == credential()
    assert run.store.load() == server.issues


def test_without_an_attester_the_error_says_what_to_do(start: Start) -> None:
    for stored, code in ((credential(), "ATTESTATION_INVALID"), (None, "ATTESTATION_REQUIRED")):
        with pytest.raises(ServerRefused, match="Run 'sigil device attest', then approve it again") as refused:
            start(Server(wanted="another"), stored).approve(challenge())
        assert refused.value.code == code


@pytest.mark.parametrize(
    ("statement", "direct"),
    [
        (YUBIKEY, True),
        ({"kind": "android-key", "x5c": ["AAAA"], "witness": False}, True),
        ({"kind": "android-key", "x5c": ["AAAA"], "witness": True}, False),
        ({"kind": "apple-appattest", "object": "AAAA"}, False),
        ({"kind": "apple-assertion", "assertion": "AAAA"}, False),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_proof_is_over_the_digest_that_the_statement_holds(
    start: Start, statement: dict[str, Any], direct: bool
) -> None:
    server, phone = Server(), Phone(statement, "" if direct else DEVICE.wire_key)
    start(server).obtain(phone)
    (body,) = server.attested
    proof = signed_bytes.attestation_proof(phone.digests[0], canonical(statement))
    assert DEVICE.public.verify(proof, decode_base64(body["signature"], "$"))
    assert "device_credential" not in body
    assert phone.renewals == [False]


def test_a_credential_that_cannot_be_renewed_is_replaced_by_a_new_attestation(start: Start) -> None:
    server, phone = Server(), Phone(YUBIKEY, "")
    server.refusals = [("ATTESTATION_INVALID", {"reason": "expired"})]
    assert start(server, credential()).obtain(phone) == server.issues
    assert phone.renewals == [True, False]
    assert [("device_credential" in body) for body in server.attested] == [True, False]


@pytest.mark.parametrize(
    "issued",
    ["damaged", credential(Device.generate()), credential(signer=identity(9))],
    ids=["form", "device", "server"],
)
def test_a_credential_that_is_not_for_this_device_and_server_is_not_kept(start: Start, issued: str) -> None:
    server = Server()
    server.issues = issued
    run = start(server)
    with pytest.raises(CredentialRefused):
        run.obtain(Phone(YUBIKEY, ""))
    assert run.store.load() is None


def test_a_credential_with_one_changed_byte_is_refused() -> None:
    parts = credential().split(".")
    forged = ".".join([parts[0], parts[1], parts[2][:-4] + "AAAA", parts[3]])
    with pytest.raises(CredentialRefused):
        checked_credential(forged, DEVICE.public, pin())


def test_a_server_that_accepts_no_attestation_gets_no_request(start: Start) -> None:
    server = Server(attestation=False)
    with pytest.raises(AttestationOff):
        start(server).obtain(Phone(YUBIKEY, ""))
    assert server.attested == []
