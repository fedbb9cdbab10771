"""What happens in a worker process before and around the ASGI application.

The worker dies with its master, says when it is ready, and on SIGTERM, or on REPLACED when a successor is there, drains
in this order: it stops accepting; if replaced, it serves on for a moment and tells clients to come on new connections;
callbacks (long polls get their answers); Granian (finishes requests, closes connections); the application's lifespan
shutdown.
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
from granian._granian import WorkerSignal
from granian.server.mp import MPServer

from sigil.serving import logs
from sigil.serving.process import metrics_slots
from sigil.serving.process.lifespan import Lifespan
from sigil.serving.process.listeners import stop_accepting
from sigil.serving.process.tls_pair import KeptOpen
from sigil.serving.startup_error import StartupError

_PR_SET_PDEATHSIG = 1
_CALLBACK_SECONDS = 3.0

REPLACED = signal.SIGUSR1
"""What the master sends in SIGTERM's place to a worker whose successor serves already."""

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class WorkerLifecycle:
    """The life of this worker process, as the application sees it.

    `index` counts from 0 to `workers` - 1; `draining` is True from the signal on, `stopping` if no successor serves in
    its place. A WebSocket counts as a running request until the application closes it: close them on drain, or the
    drain takes its full time.
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
    ) -> None:
        self.index = index
        self.workers = workers
        self.draining = False
        self.stopping = False
        self._closing = False
        self.running = 0
        self.started = False
        self.over = asyncio.Event()
        self._drain_timeout = drain_timeout
        self._quiet = quiet
        self._linger = linger
        self._stop_accepting = stop_accepting
        self._callbacks: dict[object, Callable[[], object]] = {}
        self._signal = WorkerSignal()

    def on_drain(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Run `callback` on the loop when connections are soon to close (at once if they are); returns what takes it
        back.

        What the callback wakes has a second to be answered before connections begin to close; a task that it returns
        has _CALLBACK_SECONDS before that.
        """
        if self._closing:
            callback()
            return lambda: None
        ticket = object()
        self._callbacks[ticket] = callback
        return lambda: void(self._callbacks.pop(ticket, None))

    def take_signals(self, loop: asyncio.AbstractEventLoop) -> WorkerSignal:
        """In Granian's place: SIGTERM and REPLACED begin our drain, and the drain ends Granian."""
        self._loop = loop
        # Not add_signal_handler: uvloop loses a signal that comes between two runs of the loop, and there is such a
        # gap between lifespan startup and serving.
        for number, stopping in ((signal.SIGTERM, True), (REPLACED, False)):
            signal.signal(number, lambda *_, stopping=stopping: void(loop.call_soon_threadsafe(self._begin, stopping)))
        return self._signal

    def stop(self) -> None:
        """End the process now: the loop stops, and `run_worker` sees `over`."""
        self.over.set()
        self._loop.stop()

    def _begin(self, stopping: bool) -> None:
        # Nothing is served before startup is complete, so there is nothing to finish.
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
        await self._call_back()
        await self._let_answers_out()
        self._signal.set()
        await self._wait_until_quiet(began + self._drain_timeout)
        self.over.set()

    async def _call_back(self) -> None:
        self._closing = True
        under_way = []
        for callback in list(self._callbacks.values()):
            try:
                if isinstance(result := callback(), asyncio.Future):
                    under_way.append(result)
            except Exception as exc:
                logs.error("drain_callback_failed", exc=exc)
        if under_way:
            await asyncio.wait(under_way, timeout=_CALLBACK_SECONDS)

    async def _let_answers_out(self) -> None:
        # Granian's shutdown sends GOAWAY and a PING at once, and httpx (h2) fails every open request of a connection
        # when the PING comes before the answer. On a busy server there is always a running request: hence the limit.
        deadline = self._loop.time() + self._quiet
        while True:
            await asyncio.sleep(0.05)
            if not self.running or self._loop.time() > deadline:
                return

    async def _wait_until_quiet(self, deadline: float) -> None:
        # Granian waits for its connections, not for requests: an idle HTTP/2 connection or a client that does not
        # read would hold the worker until it is killed, and the application would never see its shutdown.
        # A second of quiet leaves Granian time to send what was answered last.
        now = self._loop.time()
        quiet_at = now + self._quiet
        while (now := self._loop.time()) < deadline and now < quiet_at:
            await asyncio.sleep(0.02)
            if self.running:
                quiet_at = self._loop.time() + self._quiet


