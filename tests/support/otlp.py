"""A collector that receives OTLP as a real one does: http/protobuf and gRPC, plain or gzip, with or without TLS.

It decodes with the messages of opentelemetry-proto, and stores plain values. Faults are attributes that a test sets.
"""

from __future__ import annotations

import gzip
import io
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import SHUT_RDWR, socket
from typing import Any, Literal, NamedTuple

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from tests.support.ports import free_port

Protocol = Literal["http/protobuf", "grpc"]
PROTOCOLS: tuple[Protocol, ...] = ("http/protobuf", "grpc")
_WAIT_SECONDS = 60.0
# A collector that hangs ends with the test, not before.
_FOREVER = 3600.0
_MAX_BODY = 64 * 1024 * 1024


class Link(NamedTuple):
    trace_id: str
    span_id: str


@dataclass(frozen=True)
class Span:
    """One span as it arrived. Ids are lower-case hex; `parent_id` is "" for a root; times are Unix nanoseconds."""

    name: str
    kind: str
    """SERVER, CLIENT, PRODUCER, CONSUMER or INTERNAL"""
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[Link, ...]
    attributes: dict[str, Any]
    status: str
    """UNSET, OK or ERROR"""
    status_message: str
    events: tuple[tuple[str, dict[str, Any]], ...]
    started_at: int
    ended_at: int
    trace_state: str
    scope: str
    resource: dict[str, Any]

    @property
    def service(self) -> str:
        return str(self.resource.get("service.name", ""))

    @property
    def name_of_itself(self) -> Link:
        """What another span's link or `parent_id` names."""
        return Link(self.trace_id, self.span_id)

    @property
    def texts(self) -> list[str]:
        """Every text that this span carries to the collector, with names of attributes: for searches of secrets."""
        events = [text for name, attributes in self.events for text in (name, *_texts(attributes))]
        own = [self.name, self.status_message, self.trace_state, self.scope]
        return [*own, *events, *_texts(self.attributes), *_texts(self.resource)]


@dataclass(frozen=True)
class Export:
    """One request of an exporter. `headers` are lower-case; of gRPC they are the metadata."""

    protocol: Protocol
    path: str
    headers: dict[str, str]
    compression: str | None
    """The Content-Encoding over HTTP; None over gRPC, whose server decompresses without a trace of it."""
    size: int
    """Bytes of the message, decompressed"""
    spans: int


@dataclass
class Faults:
    """What the collector does with each export from now on. Only an accepted export stores its spans."""

    delay: float = 0.0
    """Seconds before the answer"""
    hangs: bool = False
    """No answer until the collector stops"""
    status: int | None = None
    """The HTTP status of the answer"""
    code: grpc.StatusCode | None = None
    """The gRPC status of the answer"""
    retry_after: int | None = None
    redirect_to: str | None = None
    """HTTP: 307 with this Location"""
    answer_bytes: int = 0
    """A valid answer of at least this many bytes: a message in partial_success"""
    rejected_spans: int = 0
    """Partial success: so many spans are reported as rejected"""


