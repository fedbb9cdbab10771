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