@dataclass(frozen=True)
class WorkerPlan:
    """What the master hands to a worker through the spawn pipe (never argv, never the environment)."""

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
    counts: Path | None
    ready: Connection
    listener: KeptOpen
    tls: KeptOpen | None


def run_worker(plan: WorkerPlan, number: int, name: str | None, _loader: None, *granian_args: object) -> None:
    """The worker process: the target of the master's spawn; ends the process."""
    _tie_to_master(plan.master)
    _leave_terminal_signals_to_master()
    logs.configure(plan.service, plan.log_level)
    if plan.counts:
        metrics_slots.acquire(plan.counts)
    life = WorkerLifecycle(
        plan.index,
        plan.workers,
        drain_timeout=plan.drain_timeout,
        quiet=plan.quiet,
        linger=plan.linger,
        stop_accepting=partial(stop_accepting, *plan.listener.fds),
    )
    # Granian's handlers would close connections at SIGTERM, before a long poll could be answered.
    granian._signals.set_loop_signals = life.take_signals
    try:
        MPServer._spawn_asgi_lifespan_worker(number, name, partial(_build, plan, life), *granian_args)
    except StartupError as exc:
        logs.error("worker_refused", reason=str(exc))
        _exit(1)
    except SystemExit:
        _exit(1)
    # Also what Rust throws when it panics (PanicException is no Exception).
    except BaseException as exc:
        if not life.over.is_set():
            logs.error("worker_failed", exc=exc)
            _exit(1)
    _exit(0)


def _build(plan: WorkerPlan, life: WorkerLifecycle) -> AsgiApp:
    app = plan.factory(plan.settings, life)

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        life.running += 1
        try:
            await app(scope, receive, partial(_last_answer, send) if life.draining and _keeps(scope) else send)
        finally:
            life.running -= 1

    def edge(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        if scope["type"] == "lifespan":
            ours = Lifespan(app, receive, send, over=life.over, started=partial(_started, plan, life), stop=life.stop)
            return ours(scope)
        return counted(scope, receive, send)

    return edge


def _keeps(scope: Any) -> bool:
    # HTTP/2 says it with a frame, which is Granian's to send.
    return bool(scope["type"] == "http" and scope["http_version"].startswith("1"))


def _last_answer(send: Callable[[Any], Awaitable[None]], event: dict[str, Any]) -> Awaitable[None]:
    """Tell the client that the connection closes: what it would send on it next could be lost."""
    if event["type"] == "http.response.start":
        headers = [pair for pair in event.get("headers", ()) if bytes(pair[0]).lower() != b"connection"]
        event = {**event, "headers": [*headers, (b"connection", b"close")]}
    return send(event)


def _started(plan: WorkerPlan, life: WorkerLifecycle) -> None:
    # What lives as long as the process is never garbage; what requests make goes by its reference counts, mostly.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    life.started = True
    (plan.markers / str(os.getpid())).touch(mode=0o600)
    plan.ready.send_bytes(b"ready")
    plan.ready.close()


def _tie_to_master(master: int) -> None:
    # Without it the workers of a killed master go on serving, and hold the port, for ever.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The master may have died before the call.
    if os.getppid() != master:
        os._exit(1)


def _leave_terminal_signals_to_master() -> None:
    # Ctrl-C and a closed terminal reach the whole process group; only the master decides what they mean. It blocked
    # them around the spawn, so that they cannot end a worker that is still importing.
    held = (signal.SIGINT, signal.SIGHUP)
    for number in held:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def _exit(code: int) -> None:
    # Not through the interpreter's end: Granian's threads still run and abort it now and then.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def void(_value: object) -> None:
    """Drop a value where a callable must return None."""
