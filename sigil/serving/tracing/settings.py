"""The OTEL_ variables of OpenTelemetry that these services read, with the meaning of its specification.

The master reads them, the certificate included; a worker gets the parsed values. The SDK reads none of them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote, urlsplit

from sigil.serving import settings
from sigil.serving.settings import VISIBLE, EnvReader, Secret

Protocol = Literal["grpc", "http/protobuf"]
SECRETS = (
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)
"""Variables whose value is a secret."""
_SAMPLERS = (
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
    "always_on",
    "always_off",
    "traceidratio",
)
_GRPC_PORT = 4317
_PATH = "/v1/traces"
_MODULES = {
    "grpc": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common", "grpc"),
    "http/protobuf": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common"),
}
# RFC 9110, 5.1; of gRPC's metadata the same without upper case, and with names of its own.
_HEADER_NAME = re.compile(r"[0-9a-z!#$%&'*+.^_`|~-]+\Z")
_GRPC_NAME = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)\Z")
# An export of this name would end in another message than the one that was sent.
_FRAMING = frozenset({"host", "connection", "content-type", "content-length", "content-encoding", "transfer-encoding"})
_HEADER_VALUE = re.compile(r"[\x20-\x7e]*\Z")
_MAX_RESOURCE_TEXT = 1024


@dataclass(frozen=True)
class TracingSettings:
    """Where and how spans are exported. Times are in seconds.

    `endpoint` is a URL; for gRPC its scheme says whether TLS is used. `certificate` is PEM, b"" for the authorities of
    the system. One request takes at most `timeout`, one batch with its repeats `batch_timeout`.
    """

    endpoint: str
    protocol: Protocol
    headers: tuple[tuple[str, Secret], ...] = ()
    certificate: bytes = b""
    timeout: float = 10.0
    compression: Literal["none", "gzip"] = "none"
    resource: tuple[tuple[str, str], ...] = ()
    sampler: str = "parentbased_always_on"
    ratio: float = 1.0
    queue_size: int = 2048
    batch_size: int = 512
    delay: float = 5.0
    batch_timeout: float = 30.0


def read_tracing(r: EnvReader, service: str) -> TracingSettings | None:
    """None where no traces are exported; all variables are checked all the same."""
    disabled = r.value("OTEL_SDK_DISABLED", False, _disabled)
    exporter = r.choice("OTEL_TRACES_EXPORTER", "otlp", "otlp", "none")
    name, endpoint = _endpoint(r)
    protocol = _protocol(r, endpoint)
    endpoint = _complete(r, name, endpoint, protocol)
    found = TracingSettings(
        endpoint=endpoint or "",
        protocol=protocol,
        headers=_headers(r, protocol),
        certificate=_certificate(r),
        timeout=_either(r, "TIMEOUT", 10_000, _milliseconds(100, 60_000)) / 1000,
        compression=_either(r, "COMPRESSION", "none", _one_of("none", "gzip")),  # type: ignore[arg-type]
        resource=_resource(r, service),
        sampler=r.choice("OTEL_TRACES_SAMPLER", "parentbased_always_on", *_SAMPLERS),
        ratio=_ratio(r),
        queue_size=r.value("OTEL_BSP_MAX_QUEUE_SIZE", 2048, settings.count(1, 100_000)),
        batch_size=r.value("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, settings.count(1, 10_000)),
        delay=r.value("OTEL_BSP_SCHEDULE_DELAY", 5000, _milliseconds(10, 60_000)) / 1000,
        batch_timeout=r.value("OTEL_BSP_EXPORT_TIMEOUT", 30_000, _milliseconds(100, 600_000)) / 1000,
    )
    if found.batch_size > found.queue_size:
        r.faults.append("OTEL_BSP_MAX_EXPORT_BATCH_SIZE: must be at most OTEL_BSP_MAX_QUEUE_SIZE (2048 by default)")
    if endpoint is None or disabled or exporter == "none":
        return None
    if not all(map(_installed, _MODULES[protocol])):
        r.faults.append(
            f"{name}: traces need packages that are not installed: `pip install '.[otel]'` in the checkout, or unset it"
        )
    return found


def _disabled(text: str) -> bool:
    # The specification: true alone disables, any other text does not.
    return text.lower() == "true"


def _either(r: EnvReader, name: str, default: settings.T, parse: Callable[[str], settings.T]) -> settings.T:
    """A variable of traces, or the one of all signals."""
    general = r.value(f"OTEL_EXPORTER_OTLP_{name}", default, parse)
    return r.value(f"OTEL_EXPORTER_OTLP_TRACES_{name}", general, parse)


def _endpoint(r: EnvReader) -> tuple[str, str | None]:
    """The variable that gives the endpoint, and its value as given."""
    general, own = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    of_all, of_traces = r.text(general), r.text(own)
    return (own, of_traces) if of_traces else (general, of_all)


def _protocol(r: EnvReader, endpoint: str | None) -> Protocol:
    port = None
    # `_complete` reports a fault.
    with contextlib.suppress(ValueError):
        port = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}").port if endpoint else None
    guess: Protocol = "grpc" if port == _GRPC_PORT else "http/protobuf"
    return _either(r, "PROTOCOL", guess, _one_of("grpc", "http/protobuf"))  # type: ignore[arg-type]


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text.lower()

    return parse


def _complete(r: EnvReader, name: str, endpoint: str | None, protocol: Protocol) -> str | None:
    """The URL that is used: with a scheme, and for http/protobuf with the path of traces."""
    insecure = _either(r, "INSECURE", False, _boolean)
    if endpoint is None:
        return None

    def parse(text: str) -> str:
        # The specification lets gRPC omit the scheme, and OTEL_EXPORTER_OTLP_INSECURE then says whether TLS is used.
        bare = protocol == "grpc" and "://" not in text
        found = settings.url(f"{'http' if insecure else 'https'}://{text}" if bare else text)
        path = urlsplit(found).path
        if protocol == "grpc" and path:
            raise ValueError("must have no path with gRPC, such as http://collector:4317")
        return found + _PATH if protocol != "grpc" and name == "OTEL_EXPORTER_OTLP_ENDPOINT" else found

    return r.value(name, None, parse)


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _milliseconds(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            return settings.count(low, high)(text)
        except ValueError:
            raise ValueError(f"must be a whole number of milliseconds from {low} to {high}") from None

    return parse


def _ratio(r: EnvReader) -> float:
    def parse(text: str) -> float:
        if not re.fullmatch(r"(?:\d{1,3}(?:\.\d{0,20})?|\.\d{1,20})", text, re.ASCII) or not 0 <= float(text) <= 1:
            raise ValueError("must be a share from 0 to 1, such as 0.1")
        return float(text)

    return r.value("OTEL_TRACES_SAMPLER_ARG", 1.0, parse)


def _certificate(r: EnvReader) -> bytes:
    general, own = "OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"
    of_all, of_traces = r.public_file(general, _pem), r.public_file(own, _pem)
    return (of_traces or of_all or "").encode()


def _pem(text: str) -> str:
    # Not at the top: the health check reads settings too, and needs no TLS of OpenSSL.
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):
        raise ValueError("holds no certificate in PEM") from None
    return text


def _headers(r: EnvReader, protocol: Protocol) -> tuple[tuple[str, Secret], ...]:
    """`name=value,name=value`, with percent-encoded values. No error repeats any of it."""
    general, own = (r.secret(name) for name in SECRETS)
    given, variable = (own, SECRETS[1]) if own else (general, SECRETS[0])
    if given is None:
        return ()
    name_form = _GRPC_NAME if protocol == "grpc" else _HEADER_NAME
    headers: list[tuple[str, Secret]] = []
    for number, item in enumerate((part for part in given.reveal().split(",") if part.strip()), 1):
        name, equals, value = item.partition("=")
        name, value = unquote(name.strip()).lower(), unquote(value.strip())
        if not equals or not name_form.match(name) or not _HEADER_VALUE.match(value):
            r.faults.append(f"{variable}: item {number} is no name=value of a header; the list has the form a=1,b=2")
        elif name in _FRAMING:
            r.faults.append(f"{variable}: item {number} is a header that each export sets itself: remove it")
        headers.append((name, Secret(value)))
    return tuple(headers)


def _resource(r: EnvReader, service: str) -> tuple[tuple[str, str], ...]:
    def parse(text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for item in (part for part in text.split(",") if part.strip()):
            name, equals, value = item.partition("=")
            name, value = unquote(name.strip()), unquote(value.strip())
            if not equals or not VISIBLE.match(name) or not value.isprintable() or len(value) > _MAX_RESOURCE_TEXT:
                raise ValueError("must be a list of the form name=value,name=value, with percent-encoded values")
            found[name] = value
        return found

    def printable(text: str) -> str:
        if not text.isprintable() or len(text) > _MAX_RESOURCE_TEXT:
            raise ValueError("must be text on one line")
        return text

    none: dict[str, str] = {}
    given = r.value("OTEL_RESOURCE_ATTRIBUTES", none, parse)
    name = r.value("OTEL_SERVICE_NAME", given.get("service.name") or service, printable)
    return tuple((given | {"service.name": name}).items())


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
