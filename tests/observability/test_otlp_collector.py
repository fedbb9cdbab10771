"""The collector of the tests, under the exporters of the OpenTelemetry SDK."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import httpx
import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tests.support.otlp import PROTOCOLS, Collector, Protocol, collecting


def _exporter(collector: Collector, *, compressed: bool = False, timeout: float = 5) -> SpanExporter:
    if collector.protocol == "grpc":
        compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
        return GrpcExporter(endpoint=collector.endpoint, insecure=True, compression=compression, timeout=timeout)
    return HttpExporter(
        endpoint=f"{collector.endpoint}/v1/traces",
        compression=Compression.Gzip if compressed else Compression.NoCompression,
        timeout=timeout,
    )


@contextmanager
def _tracing(exporter: SpanExporter) -> Iterator[Tracer]:
    provider = TracerProvider(resource=Resource({"service.name": "example"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield provider.get_tracer("of the test")
    finally:
        provider.shutdown()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_spans_arrive_as_plain_values(protocol: Protocol, compressed: bool) -> None:
    with collecting(protocol) as collector, _tracing(_exporter(collector, compressed=compressed)) as tracer:
        with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            outer.set_attributes({"text": "a", "number": 7, "list": ["x", "y"], "share": 0.5, "flag": True})
            tracer.start_span("inner", kind=SpanKind.CLIENT, links=[Link(outer.get_span_context())]).end()
            outer.set_status(Status(StatusCode.ERROR, "it failed"))
        inner, received = collector.wait_for("inner")[0], collector.wait_for("outer")[0]
        exports = collector.exports
    assert (received.kind, received.parent_id, received.status) == ("SERVER", "", "ERROR")
    assert received.attributes == {"text": "a", "number": 7, "list": ["x", "y"], "share": 0.5, "flag": True}
    assert received.span_id == format(outer.get_span_context().span_id, "016x")
    assert (inner.kind, inner.parent_id, inner.trace_id) == ("CLIENT", received.span_id, received.trace_id)
    assert inner.links == (received.name_of_itself,)
    assert inner.service == "example"
    assert inner.scope == "of the test"
    assert {"it failed", "flag", "y", "example"} <= {*received.texts}
    assert [export.spans for export in exports] == [1, 1]
    if protocol == "http/protobuf":
        assert {export.compression for export in exports} == {"gzip" if compressed else None}
        assert {export.path for export in exports} == {"/v1/traces"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_export_that_the_collector_refuses_stores_nothing(protocol: Protocol) -> None:
    with collecting(protocol) as collector, _tracing(_exporter(collector)) as tracer:
        collector.faults.status, collector.faults.code = 400, grpc.StatusCode.INVALID_ARGUMENT
        tracer.start_span("refused").end()
        assert collector.wait_for_exports()[0].spans == 1
        collector.faults.status = collector.faults.code = None
        tracer.start_span("accepted").end()
        collector.wait_for("accepted")
        assert [span.name for span in collector.spans] == ["accepted"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_stops_with_an_export_that_hangs_and_starts_again_on_its_port(protocol: Protocol) -> None:
    collector = Collector(protocol)
    collector.start()
    collector.faults.hangs = True
    exporter = _exporter(collector, timeout=2)
    with _tracing(exporter) as tracer:
        tracer.start_span("never answered").end()
    assert collector.wait_for_exports()[0].spans == 1
    collector.stop()
    collector.stop()
    collector.faults.hangs = False
    collector.start()
    with _tracing(_exporter(collector)) as tracer:
        tracer.start_span("again").end()
    assert [span.name for span in collector.wait_for("again")] == ["again"]
    collector.stop()


def test_a_redirect_names_its_target() -> None:
    with collecting() as collector:
        collector.faults.redirect_to = "http://127.0.0.1:9/elsewhere"
        answer = httpx.post(
            f"{collector.endpoint}/v1/traces", content=b"", headers={"Content-Type": "application/x-protobuf"}
        )
    assert (answer.status_code, answer.headers["Location"]) == (307, "http://127.0.0.1:9/elsewhere")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_answer_can_be_large_and_partial(protocol: Protocol) -> None:
    with collecting(protocol) as collector, _tracing(_exporter(collector)) as tracer:
        collector.faults.answer_bytes, collector.faults.rejected_spans = 1_000_000, 1
        tracer.start_span("large").end()
        assert collector.wait_for_exports()[0].spans == 1
