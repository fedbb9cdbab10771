"""The master's loop: it starts workers, restarts them, replaces them one by one and stops them.

It has one thread and waits only in `_wait`, so no join or delay holds up a signal. (Granian's own loop sleeps while it
respawns, pops workers by index while several are dead, and stops the server at a second death within 5.5 s.) Workers
are spawned from the main thread only: PR_SET_PDEATHSIG fires at the end of the *thread* that spawned the process.
"""

import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from sigil.serving import logs
from sigil.serving.bounded.calls import Call
from sigil.serving.inherited.signals import DRAIN, RELOAD, release
from sigil.serving.log_output.captured_stderr import CapturedStderr
from sigil.serving.process.lifecycle import REPLACED
from sigil.serving.process.orphans import OrphanReaper
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.tls_pair import TlsPair
from sigil.serving.watchdog.crash_policy import CrashPolicy, DeathCount, Unserved
from sigil.serving.watchdog.process_table import Cause, ProcessTable, Row
from sigil.serving.watchdog.watchdog import CHECK_SECONDS, Watchdog

_TICK = 0.05
_UPKEEP_RETRY = 3600.0
# Each file has a bound of its own, which is less.
_JOB_SECONDS = 180.0
_LATE = f"the files were not read within {_JOB_SECONDS:.0f} s: check the mounts that they are on"
_UNCHANGED = "the reload changed nothing: the old values stay in use"
_INCOMPLETE = "workers that the reload replaced use the new values, the others keep the old ones"


@dataclass(eq=False)
class Generation:
    """The settings and the certificate of the workers that start between two reloads."""

    settings: object
    tls: TlsPair | None


@dataclass(eq=False)
class Worker:
    """One worker process; `kill_at` is set when it is signalled to drain."""

    process: BaseProcess
    ready_pipe: Connection
    slot: int
    pid: int
    row: Row
    stderr: CapturedStderr
    started_at: float = field(default_factory=time.monotonic)
    ready: bool = False
    kill_at: float | None = None
    cause: Cause = Cause.DIED


@dataclass(eq=False)
class Slot:
    """One of the N worker slots; its worker belongs to `generation`."""

    generation: Generation
    worker: Worker | None = None
    deaths: int = 0
    start_at: float | None = 0


