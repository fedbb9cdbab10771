"""The export of spans against a collector that is slow, broken, hostile or absent, over both protocols."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sigil.protocol.trace_context import TraceContext
from sigil.serving import logs
from sigil.serving.settings import Secret
from sigil.serving.tracing.http_export import HttpExport
from sigil.serving.tracing.outage import ExportFailed
from sigil.serving.tracing.settings import Protocol, TracingSettings
from sigil.serving.tracing.tracer import LinkTo, Tracer, create_tracer
from tests.conformance.certificates import write_pair
from tests.support.live import wait_until
from tests.support.otlp import PROTOCOLS, Collector, Faults, collecting
from tests.support.ports import free_port

BOTH = pytest.mark.parametrize("protocol", PROTOCOLS)
SECRET = "s3cret-of-the-collector"


class Dropped:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, count: int) -> None:
        self.count += count


@contextmanager
def tracing(
    endpoint: str, protocol: Protocol, dropped: Callable[[int], None] = lambda count: None, **changed: Any
) -> Iterator[Tracer]:
    path = "" if protocol == "grpc" else "/v1/traces"
    settings = TracingSettings(
        endpoint=endpoint + path,
        protocol=protocol,
        headers=(("x-secret", Secret(SECRET)),),
        resource=(("service.name", "tested"),),
        **{"delay": 0.02, "timeout": 5.0, **changed},
    )
    tracer = create_tracer(settings, "sigil", "1", dropped)
    try:
        yield tracer
    finally:
        tracer.close()


def emit(tracer: Tracer, name: str = "one", **options: Any) -> None:
    span = tracer.start(name, "server", **options)
    assert span is not None
    span.end()


@pytest.fixture(autouse=True)
def no_export_outlives_its_test() -> Iterator[None]:
    """A thread that still waits for a collector of one test would log in the next."""
    yield
    for thread in threading.enumerate():
        if thread.name == "otlp export":
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The lines so far. Not capfd, which empties its file while the thread of the log may write to it."""
    file = tmp_path / "log.jsonl"
    logs.configure("sigil", "info")
    # Lines of the tests before go where they belong.
    logs.flush()
    output = file.open("ab")
    monkeypatch.setattr(logs._sink, "writer", None)
    logs._sink.write_to(output.fileno())

    def read() -> list[dict[str, Any]]:
        logs.flush()
        text = file.read_text(encoding="utf-8")
        assert SECRET not in text
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    yield read
    logs.flush()
    output.close()


@BOTH
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_span_arrives_with_its_resource_and_the_headers(protocol: Protocol, compression: str) -> None:
    with collecting(protocol) as collector, tracing(collector.endpoint, protocol, compression=compression) as tracer:
        emit(tracer, attributes={"a": "b", "several": ["x", "y"]})
        (span,) = collector.wait_for("one")
        assert (span.kind, span.attributes, span.scope) == ("SERVER", {"a": "b", "several": ["x", "y"]}, "sigil")
        assert (span.resource["service.name"], span.resource["service.version"]) == ("tested", "1")
        (export,) = collector.exports
        assert export.headers["x-secret"] == SECRET
        if protocol == "http/protobuf":
            assert export.path == "/v1/traces"
            assert export.compression == (None if compression == "none" else "gzip")


@BOTH
def test_an_outage_is_one_line_and_its_end_another(protocol: Protocol, log: Callable[[], list[dict[str, Any]]]) -> None:
    dropped = Dropped()
    collector = Collector(protocol)
    with tracing(collector.endpoint, protocol, dropped, batch_timeout=1.0) as tracer:
        for expected in (1, 2, 3):
            emit(tracer)
            wait_until(lambda expected=expected: dropped.count == expected, "the span to be dropped")
        assert len(log()) == 1, [line["reason"] for line in log()]
        (line,) = log()
        assert (line["event"], line["level"]) == ("otlp_export_failed", "warn")
        assert line["reason"] == "no connection (Connection refused)"
        collector.start()
        try:
            # gRPC waits for a moment before it connects again.
            wait_until(lambda: emit(tracer, "later") or collector.named("later"), "a span after the outage")
            wait_until(lambda: len(log()) > 1, "the line about the end")
        finally:
            collector.stop()
        assert [line["event"] for line in log()[:2]] == ["otlp_export_failed", "otlp_export_recovered"]
        assert log()[1]["dropped"] >= 3


@BOTH
def test_a_new_reason_is_a_new_line(protocol: Protocol, log: Callable[[], list[dict[str, Any]]]) -> None:
    with collecting(protocol) as collector, tracing(collector.endpoint, protocol) as tracer:
        for number, (status, code) in enumerate([(400, "INVALID_ARGUMENT"), (403, "PERMISSION_DENIED")] * 2, 1):
            collector.faults = Faults(status=status, code=getattr(grpc.StatusCode, code))
            emit(tracer)
            collector.wait_for_exports(number)
        collector.faults = Faults()
        emit(tracer, "good")
        collector.wait_for("good")
        wait_until(lambda: log()[-1]["event"] == "otlp_export_recovered", "the end of the outage")
    reasons = [line["reason"] for line in log() if line["event"] == "otlp_export_failed"]
    if protocol == "grpc":
        assert reasons == ["gRPC status INVALID_ARGUMENT", "gRPC status PERMISSION_DENIED"]
    else:
        assert reasons == ["status 400", "status 403"]


