"""Which `traceparent` the clients send, and that no fault of a tracing library ends a call."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from sigil.device import Device
from sigil.protocol.webhook import signed_headers
from sigil.sdk import AsyncSigilAuth, ServerFailed, SigilAuth, webhooks
from tests.sdk.conftest import MovingClock
from tests.sdk.faults import FaultServer, refuse
from tests.sdk.test_faults import ACTION, ID
from tests.sdk.test_webhooks import BODY, NOW, SECRET, headers
from tests.sdk.test_webhooks import ID as ID_OF_EVENT

SDK_MD = Path(__file__).parents[2] / "docs" / "sdk.md"

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
SAMPLED = f"00-{TRACE:032x}-{SPAN:016x}-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
MALFORMED: list[Any] = [
    "",
    SAMPLED.upper(),
    SAMPLED + "\r\nX-Admin: 1",
    SAMPLED + " ",
    f"ff{SAMPLED[2:]}",
    f"00-{0:032x}-{SPAN:016x}-01",
    f"00-{TRACE:032x}-{0:016x}-01",
    SAMPLED[:-1],
    "ü" * 55,
    SAMPLED.encode(),
    7,
    ["00"],
]
KEY = Device.generate("Ed25519").wire_key
CALLS: list[Callable[[Any], Any]] = [
    lambda client: client.auth.create_challenge(KEY, ACTION),
    lambda client: client.auth.get_status(ID),
    lambda client: client.auth.await_result(ID, timeout=1),
    lambda client: client.auth.cancel(ID),
    lambda client: client.mpa.request(ACTION, [[KEY]], 1),
    lambda client: client.mpa.get_status("order-7"),
    lambda client: client.mpa.await_result("order-7", timeout=1),
    lambda client: client.mpa.cancel("order-7"),
]
Sent = Callable[[Callable[[Any], Any]], list[str | None]]


@contextmanager
def current(trace_id: int = TRACE, span_id: int = SPAN, flags: int = 1) -> Iterator[None]:
    """A span of the caller is current."""
    context = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))
    with trace.use_span(NonRecordingSpan(context)):
        yield


@pytest.fixture(params=["sync", "async"])
def sent(request: pytest.FixtureRequest, faulty: FaultServer) -> Sent:
    """Makes a call with a new client in the current context; the `traceparent` of each of its two requests."""

    options: dict[str, Any] = {"ca_file": faulty.certificate, "tries": 2, "clock": MovingClock().as_clock()}

    async def call_async(call: Callable[[Any], Any]) -> None:
        async with AsyncSigilAuth(faulty.url, **options) as client:
            await call(client)

    def call_sync(call: Callable[[Any], Any]) -> None:
        with SigilAuth(faulty.url, **options) as client:
            call(client)

    def run(call: Callable[[Any], Any]) -> list[str | None]:
        faulty.seen.clear()
        faulty.script[:] = [refuse(500)] * 2
        with pytest.raises(ServerFailed):
            asyncio.run(call_async(call)) if request.param == "async" else call_sync(call)
        assert len(faulty.seen) == 2
        return [seen.headers.get("traceparent") for seen in faulty.seen]

    return run


def test_every_request_and_its_retries_carry_the_callers_span(sent: Sent) -> None:
    for call in CALLS:
        with current():
            assert sent(call) == [SAMPLED] * 2
        assert sent(call) == [None] * 2


def test_a_span_that_is_not_sampled_is_passed_on_as_such(sent: Sent) -> None:
    with current(flags=0):
        assert sent(CALLS[0]) == [SAMPLED[:-2] + "00"] * 2


def test_an_argument_takes_the_place_of_the_current_span(sent: Sent) -> None:
    for call in (
        lambda client: client.auth.create_challenge(KEY, ACTION, traceparent=OTHER),
        lambda client: client.mpa.request(ACTION, [[KEY]], 1, traceparent=OTHER),
    ):
        assert sent(call) == [OTHER] * 2
        with current():
            assert sent(call) == [OTHER] * 2


def test_a_malformed_argument_is_ignored(sent: Sent, faulty: FaultServer) -> None:
    for malformed in MALFORMED:
        assert sent(lambda client, m=malformed: client.auth.create_challenge(KEY, ACTION, traceparent=m)) == [None] * 2
        assert "x-admin" not in faulty.seen[-1].headers
    with current():
        assert sent(lambda client: client.auth.create_challenge(KEY, ACTION, traceparent="00-")) == [SAMPLED] * 2


def _raising(error: Exception) -> Callable[[], Any]:
    def get_current_span() -> Any:
        raise error

    return get_current_span


def _context(**members: Any) -> Callable[[], Any]:
    return lambda: types.SimpleNamespace(get_span_context=lambda: types.SimpleNamespace(**members))


@pytest.mark.parametrize(
    "get_current_span",
    [
        _raising(RuntimeError("no context")),
        _raising(RecursionError()),
        lambda: None,
        _context(),
        _context(trace_id="text", span_id=1, trace_flags=1),
        _context(trace_id=1 << 200, span_id=1, trace_flags=1),
        _context(trace_id=-1, span_id=1, trace_flags=1),
        _context(trace_id=0, span_id=0, trace_flags=0),
        _context(trace_id=TRACE, span_id=SPAN, trace_flags=None),
    ],
)
def test_a_broken_tracing_library_ends_no_call(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, get_current_span: Callable[[], Any]
) -> None:
    broken = types.SimpleNamespace(get_current_span=get_current_span)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", broken)  # type: ignore[arg-type]
    assert sent(CALLS[0]) == [None] * 2


def test_the_library_is_never_imported() -> None:
    program = (
        "import sys\n"
        "from sigil.sdk import SigilAuth, SigilError\n"
        "client = SigilAuth('https://localhost:9', tries=1)\n"
        "try: client.auth.get_status('0a1b2c3d-0000-4000-8000-000000000001')\n"
        "except SigilError: print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    environ = {"SIGIL_API_KEY": "sgk_test_" + "0" * 64, "PATH": ""}
    ran = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_verified_webhook_gives_the_traceparent_of_its_delivery() -> None:
    def verified(**added: Any) -> webhooks.WebhookEvent:
        return webhooks.verify(headers() | added, BODY, SECRET, clock=lambda: NOW)

    assert verified().traceparent is None
    assert verified(traceparent=SAMPLED).traceparent == SAMPLED
    assert verified(Traceparent=[SAMPLED]).traceparent == SAMPLED
    for malformed in [*MALFORMED[:-2], [SAMPLED, OTHER]]:
        if not isinstance(malformed, bytes):
            assert verified(traceparent=malformed).traceparent is None
    # No signature covers it: it is no part of the event.
    assert verified(traceparent=SAMPLED) == verified(traceparent=OTHER)
    in_the_body = json.dumps(json.loads(BODY) | {"traceparent": OTHER}).encode()
    assert webhooks.verify(_signed(in_the_body), in_the_body, SECRET, clock=lambda: NOW).traceparent is None


def _signed(body: bytes) -> dict[str, str]:
    return signed_headers((SECRET,), json.loads(body)["id"], NOW, body)


def test_the_example_of_the_documentation_passes_its_span_on(faulty: FaultServer) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", SDK_MD.read_text(), re.DOTALL | re.MULTILINE)
    (example,) = [block for block in blocks if "start_as_current_span" in block]
    names: dict[str, Any] = {"device_public_key": KEY, "SECRET": SECRET}
    exec(compile(example, "sdk.md", "exec"), names)  # noqa: S102 - the code of our own document
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    names["tracer"] = provider.get_tracer("the example")
    with SigilAuth(faulty.url, ca_file=faulty.certificate, tries=1) as client, suppress(ServerFailed):
        names["confirm"](client)
    names["on_webhook"](signed_headers((SECRET,), ID_OF_EVENT, int(time.time()), BODY) | {"traceparent": OTHER}, BODY)
    created, handled = exporter.get_finished_spans()
    provider.shutdown()
    own = created.get_span_context()
    assert own is not None
    assert faulty.seen[0].headers["traceparent"] == f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"
    (link,) = handled.links
    assert f"00-{link.context.trace_id:032x}-{link.context.span_id:016x}-01" == OTHER
