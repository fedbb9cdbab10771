"""OTLP over gRPC: one call for each batch.

Not the exporter of the SDK, which takes a proxy from the environment and tells the reason of a failure to its own log
alone (docs/decisions/0046).
"""

from __future__ import annotations

import importlib
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sigil.serving.tracing.outage import ExportFailed
from sigil.serving.tracing.partial_success import rejected_spans
from sigil.serving.tracing.settings import TracingSettings

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_MAX_ANSWER = 64 * 1024
# https://opentelemetry.io/docs/specs/otlp/#failures; RESOURCE_EXHAUSTED is also what an answer over the limit gives.
_RETRIED = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", _MAX_ANSWER),
    ("grpc.max_metadata_size", 16 * 1024),
    # The default waits up to two minutes before it tries a collector that is back.
    ("grpc.initial_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 10_000),
)


class GrpcExport:
    def __init__(self, settings: TracingSettings, user_agent: str) -> None:
        # The C library logs to standard error, and installs handlers of forks, which these services do not need.
        os.environ.update(GRPC_VERBOSITY="NONE", GRPC_ENABLE_FORK_SUPPORT="0")
        grpc: Any = importlib.import_module("grpc")

        self._error = grpc.RpcError
        parts = urlsplit(settings.endpoint)
        tls = parts.scheme == "https"
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        target = f"{host}:{parts.port or (443 if tls else 80)}"
        options = (*_OPTIONS, ("grpc.primary_user_agent", user_agent))
        if tls:
            roots = settings.certificate or _system_roots()
            channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(roots), options)
        else:
            channel = grpc.insecure_channel(target, options)
        self._channel: Any = channel
        self._call: Any = channel.unary_unary(_METHOD)
        self._headers = settings.headers
        self._compression = grpc.Compression.Gzip if settings.compression == "gzip" else None

    def send(self, data: bytes, seconds: float) -> None:
        """ExportFailed, within `seconds`."""
        metadata = tuple((name, secret.reveal()) for name, secret in self._headers)
        try:
            answer: bytes = self._call(data, timeout=seconds, metadata=metadata, compression=self._compression)
        except self._error as error:
            raise _failed(error) from None
        if rejected := rejected_spans(answer):
            raise ExportFailed("the collector rejects spans", retry=False, rejected=rejected)

    def close(self) -> None:
        self._channel.close()


def _failed(error: Any) -> ExportFailed:
    code, details = error.code().name, str(error.details())
    # The details quote addresses and what the collector wrote: only known texts of the library count.
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return ExportFailed("a certificate that is not trusted", retry=True)
    if "errors resolving" in details or "DNS resolution failed" in details:
        return ExportFailed("a name that is not known", retry=True)
    if "Connection refused" in details:
        return ExportFailed("no connection (Connection refused)", retry=True)
    if code == "DEADLINE_EXCEEDED":
        return ExportFailed("no answer in time", retry=True)
    return ExportFailed(f"gRPC status {code}", retry=code in _RETRIED)


def _system_roots() -> bytes | None:
    """Those of OpenSSL, as for all other connections; gRPC has a list of its own."""
    file = ssl.get_default_verify_paths().cafile
    try:
        return Path(file).read_bytes() if file else None
    except OSError:
        return None
