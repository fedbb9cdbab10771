"""The phone for tests: what it writes is well-formed by other readers, and each of its fields can be forged."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cbor2
import pytest
from click.testing import CliRunner
from cryptography import x509

from deploy.attestation.__main__ import cli
from deploy.attestation.hostile import CASES
from sigil.cli.commands import sigil
from sigil.device.errors import DeviceError
from sigil.device.software import Device
from sigil.device.test_phone import phones
from sigil.device.test_phone.roots import KINDS, TestRoot
from sigil.protocol.encoding.text import decode_base64, encode_base64

ROOT = TestRoot.memory()
DEVICE = Device.generate()
DIGEST = bytes(range(32))


def _chain(statement: dict[str, Any]) -> list[x509.Certificate]:
    if "object" in statement:
        found: dict[str, Any] = cbor2.loads(decode_base64(statement["object"], "object"))
        return [x509.load_der_x509_certificate(each) for each in found["attStmt"]["x5c"]]
    return [x509.load_der_x509_certificate(decode_base64(each, "x5c")) for each in statement["x5c"]]


@pytest.mark.parametrize(
    ("name", "fields"), [("android", {}), ("android", {"chain": "factory"}), ("apple", {}), ("yubikey", {})]
)
def test_another_reader_verifies_the_chain_that_a_phone_mints(name: str, fields: dict[str, Any]) -> None:
    chain = _chain(phones.phone(name, ROOT, DEVICE.public, **fields).statement(lambda _kind, _key: DIGEST))
    roots = [x509.load_der_x509_certificate(each) for each in ROOT.certificates]
    for certificate, issuer in pairwise(chain):
        certificate.verify_directly_issued_by(issuer)
    assert any(_is_issued_by(chain[-1], root) for root in roots)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        return False
    return True


def test_a_statement_names_the_key_that_its_certificate_does_not_hold() -> None:
    """docs/protocol.md: the member `key` of attest_digest."""
    wire = encode_base64(DEVICE.public.wire)
    seen: list[tuple[str, str]] = []

    def digest_for(kind: str, key: str) -> bytes:
        seen.append((kind, key))
        return DIGEST

    for name in ("android", "apple"):
        for renewal in (False, True):
            phones.TestAttester(name, ROOT).statement(digest_for, DEVICE.public, renewal=renewal)
    assert seen == [("android-key", ""), ("android-key", wire), ("apple-appattest", wire), ("apple-assertion", wire)]


def test_hardware_that_attests_only_p256_says_so() -> None:
    other = Device.generate("Ed25519").public
    with pytest.raises(DeviceError, match="suite ES256"):
        phones.TestAttester("android", ROOT).statement(lambda _kind, _key: DIGEST, other)
    assert phones.TestAttester("apple", ROOT).statement(lambda _kind, _key: DIGEST, other)


@pytest.mark.parametrize("name", phones.NAMES)
def test_a_field_that_a_phone_does_not_have_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"has no field colour. The fields: .*order"):
        phones.parse_fields({"colour": "red"}, name)


def test_values_of_fields_are_read_as_they_are_typed() -> None:
    typed = {"patch": "none", "leaf_serial": "5", "locked": "hex:00", "witness": "true", "purposes": "1,2"}
    assert phones.parse_fields(typed, "android") == {
        "patch": None,
        "leaf_serial": 5,
        "locked": b"\0",
        "witness": True,
        "purposes": (1, 2),
    }


def test_the_tool_makes_a_root_and_mints_under_it(tmp_path: Path) -> None:
    run = CliRunner()
    directory = tmp_path / "roots"
    made = run.invoke(cli, ["root", str(directory)])
    settings = dict(line.removeprefix("export ").split("=") for line in made.output.splitlines())
    assert settings["SIGIL_ATTESTATION_ROOTS"] == str(directory / "roots.pem")
    assert {path.name for path in directory.iterdir()} == {f"{kind}.key" for kind in KINDS} | {"roots.pem"}
    assert (directory / "apple-appattest.key").stat().st_mode & 0o777 == 0o600
    roots = x509.load_pem_x509_certificates((directory / "roots.pem").read_bytes())
    units = [root.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)[0].value for root in roots]
    assert units == list(KINDS)
    again = run.invoke(cli, ["root", str(directory)])
    assert again.exit_code == 1
    assert "name a new directory" in again.output

    arguments = ["mint", "android", "--root", str(directory), "--key", encode_base64(DEVICE.public.wire)]
    minted = json.loads(run.invoke(cli, [*arguments, "--set", "patch=202401", "--digest", DIGEST.hex()]).output)
    assert minted["device_public_key"] == encode_base64(DEVICE.public.wire)
    _chain(minted["attestation"])[-2].verify_directly_issued_by(roots[0])
    forged = json.loads(run.invoke(cli, [*arguments, "--hostile", "android-gap"]).output)
    assert len(forged["attestation"]["x5c"]) == 3
    wrong = run.invoke(cli, [*arguments, "--hostile", "apple-trailing"])
    assert "is a case of apple" in wrong.output
    assert "hex" in run.invoke(cli, [*arguments, "--digest", "zz"]).output
    assert "deploy.attestation root" in run.invoke(cli, ["mint", "apple", "--root", str(tmp_path / "none")]).output
    for value in ("level=emulator", "locked=x", "now=x", "patch=x"):
        refused = run.invoke(cli, [*arguments, "--set", value])
        assert refused.exit_code == 1
        assert refused.output.count("\n") == 1
        assert "deploy.attestation fields android" in refused.output
        assert "deploy.attestation root" not in refused.output


def test_a_server_with_the_printed_settings_accepts_each_test_phone(tmp_path: Path) -> None:
    run = CliRunner()
    directory = tmp_path / "roots"
    printed = run.invoke(cli, ["root", str(directory)]).output
    settings = dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())
    for name in phones.NAMES:
        statement = tmp_path / f"{name}.json"
        statement.write_text(run.invoke(cli, ["mint", name, "--root", str(directory)]).output, encoding="utf-8")
        explained = run.invoke(sigil, ["attest", "explain", str(statement)], env=settings)
        assert explained.exit_code == 0, explained.output


def test_the_tool_lists_every_case_with_its_reason() -> None:
    listed = CliRunner().invoke(cli, ["list"]).output.splitlines()
    assert len(listed) == len(CASES) > 100
    assert [line.split()[1] for line in listed if line.startswith("apple-trailing ")] == ["malformed"]
    assert "patch = 202611" in CliRunner().invoke(cli, ["fields", "android"]).output


def test_every_hostile_case_can_be_minted() -> None:
    for name, case in CASES.items():
        statement = case.statement(ROOT, DEVICE.public, lambda _kind, _key: DIGEST)
        assert len(json.dumps(statement)) < 100_000, name
