"""Variables of Kubernetes, OpenTelemetry, OpenSSL and of this project's other programs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from relay import config as relay_config
from sigil.config import address as sigil_address
from sigil.config import settings as sigil_config
from sigil.serving.settings import ConfigError
from tests.config.test_settings import names_read_by
from tests.serving.running import write_pair

REQUIRED = {"SIGIL_MNEMONIC": "24 words"}
BOTH = pytest.mark.parametrize("load", [sigil_config.load, relay_config.load], ids=["sigil", "relay"])
Load = Callable[[Mapping[str, str]], Any]
ROOT = Path(__file__).parents[2]


def links_of(service: str) -> dict[str, str]:
    """What Kubernetes sets in each pod for a service, besides its <NAME>_PORT."""
    url = "tcp://10.96.0.1:8443"
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTPS", "PORT_8443_TCP", "PORT_8443_TCP_PROTO",
             "PORT_8443_TCP_PORT", "PORT_8443_TCP_ADDR")  # fmt: skip
    return {f"{service}_{name}": url for name in names}


def test_a_port_from_a_service_link_is_one_line_that_names_the_mend() -> None:
    links = {"SIGIL_PORT": "tcp://10.96.0.1:8443", **links_of("SIGIL"), **links_of("RELAY"), **links_of("SIGIL_RELAY")}
    for read in (sigil_config.load, sigil_address.own_server):
        with pytest.raises(ConfigError) as raised:
            read(REQUIRED | links)
        (line,) = raised.value.lines
        assert line.startswith(
            "SIGIL_PORT: is a service link of Kubernetes, not a setting: set enableServiceLinks: false"
        )
    with pytest.raises(ConfigError, match="RELAY_PORT: is a service link of Kubernetes"):
        relay_config.load({"RELAY_PORT": "tcp://10.96.0.1:8080", **links_of("RELAY")})


@BOTH
def test_service_links_beside_a_port_of_its_own_are_one_warning(load: Load) -> None:
    links = links_of("SIGIL") | links_of("RELAY") | links_of("SIGIL_RELAY")
    links["SIGIL_RELAY_PORT"] = "tcp://10.96.0.2:8080"
    (warning,) = load(REQUIRED | {"SIGIL_PORT": "8443", "RELAY_PORT": "8080"} | links).warnings
    assert re.match(
        r"(SIGIL|RELAY)_SERVICE_HOST \(and \d+ more\) is a service link of Kubernetes.*enableServiceLinks", warning
    )


@BOTH
@pytest.mark.parametrize(
    "name",
    [
        "OTEL_METRICS_EXPORTER",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        "OTEL_PROPAGATORS",
    ],
)
def test_a_service_warns_of_variables_of_telemetry_that_have_no_effect(load: Load, name: str) -> None:
    (warning,) = load(REQUIRED | {name: "authorization=secret", "OTEL_SERVICE_NAME": "sigil"}).warnings
    assert warning.startswith(f"{name}: has no effect: of OpenTelemetry these services export traces alone")
    assert "secret" not in warning


@BOTH
@pytest.mark.parametrize(
    "given",
    [
        {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"},
        {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_SAMPLER": "always_on"},
    ],
)
def test_no_warning_where_nothing_else_is_expected(load: Load, given: dict[str, str]) -> None:
    assert load(REQUIRED | given).warnings == ()


@BOTH
def test_an_ssl_cert_file_that_leads_nowhere_is_a_warning(load: Load, tmp_path: Path) -> None:
    empty, pipe = tmp_path / "empty.pem", tmp_path / "pipe"
    empty.touch()
    os.mkfifo(pipe)
    pair = write_pair(tmp_path / "pair", "x")
    for path, reason in (
        (tmp_path / "missing", "does not exist"),
        (empty, "holds no certificate in PEM"),
        (tmp_path, "is no file"),
        (pipe, "is no file"),
    ):
        (warning,) = load(REQUIRED | {"SSL_CERT_FILE": str(path)}).warnings
        assert warning.startswith(f"SSL_CERT_FILE: {path} {reason}: connections by https")
    assert load(REQUIRED | {"SSL_CERT_FILE": str(pair / "cert.pem")}).warnings == ()


@BOTH
def test_an_ssl_cert_dir_without_an_authority_is_a_warning(load: Load, tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "pair", "x")
    for directory in (tmp_path / "missing", pair):
        (warning,) = load(REQUIRED | {"SSL_CERT_DIR": str(directory)}).warnings
        assert warning.startswith(f"SSL_CERT_DIR: {directory} holds no certificate")
    (pair / "0123abcd.0").symlink_to("cert.pem")
    assert load(REQUIRED | {"SSL_CERT_DIR": f"{tmp_path}:{pair}"}).warnings == ()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("SIGIL_METRICS_TOKEN", "METRICS_TOKEN"),
        ("SIGIL_METRICS_TOKEN_FILE", "METRICS_TOKEN_FILE"),
        ("SIGIL_LOG_LEVEL", "LOG_LEVEL"),
        ("SIGIL_TLS_CERT_PATH", "TLS_CERT_PATH"),
        ("SIGIL_WEBHOOK_URL", "WEBHOOK_URL"),
        ("SIGIL_RELAY_URL", "RELAY_URL"),
        ("SIGIL_API_KEYS", "SIGIL_API_KEY"),
    ],
)
def test_a_setting_with_a_prefix_too_many_gets_the_right_name(given: str, meant: str) -> None:
    (warning,) = sigil_config.load(REQUIRED | {given: "x"}).warnings
    assert warning == f"{given} is not a setting; did you mean {meant}?"


def test_the_relay_hints_at_names_without_its_prefix() -> None:
    (warning,) = relay_config.load({"RELAY_METRICS_TOKEN": "x"}).warnings
    assert warning == "RELAY_METRICS_TOKEN is not a setting; did you mean METRICS_TOKEN?"


def test_the_environment_of_make_dev_causes_no_warning() -> None:
    exported = {
        "SIGIL_API_KEY",
        "SIGIL_SERVICE_URL",
        "SIGIL_SERVER_ID",
        "SIGIL_DEVICE_HOME",
        "SIGIL_API_KEY_FILE",
        "SIGIL_CA_FILE",
    }
    source = (ROOT / "deploy" / "tools" / "dev.py").read_text(encoding="utf-8")
    # Those of `_settings` are settings of the server.
    named = set(re.findall(r"(?:export |\b)(SIGIL_[A-Z_]+)", source))
    environ = dict.fromkeys(exported, "x")
    assert sigil_config.load(REQUIRED | environ).warnings == ()
    read = names_read_by(sigil_config.load)
    assert named - read <= exported
