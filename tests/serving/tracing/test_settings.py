"""The OTEL_ variables of both services: their meaning is that of OpenTelemetry's specification."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from relay import config as relay_config
from sigil.config import settings as sigil_config
from sigil.serving.settings import ConfigError
from sigil.serving.tracing.settings import TracingSettings
from tests.config.test_settings import REQUIRED
from tests.serving.running import write_pair

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
Load = Callable[[Mapping[str, str]], Any]
BOTH = pytest.mark.parametrize("load", [sigil_config.load, relay_config.load], ids=["sigil", "relay"])


def read(environ: Mapping[str, str]) -> TracingSettings:
    found = sigil_config.load(REQUIRED | environ).tracing
    assert found is not None
    return found


def fault(environ: Mapping[str, str]) -> str:
    with pytest.raises(ConfigError) as raised:
        sigil_config.load(REQUIRED | environ)
    (line,) = raised.value.lines
    return line


@BOTH
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
        {ENDPOINT: "http://collector:4317", "OTEL_SDK_DISABLED": "TRUE"},
        {ENDPOINT: "http://collector:4317", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_nothing_is_exported(load: Load, environ: dict[str, str]) -> None:
    assert load(REQUIRED | environ).tracing is None


@pytest.mark.parametrize(
    ("environ", "protocol", "endpoint"),
    [
        ({ENDPOINT: "http://collector:4317"}, "grpc", "http://collector:4317"),
        ({ENDPOINT: "http://collector:4318"}, "http/protobuf", "http://collector:4318/v1/traces"),
        ({ENDPOINT: "https://collector/base/"}, "http/protobuf", "https://collector/base/v1/traces"),
        ({ENDPOINT: "https://collector:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc", "https://collector:4318"),
        (
            {ENDPOINT: "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "http/protobuf",
            "http://collector:4317/v1/traces",
        ),
        (
            {
                ENDPOINT: "http://collector:4317",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            "http/protobuf",
            "http://collector:4317/v1/traces",
        ),
        # The endpoint of traces alone is used as it is.
        (
            {ENDPOINT: "http://a:4317", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://b:1/own/path"},
            "http/protobuf",
            "http://b:1/own/path",
        ),
        # gRPC without a scheme.
        ({ENDPOINT: "collector:4317"}, "grpc", "https://collector:4317"),
        ({ENDPOINT: "collector:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, "grpc", "http://collector:4317"),
        ({ENDPOINT: "https://c:4317", "OTEL_EXPORTER_OTLP_INSECURE": "true"}, "grpc", "https://c:4317"),
    ],
)
def test_the_endpoint_and_its_protocol(environ: dict[str, str], protocol: str, endpoint: str) -> None:
    found = read(environ)
    assert (found.protocol, found.endpoint) == (protocol, endpoint)


def test_every_variable_is_read(tmp_path: Path) -> None:
    pair = write_pair(tmp_path / "pair", "x")
    found = read(
        {
            ENDPOINT: "https://collector:4318",
            "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20s3cret, x-scope = a ",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": str(pair / "cert.pem"),
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "own",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,deployment.environment.name=pro%20d",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.1",
            "OTEL_BSP_SCHEDULE_DELAY": "1000",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "50",
            "OTEL_BSP_EXPORT_TIMEOUT": "9000",
        }
    )
    assert [(name, secret.reveal()) for name, secret in found.headers] == [
        ("authorization", "Bearer s3cret"),
        ("x-scope", "a"),
    ]
    assert found.certificate.startswith(b"-----BEGIN CERTIFICATE-----")
    assert dict(found.resource) == {"service.name": "own", "deployment.environment.name": "pro d"}
    assert (found.timeout, found.delay, found.batch_timeout, found.compression) == (2.5, 1.0, 9.0, "gzip")
    assert (found.sampler, found.ratio, found.queue_size, found.batch_size) == (
        "parentbased_traceidratio",
        0.1,
        100,
        50,
    )
    assert "s3cret" not in repr(found)


def test_the_service_names_itself() -> None:
    assert dict(read({ENDPOINT: "http://c:4317"}).resource) == {"service.name": "sigil"}
    relay = relay_config.load({ENDPOINT: "http://c:4317"}).tracing
    assert relay is not None
    assert dict(relay.resource) == {"service.name": "relay"}
    assert dict(read({ENDPOINT: "http://c:4317", "OTEL_RESOURCE_ATTRIBUTES": "service.name=x"}).resource) == {
        "service.name": "x"
    }


def test_headers_of_traces_and_headers_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("authorization=from-file\n")
    file.chmod(0o600)
    for environ, value in (
        ({"OTEL_EXPORTER_OTLP_HEADERS_FILE": str(file)}, "from-file"),
        ({"OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE": str(file), "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}, "from-file"),
        ({"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=own", "OTEL_EXPORTER_OTLP_HEADERS": "a=b"}, "own"),
    ):
        ((_, secret),) = read({ENDPOINT: "http://c:4317"} | environ).headers
        assert secret.reveal() == value
    assert set(sigil_config.SECRETS) >= {"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}
    assert set(relay_config.SECRETS) >= {"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"}


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({ENDPOINT: "ftp://c"}, "must be a URL such as https://host:port"),
        ({ENDPOINT: "collector:4318"}, "must be a URL such as https://host:port"),
        ({ENDPOINT: "http://user:pa55word@c:4317"}, "must be a URL such as https://host:port"),
        ({ENDPOINT: "http://c:99999"}, "OTEL_EXPORTER_OTLP_ENDPOINT: "),
        ({ENDPOINT: "http://c:4317/v1/traces"}, "must have no path with gRPC"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "must be one of grpc, http/protobuf"),
        # Python's SDK takes seconds, the specification milliseconds.
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10"}, "must be a whole number of milliseconds from 100 to 60000"),
        ({"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"}, "must be one of none, gzip"),
        ({"OTEL_EXPORTER_OTLP_INSECURE": "1"}, "must be true or false"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem"}, "OTEL_EXPORTER_OTLP_CERTIFICATE: "),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "must be one of parentbased_always_on"),
        ({"OTEL_TRACES_SAMPLER_ARG": "10%"}, "must be a share from 0 to 1"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1.1"}, "must be a share from 0 to 1"),
        ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "must be a share from 0 to 1"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "must be one of otlp, none"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a"}, "must be a list of the form name=value"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "must be a whole number from 1 to 100000"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, "must be at most OTEL_BSP_MAX_QUEUE_SIZE"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "pa55word"}, "item 1 is no name=value of a header"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=b,pa55word%0d%0a=x"}, "item 2 is no name=value of a header"),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=pa55word%0a"}, "item 1 is no name=value of a header"),
        (
            {"OTEL_EXPORTER_OTLP_HEADERS": "a=pa55word,Content-Length=5"},
            "item 2 is a header that each export sets itself",
        ),
    ],
)
def test_a_wrong_value_is_one_line_that_repeats_no_secret(environ: dict[str, str], text: str) -> None:
    line = fault(environ)
    assert text in line
    assert line.startswith("OTEL_")
    assert "pa55word" not in line


_WITHOUT_EXTRA = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"opentelemetry", "grpc"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from sigil.cli import main
raise SystemExit(main())
"""


def test_an_endpoint_without_the_extra_is_an_error_that_names_it() -> None:
    command = [sys.executable, "-c", _WITHOUT_EXTRA, "check-config"]
    environ = REQUIRED | {ENDPOINT: "http://collector:4317"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "OTEL_EXPORTER_OTLP_ENDPOINT: traces need packages that are not installed" in done.stderr
    assert "pip install '.[otel]'" in done.stderr
    assert "Traceback" not in done.stderr
