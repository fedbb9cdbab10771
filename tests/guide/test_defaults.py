"""The defaults of the configuration tables in the self-hosting guide, and the settings that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay import config as relay_config
from sigil.config import settings as sigil_config
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


@pytest.mark.parametrize("name", ["SIGIL_ATTESTATION_REQUIRED", "SIGIL_ALLOW_EMULATORS"])
def test_a_setting_of_a_part_that_is_not_built_stops_the_start_and_its_default_does_not(name: str) -> None:
    assert sigil_config.load({**REQUIRED, name: "false"})
    with pytest.raises(ConfigError, match=f"{name}: not implemented"):
        sigil_config.load({**REQUIRED, name: "true"})