@BOTH
def test_a_batch_is_sent_again_after_an_outage_that_is_short(protocol: Protocol) -> None:
    dropped = Dropped()
    with collecting(protocol) as collector, tracing(collector.endpoint, protocol, dropped) as tracer:
        collector.faults = Faults(status=503, code=grpc.StatusCode.UNAVAILABLE)
        emit(tracer)
        collector.wait_for_exports(1)
        collector.faults = Faults()
        collector.wait_for("one")
        assert (len(collector.named("one")), dropped.count) == (1, 0)


def test_the_wait_of_a_collector_holds_for_the_next_batch_too() -> None:
    """A collector that is overloaded would otherwise get every batch once, as fast as spans come."""
    dropped = Dropped()
    with (
        collecting(faults=Faults(status=429, retry_after=3)) as collector,
        tracing(collector.endpoint, "http/protobuf", dropped, batch_timeout=0.5) as tracer,
    ):
        began = time.monotonic()
        emit(tracer)
        wait_until(lambda: dropped.count == 1, "the first batch to be lost")
        emit(tracer)
        collector.wait_for_exports(2)
        assert time.monotonic() - began >= 3


def test_the_addresses_of_a_name_share_the_time_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as clients:
        address = full.getsockname()
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)
        silent = (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [silent] * 30)
        export = HttpExport(TracingSettings("http://c:4318/v1/traces", "http/protobuf"), "tests")
        began = time.monotonic()
        with pytest.raises(ExportFailed, match="no answer in time"):
            export.send(b"", 1.0)
        # Each alone would take 30 s.
        assert time.monotonic() - began < 15


@BOTH
def test_a_full_queue_drops_what_comes_and_no_caller_waits(protocol: Protocol) -> None:
    dropped = Dropped()
    with (
        collecting(protocol, faults=Faults(hangs=True)) as collector,
        tracing(collector.endpoint, protocol, dropped, queue_size=10, batch_size=5) as tracer,
    ):
        emit(tracer)
        collector.wait_for_exports(1)
        began = time.perf_counter()
        for _ in range(500):
            emit(tracer)
        # One hanging export takes 5 s.
        assert time.perf_counter() - began < 4
        assert dropped.count == 490


def test_an_answer_that_does_not_end_is_cut_off() -> None:
    sent = 0
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood() -> None:
            nonlocal sent
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                try:
                    while sent < 1_000_000_000:
                        sent += connection.send(bytes(65536))
                except OSError:
                    return

        thread = threading.Thread(target=flood, daemon=True)
        thread.start()
        with tracing(f"http://127.0.0.1:{listener.getsockname()[1]}", "http/protobuf", timeout=60.0) as tracer:
            emit(tracer)
            thread.join(60)
    # What the buffers of the sockets hold.
    assert 64 * 1024 < sent < 50_000_000


def test_an_answer_that_is_too_large_for_grpc_is_no_reason_to_send_the_batch_again(
    log: Callable[[], list[dict[str, Any]]],
) -> None:
    dropped = Dropped()
    with (
        collecting("grpc", faults=Faults(answer_bytes=30_000_000)) as collector,
        tracing(collector.endpoint, "grpc", dropped) as tracer,
    ):
        emit(tracer)
        wait_until(lambda: dropped.count == 1, "the end of the export")
        assert len(collector.exports) == 1
    assert [line["reason"] for line in log()] == ["gRPC status RESOURCE_EXHAUSTED"]


