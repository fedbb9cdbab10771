"""`sigil preflight`: each item of the security checklist is ok, open or failed, with the next step."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sigil.console.findings.result import Result
from sigil.preflight import host
from sigil.preflight.checklist import run_checks
from sigil.preflight.secret_strength import weakness
from sigil.protocol.identity import generate_mnemonic
from sigil.serving.files.secret_files import check_secret_file
from sigil.serving.tls.issuing import issue, pem_of
from tests.protocol.vectors import cases

NOW = datetime.datetime.now(datetime.UTC)
WEBHOOK_SECRET = "5e1f7b0c9d3a48627e11f04bb8c6a95d2f7340e8d1b96a5c7f0e23d4986b1ca7"
API_KEY = "c3d9a07be51f4628b6e0d7f19c8a35240b6e8f7d1a92c5e3407fb8d6921ac5e7"


def secret_file(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def write_pair(
    folder: Path, *names: str, days: float = 90, issuer: str = "authority", begins: float = -1, other_key: bool = False
) -> dict[str, str]:
    """The settings of a certificate for `names`; self-signed with issuer "leaf"."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = key if issuer == "leaf" else ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=begins))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    written = ec.generate_private_key(ec.SECP256R1()) if other_key else key
    private.write_bytes(written.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    private.chmod(0o600)
    return {"TLS_CERT_PATH": str(cert), "TLS_KEY_PATH": str(private)}


@pytest.fixture
def production(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings that are fit for production, on a real tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        yield {
            "SIGIL_MODE": "operational",
            "SIGIL_MNEMONIC_PATH": secret_file(tmp_path / "mnemonic.txt", generate_mnemonic()),
            "SIGIL_NUMBER_MATCHING": "on",
            "SIGIL_PUBLIC_URL": "https://sigil.example.com",
            "RELAY_PUBLIC_URL": "https://relay.example.com",
            "SIGIL_STATE_DIR": f"{memory}/state",
            "SIGIL_STORE_SIZE": "16MiB",
            "SIGIL_WORKERS": "1",
            "TLS_AUTO_GENERATE": "false",
            "TRUSTED_PROXY_IP": "172.30.53.2",
            "WEBHOOK_URL": "https://app.example.com/hook",
            "WEBHOOK_SECRET_FILE": secret_file(tmp_path / "webhook_secret", WEBHOOK_SECRET),
            "API_KEY_FILE": secret_file(tmp_path / "api_keys", API_KEY),
            **write_pair(tmp_path, "sigil.example.com"),
        }


def run(environ: dict[str, str]) -> list[Result]:
    return run_checks(environ, NOW)


def only(results: list[Result], name: str, state: str) -> Result:
    found = [result for result in results if result.name == name and result.state == state]
    assert len(found) == 1, [result for result in results if result.name == name]
    return found[0]


def test_production_settings_fail_nothing_but_the_memory_limit_of_the_container(production: dict[str, str]) -> None:
    failures = [result for result in run(production) if result.state == "failed"]
    assert [result for result in failures if result.name != "memory_limit"] == []


def test_every_item_of_the_security_checklist_has_a_result(production: dict[str, str]) -> None:
    """The database and the limits of the other services are on the host: deploy/stack/preflight.sh checks them."""
    names = {result.name for result in run(production)}
    assert names >= {
        "mnemonic_storage", "attestation", "certificate", "WEBHOOK_SECRET", "api_keys", "LOG_LEVEL", "METRICS_TOKEN",
        "memory_limit",
    }  # fmt: skip


def test_enrolment_without_a_code_is_open(production: dict[str, str]) -> None:
    only(run(production | {"SIGIL_ENROL_WITHOUT_CODE": "true"}), "SIGIL_ENROL_WITHOUT_CODE", "open")
    assert "SIGIL_ENROL_WITHOUT_CODE" not in {result.name for result in run(production)}


def test_a_web_app_at_an_ip_address_and_plain_keys_of_browsers_are_open(production: dict[str, str]) -> None:
    address = production | {"SIGIL_PUBLIC_URL": "https://192.0.2.1"}
    only(run(address), "SIGIL_DEVICE_APP", "open")
    only(run(production | {"SIGIL_WEB_PLAIN_KEYS": "true"}), "SIGIL_WEB_PLAIN_KEYS", "open")
    for settings in (production, address | {"SIGIL_DEVICE_APP": "off"}):
        assert {"SIGIL_DEVICE_APP", "SIGIL_WEB_PLAIN_KEYS"}.isdisjoint(result.name for result in run(settings))


def test_no_result_contains_a_secret(production: dict[str, str], tmp_path: Path) -> None:
    weak = "changeme-" + WEBHOOK_SECRET[:30]
    production |= {"WEBHOOK_SECRET_FILE": secret_file(tmp_path / "weak", weak)}
    words = Path(production["SIGIL_MNEMONIC_PATH"]).read_text(encoding="utf-8")
    text = repr(run(production))
    assert words not in text
    assert weak not in text
    assert API_KEY not in text


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"SIGIL_MODE": "init", "SIGIL_MNEMONIC_PATH": ""}, "SIGIL_MODE"),
        ({"SIGIL_NUMBER_MATCHING": "off"}, "SIGIL_NUMBER_MATCHING"),
        ({"SIGIL_PUBLIC_URL": ""}, "SIGIL_PUBLIC_URL"),
        ({"SIGIL_PUBLIC_URL": "http://localhost:8443"}, "SIGIL_PUBLIC_URL"),
        ({"RELAY_PUBLIC_URL": "http://relay:8080"}, "RELAY_PUBLIC_URL"),
        ({"SIGIL_RATE_LIMIT": "off"}, "SIGIL_RATE_LIMIT"),
        ({"METRICS_TOKEN": "off"}, "METRICS_TOKEN"),
        ({"TRUSTED_PROXY_CIDR": "172.30.53.0/24"}, "TRUSTED_PROXY"),
        ({"TRUSTED_PROXY_IP": "", "TLS_AUTO_GENERATE": "true"}, "TLS_AUTO_GENERATE"),
        ({"SIGIL_STATE_DIR_INSECURE": "true"}, "session_store"),
        ({"SIGIL_STORE_SIZE": "900GiB"}, "session_store"),
        ({"SIGIL_STATE_DIR": "/proc/state"}, "session_store"),
        ({"SIGIL_ATTESTATION_REQUIRED": "true"}, "settings"),
        ({"SIGIL_ALLOW_EMULATORS": "true"}, "SIGIL_ALLOW_EMULATORS"),
        ({"SIGIL_APPLE_ENVIRONMENT": "development"}, "SIGIL_APPLE_ENVIRONMENT"),
        ({"SIGIL_PORT": "zero"}, "settings"),
    ],
)
def test_a_setting_for_development_fails_once_and_names_the_next_step(
    production: dict[str, str], change: dict[str, str], name: str
) -> None:
    result = only(run(production | change), name, "failed")
    assert "\n" not in result.text + result.next_step


