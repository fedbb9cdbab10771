"""A worker process, around the ASGI application: it dies with its master, and reports when it serves."""

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import granian._signals
import granian.server.mp
from granian.server.mp import MPServer

from sigil.serving import logs
from sigil.serving.connections.accept_gate import AcceptGate
from sigil.serving.connections.activity import ConnectionActivity
from sigil.serving.connections.guard import ConnectionGuard
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.inherited import signals
from sigil.serving.process.kept_open import KeptOpen
from sigil.serving.process.lifecycle import AsgiApp, WorkerLifecycle
from sigil.serving.process.lifespan import Lifespan
from sigil.serving.process.memory_protection import forbid_core_dumps
from sigil.serving.process.metrics_memory import MetricsMemory
from sigil.serving.startup_error import StartupError
from sigil.serving.watchdog.process_table import ProcessTable

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class WorkerPlan:
    """The arguments of a worker, passed through the spawn pipe (never in argv or the environment)."""

    factory: Callable[[Any, WorkerLifecycle], AsgiApp]
    settings: object
    index: int
    workers: int
    service: str
    log_level: str
    drain_timeout: float
    quiet: float
    linger: float
    master: int
    markers: Path | None
    metrics: KeptOpen | None
    table: KeptOpen
    rows: int
    row: int
    ready: Connection
    listener: KeptOpen
    connections: ConnectionLimits
    tls: KeptOpen | None
    hsts: bool


def run_worker(plan: WorkerPlan, number: int, name: str | None, _loader: None, *granian_args: object) -> None:
    """The main function of a worker process; it ends the process."""
    _tie_to_master(plan.master)
    forbid_core_dumps()
    signals.set_for_worker()
    logs.configure(plan.service, plan.log_level)
    table = ProcessTable(plan.table.fds[0], plan.rows)
    metrics = None
    if plan.metrics:
        metrics = MetricsMemory(plan.metrics.fds[0], plan.rows, live=lambda slot: not table.rows[slot].free)
        metrics.count_in(plan.row)
    gate = AcceptGate(*plan.listener.fds)
    life = WorkerLifecycle(
        plan.index,
        plan.workers,
        drain_timeout=plan.drain_timeout,
        quiet=plan.quiet,
        linger=plan.linger,
        stop_accepting=partial(gate.close, final=True),
        hsts=plan.hsts,
        table=table,
        row=plan.row,
        metrics=metrics,
    )
    logs.count_dropped_in(life.dropped_lines)
    # Granian's handlers would close connections at SIGTERM, before long polls get their responses.
    granian._signals.set_loop_signals = life.take_signals
    _report_when_serving(partial(_serving, plan))
    try:
        MPServer._spawn_asgi_lifespan_worker(number, name, partial(_build, plan, life, gate), *granian_args)
    except StartupError as exc:
        logs.error("worker_refused", reason=str(exc))
        _exit(1)
    except SystemExit:
        _exit(1)
    # BaseException: a panic in Rust raises PanicException, which is not an Exception.
    except BaseException as exc:
        if not life.ended.is_set():
            logs.error("worker_failed", exc=exc)
            _exit(1)
    _exit(0)


def _build(plan: WorkerPlan, life: WorkerLifecycle, gate: AcceptGate) -> AsgiApp:
    app = plan.factory(plan.settings, life)
    activity = ConnectionActivity()
    guard = ConnectionGuard(gate, plan.connections, activity, life.connections, on_loop=life.call_soon)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        life.running += 1
        requests = activity.begin(scope["client"])
        send = requests.counted(send)
        try:
            await app(scope, receive, partial(_send_with_close, send) if life.draining and _is_http_1(scope) else send)
        finally:
            activity.end(requests)
            life.running -= 1

    def edge(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            lifespan = Lifespan(
                app, receive, send, ended=life.ended, started=partial(_started, life, guard), stop=life.stop
            )
            return lifespan(scope)
        return counted(scope, receive, send)

    return edge


def _is_http_1(scope: Any) -> bool:
    # On HTTP/2 a GOAWAY frame has this effect, and Granian sends it.
    return bool(scope["type"] == "http" and scope["http_version"].startswith("1"))


def _send_with_close(send: Callable[[Any], Awaitable[None]], event: dict[str, Any]) -> Awaitable[None]:
    """Adds `Connection: close`: the next request on this connection could be lost."""
    if event["type"] == "http.response.start":
        headers = [pair for pair in event.get("headers", ()) if bytes(pair[0]).lower() != b"connection"]
        event = {**event, "headers": [*headers, (b"connection", b"close")]}
    return send(event)


def _started(life: WorkerLifecycle, guard: ConnectionGuard) -> None:
    # Objects that live as long as the process are never garbage. Reference counts free most objects of requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    life.started = True
    if sys.platform == "linux":
        guard.start()


def _report_when_serving(report: Callable[[], None]) -> None:
    # At the end of lifespan startup Granian has neither its scheduler nor its threads. It makes the scheduler, starts
    # to serve, and runs the loop again: the callback is the first of that run.
    granian_mp: Any = granian.server.mp
    make = granian_mp._new_cbscheduler

    def make_and_report(loop: asyncio.AbstractEventLoop, *args: Any, **options: Any) -> Any:
        loop.call_soon(report)
        return make(loop, *args, **options)

    granian_mp._new_cbscheduler = make_and_report


def _serving(plan: WorkerPlan) -> None:
    if plan.markers:
        # The directory may be removed while the server runs; what it shows is not worth a worker.
        with contextlib.suppress(OSError):
            (plan.markers / str(os.getpid())).touch(mode=0o600)
    plan.ready.send_bytes(b"ready")
    plan.ready.close()


def _tie_to_master(master: int) -> None:
    # Without this the workers of a killed master would serve, and hold the port, for ever.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The master may have died before the call.
    if os.getppid() != master:
        os._exit(1)


def _exit(code: int) -> None:
    # Without interpreter shutdown: Granian's threads still run, and sometimes abort it.
    logs.flush()
    os._exit(code)
