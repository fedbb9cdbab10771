"""A worker process, around the ASGI application.

The worker dies with its master, beats while its event loop runs (`watchdog`), and reports when it serves. On SIGTERM,
or on REPLACED when its successor serves, it drains in this order:

1. It stops accepting connections.
2. If replaced, it serves its connections for a moment, with `Connection: close` so that clients open new ones.
3. The drain callbacks run: long polls get their responses.
4. Granian finishes requests and closes connections.
5. The application's lifespan shuts down.
"""

import asyncio
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
from granian._granian import WorkerSignal
from granian.server.mp import MPServer

from sigil.serving import logs
from sigil.serving.connections.accept_gate import AcceptGate
from sigil.serving.connections.activity import ConnectionActivity
from sigil.serving.connections.guard import ConnectionGuard
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.connections.observer import ConnectionObserver
from sigil.serving.process import metrics_slots
from sigil.serving.process.lifespan import Lifespan
from sigil.serving.process.memory_protection import forbid_core_dumps
from sigil.serving.process.tls_pair import KeptOpen
from sigil.serving.startup_error import StartupError
from sigil.serving.watchdog.process_table import Cell, ProcessCounts, ProcessTable
from sigil.serving.watchdog.watchdog import BEAT_SECONDS

_PR_SET_PDEATHSIG = 1
_CALLBACK_SECONDS = 3.0
_HUNG_WRITER_SECONDS = 3.0