def test_attestation_is_ok_when_it_is_required_and_open_when_not(production: dict[str, str]) -> None:
    assert only(run(production), "attestation", "open").next_step
    required = {"SIGIL_ATTESTATION_REQUIRED": "true", "SIGIL_APPLE_APPS": "A1B2C3D4E5.com.example.app"}
    assert only(run(production | required), "attestation", "ok").text == "required: apple-appattest"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"LOG_LEVEL": "debug"}, "LOG_LEVEL"),
        ({"TRUSTED_PROXY_IP": ""}, "TRUSTED_PROXY"),
        ({"RELAY_URL": " "}, "RELAY_URL"),
        ({"SIGIL_TYPO": "1"}, "setting"),
    ],
)
def test_what_the_operator_decides_is_open(production: dict[str, str], change: dict[str, str], name: str) -> None:
    assert only(run(production | change), name, "open").next_step


def test_a_mnemonic_in_a_variable_fails_with_the_setting_to_use(production: dict[str, str]) -> None:
    words = Path(production.pop("SIGIL_MNEMONIC_PATH")).read_text(encoding="utf-8")
    result = only(run(production | {"SIGIL_MNEMONIC": words}), "SIGIL_MNEMONIC", "failed")
    assert "SIGIL_MNEMONIC_PATH" in result.next_step


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("your 24 word mnemonic here", "has 24 words, this one has 5"),
        ("abandon " * 23 + "art", "published example"),
        *(
            (case["words"], "published example")
            for case in cases("mnemonics.json")
            if case["name"] in {"mixed", "in upper case"}
        ),
        (
            "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol "
            "group space point ten exist slush involve unfold",
            "published example",
        ),
        ("abandon " * 24, "checksum"),
    ],
)
def test_a_mnemonic_that_nothing_can_use_or_that_everyone_knows_fails(
    production: dict[str, str], tmp_path: Path, words: str, reason: str
) -> None:
    production["SIGIL_MNEMONIC_PATH"] = secret_file(tmp_path / "words", words)
    result = only(run(production), "mnemonic", "failed")
    assert reason in result.text


