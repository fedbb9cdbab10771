"""The state of a worker process, and how it ends.

A worker beats while its event loop runs (`watchdog`). On SIGTERM, or on REPLACED when its successor serves, it drains
in this order:

1. It stops accepting connections.
2. If replaced, it serves its connections for a moment, with `Connection: close` so that clients open new ones.
3. The drain callbacks run: long polls get their responses.
4. Granian finishes requests and closes connections.
5. The application's lifespan shuts down.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from granian._granian import WorkerSignal

from sigil.serving import logs
from sigil.serving.connections.observer import ConnectionObserver
from sigil.serving.process.metrics_memory import MetricsMemory
from sigil.serving.watchdog.process_table import Cell, Peer, ProcessFigures, ProcessTable
from sigil.serving.watchdog.watchdog import BEAT_SECONDS

_CALLBACK_SECONDS = 3.0
_HUNG_WRITER_SECONDS = 3.0

REPLACED = signal.SIGUSR1
"""The master sends it instead of SIGTERM to a worker whose successor already serves."""

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


class WorkerLifecycle:
    """The state of this worker process, for the application.

    `index` counts from 0 to `workers` - 1. `draining` is True from the signal on; `stopping` too, if no successor
    serves. The application sets the functions of `connections`. A WebSocket counts as a running request until the
    application closes it: close them on drain, or the drain takes its full time. `metrics` is the memory in
    which this process counts, None for a service without metrics.
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
        metrics: MetricsMemory | None = None,
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
        self.metrics = metrics
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

    def process_figures(self) -> ProcessFigures:
        return self._table.figures()

    def saw_peer(self, ahead: float, certificate_ends: int | None) -> None:
        """The server that this service calls has answered: its clock is `ahead` seconds ahead of this host's."""
        self._row.saw_peer(Peer(round(ahead * 1000), certificate_ends))

    def take_signals(self, loop: asyncio.AbstractEventLoop) -> WorkerSignal:
        """Replaces Granian's handlers: SIGTERM, SIGXCPU and REPLACED start the drain, and the drain stops Granian."""
        self._loop = loop
        self._beat()
        # Not add_signal_handler: uvloop loses a signal that arrives between two runs of the loop, and there is such a
        # gap between lifespan startup and serving.
        for number, stopping in ((signal.SIGTERM, True), (signal.SIGXCPU, True), (REPLACED, False)):
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


def discard(_value: object) -> None:
    """Drop a value where a callable must return None."""
