"""Credentials are checked before the start. Each fault is one line, and no line contains a secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.config import Config, load
from sigil.serving.settings import ConfigError


def pem(key: PrivateKeyTypes) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


P256 = pem(ec.generate_private_key(ec.SECP256R1()))
RSA = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
ACCOUNT = {
    "type": "service_account",
    "project_id": "example-1",
    "private_key_id": "k1",
    "private_key": RSA,
    "client_email": "relay@example-1.iam.gserviceaccount.com",
    "token_uri": "https://oauth2.googleapis.com/token",
}


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Complete credentials, in files."""
    (tmp_path / "account.json").touch(0o600)
    (tmp_path / "account.json").write_text(json.dumps(ACCOUNT))
    (tmp_path / "key.p8").touch(0o600)
    (tmp_path / "key.p8").write_text(P256)
    return {
        "APNS_KEY_PATH": str(tmp_path / "key.p8"),
        "APNS_KEY_ID": "ABC123DEFG",
        "APNS_TEAM_ID": "DEF123GHIJ",
        "APNS_TOPIC": "com.example.app",
        "FCM_SERVICE_ACCOUNT": str(tmp_path / "account.json"),
    }


def faults(env: dict[str, str], **changed: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load({**env, **changed})
    for line in error.value.lines:
        assert "PRIVATE KEY" not in line
    return error.value.lines


def test_complete_credentials_turn_both_providers_on(env: dict[str, str]) -> None:
    config = load(env)
    assert config.providers == ["apns", "fcm"]
    assert config.apns is not None
    assert config.fcm is not None
    assert (config.apns.url, config.fcm.url) == ("https://api.push.apple.com", "https://fcm.googleapis.com")
    assert config.fcm.token_url == ACCOUNT["token_uri"]
    assert "PRIVATE" not in repr(config)


def test_the_sandbox_and_custom_urls(env: dict[str, str]) -> None:
    sandbox = load({**env, "APNS_ENVIRONMENT": "sandbox"})
    assert sandbox.apns is not None
    assert sandbox.apns.url == "https://api.sandbox.push.apple.com"
    local = load({**env, "APNS_URL": "https://localhost:1", "FCM_TOKEN_URL": "https://localhost:2/token"})
    assert local.apns is not None
    assert local.fcm is not None
    assert (local.apns.url, local.fcm.token_url) == ("https://localhost:1", "https://localhost:2/token")


def test_without_credentials_providers_are_off() -> None:
    config = load({})
    assert (config.apns, config.fcm, config.providers) == (None, None, [])
    assert Config().providers == []


@pytest.mark.parametrize("name", ["APNS_KEY_PATH", "APNS_KEY_ID", "APNS_TEAM_ID", "APNS_TOPIC"])
def test_each_part_of_apns_is_required(env: dict[str, str], name: str) -> None:
    (line,) = faults(env, **{name: ""})
    assert line.startswith(f"{name}: required for APNs")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"APNS_KEY_ID": "short"}, "APNS_KEY_ID: must be 10 capital letters and digits"),
        ({"APNS_TEAM_ID": "../../../x"}, "APNS_TEAM_ID: must be 10 capital letters"),
        ({"APNS_TOPIC": "com example"}, "APNS_TOPIC: must be the bundle id"),
        ({"APNS_ENVIRONMENT": "test"}, "APNS_ENVIRONMENT: must be one of production, sandbox"),
        ({"APNS_URL": "http://localhost:1"}, "APNS_URL: must be an https URL"),
        ({"FCM_URL": "http://localhost:1"}, "FCM_URL: must be an https URL"),
        ({"FCM_TOKEN_URL": "ftp://x"}, "FCM_TOKEN_URL: must be an https URL"),
        ({"APNS_KEY_PATH": "/nowhere.p8"}, "APNS_KEY_PATH: cannot read /nowhere.p8"),
        ({"FCM_SERVICE_ACCOUNT": "/nowhere.json"}, "FCM_SERVICE_ACCOUNT: cannot read /nowhere.json"),
    ],
)
def test_a_wrong_value_is_one_line(env: dict[str, str], changed: dict[str, str], error: str) -> None:
    (line,) = faults(env, **changed)
    assert error in line


@pytest.mark.parametrize(
    "content",
    [
        "not a key",
        "",
        RSA,
        pem(ec.generate_private_key(ec.SECP384R1())),
        P256.replace("M", "x", 1),
        P256[: len(P256) // 2],
    ],
)
def test_a_file_without_a_p256_key_is_rejected(env: dict[str, str], content: str) -> None:
    Path(env["APNS_KEY_PATH"]).write_text(content)
    (line,) = faults(env)
    assert line.startswith(f"APNS_KEY_PATH: {env['APNS_KEY_PATH']} contains no P-256 private key")


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"type": "authorized_user"}, "is not a service account's JSON key"),
        ({"project_id": None}, "is not a service account's JSON key"),
        ({"project_id": "a/../b"}, "name a service account"),
        ({"client_email": ""}, "name a service account"),
        ({"private_key": "x"}, "private_key must be an RSA key"),
        ({"private_key": P256}, "private_key must be an RSA key"),
        (
            {"private_key": pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))},  # noqa: S505 - refused
            "private_key must be an RSA key of 2048 bits",
        ),
        ({"token_uri": "http://oauth2.googleapis.com/token"}, "token_uri must be an https URL"),
    ],
)
def test_an_invalid_service_account_is_rejected(env: dict[str, str], changed: dict[str, Any], error: str) -> None:
    Path(env["FCM_SERVICE_ACCOUNT"]).write_text(json.dumps({**ACCOUNT, **changed}))
    (line,) = faults(env)
    assert error in line


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_rejected(env: dict[str, str], content: str) -> None:
    Path(env["FCM_SERVICE_ACCOUNT"]).write_text(content)
    (line,) = faults(env)
    assert line.startswith("FCM_SERVICE_ACCOUNT: ")


def test_a_key_that_others_can_read_is_warned_about(env: dict[str, str]) -> None:
    Path(env["APNS_KEY_PATH"]).chmod(0o644)
    assert [line for line in load(env).warnings if line.startswith("APNS_KEY_PATH: others can read")]
