"""Both requests of a complete challenge through the whole application, without a network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import values

from bench.in_process import InProcess
from bench.measuring import Measure
from bench.store_tasks import open_store
from sigil.app.state import KINDS
from sigil.core.session_store import SessionStore
from sigil.serving import logs
from sigil.serving.log_output.line_writer import LineWriter
from sigil.serving.process.metrics_memory import MetricsMemory
from sigil.store.memory import MemoryStore
from sigil.telemetry.metrics import Metrics

_DEVICES = 20
_MOST = 1.1
"""A credential that this worker has verified before may add a tenth to an answer."""
_MOST_OF_WEB = 1.6
"""A web device's signature is two, and two texts."""
_MEASUREMENTS = 3


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, memory_directory: Path) -> Iterator[SessionStore]:
    store = MemoryStore(kinds=KINDS, clock=time.time) if request.param == "memory" else open_store(memory_directory)
    yield store
    store.close()


@pytest.fixture
def metrics(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> Metrics:
    """Metrics that count in shared memory, as in a worker."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)
    memory = MetricsMemory.create(1)
    memory.count_in(0)
    return Metrics(store, version="", memory=memory)


@pytest.fixture
def application(store: SessionStore, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcess]:
    """The application with its log lines, which are written to /dev/null."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    monkeypatch.setattr(logs._sink, "writer", LineWriter(null_device, lambda count, seconds: b""))
    application = InProcess(store, _DEVICES, metrics)
    yield application
    application.close()
    os.close(null_device)


def test_create_in_process(measure: Measure, application: InProcess) -> None:
    application.create()

    def answer_created() -> None:
        application.sign()
        application.answer()

    measure(application.create, operations=_DEVICES, rounds=200, prepare=answer_created)


def test_answer_in_process(measure: Measure, application: InProcess) -> None:
    def create_and_sign() -> None:
        application.create()
        application.sign()

    measure(application.answer, operations=_DEVICES, rounds=200, prepare=create_and_sign)


def test_answer_with_a_cached_credential_in_process(
    measure: Measure, store: SessionStore, metrics: Metrics, application: InProcess
) -> None:
    """Also in turn with answers that have none, of the same store: the ratio of the best of each."""
    attested = InProcess(store, _DEVICES, metrics, attested=True)

    def create_and_sign() -> None:
        attested.create()
        attested.sign()

    measure(attested.answer, operations=_DEVICES, rounds=200, prepare=create_and_sign)
    ratio = min(_ratio(attested, application) for _ in range(_MEASUREMENTS))
    attested.close()
    if ratio >= _MOST:
        pytest.fail(f"an answer with a cached credential takes {ratio:.3f} times as long as one without")


def test_answer_of_a_web_device_in_process(
    measure: Measure, store: SessionStore, metrics: Metrics, application: InProcess
) -> None:
    """Also in turn with answers of plain keys, of the same store: the ratio of the best of each."""
    web = InProcess(store, _DEVICES, metrics, web=True)

    def create_and_sign() -> None:
        web.create()
        web.sign()

    measure(web.answer, operations=_DEVICES, rounds=200, prepare=create_and_sign)
    ratio = min(_ratio(web, application) for _ in range(_MEASUREMENTS))
    web.close()
    if ratio >= _MOST_OF_WEB:
        pytest.fail(f"an answer of a web device takes {ratio:.3f} times as long as one of a plain key")


def _ratio(other: InProcess, plain: InProcess) -> float:
    pairs = [(_seconds(other), _seconds(plain)) for _ in range(150)]
    return min(first for first, _ in pairs) / min(second for _, second in pairs)


def _seconds(application: InProcess) -> float:
    application.create()
    application.sign()
    began = time.perf_counter()
    application.answer()
    return time.perf_counter() - began