REPLACED = signal.SIGUSR1
"""The master sends it instead of SIGTERM to a worker whose successor already serves."""

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class WorkerLifecycle:
    """The state of this worker process, for the application.

    `index` counts from 0 to `workers` - 1. `draining` is True from the signal on; `stopping` too, if no successor
    serves. The application sets the functions of `connections`. A WebSocket counts as a running request until the
    application closes it: close them on drain, or the drain takes its full time.
    """

    def __init__(
        self,
        index: int,
        workers: int,
        *,
        drain_timeout: float = 1,
        quiet: float = 1,
        linger: float = 1,
        stop_accepting: Callable[[], None] = lambda: None,
        hsts: bool = False,
        table: ProcessTable | None = None,
        row: int = 0,
    ) -> None:
        self.connections = ConnectionObserver()
        self.index = index
        self.workers = workers
        self.hsts = hsts
        self.draining = False
        self.stopping = False
        self._closing = False
        self.running = 0
        self.started = False
        self.ended = asyncio.Event()
        self._drain_timeout = drain_timeout
        self._quiet = quiet
        self._linger = linger
        self._stop_accepting = stop_accepting
        self._table = table or ProcessTable.create(rows=1)
        self._row = self._table.rows[row]
        self._callbacks: dict[object, Callable[[], object]] = {}
        self._signal = WorkerSignal()

    def on_drain(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Run `callback` on the loop before connections close, or at once if they are closing; returns its removal.

        Requests that the callback wakes have a second for their response before connections close. A task that it
        returns has _CALLBACK_SECONDS before that second.
        """
        if self._closing:
            callback()
            return lambda: None
        ticket = object()
        self._callbacks[ticket] = callback
        return lambda: discard(self._callbacks.pop(ticket, None))

    @property
    def writing(self) -> Cell:
        """1 while this process holds the write lock of a store that the workers share, else 0. The store sets it: the
        supervisor kills a hung holder before the workers that wait for it."""
        return self._row.writing

    @property
    def dropped_lines(self) -> Cell:
        return self._row.dropped

    def hung_writer(self) -> bool:
        """True when a worker that holds the store's write lock does not respond: a transaction would wait for it."""
        return self._table.hung_writer(_HUNG_WRITER_SECONDS)

    def process_counts(self) -> ProcessCounts:
        return self._table.counts()

    def take_signals(self, loop: asyncio.AbstractEventLoop) -> WorkerSignal:
        """Replaces Granian's handlers: SIGTERM and REPLACED start the drain, and the drain stops Granian."""
        self._loop = loop
        self._beat()
        # Not add_signal_handler: uvloop loses a signal that arrives between two runs of the loop, and there is such a
        # gap between lifespan startup and serving.
        for number, stopping in ((signal.SIGTERM, True), (REPLACED, False)):
            signal.signal(
                number, lambda *_, stopping=stopping: discard(loop.call_soon_threadsafe(self._start_drain, stopping))
            )
        return self._signal

    def _beat(self) -> None:
        self._row.beat()
        self._loop.call_later(BEAT_SECONDS, self._beat)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop; may be called in any thread."""
        self._loop.call_soon_threadsafe(callback)

    def stop(self) -> None:
        """End the process now: the loop stops, and `run_worker` finds `ended` set."""
        self.ended.set()
        self._loop.stop()

    def _start_drain(self, stopping: bool) -> None:
        # No request is served before startup is complete, so there is nothing to drain.
        if not self.started:
            self.stop()
        elif not self.draining:
            self.draining, self.stopping = True, stopping
            self._task = self._loop.create_task(self._drain())

    async def _drain(self) -> None:
        began = self._loop.time()
        try:
            self._stop_accepting()
        except OSError as exc:
            logs.error("still_accepting", exc=exc)
        if not self.stopping:
            await asyncio.sleep(self._linger)
        await self._run_callbacks()
        await self._wait_for_responses()
        self._signal.set()
        await self._wait_until_quiet(began + self._drain_timeout)
        self.ended.set()

    async def _run_callbacks(self) -> None:
        self._closing = True
        pending = []
        for callback in list(self._callbacks.values()):
            try:
                if isinstance(result := callback(), asyncio.Future):
                    pending.append(result)
            except Exception as exc:
                logs.error("drain_callback_failed", exc=exc)
        if pending:
            await asyncio.wait(pending, timeout=_CALLBACK_SECONDS)

    async def _wait_for_responses(self) -> None:
        # Granian's shutdown sends GOAWAY and a PING at once, and httpx (h2) fails every open request of a connection
        # when the PING arrives before the response. A busy server always has a running request: hence the deadline.
        deadline = self._loop.time() + self._quiet
        while True:
            await asyncio.sleep(0.05)
            if not self.running or self._loop.time() > deadline:
                return

    async def _wait_until_quiet(self, deadline: float) -> None:
        # Granian waits for its connections, not for requests: an idle HTTP/2 connection or a client that does not
        # read would hold the worker until it is killed, and the application would not get its shutdown event.
        # A quiet second gives Granian time to send the last responses.
        now = self._loop.time()
        quiet_at = now + self._quiet
        while (now := self._loop.time()) < deadline and now < quiet_at:
            await asyncio.sleep(0.02)
            if self.running:
                quiet_at = self._loop.time() + self._quiet


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
    markers: Path
    metrics_dir: Path | None
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
    _leave_terminal_signals_to_master()
    logs.configure(plan.service, plan.log_level)
    if plan.metrics_dir:
        metrics_slots.acquire(plan.metrics_dir)
    gate = AcceptGate(*plan.listener.fds)
    life = WorkerLifecycle(
        plan.index,
        plan.workers,
        drain_timeout=plan.drain_timeout,
        quiet=plan.quiet,
        linger=plan.linger,
        stop_accepting=partial(gate.close, final=True),
        hsts=plan.hsts,
        table=ProcessTable(plan.table.fds[0], plan.rows),
        row=plan.row,
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


def _leave_terminal_signals_to_master() -> None:
    # Ctrl-C and a closed terminal signal the whole process group; only the master handles them. It blocked them around
    # the spawn, so that they cannot end a worker that is still importing.
    held = (signal.SIGINT, signal.SIGHUP)
    for number in held:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def _exit(code: int) -> None:
    # Without interpreter shutdown: Granian's threads still run, and sometimes abort it.
    logs.flush()
    os._exit(code)


def discard(_value: object) -> None:
    """Drop a value where a callable must return None."""
