"""Each check of a statement explained: what the server decides is what the command prints, and no more is claimed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from deploy.attestation.hostile import CASES
from sigil.android_status.list_file import replace as list_replace
from sigil.attestation import explain as explaining
from sigil.attestation.certificates.roots import anchors
from sigil.attestation.explain import Explained, Explanation, Unreadable, explain, read
from sigil.attestation.service import Attestation
from sigil.attestation.verify import verifiers
from sigil.cli.commands import sigil
from sigil.device.test_phone import phones
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.errors import AttestationInvalid
from sigil.protocol.identity import ServerIdentity
from sigil.protocol.keys import PrivateKey
from sigil.protocol.messages.attestation import AttestDevice
from tests.attestation.examples import POLICY
from tests.attestation.support import DEVICE, NOW, ROOT, digest_for
from tests.support.services import IDENTITY
from tests.support.web_key import WebKey

KEY = PrivateKey.load("ES256", bytes([7]) * 32)
KEYS = {"android": "android-key", "apple": "apple-appattest", "yubikey": "yubikey-piv"}
Change = Callable[[dict[str, Any]], dict[str, Any]]


def service(policy: Any = POLICY, now: float = NOW) -> Attestation:
    return Attestation(
        IDENTITY,
        policy,
        verifiers=verifiers(),
        anchors=anchors(ROOT.certificates),
        clock=lambda: now,
        randomness=bytes,
    )


def body(name: str, credential: str | None = None, sign: PrivateKey = KEY, **forged: object) -> dict[str, Any]:
    """Of POST /device/attest, as the device sends it."""
    challenge = service().challenge()
    nonce = decode_base64(challenge.nonce, "$")

    def digest(kind: str, key: str) -> bytes:
        return signed_bytes.attest_digest(context="", key=key, kind=kind, nonce=nonce, server_id=IDENTITY.server_id)

    statement = phones.phone(name, ROOT, DEVICE, now=NOW, **forged).statement(digest)
    key = encode_base64(DEVICE.wire) if name == "apple" or forged.get("witness") else ""
    proof = signed_bytes.attestation_proof(digest(statement["kind"], key), canonical(statement))
    return {
        "device_public_key": encode_base64(DEVICE.wire),
        "challenge_id": challenge.challenge_id,
        "attestation": statement,
        "signature": encode_base64(sign.sign(proof)),
    } | ({"device_credential": credential} if credential else {})


def explained(
    content: dict[str, Any] | bytes, identity: ServerIdentity | None = IDENTITY, **changes: Any
) -> Explanation:
    given: dict[str, Any] = {
        "policy": POLICY,
        "anchors": anchors(ROOT.certificates),
        "revoked": lambda _serial: False,
        "now": NOW,
        "verifiers": verifiers(),
        "identity": identity,
    }
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return explain(read(text), **(given | changes))


def states(found: Explanation) -> dict[str, str]:
    return {check.name: check.state for check in found.checks if check.state != "ok"}


@pytest.mark.parametrize("name", phones.NAMES)
def test_a_request_that_the_server_accepts_has_only_good_checks(name: str) -> None:
    found = explained(body(name))
    assert (found.failed, states(found)) == (None, {})
    assert found.attested is not None
    assert found.attested.kind == KEYS[name]
    assert {"device", "proof", "kind_accepted"} <= {check.name for check in found.checks}


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.reason))
def test_the_check_that_fails_first_has_the_reason_of_the_server(name: str) -> None:
    case = CASES[name]
    given = case.statement(ROOT, DEVICE, digest_for, now=NOW)
    found = explained(given)
    # Without the request, the challenge is not known.
    if case.reason == "challenge":
        assert found.failed is None
        return
    if found.failed is None:
        # What a renewal or a leaf's key needs is in the request alone.
        assert "open" in states(found).values()
        return
    assert found.failed.reason == case.reason


def test_another_challenge_is_found_with_the_request() -> None:
    given = body("android") | {"challenge_id": body("android")["challenge_id"][:-2] + "00"}
    found = explained(given)
    assert found.failed is not None
    assert found.failed.name == "proof"
    assert states(found)["challenge"] == "failed"


def test_a_wrong_proof_and_a_revoked_device_fail() -> None:
    assert states(explained(body("yubikey", sign=PrivateKey.load("ES256", bytes([8]) * 32)))) == {"proof": "failed"}
    policy = replace(POLICY, revoked_devices=frozenset({DEVICE.fingerprint}))
    assert states(explained(body("yubikey"), policy=policy)) == {"device": "failed"}


def test_a_key_of_a_web_device_fails_as_at_the_server() -> None:
    web = WebKey("https://sigil.example.com")
    given = body("android", sign=cast(PrivateKey, web)) | {"device_public_key": web.wire_key}
    found = explained(given).failed
    assert found is not None
    assert (found.name, found.reason) == ("web_device", "key_properties")
    with pytest.raises(AttestationInvalid) as refused:
        service().attest(service().open(msgspec.convert(given, AttestDevice)))
    assert refused.value.details == {"reason": found.reason}


def test_what_a_file_cannot_show_is_open() -> None:
    given = body("android")
    assert states(explained(given["attestation"])) == {"challenge": "open", "leaf_key": "open"}
    assert states(explained(given, identity=None)) == {"challenge": "open"}
    assert set(states(explained(body("apple")["attestation"])).values()) == {"open"}
    assert states(explained(body("yubikey")["attestation"])) == {"leaf_key": "open"}


def test_the_settings_of_the_server_are_applied() -> None:
    found = explained(body("android"), policy=replace(POLICY, android_apps=(), kinds=frozenset({"yubikey-piv"})))
    assert states(found) == {"kind_accepted": "failed", "app_configured": "failed"}
    found = explained(body("android"), revoked=lambda _serial: True)
    assert [check.reason for check in found.checks if check.state == "failed"] == ["revoked", "revoked"]


def test_a_renewal_needs_the_credential_that_it_renews() -> None:
    first = service().attest(service().open(_request(body("apple")))).device_credential
    renewal = body("apple", first, assertion=True)
    assert explained(renewal).failed is None
    assert states(explained(body("apple", assertion=True))) == {"renewal": "open"}
    assert states(explained(renewal, identity=None)) == {"renewal": "open"}
    broken = explained(renewal | {"device_credential": first[:-8]})
    assert broken.failed is not None


def test_a_renewal_that_the_server_rejects_for_its_credential_fails() -> None:
    first = service().attest(service().open(_request(body("apple")))).device_credential
    renewal = body("apple", first, assertion=True)
    witness = body("android", first, witness=True)
    late = replace(POLICY, credentials_not_before=NOW + 1)
    for given, policy, now in ((renewal, POLICY, NOW + 180 * 86_400), (renewal, late, NOW), (witness, POLICY, NOW)):
        rejected = _rejected(service(policy, now), given)
        found = explained(given, policy=policy, now=now)
        assert found.failed is not None
        assert (found.failed.name, found.failed.reason) == ("renewal", rejected)


def test_a_renewal_is_explained_with_what_its_credential_will_state() -> None:
    first = service().attest(service().open(_request(body("android")))).device_credential
    found = explained(body("android", first, witness=True, level="secure_element"))
    assert (found.failed, states(found)) == (None, {})
    assert found.attested is not None
    assert (found.attested.level, found.attested.binding) == ("hardware", "direct")


def test_a_credential_that_a_statement_does_not_need_is_ignored_as_by_the_server() -> None:
    given = body("yubikey", "sdc1.broken")
    assert service().attest(service().open(_request(given))).kind == "yubikey-piv"
    assert states(explained(given)) == {}


def test_an_old_status_list_fails_where_the_server_is_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strict = replace(POLICY, status_strict=True)
    for name, failed in (("android", {"status_list_age": "failed"}), ("yubikey", {})):
        assert states(explained(body(name), policy=strict, old_list=True)) == failed
        assert states(explained(body(name), policy=strict)) == states(explained(body(name), old_list=True)) == {}
    monkeypatch.setattr("sigil.cli.attest.time.time", lambda: NOW)
    status = tmp_path / "status.json"
    for known_at, last in (
        (NOW - 31 * 86_400, "Rejected: revoked (status_list_age); docs/attestation.md"),
        (NOW, None),
    ):
        list_replace(status, b'{"entries": {"a": {"status": "REVOKED"}}}', known_at)
        settings = {"SIGIL_ANDROID_STATUS_PATH": str(status), "SIGIL_ANDROID_STATUS_STRICT": "true"}
        done = run(tmp_path, body("android")["attestation"], **settings)
        assert done.exit_code == (1 if last else 0), done.output
        assert last in (None, done.stdout.splitlines()[-1])


def _rejected(server: Attestation, given: dict[str, Any]) -> str:
    # The time of the challenge is no subject here.
    opened = service().open(_request(given))
    with pytest.raises(AttestationInvalid) as raised:
        server.attest(opened)
    return str(raised.value.details["reason"])


def _request(members: dict[str, Any]) -> AttestDevice:
    return msgspec.convert(members, AttestDevice)


def _pem(statement: dict[str, Any]) -> bytes:
    chain = [x509.load_der_x509_certificate(base64.b64decode(text)) for text in statement["x5c"]]
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


@pytest.mark.parametrize("name", ["android", "yubikey"])
def test_a_chain_in_pem_form_is_explained(name: str) -> None:
    found = explained(b"text before\n" + _pem(body(name)["attestation"]))
    assert found.failed is None
    assert found.attested is not None
    assert found.attested.kind == KEYS[name]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"nonsense", b"\xff", b"[]", b"null", b"{}", b'{"kind": "tpm"}', b'{"attestation": 1}', b"[" * 100_000,
        b'{"kind": "yubikey-piv", "x5c": ["AAAA"]}', b'{"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"], "more": 1}',
        b"-----BEGIN CERTIFICATE-----", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_one_line(content: bytes) -> None:
    with pytest.raises(Unreadable) as raised:
        read(content)
    assert "\n" not in str(raised.value)


def test_a_request_of_another_form_is_a_failed_check() -> None:
    found = explained(body("android") | {"device_public_key": "AAAA"})
    assert [check.name for check in found.checks] == ["request"]
    assert found.failed is not None
    assert explained(body("android") | {"challenge_id": "00"}).failed is not None


def run(tmp_path: Path, content: dict[str, Any] | bytes, *options: str, **environ: str) -> Result:
    file = tmp_path / "statement.json"
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    roots = tmp_path / "roots.pem"
    certificates = (x509.load_der_x509_certificate(der) for der in ROOT.certificates)
    roots.write_bytes(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates))
    environ = {
        "SIGIL_ATTESTATION_ROOTS": str(roots),
        "SIGIL_ANDROID_APPS": f"org.example.sigil:{bytes(range(32)).hex()}",
        "SIGIL_STATE_DIR": str(tmp_path / "none"),
        **environ,
    }
    return CliRunner().invoke(sigil, ["attest", "explain", str(file), *options], env=environ)


def test_the_command_prints_each_check_and_ends_with_the_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sigil.cli.attest.time.time", lambda: NOW)
    statement = body("android")["attestation"]
    done = run(tmp_path, statement)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "open    leaf_key: needs the body of POST /device/attest" in lines
    assert lines[-1] == f"Accepted: android-key, hardware, direct, org.example.sigil:{bytes(range(32)).hex()}"

    done = run(tmp_path, statement, SIGIL_ANDROID_APPS=f"org.example.other:{'00' * 32}")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "Rejected: app (app_configured); docs/attestation.md"

    members = json.loads(run(tmp_path, statement, "--json").stdout)
    assert (members["accepted"], members["reason"], members["kind"]) == (True, None, "android-key")
    assert {check["state"] for check in members["checks"] if check["name"] == "leaf_key"} == {"open"}


def test_the_command_prints_no_signature_and_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigil.cli.attest.time.time", lambda: NOW)
    credential = service().attest(service().open(_request(body("apple")))).device_credential
    given = body("apple", credential, assertion=True)
    for option in ((), ("--json",)):
        printed = run(tmp_path, given, *option).output
        for secret in (given["signature"], credential, given["attestation"]["assertion"]):
            assert secret[:24] not in printed


def test_a_statement_cannot_rewrite_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigil.cli.attest.time.time", lambda: NOW)
    evil = "org\x1b[2Jexample\u202e"
    done = run(tmp_path, body("android", package=evil)["attestation"])
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    done = run(tmp_path, {"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"], evil: 1})
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("content", [b"nonsense", b"x" * 300_000])
def test_the_command_reports_a_file_that_it_cannot_read(tmp_path: Path, content: bytes) -> None:
    done = run(tmp_path, content)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    missing = CliRunner().invoke(sigil, ["attest", "explain", str(tmp_path / "none")])
    assert (missing.exit_code, missing.stderr.count("\n")) == (1, 1)


def test_a_statement_writes_no_line_and_no_colour_of_the_report(tmp_path: Path) -> None:
    forged = "\x1b[2Kx\nok      everything"
    done = run(tmp_path, body("android", package=forged)["attestation"])
    assert "ok      everything" not in done.stdout.splitlines()
    assert "\x1b[2K" not in done.stdout
    assert "key_description: the name of a package is not one of Android" in done.stdout
    for unreadable in ({"kind": forged}, {"kind": "yubikey-piv", "x5c": ["AAAA", "AAAA"], forged: 1}):
        done = run(tmp_path, unreadable)
        assert (done.exit_code, done.stderr.count("\n"), "\x1b" in done.stderr) == (1, 1, False)


def test_wrong_settings_are_reported(tmp_path: Path) -> None:
    done = run(tmp_path, body("yubikey"), SIGIL_ANDROID_APPS="org.example.sigil")
    assert done.exit_code == 1
    assert "SIGIL_ANDROID_APPS" in done.stderr


def test_an_explanation_names_the_first_failure() -> None:
    checks = [Explained("a", "open", "", ""), Explained("b", "failed", "root", ""), Explained("c", "failed", "app", "")]
    assert Explanation(checks, None).failed == checks[1]
    assert explaining.Explanation([], None).failed is None
