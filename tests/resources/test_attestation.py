"""Attestation over HTTP, through the whole application in one process, with the phones for tests and their roots."""

from __future__ import annotations

import gc
import json
import os
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import falcon.testing
import pytest

from sigil.app.operational import ATTESTATIONS_PER_MINUTE, Snapshot, build
from sigil.app.services import Dependencies
from sigil.app.state import KINDS
from sigil.attestation.observer import Use
from sigil.attestation.policy import AttestationPolicy
from sigil.config.settings import Config
from sigil.device import Device
from sigil.device.test_phone import phones
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol import signed_bytes
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.serving import logs
from sigil.serving.process.lifecycle import WorkerLifecycle
from sigil.sessions.long_polls import LongPolls
from sigil.store.memory import MemoryStore
from sigil.telemetry.event_log import REJECTIONS_PER_MINUTE, AttestationEventLog
from sigil.telemetry.metrics import AttestationMetrics, Metrics
from tests.support.services import IDENTITY, SECRETS

KEY = issue_api_key(SECRETS.api_key, "sgk_live_", os.urandom(16))
GOOD = {"Authorization": f"Bearer {KEY}"}
ROOT = TestRoot.memory()
POLICY = AttestationPolicy(
    required=True,
    kinds=frozenset({"android-key", "apple-appattest", "yubikey-piv"}),
    apple_apps=("ABCDE12345.org.example.sigil",),
    android_apps=(("org.example.sigil", bytes(range(32))),),
    test_roots=ROOT.certificates,
)
ACTION = {"type": "login", "description": "Sign in"}


class Client:
    """Requests from one address to one worker."""

    def __init__(self, conductor: falcon.testing.ASGIConductor) -> None:
        self._conductor = conductor

    async def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        text = None if body is None else json.dumps(body)
        given = {"Content-Type": "application/json", **headers}
        answer = await self._conductor.simulate_request(method, path, body=text, headers=given)
        return int(answer.status_code), answer.json

    async def attest_body(self, phone: Device, kind: str, **members: Any) -> dict[str, Any]:
        _, challenge = await self("GET", "/device/attest/challenge")
        nonce = decode_base64(challenge["nonce"], "")

        def digest_for(statement_kind: str, key: str) -> bytes:
            return signed_bytes.attest_digest(
                context="", key=key, kind=statement_kind, nonce=nonce, server_id=IDENTITY.server_id
            )

        fields = {name: members.pop(name) for name in ("assertion", "witness", "patch") if name in members}
        statement = phones.phone(kind, ROOT, phone.public, **fields).statement(digest_for)
        holds_key = kind == "yubikey" or (kind == "android" and not statement["witness"])
        digest = digest_for(statement["kind"], "" if holds_key else phone.wire_key)
        return {
            "device_public_key": phone.wire_key,
            "challenge_id": challenge["challenge_id"],
            "attestation": statement,
            "signature": encode_base64(phone.sign_attestation(digest, canonical(statement))),
            **members,
        }

    async def credential(self, phone: Device, kind: str) -> str:
        status, attested = await self("POST", "/device/attest", await self.attest_body(phone, kind))
        assert status == 200, attested
        return str(attested["device_credential"])

    async def answer(self, phone: Device, credential: str | None) -> tuple[int, dict[str, Any], str]:
        """The status and body of an approval, and the id of its challenge."""
        wanted = {"device_public_key": phone.wire_key, "action": ACTION}
        _, created = await self("POST", "/challenge", wanted, **GOOD)
        signature = phone.sign_approval(decode_base64(created["challenge_bytes"], ""), canonical(ACTION))
        body = {"challenge_id": created["challenge_id"], "signature": encode_base64(signature)}
        body |= {"fingerprint": phone.fingerprint}
        body |= {"device_credential": credential} if credential else {}
        status, answered = await self("POST", "/respond", body)
        return status, answered, created["challenge_id"]


class Counted(Metrics):
    def attestations(self) -> AttestationMetrics:
        self.made = super().attestations()
        return self.made


def application(policy: AttestationPolicy, **settings: Any) -> tuple[Any, Counted]:
    store = MemoryStore(kinds=KINDS, clock=time.time)
    metrics = Counted(store, version="1", memory=None)
    config = Config(attestation=policy, workers=1, **settings)
    parts = Dependencies(store=store, long_polls=LongPolls(), metrics=metrics)
    return build(Snapshot(config, SECRETS), parts, WorkerLifecycle(0, 1)), metrics


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    seen: list[tuple[str, dict[str, Any]]] = []

    def report(_level: str, event: str, fields: dict[str, Any]) -> None:
        seen.append((event, fields))

    monkeypatch.setattr(logs, "report", report)
    return seen