@contextmanager
def as_another_user() -> Iterator[Path]:
    """A directory that this process may read, as a user without privileges when it is root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        before = os.geteuid()
        if before == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(before)


def test_a_file_that_the_user_cannot_read_names_the_user_and_the_remedy() -> None:
    with as_another_user() as folder:
        path = Path(secret_file(folder / "mnemonic.txt", "words", 0o000))
        result = check_secret_file("SIGIL_MNEMONIC_PATH", path)
        assert result.state == "failed"
        user = os.geteuid()
        assert f"permission denied for uid {user} (file owner {user}, mode 0000): chmod u+r " in result.text
        assert result.next_step


@pytest.mark.parametrize(("mode", "state"), [(0o600, "ok"), (0o400, "ok"), (0o640, "open"), (0o604, "failed")])
def test_who_can_read_a_secret_file_decides(tmp_path: Path, mode: int, state: str) -> None:
    assert check_secret_file("X_FILE", Path(secret_file(tmp_path / "x", "x", mode))).state == state


def test_a_missing_file_and_a_directory_in_its_place_say_so(tmp_path: Path) -> None:
    assert "does not exist" in check_secret_file("X_FILE", tmp_path / "none").text
    directory = check_secret_file("X_FILE", tmp_path)
    assert directory.state == "failed"
    assert "is a directory" in directory.text


@pytest.mark.parametrize(
    ("secret", "weak"),
    [
        (WEBHOOK_SECRET, False),
        (f"whsec_{'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwRk1aVzqJ0e4'}", False),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwRk1aVzqJ0e4=", False),
        (WEBHOOK_SECRET[:62], True),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", True),
        ("ab" * 40, True),
        ("sgk_test_a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b0c1d2e3f4a5b6c7d8e9f0a1b2", True),
        ("ChangeMe-" + WEBHOOK_SECRET, True),
    ],
)
def test_a_secret_of_less_than_32_random_bytes_or_from_an_example_is_weak(secret: str, weak: bool) -> None:
    assert (weakness(secret) is not None) is weak


def test_random_secrets_are_not_weak() -> None:
    assert not [secret for _ in range(2000) if weakness(secret := os.urandom(32).hex())]


@pytest.mark.parametrize("name", ["WEBHOOK_SECRET", "API_KEY"])
def test_a_weak_secret_fails(production: dict[str, str], tmp_path: Path, name: str) -> None:
    production[f"{name}_FILE"] = secret_file(tmp_path / "weak", "changeme" * 8)
    assert "openssl rand -hex 32" in only(run(production), name, "failed").next_step


# Certificates

DIRECT = {"TRUSTED_PROXY_IP": ""}
BUNDLED = {"TLS_AUTO_GENERATE": "true"}


@pytest.mark.parametrize(
    ("pair", "settings", "state", "text"),
    [
        ({"names": ("sigil.example.com",)}, DIRECT, "ok", "of an authority"),
        ({"names": ("*.example.com",)}, DIRECT, "ok", "of an authority"),
        ({"names": ("*.com", "example.com", "a.sigil.example.com")}, DIRECT, "failed", "is not for sigil.example.com"),
        ({"names": ("other.example.com",)}, {}, "open", "is not for sigil.example.com"),
        ({"names": ("sigil.example.com",), "days": 13.9}, DIRECT, "failed", "in less than 14 days"),
        ({"names": ("sigil.example.com",), "days": -0.5}, DIRECT, "failed", "expired"),
        ({"names": ("sigil.example.com",), "begins": 1}, DIRECT, "failed", "not valid yet"),
        ({"names": ("sigil.example.com",), "issuer": "leaf"}, DIRECT, "failed", "self-signed"),
        ({"names": ("sigil",), "issuer": "leaf"}, BUNDLED, "ok", "for the proxy"),
        ({"names": ("sigil",), "issuer": "leaf", "days": -0.5}, BUNDLED, "failed", "expired"),
        ({"names": ("sigil.example.com",), "other_key": True}, DIRECT, "failed", "the key does not belong to"),
    ],
)
def test_the_certificate_suits_the_clients_of_the_server(
    production: dict[str, str], pair: dict[str, Any], settings: dict[str, str], state: str, text: str
) -> None:
    options = {name: value for name, value in pair.items() if name != "names"}
    write_pair(Path(production["TLS_CERT_PATH"]).parent, *pair["names"], **options)
    result = only(run(production | settings), "certificate", state)
    assert text in result.text


@pytest.mark.parametrize("days_ago", [10, 500])
def test_a_pair_that_the_server_renews_suits_its_proxy(production: dict[str, str], days_ago: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    chain = issue(key, [x509.DNSName("sigil")], NOW - datetime.timedelta(days=days_ago))
    Path(production["TLS_CERT_PATH"]).write_bytes(pem_of(chain))
    Path(production["TLS_KEY_PATH"]).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert "the server renews it" in only(run(production | BUNDLED), "certificate", "ok").text
    assert "self-signed" in run_text(run(production | DIRECT))


def run_text(results: list[Result]) -> str:
    return "\n".join(result.text for result in results if result.name == "certificate" and result.state == "failed")


def test_a_missing_certificate_fails_unless_the_server_makes_one_for_its_proxy(
    production: dict[str, str], tmp_path: Path
) -> None:
    production |= {"TLS_CERT_PATH": str(tmp_path / "none.pem"), "TLS_KEY_PATH": str(tmp_path / "no-key.pem")}
    assert "none.pem" in only(run(production), "certificate", "failed").text
    assert only(run(production | BUNDLED), "certificate", "ok")
    assert list(tmp_path.glob("no*.pem")) == []


# Host


def test_swap_and_a_wrong_clock_are_reported(tmp_path: Path, production: dict[str, str]) -> None:
    swaps = tmp_path / "swaps"
    swaps.write_text("Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n", encoding="utf-8")
    from sigil.config.settings import load

    config = load(production)
    assert only(list(host.check_host(config, NOW, swaps)), "swap", "open").text.startswith("/dev/sda2")
    early = datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)
    assert only(list(host.check_host(config, early)), "clock", "failed").next_step


def test_a_check_leaves_no_directory_and_no_file(production: dict[str, str]) -> None:
    parent = Path(production["SIGIL_STATE_DIR"]).parent
    run(production)
    assert list(parent.iterdir()) == []


def test_the_command_prints_a_line_per_check_and_its_exit_code(production: dict[str, str]) -> None:
    def command(*options: str, **change: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sigil", "preflight", *options],
            env=production | change | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
        )  # fmt: skip

    plain = command(SIGIL_NUMBER_MATCHING="off")
    assert plain.returncode == 1, plain.stderr
    assert "failed  SIGIL_NUMBER_MATCHING: off" in plain.stdout
    machine = command("--json")
    results = [json.loads(line) for line in machine.stdout.splitlines()]
    assert {"name", "state", "text", "next_step"} == set(results[0])
    failures = {result["name"] for result in results if result["state"] == "failed"}
    assert machine.returncode == (1 if failures else 0)
    assert failures <= {"memory_limit"}
