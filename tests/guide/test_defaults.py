"""The defaults of the configuration tables in the self-hosting guide, and the settings that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from relay import config as relay_config
from sigil.cli.commands import sigil
from sigil.config import settings as sigil_config
from sigil.protocol.api_key import KeyRing
from sigil.protocol.identity import DerivedSecrets, generate_mnemonic
from sigil.serving.settings import ConfigError
from tests.config.test_settings import REQUIRED, names_read_by

SIGIL = {
    "SIGIL_MODE": ("mode", "operational"),
    "RELAY_URL": ("relay_url", "http://relay:8080"),
    "API_KEY": ("preset_keys", ()),
    "WEBHOOK_URL": ("webhook", None),
    "TLS_CERT_PATH": ("tls_cert", Path("/var/lib/sigil/tls/cert.pem")),
    "TLS_KEY_PATH": ("tls_key", Path("/var/lib/sigil/tls/key.pem")),
    "TLS_AUTO_GENERATE": ("tls_auto_generate", True),
    "SIGIL_PORT": ("port", 8443),
    "SIGIL_TELEMETRY": ("telemetry", "full"),
}
RELAY = {
    "DATABASE_URL": ("database_url", None),
    "APNS_KEY_PATH": ("apns", None),
    "APNS_KEY_ID": ("apns", None),
    "APNS_TEAM_ID": ("apns", None),
    "FCM_SERVICE_ACCOUNT": ("fcm", None),
    "RELAY_PORT": ("port", 8080),
    "LOG_LEVEL": ("log_level", "info"),
}
NAMED_ELSEWHERE = {
    "SIGIL_MNEMONIC",
    "SIGIL_MNEMONIC_PATH",
    "WEBHOOK_SECRET",
    "TRUSTED_PROXY_IP",
    "TRUSTED_PROXY_CIDR",
    "TRUSTED_PROXY_PROVIDER",
    "USE_CF_CONNECTING_IP",
}


@pytest.mark.parametrize("name", sorted(SIGIL))
def test_the_server_has_the_default_of_the_guide(name: str) -> None:
    member, default = SIGIL[name]
    assert getattr(sigil_config.load(REQUIRED), member) == default


@pytest.mark.parametrize("name", sorted(RELAY))
def test_the_relay_has_the_default_of_the_guide(name: str) -> None:
    member, default = RELAY[name]
    assert getattr(relay_config.load({}), member) == default


def test_both_services_read_every_setting_that_the_guide_names() -> None:
    assert names_read_by(sigil_config.load) >= SIGIL.keys() | NAMED_ELSEWHERE | {"LOG_LEVEL"}
    assert names_read_by(relay_config.load) >= RELAY.keys()


@pytest.mark.parametrize(
    ("name", "member", "values"),
    [
        ("SIGIL_TELEMETRY", "telemetry", ("full", "minimal", "none")),
        ("LOG_LEVEL", "log_level", ("debug", "info", "warn", "error")),
    ],
)
def test_a_setting_takes_the_values_of_the_guide(name: str, member: str, values: tuple[Any, ...]) -> None:
    for value in values:
        assert getattr(sigil_config.load({**REQUIRED, name: value}), member) == value


def test_without_a_mnemonic_an_operational_server_names_both_variables() -> None:
    with pytest.raises(ConfigError) as stopped:
        sigil_config.load({})
    assert stopped.value.lines[0].startswith("SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH required")


def test_the_examples_of_trusted_proxies_are_valid() -> None:
    environ = {**REQUIRED, "TRUSTED_PROXY_IP": "172.18.0.2", "TRUSTED_PROXY_CIDR": "172.18.0.0/16"}
    environ |= {"TRUSTED_PROXY_PROVIDER": "cloudflare", "USE_CF_CONNECTING_IP": "true"}
    proxies = sigil_config.load(environ).proxies
    assert [str(network) for network in proxies.own] == ["172.18.0.2/32", "172.18.0.0/16"]
    assert proxies.cloudflare
    assert proxies.connecting_ip


def test_attestation_is_optional_and_emulators_are_rejected_by_default() -> None:
    policy = sigil_config.load(REQUIRED).attestation
    assert (policy.required, policy.allow_emulators) == (False, False)


def test_required_attestation_starts_with_an_app_and_issues_live_keys() -> None:
    app = {"SIGIL_APPLE_APPS": "A1B2C3D4E5.com.example.app"}
    config = sigil_config.load({**REQUIRED, **app, "SIGIL_ATTESTATION_REQUIRED": "true"})
    assert (config.attestation.required, config.key_prefix) == (True, "sgk_live_")
    assert sigil_config.load(REQUIRED).key_prefix == "sgk_test_"
    with pytest.raises(ConfigError, match="SIGIL_ATTESTATION_REQUIRED: no device could attest"):
        sigil_config.load({**REQUIRED, "SIGIL_ATTESTATION_REQUIRED": "true"})


def test_the_compose_file_of_production_demands_a_choice_and_rejects_emulators() -> None:
    """Compose itself is run by tests/containers/test_preflight.py."""
    root = Path(__file__).resolve().parents[2]
    production = (root / "docker-compose.prod.yml").read_text(encoding="utf-8")
    assert "SIGIL_ATTESTATION_REQUIRED: ${SIGIL_ATTESTATION_REQUIRED:?set SIGIL_ATTESTATION_REQUIRED" in production
    assert "SIGIL_ALLOW_EMULATORS: ${SIGIL_ALLOW_EMULATORS:-false}" in production
    development = (root / "docker-compose.yml").read_text(encoding="utf-8")
    assert "SIGIL_ALLOW_EMULATORS: ${SIGIL_ALLOW_EMULATORS:-true}" in development


def test_the_commands_that_make_keys_make_those_that_the_server_accepts(tmp_path: Path) -> None:
    """A test key of `sigil keygen` would be rejected by a server that requires attestation."""
    environ = {"SIGIL_MNEMONIC": generate_mnemonic(), "SIGIL_ATTESTATION_KINDS": "yubikey-piv"}
    for required, prefix in (("true", "sgk_live_"), ("false", "sgk_test_"), ("", "sgk_test_")):
        done = CliRunner().invoke(sigil, ["keygen"], env={**environ, "SIGIL_ATTESTATION_REQUIRED": required})
        assert done.stdout.startswith(prefix), done.output
        config = sigil_config.load({**environ, "SIGIL_ATTESTATION_REQUIRED": required})
        secrets = DerivedSecrets.from_mnemonic(environ["SIGIL_MNEMONIC"])
        ring = KeyRing(secrets.api_key, preset=[], revoked=(), live_only=config.live_keys)
        assert ring.authenticate(f"Bearer {done.stdout.strip()}")
    out = tmp_path / "key"
    words = tmp_path / "words"
    init = ["init", "--create", "--yes", "--api-key-out", str(out), "--mnemonic-out", str(words)]
    done = CliRunner().invoke(sigil, init, env={"SIGIL_ATTESTATION_REQUIRED": "true"})
    assert done.exit_code == 0, done.output
    assert out.read_text(encoding="ascii").startswith("sgk_live_")
    assert CliRunner().invoke(sigil, ["keygen"], env={**environ, "SIGIL_ATTESTATION_REQUIRED": "ture"}).exit_code == 1