@pytest.mark.parametrize("kind", ["android", "apple", "yubikey"])
async def test_a_phone_attests_itself_once_and_approves_with_its_credential(
    kind: str, lines: list[tuple[str, dict[str, Any]]]
) -> None:
    app, metrics = application(POLICY)
    async with falcon.testing.ASGIConductor(app) as conductor:
        client, phone = Client(conductor), Device.generate()
        assert (await client.answer(phone, None))[:2][0] == 403
        body = await client.attest_body(phone, kind)
        status, attested = await client("POST", "/device/attest", body)
        assert status == 200
        repeated, again = await client("POST", "/device/attest", body)
        assert (repeated, again["kind"]) == (200, attested["kind"])
        for _ in range(2):
            status, answered, challenge_id = await client.answer(phone, attested["device_credential"])
            assert (status, answered["verified"]) == (200, True)
        _, shown = await client("GET", f"/v1/auth/challenge/{challenge_id}/status", **GOOD)
        expected = {name: attested[name] for name in ("kind", "level", "binding")}
        assert {name: shown["attestation"][name] for name in expected} == expected
    found = counts(metrics)
    assert found[attested["kind"], "issued"] == 2
    assert found["none", "required"] == 1
    events = [(event, fields) for event, fields in lines if event.startswith("attestation_")]
    assert [event for event, _ in events] == ["attestation_rejected", "attestation_issued", "attestation_issued"]
    assert {"use", "fingerprint", "kind", "level", "binding"} <= set(events[1][1])
    assert len(events[1][1]["fingerprint"]) < 10
    printed = json.dumps([fields for _, fields in events])
    assert all(part not in printed for part in attested["device_credential"].split(".")[1:])


def counts(metrics: Counted) -> dict[tuple[str, str], float]:
    return {
        (kind, result): counter._value.get()
        for kind, results in metrics.made._of_kind.items()
        for result, counter in results.items()
    }


async def test_a_renewal_over_http() -> None:
    app, _ = application(POLICY)
    async with falcon.testing.ASGIConductor(app) as conductor:
        client = Client(conductor)
        for kind, member in (("apple", "assertion"), ("android", "witness")):
            phone = Device.generate()
            old = await client.credential(phone, kind)
            body = await client.attest_body(phone, kind, **{member: True})
            status, refused = await client("POST", "/device/attest", body)
            assert (status, refused["error"]["details"]["path"]) == (400, "$.device_credential")
            status, renewed = await client("POST", "/device/attest", {**body, "device_credential": old})
            assert status == 200, renewed
            assert (await client.answer(phone, renewed["device_credential"]))[0] == 200
            stranger = await client.credential(Device.generate(), kind)
            status, refused = await client("POST", "/device/attest", {**body, "device_credential": stranger})
            assert (status, refused["error"]["details"]["reason"]) == (403, "key_properties")


async def test_forged_requests_get_typed_errors() -> None:
    app, _ = application(POLICY, rate_limit=0)
    async with falcon.testing.ASGIConductor(app) as conductor:
        client, phone = Client(conductor), Device.generate()
        body = await client.attest_body(phone, "yubikey")
        statement = body["attestation"]
        changed: list[tuple[dict[str, Any], int, str]] = [
            ({"signature": encode_base64(bytes(64))}, 401, "INVALID_SIGNATURE"),
            ({"challenge_id": "0" * 64}, 403, "ATTESTATION_INVALID"),
            ({"device_public_key": Device.generate().wire_key}, 401, "INVALID_SIGNATURE"),
            ({"attestation": {**statement, "kind": "tpm"}}, 400, "INVALID_REQUEST"),
            ({"attestation": {**statement, "witness": True}}, 400, "INVALID_REQUEST"),
            ({"attestation": {**statement, "x5c": statement["x5c"][:1]}}, 400, "INVALID_REQUEST"),
            ({"attestation": {**statement, "x5c": statement["x5c"] * 6}}, 400, "INVALID_REQUEST"),
            ({"attestation": {**statement, "x5c": ["A" * 10_932] * 2}}, 400, "INVALID_REQUEST"),
            ({"attestation": {**statement, "x5c": [encode_base64(bytes(8192))] * 6}}, 413, "PAYLOAD_TOO_LARGE"),
            ({"attestation": {**statement, "x5c": [encode_base64(bytes(8100))] * 6}}, 400, "INVALID_REQUEST"),
            ({"attestation": [statement]}, 400, "INVALID_REQUEST"),
            ({"extra": 1}, 400, "INVALID_REQUEST"),
        ]
        for members, status, code in changed:
            found, answer = await client("POST", "/device/attest", {**body, **members})
            assert (found, answer["error"]["code"]) == (status, code), members.keys()
        assert (await client("POST", "/device/attest", body))[0] == 200
        # Signed over the statement that was changed afterwards.
        swapped = {**statement, "x5c": statement["x5c"][::-1]}
        found, answer = await client("POST", "/device/attest", {**body, "attestation": swapped})
        assert (found, answer["error"]["code"]) == (401, "INVALID_SIGNATURE")