class Signals:
    """Collects SIGHUP and the signals that drain in `seen`; `woken` becomes readable at each. Main thread only."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.woken, self._wake = socket.socketpair()

    def __enter__(self) -> "Signals":
        for end in (self.woken, self._wake):
            end.setblocking(False)
        self._before = {number: signal.signal(number, lambda n, _: self.seen.add(n)) for number in (*DRAIN, RELOAD)}
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        release()
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self.woken.close()
        self._wake.close()


@dataclass(eq=False)
class _Job:
    """A reload that reads its files, or an upkeep; one at a time. `finish` is called after its end, `late` when it has
    not ended at the monotonic time `late_at`; then `drop` gets its result.
    """

    call: Call[Any]
    late_at: float
    finish: Callable[[], None]
    late: Callable[[], None]
    drop: Callable[[Any], None]


Upkeep = Callable[[list[TlsPair]], tuple[TlsPair | None, float]]
"""Called with the pairs in use: a pair for all workers to serve from now on, and the seconds to the next call."""


class SettingsFeed(Protocol):
    """A source that may change the settings of workers while the server runs."""

    def step(self, now: float) -> bool:
        """Called at least once a second, and never blocks; True when `applied` may give other settings than before."""

    def applied(self, settings: object) -> object:
        """The settings with what the source gave; the same object if that changes nothing."""

    def refresh(self) -> None:
        """SIGHUP: query the source at the next step, and not when its time comes."""

    def stop(self) -> None: ...


class Supervisor:
    """Keeps `workers` processes alive until a signal that drains; `run` gives the exit code."""

    def __init__(
        self,
        *,
        signals: Signals,
        spawn: Callable[[int, Generation], Worker],
        first: Generation,
        workers: int,
        reload: Callable[[], Generation],
        markers: Path | None,
        table: ProcessTable,
        crash: CrashPolicy,
        hang_timeout: float,
        ready_timeout: float,
        kill_timeout: float,
        on_drain: Callable[[], None],
        upkeep: Upkeep | None,
        feed: SettingsFeed | None = None,
    ) -> None:
        self._spawn = spawn
        self._reload = reload
        self._markers = markers
        self._table = table
        self._crash = crash
        self._watchdog: Watchdog[Worker] = Watchdog(hang_timeout)
        self._unserved = Unserved(crash.unserved, time.monotonic())
        self._ready_timeout = ready_timeout
        self._kill_timeout = kill_timeout
        self._on_drain = on_drain
        self._upkeep = upkeep
        self._upkeep_at = 0.0
        self._slots = [Slot(first) for _ in range(workers)]
        self._alive: list[Worker] = []
        self._early_deaths = DeathCount(crash.deaths, crash.window)
        self._deaths = [DeathCount(crash.restarts, crash.restart_window) for _ in range(workers)]
        self._ever_ready = False
        self._draining = False
        self._exit_code = 0
        self._generations = [first]
        self._next: Generation | None = None
        self._queue: deque[int] = deque()
        self._incoming: Worker | None = None
        self._outgoing: Worker | None = None
        self._signals = signals
        self._feed = feed
        self._fed = False
        self._job: _Job | None = None
        self._orphans = OrphanReaper()
        self._updating = False
        self._failed: set[bool] = set()
        self._publish_certificate()

    def run(self) -> int:
        """Run until all workers have ended: 0 after a drain; 1 after giving up, or if a worker had to be killed."""
        try:
            while self._alive or not self._draining:
                self._step()
                self._wait()
        finally:
            if self._feed is not None:
                self._feed.stop()
            for worker in self._alive:
                worker.process.kill()
                worker.process.join()
        return self._exit_code

    def _step(self) -> None:
        for worker in [w for w in self._alive if w.process.exitcode is not None]:
            self._reap(worker)
        for worker in self._alive:
            self._check_ready(worker)
            _log_stderr(worker, worker.stderr.lines())
        if self._signals.seen & DRAIN:
            self._drain()
        now = time.monotonic()
        self._kill_late(now)
        self._kill_hung(now)
        self._orphans.step(now)
        if not self._draining:
            if self._unserved.reached(now, ready=any(worker.ready for worker in self._alive)):
                self._give_up("no worker was ready", seconds=round(self._unserved.seconds))
            self._fill_slots(now)
            self._fed = (self._feed is not None and self._feed.step(now)) or self._fed
            self._run_job(now)
            self._rolling_restart()
            self._run_upkeep(now)

    def _wait(self) -> None:
        sources: list[Connection | socket.socket | int] = [
            self._signals.woken,
            *(w.process.sentinel for w in self._alive),
        ]
        sources += [w.ready_pipe for w in self._alive if not w.ready]
        sources += [w.stderr.fd for w in self._alive if w.stderr.open]
        timed = self._next or self._job or any(not w.ready or w.kill_at for w in self._alive)
        timed = timed or any(s.start_at is not None for s in self._slots)
        # A SIGHUP that arrived during a reload waits for its end, and nothing else wakes the loop then.
        timed = timed or (signal.SIGHUP in self._signals.seen and not self._draining)
        if not self._draining or self._alive:
            wait(sources, _TICK if timed else CHECK_SECONDS)
        with contextlib.suppress(BlockingIOError):
            self._signals.woken.recv(4096)

    def _run_job(self, now: float) -> None:
        job = self._job
        if job is None:
            return
        if job.call.ended:
            self._job = None
            job.finish()
        elif now >= job.late_at:
            self._job = None
            job.call.abandon(job.drop)
            job.late()

    def _run_upkeep(self, now: float) -> None:
        if self._upkeep is None or self._next is not None or self._job is not None or now < self._upkeep_at:
            return
        served = [slot.generation.tls for slot in self._slots if slot.generation.tls is not None]
        self._upkeep_at = now + _UPKEEP_RETRY
        try:
            call = Call(partial(self._upkeep, served))
        except OSError as exc:
            logs.error("upkeep_failed", exc=exc)
            return
        self._job = _Job(
            call,
            now + _JOB_SECONDS,
            finish=lambda: self._finish_upkeep(call),
            late=lambda: logs.error("upkeep_failed", reason=_LATE),
            drop=lambda late: _close(late[0]),
        )

    def _finish_upkeep(self, call: Call[tuple[TlsPair | None, float]]) -> None:
        try:
            pair, seconds = call.result()
        # Upkeep must not end a server.
        except Exception as exc:
            logs.error("upkeep_failed", exc=exc)
            return
        self._upkeep_at = time.monotonic() + seconds
        if pair is not None:
            self._begin_update(pair)

    def _fill_slots(self, now: float) -> None:
        for index, slot in enumerate(self._slots):
            if slot.worker is None and slot.start_at is not None and slot.start_at <= now:
                restart, slot.start_at = slot.deaths > 0, None
                slot.worker = self._start(index, slot.generation)
                if slot.worker is None:
                    self._count_death(slot, None)
                elif restart:
                    logs.info("worker_respawned", pid=slot.worker.pid, worker=index, deaths=slot.deaths)

    def _start(self, index: int, generation: Generation) -> Worker | None:
        try:
            worker = self._spawn(index, generation)
        # No processes or memory left, or settings that cannot be pickled.
        except Exception as exc:
            logs.error("worker_not_spawned", exc=exc, worker=index)
            return None
        self._alive.append(worker)
        return worker

    def _check_ready(self, worker: Worker) -> None:
        if worker.ready or not worker.ready_pipe.poll():
            return
        # A worker that dies closes the pipe: its sentinel reports the death.
        with contextlib.suppress(EOFError, OSError):
            worker.ready_pipe.recv_bytes()
            worker.ready = self._ever_ready = True
            logs.info("worker_ready", pid=worker.pid, worker=worker.slot)

    def _reap(self, worker: Worker) -> None:
        self._check_ready(worker)
        self._alive.remove(worker)
        exitcode = worker.process.exitcode
        if self._markers is not None:
            with contextlib.suppress(OSError):
                (self._markers / str(worker.pid)).unlink()
        worker.ready_pipe.close()
        worker.process.join()
        worker.process.close()
        worker.row.release()
        _log_stderr(worker, worker.stderr.close())
        if worker.kill_at is None:
            ended = _exit_name(exitcode)
            hint = {"message": _EXIT_HINTS[ended]} if ended in _EXIT_HINTS else {}
            logs.report("error", "worker_died", {"pid": worker.pid, "worker": worker.slot, "exit": ended, **hint})
        self._release_slot(worker)

    def _release_slot(self, worker: Worker) -> None:
        slot = self._slots[worker.slot]
        if worker is self._outgoing:
            self._outgoing = None
        elif self._draining:
            return
        elif worker is self._incoming:
            self._abandon_reload("the new worker died before it was ready")
            self._note_early_death(time.monotonic())
        elif worker is slot.worker:
            slot.worker = None
            self._count_death(slot, worker)

    def _count_death(self, slot: Slot, worker: Worker | None) -> None:
        now = time.monotonic()
        if worker is not None and worker.ready and now - worker.started_at >= self._crash.stable:
            slot.deaths = 0
        slot.start_at = now + self._crash.delay(slot.deaths)
        slot.deaths += 1
        if worker is not None:
            self._table.count_restart(worker.cause)
        self._note_early_death(now)
        deaths = self._deaths[self._slots.index(slot)]
        if deaths.reached(now):
            self._give_up("a worker died again and again", **deaths.figures)

    def _note_early_death(self, now: float) -> None:
        if not self._ever_ready and self._early_deaths.reached(now):
            self._give_up("no worker became ready", **self._early_deaths.figures)

    def _give_up(self, reason: str, **figures: Any) -> None:
        if not self._draining:
            logs.error("server_gave_up", reason=reason, **figures)
            self._exit_code = 1
            self._drain()

    def _kill_hung(self, now: float) -> None:
        serving = [worker for worker in self._alive if worker.ready and worker.kill_at is None]
        for worker in self._watchdog.hung(serving, now):
            holder = bool(worker.row.writing[0])
            reason = "its event loop did not respond"
            logs.error("worker_killed", pid=worker.pid, worker=worker.slot, reason=reason, held_store_lock=holder)
            worker.process.kill()
            worker.cause = Cause.HUNG

    def _kill_late(self, now: float) -> None:
        for worker in self._alive:
            if worker.kill_at is not None and worker.kill_at <= now:
                logs.error("worker_killed", pid=worker.pid, worker=worker.slot, reason="did not drain in time")
                worker.process.kill()
                worker.kill_at = float("inf")
                self._exit_code = 1 if self._draining else self._exit_code
            elif worker.kill_at is None and not worker.ready and now - worker.started_at > self._ready_limit(worker):
                logs.error("worker_killed", pid=worker.pid, worker=worker.slot, reason="not ready in time")
                worker.process.kill()
                worker.cause = Cause.NOT_READY
                worker.started_at = now

    def _ready_limit(self, worker: Worker) -> float:
        # On an overloaded machine no start is in time, and killing the workers that start keeps it overloaded. So the
        # limit grows with each death.
        return self._ready_timeout * (1 << min(self._slots[worker.slot].deaths, 4))

    def _retire(self, worker: Worker, number: signal.Signals = signal.SIGTERM) -> None:
        if worker.kill_at is None:
            worker.kill_at = time.monotonic() + self._kill_timeout
            if worker.process.exitcode is None:
                os.kill(worker.pid, number)

    def _drain(self) -> None:
        if self._draining:
            return
        self._draining = True
        logs.info("draining", workers=len(self._alive))
        self._on_drain()
        for slot in self._slots:
            slot.start_at = None
        for worker in self._alive:
            self._retire(worker)

    def _rolling_restart(self) -> None:
        if self._next is None and self._job is not None:
            return
        if self._next is None:
            if signal.SIGHUP in self._signals.seen:
                self._signals.seen.discard(signal.SIGHUP)
                self._begin_reload()
                if self._feed is not None:
                    self._feed.refresh()
            elif self._feed is not None and self._fed and all(s.worker and s.worker.ready for s in self._slots):
                self._fed = False
                feed, used = self._feed, [slot.generation.settings for slot in self._slots]
                if any(feed.applied(settings) is not settings for settings in used):
                    self._begin_update(self._generations[-1].tls)
        elif self._incoming is not None:
            if self._incoming.ready:
                self._swap(self._incoming, self._next)
        elif self._outgoing is None:
            self._roll_next(self._next)

    def _begin_reload(self) -> None:
        """Read the files in a thread: on a mount that hangs, the master must still restart workers and drain."""
        logs.info("reload_started")
        try:
            call = Call(self._reload)
        except OSError as exc:
            self._refuse_reload(exc=exc)
            return
        self._job = _Job(
            call,
            time.monotonic() + _JOB_SECONDS,
            finish=lambda: self._finish_reading(call),
            late=lambda: self._refuse_reload(reason=_LATE),
            drop=lambda late: _close(late.tls),
        )

    def _finish_reading(self, call: Call[Generation]) -> None:
        try:
            self._next = call.result()
        except StartupError as exc:
            self._refuse_reload(reason=str(exc))
        except Exception as exc:
            self._refuse_reload(exc=exc)
        else:
            self._updating = False
            self._roll(self._next)

    def _refuse_reload(self, **cause: Any) -> None:
        logs.error("reload_refused", **cause, message=_UNCHANGED)
        self._record_reload(failed=True, update=False)

    def _record_reload(self, *, failed: bool, update: bool) -> None:
        """`update`: the server's own, whose success must not hide that the reload of the operator's files failed."""
        (self._failed.add if failed else self._failed.discard)(update)
        self._table.record_reload(int(time.time()), failed=bool(self._failed))

    def _publish_certificate(self) -> None:
        ends = [slot.generation.tls.ends for slot in self._slots if slot.generation.tls is not None]
        if ends:
            self._table.serve_certificate_until(int(min(ends)))

    def _begin_update(self, tls: TlsPair | None) -> None:
        """Replace the workers, with `tls` and the settings of the newest generation, and with what the feed changes in
        them. Files are not read again: their changes wait for SIGHUP.
        """
        logs.info("reload_started")
        settings = self._generations[-1].settings
        self._next = Generation(self._feed.applied(settings) if self._feed else settings, tls)
        self._updating = True
        self._roll(self._next)

    def _roll(self, generation: Generation) -> None:
        self._generations.append(generation)
        self._queue = deque(range(len(self._slots)))

    def _roll_next(self, generation: Generation) -> None:
        if self._queue:
            self._incoming = self._start(self._queue.popleft(), generation)
            if self._incoming is None:
                self._abandon_reload("the new worker could not be started")
            return
        self._end_reload()
        self._record_reload(failed=False, update=self._updating)
        logs.info("reload_finished", workers=len(self._slots))

    def _swap(self, incoming: Worker, generation: Generation) -> None:
        slot = self._slots[incoming.slot]
        self._incoming, self._outgoing = None, slot.worker
        slot.worker, slot.generation, slot.deaths, slot.start_at = incoming, generation, 0, None
        self._publish_certificate()
        if self._outgoing is not None:
            # A worker that is still starting handles SIGTERM only.
            self._retire(self._outgoing, REPLACED if self._outgoing.ready else signal.SIGTERM)

    def _abandon_reload(self, reason: str) -> None:
        # Slots keep the generation of their worker, so an incomplete reload needs no rollback.
        done = sum(slot.generation is self._next for slot in self._slots)
        message = _INCOMPLETE if done else _UNCHANGED
        logs.error("reload_refused", reason=reason, replaced=done, kept=len(self._slots) - done, message=message)
        self._record_reload(failed=True, update=self._updating)
        self._queue.clear()
        self._incoming = None
        self._end_reload()
        # It may have been the upkeep's: not again at once.
        self._upkeep_at = time.monotonic() + _UPKEEP_RETRY

    def _end_reload(self) -> None:
        self._next = None
        # A reload may bring another certificate.
        self._upkeep_at = 0
        used = [slot.generation for slot in self._slots]
        for unused in [g for g in self._generations if g not in used]:
            self._generations.remove(unused)
            if unused.tls is not None and all(unused.tls is not kept.tls for kept in used):
                unused.tls.close()


def _close(tls: TlsPair | None) -> None:
    if tls is not None:
        tls.close()


def _log_stderr(worker: Worker, lines: list[str]) -> None:
    for line in lines:
        logs.error("worker_stderr", pid=worker.pid, worker=worker.slot, message=line)


_EXIT_HINTS: dict[int | str | None, str] = {
    "SIGKILL": "killed from outside, often for lack of memory: see dmesg, and the memory limit of the container",
    "SIGBUS": "a file of the session store lost its space: is its tmpfs full, or was the file truncated?",
}


def _exit_name(code: int | None) -> int | str | None:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name if code is not None and code < 0 else code
    return code