@dataclass
class Collector:
    """Listens on `port` of 127.0.0.1 from `start` to `stop`, and may start again there. Any thread may read it."""

    protocol: Protocol = "http/protobuf"
    port: int = field(default_factory=free_port)
    certificate: tuple[Path, Path] | None = None
    """The files of the certificate chain and of its key: TLS"""
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._spans: list[Span] = []
        self._exports: list[Export] = []
        self._stop: Callable[[], None] | None = None

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Span]:
        """In the order of arrival."""
        with self._changed:
            return list(self._spans)

    @property
    def exports(self) -> list[Export]:
        """Every request, also those that were answered with an error."""
        with self._changed:
            return list(self._exports)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def clear(self) -> None:
        with self._changed:
            self._spans.clear()
            self._exports.clear()

    def wait_until(self, holds: Callable[[list[Span]], object], timeout: float = _WAIT_SECONDS) -> list[Span]:
        """All spans, as soon as `holds` of them. AssertionError with their names after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: holds(list(self._spans)), timeout):
                counts: dict[str, int] = defaultdict(int)
                for span in self._spans:
                    counts[f"{span.service}: {span.name}"] += 1
                raise AssertionError(f"not received within {timeout:g} s; there are {dict(counts)}")
            return list(self._spans)

    def wait_for(self, name: str, count: int = 1, timeout: float = _WAIT_SECONDS) -> list[Span]:
        """The spans with this name, as soon as there are `count`."""
        self.wait_until(lambda spans: sum(span.name == name for span in spans) >= count, timeout)
        return self.named(name)

    def wait_for_exports(self, count: int = 1, timeout: float = _WAIT_SECONDS) -> list[Export]:
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self._exports) >= count, timeout)
            assert arrived, f"{len(self._exports)} of {count} exports within {timeout:g} s"
            return list(self._exports)

    def start(self) -> None:
        assert self._stop is None, "it runs already"
        self._stopping.clear()
        self._stop = _serve_grpc(self) if self.protocol == "grpc" else _serve_http(self)

    def stop(self) -> None:
        """Ends every connection. Harmless when it does not run."""
        stop, self._stop = self._stop, None
        self._stopping.set()
        if stop is not None:
            stop()

    def receive(self, request: ExportTraceServiceRequest, export: Export) -> Faults:
        """Called by the servers: stores the export, waits as the faults say, and returns them."""
        faults = Faults(**vars(self.faults))
        spans = list(_spans(request))
        with self._changed:
            self._exports.append(export)
            if faults.status is None and faults.code is None and faults.redirect_to is None and not faults.hangs:
                self._spans += spans
            self._changed.notify_all()
        self._stopping.wait(_FOREVER if faults.hangs else faults.delay)
        return faults


@contextmanager
def collecting(protocol: Protocol = "http/protobuf", **options: Any) -> Iterator[Collector]:
    """A running collector."""
    collector = Collector(protocol, **options)
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def _answer(faults: Faults) -> ExportTraceServiceResponse:
    answer = ExportTraceServiceResponse()
    if faults.answer_bytes or faults.rejected_spans:
        answer.partial_success.rejected_spans = faults.rejected_spans
        answer.partial_success.error_message = "x" * faults.answer_bytes
    return answer


# -- http/protobuf --------------------------------------------------------------------------------


class _HttpServer(HTTPServer):
    """A thread a connection; `server_close` ends the connections and joins their threads."""

    request_queue_size = 128

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self._lock = threading.Lock()
        self._open: dict[socket, threading.Thread] = {}
        self._tls: ssl.SSLContext | None = None
        if collector.certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*collector.certificate)
        super().__init__(("127.0.0.1", collector.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self._connection, args=(request, client_address), daemon=True)
        with self._lock:
            self._open[request] = thread
        thread.start()

    def _connection(self, connection: socket, client_address: Any) -> None:
        served = connection
        try:
            if self._tls is not None:
                served = self._tls.wrap_socket(connection, server_side=True)
            _Handler(served, client_address, self)
        except OSError:
            pass  # the exporter went away, or the test stopped the collector
        finally:
            with self._lock:
                self._open.pop(connection, None)
            served.close()
            connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            connections = dict(self._open)
        for connection, thread in connections.items():
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)
            thread.join(_WAIT_SECONDS)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._respond(405, b"")

    def do_POST(self) -> None:
        collector = self.server.collector
        encoding = self.headers.get("Content-Encoding")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if encoding == "gzip":
            with gzip.GzipFile(fileobj=io.BytesIO(body)) as opened:
                body = opened.read(_MAX_BODY)
        if self.headers.get("Content-Type") != "application/x-protobuf":
            self._respond(415, b"")
            return
        request = ExportTraceServiceRequest.FromString(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        export = Export("http/protobuf", self.path, headers, encoding, len(body), _count(request))
        faults = collector.receive(request, export)
        if faults.hangs:
            self.close_connection = True
            return
        extra = {}
        if faults.redirect_to is not None:
            extra["Location"] = faults.redirect_to
        if faults.retry_after is not None:
            extra["Retry-After"] = str(faults.retry_after)
        status = faults.status or (307 if faults.redirect_to is not None else 200)
        self._respond(status, _answer(faults).SerializeToString(), extra)

    def _respond(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/x-protobuf", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _serve_http(collector: Collector) -> Callable[[], None]:
    server = _HttpServer(collector)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        thread.join(_WAIT_SECONDS)
        server.server_close()

    return stop


# -- gRPC -----------------------------------------------------------------------------------------


class _TraceService(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(  # noqa: N802 - the name of the method on the wire
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        metadata = {item.key: str(item.value) for item in context.invocation_metadata()}
        path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        export = Export("grpc", path, metadata, None, request.ByteSize(), _count(request))
        faults = self._collector.receive(request, export)
        if faults.code is not None:
            context.abort(faults.code, "x" * faults.answer_bytes)
        return _answer(faults)


def _serve_grpc(collector: Collector) -> Callable[[], None]:
    workers = ThreadPoolExecutor(8, thread_name_prefix="otlp-grpc")
    # Without SO_REUSEPORT a second collector on the same port fails instead of taking every other connection.
    server = grpc.server(workers, options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _MAX_BODY)])
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_TraceService(collector), server)
    address = f"127.0.0.1:{collector.port}"
    if collector.certificate is None:
        server.add_insecure_port(address)
    else:
        chain, key = (file.read_bytes() for file in collector.certificate)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
    server.start()

    def stop() -> None:
        server.stop(grace=None).wait(_WAIT_SECONDS)
        workers.shutdown()

    return stop


# -- Plain values ---------------------------------------------------------------------------------


def _count(request: ExportTraceServiceRequest) -> int:
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Span]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield _span(span, scope.scope.name, resource)


def _span(span: WireSpan, scope: str, resource: dict[str, Any]) -> Span:
    return Span(
        name=span.name,
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple(Link(link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_attributes(span.attributes),
        status={0: "UNSET", 1: "OK", 2: "ERROR"}[span.status.code],
        status_message=span.status.message,
        events=tuple((event.name, _attributes(event.attributes)) for event in span.events),
        started_at=span.start_time_unix_nano,
        ended_at=span.end_time_unix_nano,
        trace_state=span.trace_state,
        scope=scope,
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        assert pair.key not in found, f"two attributes named {pair.key}"
        found[pair.key] = _value(pair.value)
    return found


def _value(value: AnyValue) -> Any:
    which = value.WhichOneof("value")
    if which is None:
        return None
    content = getattr(value, which)
    if which == "array_value":
        return [_value(item) for item in content.values]
    if which == "kvlist_value":
        return _attributes(content.values)
    return content


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for name, item in value.items() for text in (str(name), *_texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, bytes):
        return [value.decode("latin-1"), value.hex()]
    return [str(value)]