@pytest.mark.parametrize("policy", [AttestationPolicy(), replace(AttestationPolicy(), kinds=frozenset())])
async def test_without_a_kind_there_are_no_routes_and_no_feature(policy: AttestationPolicy) -> None:
    app, _ = application(policy)
    async with falcon.testing.ASGIConductor(app) as conductor:
        client = Client(conductor)
        assert (await client("GET", "/device/attest/challenge"))[0] == 404
        assert (await client("POST", "/device/attest", {}))[0] == 404
        _, info = await client("GET", "/info")
        assert not info["features"].get("attestation")
        assert "attestation" not in info


async def test_info_states_what_is_accepted() -> None:
    app, _ = application(POLICY)
    async with falcon.testing.ASGIConductor(app) as conductor:
        _, info = await Client(conductor)("GET", "/info")
        assert info["features"]["attestation"] is True
        kinds = ["android-key", "apple-appattest", "yubikey-piv"]
        assert info["attestation"] == {"kinds": kinds, "required": True}


async def test_an_address_attests_thirty_times_a_minute_and_memory_stays_flat() -> None:
    app, _ = application(POLICY, rate_limit=0)
    async with falcon.testing.ASGIConductor(app) as conductor:
        client, phone = Client(conductor), Device.generate()
        body = await client.attest_body(phone, "yubikey")
        seen = [(await client("POST", "/device/attest", body))[0] for _ in range(ATTESTATIONS_PER_MINUTE + 10)]
        # A request or two fit in again while the others run.
        assert seen[:ATTESTATIONS_PER_MINUTE] == [200] * ATTESTATIONS_PER_MINUTE
        assert seen[-1] == 429

        async def flood(times: int) -> int:
            for number in range(times):
                await client("POST", "/device/attest", {**body, "challenge_id": f"{number:064x}"})
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = await flood(150)
            after = await flood(300)
        finally:
            tracemalloc.stop()
        assert after - before < 200_000


async def test_failures_are_charged_to_the_address() -> None:
    app, _ = application(POLICY, rate_limit=60)
    async with falcon.testing.ASGIConductor(app) as conductor:
        client = Client(conductor)
        wrong: Callable[[int], dict[str, Any]] = lambda number: {"challenge_id": str(number)}  # noqa: E731
        seen = [(await client("POST", "/device/attest", wrong(number)))[0] for number in range(7)]
        assert seen == [400] * 6 + [429]


async def test_the_first_refusal_of_a_signed_approval_is_free_and_its_repetition_is_not() -> None:
    """Credentials of many devices behind one address expire on one day, and each renews and answers again."""
    app, _ = application(POLICY, rate_limit=60)
    async with falcon.testing.ASGIConductor(app) as conductor:
        client = Client(conductor)
        for _ in range(12):
            assert (await client.answer(Device.generate(), None))[0] == 403
        body = {"challenge_id": "", "signature": ""}
        phone = Device.generate()
        _, created = await client("POST", "/challenge", {"device_public_key": phone.wire_key, "action": ACTION}, **GOOD)
        signature = phone.sign_approval(decode_base64(created["challenge_bytes"], ""), canonical(ACTION))
        body |= {"challenge_id": created["challenge_id"], "signature": encode_base64(signature)}
        body |= {"fingerprint": phone.fingerprint}
        seen = [(await client("POST", "/respond", body))[0] for _ in range(8)]
        assert seen == [403] * 7 + [429]


@pytest.mark.parametrize("use", ["attest", "enrolment"])
def test_rejections_of_new_keys_without_end_do_not_fill_the_log(
    lines: list[tuple[str, dict[str, Any]]], use: Use
) -> None:
    now = 600.0
    log = AttestationEventLog(lambda: now)
    for number in range(1000):
        log.rejected(use, f"{number:064x}", "android-key", "root", "root")
    log.rejected("approval", "f" * 64, "", "required", "credential")
    assert len(lines) == REJECTIONS_PER_MINUTE + 1
    now += 60
    for number in (2000, 2001):
        log.rejected(use, f"{number:064x}", "android-key", "root", "root")
    suppressed = [fields.get("suppressed") for _, fields in lines[REJECTIONS_PER_MINUTE + 1 :]]
    assert suppressed == [1000 - REJECTIONS_PER_MINUTE, None]


def test_a_server_that_requires_attestation_issues_live_keys_and_any_other_test_keys() -> None:
    assert Config(attestation=POLICY).key_prefix == "sgk_live_"
    assert Config(attestation=replace(POLICY, required=False)).key_prefix == "sgk_test_"
