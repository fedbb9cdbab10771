"""The settings of attestation: strict forms, start errors, and what SIGHUP reads again."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sigil.attestation.policy import AttestationPolicy
from sigil.config.attestation import STATUS_URL, StatusSource
from sigil.config.settings import Config, load, load_renewed, load_with_faults
from sigil.serving.settings import ConfigError
from tests.config.test_settings import REQUIRED

APPLE = "A1B2C3D4E5.com.example.app"
DIGEST = "3b" * 32
ANDROID = f"com.example.app:{DIGEST}"


def read(**given: str) -> Config:
    return load(REQUIRED | given)


def faults(**given: str) -> list[str]:
    return load_with_faults(REQUIRED | given)[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "yubikey-piv")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + datetime.timedelta(days=9))
    path = tmp_path / "roots.pem"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) * 2)
    return path


def test_by_default_nothing_is_accepted_or_required() -> None:
    assert (read().attestation, read().android_status) == (AttestationPolicy(), StatusSource())


def test_every_setting_reaches_the_policy(root: Path) -> None:
    config = read(
        SIGIL_ALLOW_EMULATORS="true",
        SIGIL_ATTESTATION_KINDS="android-key, apple-appattest yubikey-piv",
        SIGIL_APPLE_APPS=f"{APPLE},{APPLE}\nA1B2C3D4E5.com.example.other",
        SIGIL_APPLE_ENVIRONMENT="development",
        SIGIL_ANDROID_APPS=f"com.example.app:{':'.join(['3B'] * 32)}",
        SIGIL_ANDROID_MIN_LEVEL="secure_element",
        SIGIL_ANDROID_MIN_PATCH="2026-05",
        SIGIL_ANDROID_USER_AUTH="on",
        SIGIL_ANDROID_BOOT_KEYS=f"{'AB' * 32} {'cd' * 32}",
        SIGIL_ANDROID_STATUS_PATH="/var/lib/sigil/status.json",
        SIGIL_ANDROID_STATUS_FETCH="on",
        SIGIL_ANDROID_STATUS_STRICT="true",
        SIGIL_YUBIKEY_MIN_FIRMWARE="5.7.1",
        SIGIL_CREDENTIAL_DAYS="30",
        SIGIL_CREDENTIALS_NOT_BEFORE="2026-01-30T12:00:00Z",
        SIGIL_ATTESTATION_ROOTS=str(root),
    )
    policy = config.attestation
    assert policy == AttestationPolicy(
        required=False,
        allow_emulators=True,
        kinds=frozenset({"android-key", "apple-appattest", "yubikey-piv"}),
        apple_apps=(APPLE, "A1B2C3D4E5.com.example.other"),
        apple_environment="development",
        android_apps=(("com.example.app", bytes.fromhex(DIGEST)),),
        android_min_level="secure_element",
        android_min_patch=202605,
        android_user_auth=True,
        android_boot_keys=frozenset({"ab" * 32, "cd" * 32}),
        yubikey_min_firmware=(5, 7, 1),
        credential_days=30,
        credentials_not_before=1769774400,
        status_strict=True,
        test_roots=policy.test_roots,
    )
    assert [x509.load_der_x509_certificate(root).serial_number for root in policy.test_roots] == [1, 1]
    assert config.android_status == StatusSource(Path("/var/lib/sigil/status.json"), STATUS_URL)
    assert [line.partition(":")[0] for line in config.warnings] == ["SIGIL_ATTESTATION_ROOTS"]


def test_without_the_kinds_those_with_apps_are_accepted() -> None:
    assert read(SIGIL_APPLE_APPS=APPLE).attestation.kinds == {"apple-appattest"}
    assert read(SIGIL_ANDROID_APPS=ANDROID).attestation.kinds == {"android-key"}
    assert read(SIGIL_ATTESTATION_KINDS="yubikey-piv").attestation.kinds == {"yubikey-piv"}


@pytest.mark.parametrize("kind", ["webauthn", "tpm", "yubikey", "YUBIKEY-PIV", "apple"])
def test_a_kind_that_is_not_defined_is_a_fault(kind: str) -> None:
    (fault,) = faults(SIGIL_ATTESTATION_KINDS=f"yubikey-piv,{kind}")
    assert fault == (
        f"SIGIL_ATTESTATION_KINDS: '{kind}' is not a kind that this version knows: the kinds are android-key, "
        "apple-appattest, yubikey-piv"
    )


def test_a_kind_without_its_apps_is_a_fault_and_apps_without_their_kind_are_warned_about() -> None:
    for kind, variable in (("android-key", "SIGIL_ANDROID_APPS"), ("apple-appattest", "SIGIL_APPLE_APPS")):
        (fault,) = faults(SIGIL_ATTESTATION_KINDS=kind)
        assert fault == f"SIGIL_ATTESTATION_KINDS: {kind} needs {variable}, the apps that may attest"
    config = read(SIGIL_ATTESTATION_KINDS="yubikey-piv", SIGIL_APPLE_APPS=APPLE)
    assert config.warnings == ("SIGIL_APPLE_APPS has no effect: SIGIL_ATTESTATION_KINDS does not name apple-appattest",)
    assert config.attestation.kinds == {"yubikey-piv"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "SIGIL_APPLE_APPS",
            ["com.example.app", "a1b2c3d4e5.com.example", "A1B2C3D4E.com.x", f"{APPLE}.", f"{APPLE}..x", "A1B2C3D4E5.",
             f"A1B2C3D4E5.{'x' * 250}"],
        ),
        (
            "SIGIL_ANDROID_APPS",
            ["com.example.app", "com.example.app:", f"app:{DIGEST}", f"com.example.app:{DIGEST}0", f"1com.x:{DIGEST}",
             f"com.example.app:{DIGEST[:-1]}g", f":{DIGEST}", f"com..app:{DIGEST}",
             f"com.{'x' * 252}:{DIGEST}"],
        ),
        ("SIGIL_ANDROID_BOOT_KEYS", ["ab", "g" * 64, "ab" * 33]),
        ("SIGIL_ANDROID_MIN_LEVEL", ["emulator", "tee", "StrongBox"]),
        ("SIGIL_ANDROID_MIN_PATCH", ["202605", "2026-13", "2026-00", "2026-05-01", "26-05", "\u0662026-05"]),
        ("SIGIL_APPLE_ENVIRONMENT", ["sandbox"]),
        ("SIGIL_YUBIKEY_MIN_FIRMWARE", ["5.7", "5.7.0.1", "v5.7.0", "05.7.0", "5.7.256"]),
        ("SIGIL_CREDENTIAL_DAYS", ["0", "366", "-1", "ninety"]),
        (
            "SIGIL_CREDENTIALS_NOT_BEFORE",
            ["2026-02-30", "1796040000", "2026-11-30T12:00:00", "2026-11-30 12:00:00Z", "2026-11-30T12:00:00+01:00"],
        ),
        ("SIGIL_ANDROID_STATUS_PATH", ["status.json"]),
        ("SIGIL_ANDROID_STATUS_FETCH", ["maybe", "http://mirror.example/status", "https://user@mirror.example/"]),
        ("SIGIL_ATTESTATION_REQUIRED", ["ture", "required"]),
        ("SIGIL_ALLOW_EMULATORS", ["ture"]),
    ],
)  # fmt: skip
def test_a_malformed_value_is_one_fault_that_names_its_setting(name: str, values: list[str]) -> None:
    for value in values:
        (fault,) = faults(**{name: value})
        assert fault.startswith(f"{name}: ")
        assert "must be" in fault
        assert "\n" not in fault


def test_all_faults_are_reported_at_once() -> None:
    found = faults(
        SIGIL_APPLE_APPS="one,two",
        SIGIL_ANDROID_APPS="com.example.app",
        SIGIL_ANDROID_MIN_PATCH="May",
        SIGIL_CREDENTIAL_DAYS="0",
    )
    assert sorted(line.partition(":")[0] for line in found) == [
        "SIGIL_ANDROID_APPS", "SIGIL_ANDROID_MIN_PATCH", "SIGIL_APPLE_APPS", "SIGIL_APPLE_APPS",
        "SIGIL_CREDENTIAL_DAYS",
    ]  # fmt: skip


def test_a_list_has_a_limit() -> None:
    (fault,) = faults(SIGIL_ANDROID_BOOT_KEYS=",".join(f"{n:064x}" for n in range(257)))
    assert fault == "SIGIL_ANDROID_BOOT_KEYS: has 257 items, and at most 256 are accepted"
    keys = ",".join(f"{n:064x}" for n in range(256))
    assert len(read(SIGIL_ANDROID_BOOT_KEYS=keys).attestation.android_boot_keys) == 256


def test_required_needs_a_device_that_could_attest() -> None:
    (fault,) = faults(SIGIL_ATTESTATION_REQUIRED="true")
    assert fault.startswith("SIGIL_ATTESTATION_REQUIRED: no device could attest: set SIGIL_APPLE_APPS, ")
    for given in (
        {"SIGIL_APPLE_APPS": APPLE},
        {"SIGIL_ANDROID_APPS": ANDROID},
        {"SIGIL_ATTESTATION_KINDS": "yubikey-piv"},
    ):
        config = read(SIGIL_ATTESTATION_REQUIRED="true", **given)
        assert (config.live_keys, config.key_prefix) == (True, "sgk_live_")


def test_required_excludes_emulators_and_roots_for_tests(root: Path) -> None:
    required = {"SIGIL_ATTESTATION_REQUIRED": "true", "SIGIL_ATTESTATION_KINDS": "yubikey-piv"}
    (fault,) = faults(**required, SIGIL_ALLOW_EMULATORS="true")
    assert fault.startswith("SIGIL_ATTESTATION_REQUIRED: an emulator proves nothing: set SIGIL_ALLOW_EMULATORS=false")
    (fault,) = faults(**required, SIGIL_ATTESTATION_ROOTS=str(root))
    assert fault == "SIGIL_ATTESTATION_ROOTS: is for tests; unset it where SIGIL_ATTESTATION_REQUIRED is true"


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_roots_is_a_fault(tmp_path: Path, content: str) -> None:
    path = tmp_path / "roots.pem"
    path.write_text(content)
    (fault,) = faults(SIGIL_ATTESTATION_ROOTS=str(path))
    assert fault.startswith("SIGIL_ATTESTATION_ROOTS: ")


def test_strict_needs_a_list_that_is_renewed() -> None:
    (fault,) = faults(SIGIL_ANDROID_STATUS_STRICT="true")
    assert fault.startswith("SIGIL_ANDROID_STATUS_STRICT: needs a status list")
    assert read(SIGIL_ANDROID_STATUS_STRICT="true", SIGIL_ANDROID_STATUS_PATH="/x").attestation.status_strict
    mirror = read(SIGIL_ANDROID_STATUS_STRICT="true", SIGIL_ANDROID_STATUS_FETCH="https://mirror.example/status")
    assert mirror.android_status == StatusSource(
        Path("/dev/shm/sigil-8443/android-status.json"),
        "https://mirror.example/status",
    )
    assert read(SIGIL_ANDROID_STATUS_FETCH="off").android_status.url is None


def test_a_day_in_the_future_is_warned_about() -> None:
    assert read(SIGIL_CREDENTIALS_NOT_BEFORE="2026-01-01").warnings == ()
    (warning,) = read(SIGIL_CREDENTIALS_NOT_BEFORE="2999-01-01").warnings
    assert warning.startswith("SIGIL_CREDENTIALS_NOT_BEFORE: is in the future")
    assert load_renewed({"SIGIL_CREDENTIALS_NOT_BEFORE": "2999-01-01"}).warnings == (warning,)


def test_a_firmware_whose_keys_can_be_extracted_is_warned_about() -> None:
    (warning,) = read(SIGIL_YUBIKEY_MIN_FIRMWARE="5.4.3").warnings
    assert "EUCLEAK" in warning


def test_sighup_reads_the_lists_again_and_nothing_else(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("apple", "android", "keys", "date")}
    for name, text in (("apple", APPLE), ("android", ANDROID), ("keys", "ab" * 32), ("date", "2026-01-01")):
        files[name].write_text(text)
    given = {
        "SIGIL_APPLE_APPS_FILE": str(files["apple"]),
        "SIGIL_ANDROID_APPS_FILE": str(files["android"]),
        "SIGIL_ANDROID_BOOT_KEYS_FILE": str(files["keys"]),
        "SIGIL_CREDENTIALS_NOT_BEFORE_FILE": str(files["date"]),
    }
    before = read(**given).attestation
    files["apple"].write_text(f"{APPLE}\nA1B2C3D4E5.com.example.other\n")
    files["android"].write_text("")
    files["keys"].write_text("")
    files["date"].write_text("2026-01-02\n")
    other = {"SIGIL_CREDENTIAL_DAYS": "7", "SIGIL_ALLOW_EMULATORS": "true"}
    renewed = load_renewed(given | other, before).attestation
    assert renewed.apple_apps == (APPLE, "A1B2C3D4E5.com.example.other")
    assert (renewed.android_apps, renewed.kinds, renewed.android_boot_keys) == ((), {"apple-appattest"}, frozenset())
    assert renewed.credentials_not_before == before.credentials_not_before + 86_400
    assert (renewed.credential_days, renewed.allow_emulators) == (90, False)


def test_a_reload_that_leaves_no_device_able_to_attest_is_refused(tmp_path: Path) -> None:
    apps = tmp_path / "apps"
    apps.write_text(APPLE)
    given = {"SIGIL_ATTESTATION_REQUIRED": "true", "SIGIL_APPLE_APPS_FILE": str(apps)}
    running = read(**given).attestation
    apps.write_text("\n")
    with pytest.raises(ConfigError, match="no device could attest"):
        load_renewed(given, running)