def test_an_answer_of_one_byte_a_second_is_ended_by_the_deadline(log: Callable[[], list[dict[str, Any]]]) -> None:
    """A time-out of the socket alone would never end it."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                while not stop.wait(0.1):
                    try:
                        connection.sendall(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        dropped = Dropped()
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with tracing(endpoint, "http/protobuf", dropped, timeout=0.5, batch_timeout=0.6) as tracer:
            emit(tracer)
            wait_until(lambda: dropped.count == 1, "the deadline")
        stop.set()
        thread.join(60)
    assert [line["reason"] for line in log()] == ["no answer in time"]


def test_a_redirect_is_not_followed(log: Callable[[], list[dict[str, Any]]]) -> None:
    """It could lead the headers, which are a secret, to another host."""
    dropped = Dropped()
    with (
        collecting() as other,
        collecting(faults=Faults(redirect_to=f"{other.endpoint}/v1/traces")) as collector,
        tracing(collector.endpoint, "http/protobuf", dropped) as tracer,
    ):
        emit(tracer)
        wait_until(lambda: dropped.count == 1, "the span to be dropped")
        assert other.exports == []
    assert [line["reason"] for line in log()] == ["a redirect (307), which is not followed"]


@BOTH
def test_rejected_spans_are_counted(protocol: Protocol, log: Callable[[], list[dict[str, Any]]]) -> None:
    dropped = Dropped()
    with (
        collecting(protocol, faults=Faults(rejected_spans=1)) as collector,
        tracing(collector.endpoint, protocol, dropped) as tracer,
    ):
        emit(tracer)
        wait_until(lambda: dropped.count == 1, "the count")
    assert [line.get("reason", line) for line in log()] == ["the collector rejects spans"]


@BOTH
def test_a_proxy_of_the_environment_is_not_used(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    with collecting(protocol) as collector, tracing(collector.endpoint, protocol) as tracer:
        emit(tracer)
        collector.wait_for("one")


@BOTH
def test_variables_of_the_sdk_change_nothing(protocol: Protocol, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings were read by the master, and checked."""
    for name, value in {
        "OTEL_TRACES_SAMPLER": "always_off",
        "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0",
        "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "0",
        "OTEL_RESOURCE_ATTRIBUTES": "leaked=yes",
        "OTEL_EXPORTER_OTLP_HEADERS": "leaked=yes",
    }.items():
        monkeypatch.setenv(name, value)
    with collecting(protocol) as collector, tracing(collector.endpoint, protocol) as tracer:
        emit(tracer, attributes={"a": "b"})
        (span,) = collector.wait_for("one")
        assert span.attributes == {"a": "b"}
        assert "leaked" not in span.resource
        assert "leaked" not in collector.exports[0].headers


@BOTH
def test_the_certificate_of_the_collector_is_verified(
    protocol: Protocol, tmp_path: Path, log: Callable[[], list[dict[str, Any]]]
) -> None:
    files = (tmp_path / "cert.pem", tmp_path / "key.pem")
    write_pair(*files)
    dropped = Dropped()
    with (
        collecting(protocol, certificate=files) as collector,
        tracing(collector.endpoint, protocol, dropped, batch_timeout=0.5) as tracer,
    ):
        emit(tracer, "untrusted")
        wait_until(lambda: dropped.count == 1, "the span to be dropped")
        with tracing(collector.endpoint, protocol, certificate=files[0].read_bytes()) as trusting:
            emit(trusting, "trusted")
            collector.wait_for("trusted")
        assert collector.named("untrusted") == []
    assert log()[0]["reason"].startswith("a certificate that is not trusted")


@BOTH
def test_a_name_that_is_not_known(protocol: Protocol, log: Callable[[], list[dict[str, Any]]]) -> None:
    dropped = Dropped()
    with tracing("http://collector.invalid:4321", protocol, dropped, batch_timeout=0.5) as tracer:
        emit(tracer)
        wait_until(lambda: dropped.count == 1, "the span to be dropped")
    assert log()[0]["reason"] in {"a name that is not known", "no answer in time"}


@BOTH
async def test_the_end_exports_what_is_queued(protocol: Protocol) -> None:
    dropped = Dropped()
    with (
        collecting(protocol) as collector,
        tracing(collector.endpoint, protocol, dropped, delay=60.0, batch_size=100) as tracer,
    ):
        for _ in range(1000):
            emit(tracer)
        await tracer.finish(30)
        emit(tracer, "late")
        collector.wait_for("one", 1000)
        assert dropped.count == 1


@BOTH
async def test_the_end_waits_for_no_collector_that_hangs(protocol: Protocol) -> None:
    dropped = Dropped()
    with (
        collecting(protocol, faults=Faults(hangs=True)) as collector,
        tracing(collector.endpoint, protocol, dropped, timeout=60.0, batch_size=2) as tracer,
    ):
        emit(tracer)
        collector.wait_for_exports(1)
        for _ in range(5):
            emit(tracer)
        began = time.perf_counter()
        await tracer.finish(0.3)
        assert 0.2 < time.perf_counter() - began < 20
    # Those of the queue, and at the end of the collector the one in flight.
    assert dropped.count in {5, 6}


@pytest.mark.parametrize(
    ("sampler", "ratio", "root", "sampled_parent", "unsampled_parent", "linked"),
    [
        ("parentbased_always_on", 1.0, True, True, False, True),
        ("parentbased_traceidratio", 0.0, False, True, False, True),
        ("parentbased_always_off", 1.0, False, True, False, True),
        ("always_on", 1.0, True, True, True, True),
        ("traceidratio", 0.0, False, False, False, True),
        ("always_off", 1.0, False, False, False, False),
    ],
)
def test_the_samplers(
    sampler: str, ratio: float, *, root: bool, sampled_parent: bool, unsampled_parent: bool, linked: bool
) -> None:
    context = TraceContext(b"t" * 16, b"s" * 8, 1)
    with tracing("http://127.0.0.1:9", "http/protobuf", sampler=sampler, ratio=ratio) as tracer:

        def sampled(**options: Any) -> bool:
            return tracer.start("x", "server", **options) is not None

        assert sampled() is root
        assert sampled(parent=context) is sampled_parent
        assert sampled(parent=context._replace(flags=0)) is unsampled_parent
        assert sampled(links=[LinkTo(context)]) is linked
        assert not sampled(links=[LinkTo(context._replace(flags=0))])
