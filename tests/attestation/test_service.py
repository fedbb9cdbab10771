"""The service: order of checks, issue, renewal rule by rule, and the credential at each approval."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from sigil.attestation import service
from sigil.attestation.policy import AttestationPolicy
from sigil.attestation.service import Attestation
from sigil.attestation.statements import Anchors, Attested, Rejected
from sigil.device import Device
from sigil.protocol import device_credential, signed_bytes
from sigil.protocol.device_credential import parse
from sigil.protocol.encoding.text import decode_base64, encode_base64, parse_time
from sigil.protocol.errors import (
    AttestationInvalid,
    AttestationRequired,
    DeviceRevoked,
    InvalidPublicKey,
    InvalidRequest,
    InvalidSignature,
    Problem,
)
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages import attestation as messages
from tests.attestation.examples import ANDROID, APPLE, POLICY, YUBIKEY, Verifier, with_facts
from tests.support.services import IDENTITY, START

DAY = 86_400
CERTIFICATE = encode_base64(b"certificate")
ANDROID_STATEMENT = messages.AndroidAttestation([CERTIFICATE] * 2, witness=False)
WITNESS = messages.AndroidAttestation([CERTIFICATE] * 2, witness=True)
APPLE_STATEMENT = messages.AppleAttestation(CERTIFICATE)
ASSERTION = messages.AppleAssertion(CERTIFICATE)
YUBIKEY_STATEMENT = messages.YubikeyAttestation([CERTIFICATE] * 2)
PROVEN = {
    "android-key": ANDROID,
    "apple-appattest": APPLE,
    "apple-assertion": with_facts(APPLE, counter=7),
    "yubikey-piv": YUBIKEY,
}
OTHER_SERVER = ServerIdentity.from_secrets(DerivedSecrets(*(bytes([n]) * 32 for n in (11, 12, 13, 14, 15, 16))))


class Status:
    def __init__(self) -> None:
        self.listed: set[str] = set()
        self.old = False

    def revoked(self, serial: str) -> bool:
        return serial in self.listed

    def is_old(self, now: float) -> bool:
        return self.old


class Observer:
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def issued(self, use: str, payload: device_credential.Payload, *, renewal: bool) -> None:
        self.seen.append((use, payload.kind, renewal))

    def rejected(self, use: str, fingerprint: str, kind: str, reason: str, check: str) -> None:
        self.seen.append((use, fingerprint, kind, reason, check))


class Server:
    """One server; `host` is another process with the same words, or another server."""

    def __init__(self, policy: AttestationPolicy = POLICY, identity: ServerIdentity = IDENTITY) -> None:
        self.now = START
        self.status, self.observer = Status(), Observer()
        self.verifiers = {kind: Verifier(result) for kind, result in PROVEN.items()}
        self.identity = identity
        self.attestation = self.host(policy)

    def host(self, policy: AttestationPolicy = POLICY, identity: ServerIdentity | None = None) -> Attestation:
        random = itertools.count()
        return Attestation(
            identity or self.identity,
            policy,
            verifiers=self.verifiers,
            anchors=Anchors(),
            clock=lambda: self.now,
            randomness=lambda length: next(random).to_bytes(length),
            status=self.status,
            observer=self.observer,
        )

    def request(self, device: Device, statement: messages.Statement, **changed: Any) -> messages.AttestDevice:
        """As a device makes it."""
        challenge = self.attestation.challenge()
        key = "" if statement in (YUBIKEY_STATEMENT, ANDROID_STATEMENT) else device.wire_key
        proof = proof_of(device, statement, decode_base64(challenge.nonce, ""), key, self.identity.server_id)
        made = messages.AttestDevice(device.wire_key, challenge.challenge_id, statement, proof)
        return msgspec.structs.replace(made, **changed)

    def attest(
        self, device: Device, statement: messages.Statement = ANDROID_STATEMENT, **changed: Any
    ) -> messages.DeviceAttested:
        return self.attestation.attest(self.attestation.open(self.request(device, statement, **changed)))

    def renew(self, device: Device, statement: messages.Statement, credential: str) -> messages.DeviceAttested:
        return self.attest(device, statement, device_credential=credential)


def proof_of(device: Device, statement: messages.Statement, nonce: bytes, key: str, server_id: str) -> str:
    kind = str(statement.__struct_config__.tag)
    digest = signed_bytes.attest_digest(context="", key=key, kind=kind, nonce=nonce, server_id=server_id)
    return encode_base64(device.sign_attestation(digest, messages.statement_jcs(statement)))


def reason_of(call: Callable[[], object]) -> str:
    with pytest.raises(AttestationInvalid) as caught:
        call()
    return str(caught.value.details["reason"])


@pytest.fixture
def device() -> Device:
    return Device.generate()


@pytest.fixture
def server() -> Server:
    return Server()


# Issue


@pytest.mark.parametrize("statement", [ANDROID_STATEMENT, APPLE_STATEMENT, YUBIKEY_STATEMENT])
def test_a_verified_statement_gives_a_credential_that_counts_for_its_device(
    server: Server, device: Device, statement: messages.Statement
) -> None:
    attested = server.attest(device, statement)
    proven = PROVEN[str(statement.__struct_config__.tag)]
    assert (attested.kind, attested.level, attested.binding) == proven[:3]
    assert parse_time(attested.expires_at, "") == int(START) + 90 * DAY
    assert parse_time(attested.renew_after, "") == int(START) + 60 * DAY
    credential = server.attestation.check(device.public, attested.device_credential)
    assert credential is not None
    assert credential.facts == proven.facts
    assert credential.payload.fingerprint == device.fingerprint
    assert credential.payload.attested_at == credential.payload.issued_at == int(START)
    assert server.observer.seen == [("attest", proven.kind, False)]


def test_a_repeat_within_five_minutes_works_and_a_lost_answer_costs_nothing(server: Server, device: Device) -> None:
    request = server.request(device, APPLE_STATEMENT)
    first = server.attestation.attest(server.attestation.open(request))
    server.now += 299
    again = server.attestation.attest(server.attestation.open(request))
    assert parse(first.device_credential).facts == parse(again.device_credential).facts
    server.now += 2
    assert reason_of(lambda: server.attestation.open(request)) == "challenge"


def test_the_same_facts_have_another_public_hash_in_each_credential(server: Server, device: Device) -> None:
    """Votes publish it: without the salt it would identify a device on every server."""
    issued = [server.attest(device).device_credential for _ in range(2)]
    assert len({parse(text).facts for text in issued}) == 1
    assert len({parse(text).public.facts_sha256 for text in issued}) == 2


def test_the_digest_is_of_the_nonce_the_kind_the_key_and_this_server(server: Server, device: Device) -> None:
    request = server.request(device, APPLE_STATEMENT)
    server.attestation.attest(server.attestation.open(request))
    nonce = bytes.fromhex(request.challenge_id)
    (expected,) = server.verifiers["apple-appattest"].expected
    for key in ("", device.wire_key):
        assert expected.digest(key) == signed_bytes.attest_digest(
            context="", key=key, kind="apple-appattest", nonce=nonce, server_id=IDENTITY.server_id
        )
    assert expected.device_key == device.public
    assert expected.now == START
    assert expected.previous is None


# Order of checks


def test_the_form_comes_first_then_the_nonce_then_the_proof_then_the_statement(server: Server, device: Device) -> None:
    large = messages.AndroidAttestation([encode_base64(b"x" * 8192)] * 6, witness=False)
    forged = encode_base64(b"\1" * 64)
    server.verifiers["android-key"].result = ANDROID._replace(level="emulator")
    nothing = {"challenge_id": "0" * 64, "signature": forged}
    with pytest.raises(InvalidRequest) as caught:
        server.attest(device, large, **nothing)
    assert caught.value.details["path"] == "$.attestation.x5c"
    assert reason_of(lambda: server.attest(device, **nothing)) == "challenge"
    with pytest.raises(InvalidSignature):
        server.attest(device, signature=forged)
    assert not server.verifiers["android-key"].expected
    assert reason_of(lambda: server.attest(device)) == "emulator"
    assert server.observer.seen == [
        ("attest", device.fingerprint, "android-key", "challenge", "nonce"),
        ("attest", device.fingerprint, "android-key", "emulator", "emulator_allowed"),
    ]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("device_public_key", "!"),
        ("signature", "!"),
        ("challenge_id", "0" * 62),
        ("challenge_id", "A" * 64),
        ("challenge_id", ""),
    ],
)
def test_what_is_malformed_names_its_member(server: Server, device: Device, member: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        server.attest(device, **{member: value})
    assert caught.value.details["path"] == f"$.{member}"


@pytest.mark.parametrize("statement", [ANDROID_STATEMENT, APPLE_STATEMENT, ASSERTION, YUBIKEY_STATEMENT])
def test_a_certificate_that_is_no_base64_names_its_member(
    server: Server, device: Device, statement: messages.Statement
) -> None:
    (member,) = set(statement.__struct_fields__) - {"witness"}
    wrong: Any = "!!!!" if isinstance(getattr(statement, member), str) else [CERTIFICATE, "!!!!"]
    request = server.request(device, statement, attestation=msgspec.structs.replace(statement, **{member: wrong}))
    with pytest.raises(InvalidRequest) as caught:
        server.attestation.open(request)
    assert caught.value.details["path"] == f"$.attestation.{member}"


def test_a_key_of_the_server_is_no_device(server: Server, device: Device) -> None:
    own = encode_base64(IDENTITY.keys["ES256"].public.wire)
    with pytest.raises(InvalidPublicKey):
        server.attest(device, device_public_key=own)


def test_a_nonce_is_of_this_server_and_of_its_time(server: Server, device: Device) -> None:
    other = Server(identity=OTHER_SERVER)
    foreign = other.attestation.challenge().challenge_id
    assert reason_of(lambda: server.attest(device, challenge_id=foreign)) == "challenge"
    flipped = bytearray.fromhex(server.attestation.challenge().challenge_id)
    for position in (0, 4, 16, 31):
        changed = bytearray(flipped)
        changed[position] ^= 1
        text = changed.hex()
        assert reason_of(lambda given=text: server.attest(device, challenge_id=given)) == "challenge"


def test_the_proof_is_of_this_device_statement_nonce_key_and_server(server: Server, device: Device) -> None:
    nonce = bytes.fromhex(server.attestation.challenge().challenge_id)
    good: dict[str, Any] = {
        "device": device, "statement": APPLE_STATEMENT, "nonce": nonce, "key": device.wire_key,
        "server_id": IDENTITY.server_id,
    }  # fmt: skip
    changes: list[dict[str, Any]] = [
        {"device": Device.generate()},
        {"statement": messages.AppleAttestation(encode_base64(b"another"))},
        {"statement": ASSERTION},
        {"nonce": bytes.fromhex(server.attestation.challenge().challenge_id)},
        {"key": ""},
        {"server_id": OTHER_SERVER.server_id},
    ]
    for change in changes:
        request = messages.AttestDevice(device.wire_key, nonce.hex(), APPLE_STATEMENT, proof_of(**{**good, **change}))
        with pytest.raises(InvalidSignature):
            server.attestation.attest(server.attestation.open(request))
    request = messages.AttestDevice(device.wire_key, nonce.hex(), APPLE_STATEMENT, proof_of(**good))
    assert server.attestation.attest(server.attestation.open(request))


def test_a_kind_that_is_not_accepted_is_rejected_before_its_chain_is_read(server: Server, device: Device) -> None:
    server.attestation = server.host(replace(POLICY, kinds=frozenset({"yubikey-piv"})))
    for statement in (ANDROID_STATEMENT, APPLE_STATEMENT):
        assert reason_of(lambda given=statement: server.attest(device, given)) == "kind"
    assert not server.verifiers["android-key"].expected


def test_a_revoked_device_attests_nothing(server: Server, device: Device) -> None:
    server.attestation = server.host(replace(POLICY, revoked_devices=frozenset({device.fingerprint})))
    with pytest.raises(DeviceRevoked):
        server.attest(device)


def test_an_old_status_list_stops_android_alone_and_only_if_it_is_strict(server: Server, device: Device) -> None:
    server.status.old = True
    assert server.attest(device)
    server.attestation = server.host(replace(POLICY, status_strict=True))
    assert reason_of(lambda: server.attest(device)) == "revoked"
    assert server.attest(device, APPLE_STATEMENT)
    server.status.old = False
    assert server.attest(device)


# At each use


def test_without_a_credential_only_a_server_that_requires_one_refuses(server: Server, device: Device) -> None:
    assert server.attestation.check(device.public, None) is None
    with pytest.raises(AttestationRequired):
        server.host(replace(POLICY, required=True)).check(device.public, None)
    assert server.observer.seen == [("approval", device.fingerprint, "", "required", "credential")]


def test_a_server_without_attestation_ignores_a_credential(server: Server, device: Device) -> None:
    assert server.host(AttestationPolicy()).check(device.public, "anything") is None


def test_a_server_that_requires_attestation_and_accepts_no_kind_accepts_nothing(server: Server, device: Device) -> None:
    """No such settings start; a fault elsewhere must not let approvals through."""
    text = server.attest(device).device_credential
    closed = server.host(AttestationPolicy(required=True))
    with pytest.raises(AttestationRequired):
        closed.check(device.public, None)
    assert reason_of(lambda: closed.check(device.public, text)) == "kind"


def test_a_presented_credential_that_does_not_count_is_refused_also_where_none_is_required(
    server: Server, device: Device
) -> None:
    assert reason_of(lambda: server.attestation.check(device.public, "anything")) == "malformed"
    assert server.observer.seen == [("approval", device.fingerprint, "", "malformed", "credential_form")]


def test_a_credential_is_for_one_device_and_one_server(server: Server, device: Device) -> None:
    text = server.attest(device).device_credential
    assert reason_of(lambda: server.attestation.check(Device.generate().public, text)) == "key_properties"
    other = Server(identity=OTHER_SERVER)
    assert reason_of(lambda: other.attestation.check(device.public, text)) == "chain"


def test_another_host_with_the_same_words_accepts_it_also_after_a_recovery(server: Server, device: Device) -> None:
    text = server.attest(device).device_credential
    words = DerivedSecrets(*(bytes([n]) * 32 for n in (1, 2, 3, 4, 5, 6)))
    recovered = ServerIdentity.from_secrets(words)
    assert recovered.server_id == IDENTITY.server_id
    assert server.host(identity=recovered).check(device.public, text) is not None


def test_every_part_is_needed_and_covered(server: Server, device: Device) -> None:
    text = server.attest(device).device_credential
    other = server.attest(Device.generate(), YUBIKEY_STATEMENT).device_credential
    parts, others = text.split("."), other.split(".")
    assert len(parts) == 4
    wrong = {
        "without facts": (".".join(parts[:3]), "malformed"),
        "empty facts": (".".join([*parts[:3], ""]), "malformed"),
        "facts of another": (".".join([*parts[:3], others[3]]), "malformed"),
        "another signature": (".".join([*parts[:2], others[2], parts[3]]), "chain"),
        "payload of another": (".".join([parts[0], others[1], *parts[2:]]), "malformed"),
        "another version": (".".join(["sdc2", *parts[1:]]), "malformed"),
        "one more part": (f"{text}.AA", "malformed"),
        "padding": (f"{text}=", "malformed"),
    }
    for name, (changed, reason) in wrong.items():
        assert reason_of(lambda given=changed: server.attestation.check(device.public, given)) == reason, name


def test_forged_facts_or_payloads_never_count(server: Server, device: Device) -> None:
    genuine = parse(server.attest(device).device_credential)
    forged = device_credential.issue(
        genuine.payload, genuine.facts, PrivateKey.load("ES256", os.urandom(32)).sign, salt=bytes(16)
    )
    assert reason_of(lambda: server.attestation.check(device.public, forged)) == "chain"
    better = msgspec.structs.replace(genuine.payload, level="secure_element")
    raised = device_credential.issue(better, genuine.facts, lambda _: genuine.public.signature, salt=bytes(16))
    assert reason_of(lambda: server.attestation.check(device.public, raised)) == "chain"


def test_it_counts_until_the_second_of_its_expiry_and_a_shorter_life_holds_for_old_ones(
    server: Server, device: Device
) -> None:
    text = server.attest(device).device_credential
    server.now = int(START) + 90 * DAY - 1
    assert server.attestation.check(device.public, text)
    assert reason_of(lambda: server.host(replace(POLICY, credential_days=30)).check(device.public, text)) == "expired"
    server.now += 1
    assert reason_of(lambda: server.attestation.check(device.public, text)) == "expired"
    longer = server.host(replace(POLICY, credential_days=365))
    assert reason_of(lambda: longer.check(device.public, text)) == "expired"


def test_a_stricter_setting_and_a_revocation_act_at_once_on_a_cached_credential(server: Server, device: Device) -> None:
    text = server.attest(device).device_credential
    assert server.attestation.check(device.public, text)
    server.status.listed = {"2b"}
    assert reason_of(lambda: server.attestation.check(device.public, text)) == "revoked"
    # It lists certificates of Android alone.
    server.verifiers["yubikey-piv"] = Verifier(with_facts(YUBIKEY, serials=("2b",)))
    of_yubikey = server.attest(device, YUBIKEY_STATEMENT).device_credential
    assert server.attestation.check(device.public, of_yubikey)
    server.status.listed = set()
    assert server.attestation.check(device.public, text)
    for settings, reason in (
        ({"kinds": frozenset({"yubikey-piv"})}, "kind"),
        ({"android_apps": ()}, "app"),
        ({"android_min_level": "secure_element"}, "level"),
        ({"android_min_patch": 202602}, "patch"),
        ({"credentials_not_before": int(START) + 1}, "revoked"),
        ({"revoked_devices": frozenset({device.fingerprint})}, "revoked"),
    ):
        server.attestation.policy = replace(POLICY, **settings)
        assert reason_of(lambda: server.attestation.check(device.public, text)) == reason, settings
    server.attestation.policy = replace(POLICY, credentials_not_before=int(START))
    assert server.attestation.check(device.public, text)


def test_an_emulator_counts_no_longer_when_emulators_are_forbidden(server: Server, device: Device) -> None:
    server.verifiers["android-key"].result = ANDROID._replace(level="emulator")
    server.attestation = server.host(replace(POLICY, allow_emulators=True))
    text = server.attest(device).device_credential
    assert server.attestation.check(device.public, text)
    assert reason_of(lambda: server.host().check(device.public, text)) == "emulator"


def test_the_cache_holds_verified_credentials_alone_and_forgets_the_least_recent(
    server: Server, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MAX_CACHED", 3)
    verified: list[str] = []

    def counted(text: str, key: Any) -> Any:
        verified.append(text)
        return original(text, key)

    devices = [Device.generate() for _ in range(4)]
    texts = [server.attest(each).device_credential for each in devices]
    server.attestation = server.host()
    original = service.credentials.verified
    monkeypatch.setattr(service.credentials, "verified", counted)
    for _ in range(2):
        for each, text in zip(devices[:3], texts[:3], strict=True):
            assert server.attestation.check(each.public, text)
    assert verified == texts[:3]
    for junk in range(10):
        reason_of(lambda given=f"sdc1.{junk}": server.attestation.check(device.public, given))
    assert server.attestation.check(devices[0].public, texts[0])
    assert verified[3:] == [f"sdc1.{junk}" for junk in range(10)]
    verified.clear()
    assert server.attestation.check(devices[3].public, texts[3])
    assert server.attestation.check(devices[0].public, texts[0])
    assert server.attestation.check(devices[1].public, texts[1])
    assert verified == [texts[3], texts[1]]
    assert len(server.attestation._cache) == 3


# Renewal


def test_an_assertion_renews_and_copies_all_but_the_counter(server: Server, device: Device) -> None:
    old = server.attest(device, APPLE_STATEMENT).device_credential
    server.now += 60 * DAY
    new = server.renew(device, ASSERTION, old)
    before, after = parse(old), parse(new.device_credential)
    assert after.facts == msgspec.structs.replace(before.facts, counter=7)
    assert after.payload.attested_at == before.payload.attested_at == int(START)
    assert after.payload.issued_at == int(START) + 60 * DAY
    assert after.payload.expires_at == int(START) + 150 * DAY
    assert (after.payload.kind, after.payload.level, after.payload.binding) == APPLE[:3]
    (expected,) = server.verifiers["apple-assertion"].expected
    assert expected.previous == APPLE
    assert server.observer.seen[-1] == ("attest", "apple-appattest", True)
    assert server.attestation.check(device.public, new.device_credential)


def test_a_witness_renews_with_the_lower_level_and_the_state_of_the_phone_as_it_is(
    server: Server, device: Device
) -> None:
    old = server.attest(device).device_credential
    server.verifiers["android-key"].result = with_facts(
        ANDROID._replace(level="secure_element", binding="witness"),
        patch=202606, boot_key="cd" * 32, user_auth=False, serials=("3c",),
    )  # fmt: skip
    new = parse(server.renew(device, WITNESS, old).device_credential)
    assert (new.payload.level, new.payload.binding, new.payload.app) == ("hardware", "direct", ANDROID.app)
    assert new.facts.patch == 202606
    assert new.facts.boot_key == "cd" * 32
    assert new.facts.user_auth is True
    assert new.facts.serials == ("3c",)
    assert new.facts.first_serials == ("1a", "2b")
    text = server.renew(device, WITNESS, server.renew(device, WITNESS, old).device_credential).device_credential
    assert parse(text).facts.first_serials == ("1a", "2b")
    server.status.listed = {"1a"}
    assert reason_of(lambda: server.attestation.check(device.public, text)) == "revoked"


def test_a_renewal_lowers_the_level(server: Server, device: Device) -> None:
    server.verifiers["android-key"].result = ANDROID._replace(level="secure_element")
    old = server.attest(device).device_credential
    server.verifiers["android-key"].result = ANDROID
    assert server.renew(device, WITNESS, old).level == "hardware"


RENEWALS = [
    pytest.param(APPLE_STATEMENT, ASSERTION, id="apple"),
    pytest.param(ANDROID_STATEMENT, WITNESS, id="android"),
]


@pytest.mark.parametrize(("first", "renewal"), RENEWALS)
def test_a_renewal_needs_a_credential_of_this_device_kind_and_server(
    server: Server, device: Device, first: messages.Statement, renewal: messages.Statement
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        server.attest(device, renewal)
    assert caught.value.details["path"] == "$.device_credential"
    of_another_device = server.attest(Device.generate(), first).device_credential
    assert reason_of(lambda: server.renew(device, renewal, of_another_device)) == "key_properties"
    of_another_kind = server.attest(device, YUBIKEY_STATEMENT).device_credential
    assert reason_of(lambda: server.renew(device, renewal, of_another_kind)) == "kind"
    of_another_server = Server(identity=OTHER_SERVER).attest(device, first).device_credential
    assert reason_of(lambda: server.renew(device, renewal, of_another_server)) == "chain"
    own = server.attest(device, first).device_credential
    assert reason_of(lambda: server.renew(device, renewal, own.rpartition(".")[0])) == "malformed"
    facts = encode_facts(with_facts(APPLE, counter=0, app_attest_key="B" * 44))
    assert reason_of(lambda: server.renew(device, renewal, f"{own.rpartition('.')[0]}.{facts}")) == "malformed"
    assert server.renew(device, renewal, own)


def encode_facts(attested: Attested) -> str:
    text = device_credential.issue(
        parse(Server().attest(Device.generate()).device_credential).payload,
        attested.facts,
        lambda _: b"\1" * 64,
        salt=bytes(16),
    )
    return text.rpartition(".")[2]


@pytest.mark.parametrize(("first", "renewal"), RENEWALS)
def test_a_credential_may_be_renewed_for_as_long_again_as_it_lived(
    server: Server, device: Device, first: messages.Statement, renewal: messages.Statement
) -> None:
    old = server.attest(device, first).device_credential
    server.now = int(START) + 180 * DAY - 1
    assert reason_of(lambda: server.attestation.check(device.public, old)) == "expired"
    new = server.renew(device, renewal, old).device_credential
    assert server.attestation.check(device.public, new)
    server.now += 1
    assert reason_of(lambda: server.renew(device, renewal, old)) == "expired"
    # A shorter life ends the time for a renewal earlier, too: it expired after 30 days, more than 30 days ago.
    server.now = int(START) + 60 * DAY
    shorter, longer = server.host(replace(POLICY, credential_days=30)), server.host(replace(POLICY, credential_days=31))
    server.attestation = shorter
    assert reason_of(lambda: server.renew(device, renewal, old)) == "expired"
    server.attestation = longer
    assert server.renew(device, renewal, old)


@pytest.mark.parametrize(("first", "renewal"), RENEWALS)
def test_a_credential_from_before_the_setting_or_of_a_revoked_device_is_not_renewed(
    server: Server, device: Device, first: messages.Statement, renewal: messages.Statement
) -> None:
    old = server.attest(device, first).device_credential
    server.attestation = server.host(replace(POLICY, credentials_not_before=int(START) + 1))
    assert reason_of(lambda: server.renew(device, renewal, old)) == "revoked"
    server.attestation = server.host(replace(POLICY, revoked_devices=frozenset({device.fingerprint})))
    with pytest.raises(DeviceRevoked):
        server.renew(device, renewal, old)


def test_a_credential_of_a_revoked_chain_is_not_renewed_by_a_sound_one(server: Server, device: Device) -> None:
    old = server.attest(device).device_credential
    server.verifiers["android-key"].result = with_facts(ANDROID, serials=("3c",))
    server.status.listed = {"2b"}
    assert reason_of(lambda: server.renew(device, WITNESS, old)) == "revoked"


def test_a_witness_vouches_only_for_a_key_that_was_attested_itself(server: Server, device: Device) -> None:
    server.verifiers["android-key"].result = ANDROID._replace(binding="witness")
    old = server.attest(device).device_credential
    assert reason_of(lambda: server.renew(device, WITNESS, old)) == "kind"


def test_an_update_of_the_phone_is_a_renewal_and_an_old_patch_is_none(server: Server, device: Device) -> None:
    old = server.attest(device).device_credential
    server.attestation = server.host(replace(POLICY, android_min_patch=202606))
    assert reason_of(lambda: server.renew(device, WITNESS, old)) == "patch"
    server.verifiers["android-key"].result = with_facts(ANDROID, patch=202606)
    assert server.renew(device, WITNESS, old)


def test_the_app_that_vouches_is_one_of_the_operator_and_so_is_the_first(server: Server, device: Device) -> None:
    old = server.attest(device).device_credential
    moved = f"org.example.other:{'ee' * 32}"
    server.verifiers["android-key"].result = ANDROID._replace(app=moved)
    assert reason_of(lambda: server.renew(device, WITNESS, old)) == "app"
    server.attestation = server.host(replace(POLICY, android_apps=(("org.example.other", b"\xee" * 32),)))
    assert reason_of(lambda: server.renew(device, WITNESS, old)) == "app"


def test_a_renewal_that_is_rejected_leaves_the_old_credential_as_it_was(server: Server, device: Device) -> None:
    old = server.attest(device, APPLE_STATEMENT).device_credential

    def refuse(_statement: Any, _expected: Any) -> Any:
        raise Rejected("challenge", "assertion_signature")
        yield

    server.verifiers["apple-assertion"] = refuse  # type: ignore[assignment]
    assert reason_of(lambda: server.renew(device, ASSERTION, old)) == "challenge"
    assert server.attestation.check(device.public, old)


# Enrolment


NONCE = bytes(range(32))


def enrol(server: Server, device: Device, statement: messages.Statement, min_level: str = "") -> str:
    return server.attestation.verify_for_enrolment(
        device.public, statement, enrolment_id="e1", nonce=NONCE, min_level=min_level
    )


def test_an_enrolment_gets_a_credential_of_the_offer_without_a_proof(server: Server, device: Device) -> None:
    text = enrol(server, device, APPLE_STATEMENT)
    assert server.attestation.check(device.public, text)
    (expected,) = server.verifiers["apple-appattest"].expected
    assert expected.digest("k") == signed_bytes.attest_digest(
        context="e1", key="k", kind="apple-appattest", nonce=NONCE, server_id=IDENTITY.server_id
    )
    assert server.observer.seen == [("enrolment", "apple-appattest", False)]


def test_an_enrolment_needs_the_level_of_its_offer_as_well_as_the_policy(server: Server, device: Device) -> None:
    assert enrol(server, device, ANDROID_STATEMENT, "hardware")
    assert reason_of(lambda: enrol(server, device, ANDROID_STATEMENT, "secure_element")) == "level"
    server.verifiers["android-key"].result = ANDROID._replace(level="emulator")
    assert reason_of(lambda: enrol(server, device, ANDROID_STATEMENT, "emulator")) == "emulator"
    server.attestation = server.host(replace(POLICY, allow_emulators=True))
    assert enrol(server, device, ANDROID_STATEMENT, "emulator")
    assert reason_of(lambda: enrol(server, device, ANDROID_STATEMENT, "hardware")) == "level"


def test_an_enrolment_takes_no_larger_statement_than_the_endpoint(server: Server, device: Device) -> None:
    large = messages.AndroidAttestation([encode_base64(b"x" * 8192)] * 6, witness=False)
    with pytest.raises(InvalidRequest) as caught:
        enrol(server, device, large)
    assert caught.value.details["path"] == "$.attestation.x5c"


def test_an_enrolment_without_its_attestation_is_logged_as_any_other_rejection(server: Server, device: Device) -> None:
    missing = server.attestation.rejected_enrolment(device.public, "")
    other = server.attestation.rejected_enrolment(device.public, "yubikey-piv")
    assert isinstance(missing, AttestationRequired)
    assert isinstance(other, AttestationInvalid)
    assert other.details == {"reason": "kind"}
    name = device.fingerprint
    assert server.observer.seen == [
        ("enrolment", name, "", "required", "attestation"),
        ("enrolment", name, "yubikey-piv", "kind", "kind_offered"),
    ]


def test_a_renewal_enrols_nothing(server: Server, device: Device) -> None:
    for statement in (ASSERTION, WITNESS):
        assert reason_of(lambda given=statement: enrol(server, device, given)) == "kind"


def test_where_nothing_is_accepted_a_statement_is_of_the_wrong_kind(server: Server, device: Device) -> None:
    server.attestation = server.host(AttestationPolicy())
    for statement in (ANDROID_STATEMENT, APPLE_STATEMENT, YUBIKEY_STATEMENT):
        assert reason_of(lambda given=statement: enrol(server, device, given)) == "kind"


def test_no_error_repeats_a_serial_or_the_credential(server: Server, device: Device) -> None:
    text = server.attest(device).device_credential
    server.status.listed = {"2b"}
    with pytest.raises(Problem) as caught:
        server.attestation.check(device.public, text)
    shown = f"{caught.value!r}{caught.value.message}{caught.value.details}{caught.value.__cause__!r}"
    assert "2b" not in shown.replace(device.fingerprint, "")
    assert text[:30] not in shown
