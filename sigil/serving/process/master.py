"""The master process of a service: listening sockets, Granian workers, signals.

    def create_app(settings: Settings, life: Life) -> AsgiApp: ...      # module level: called inside each worker

    exit_code = serve(factory=create_app, settings=settings, host="0.0.0.0", port=8443, tls=(cert, key),
                      workers=2, state_dir=state_dir, reload=lambda: (Settings.load(), (cert, key)))

The master binds one listening socket per worker and keeps it open while workers come and go (see `listeners`).
"""

import contextlib
import multiprocessing
import os
import resource
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, cast

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from sigil.serving import logs
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.files.errors import file_error
from sigil.serving.inherited import signals
from sigil.serving.log_output.captured_stderr import CapturedStderr
from sigil.serving.process.kept_open import KeptOpen
from sigil.serving.process.lifecycle import AsgiApp, WorkerLifecycle
from sigil.serving.process.listeners import close, listen
from sigil.serving.process.metrics_memory import MetricsMemory
from sigil.serving.process.supervisor import Generation, SettingsFeed, Signals, Supervisor, Upkeep, Worker
from sigil.serving.process.worker import WorkerPlan, run_worker
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.tls_pair import TlsPair
from sigil.serving.watchdog.crash_policy import CrashPolicy
from sigil.serving.watchdog.process_table import ProcessTable

TlsPaths = tuple[Path, Path] | None


@dataclass(frozen=True)
class ServerLimits:
    """Limits of a server. Times are in seconds; `backlog` is per listening socket, `connections` are per worker and are
    reduced to what the process may open.

    A drain ends after `drain_timeout` in the worker and after `kill_timeout` by SIGKILL: within the 10 s that
    `docker stop` waits. Idle connections are dropped after no request has run for `quiet`. A worker with a successor
    first serves its existing connections for `linger`. A worker that is not ready after `ready_timeout` is killed: at a
    load of 20 on two cores, 30 s were too few. A worker whose event loop does not respond for `hang_timeout` is
    killed (see `watchdog`).
    """

    backlog: int = 4096
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    drain_timeout: float = 6.5
    quiet: float = 1
    linger: float = 1
    kill_timeout: float = 8.5
    ready_timeout: float = 120
    hang_timeout: float = 10


def serve(
    *,
    factory: Callable[[Any, WorkerLifecycle], AsgiApp],
    settings: object,
    host: str,
    port: int,
    tls: TlsPaths,
    workers: int,
    state_dir: Path | None,
    reload: Callable[[], tuple[object, TlsPaths]],
    port_setting: str,
    service: str = "sigil",
    log_level: str = "info",
    websockets: bool = True,
    metrics: bool = True,
    upkeep: Upkeep | None = None,
    limits: ServerLimits = ServerLimits(),
    crash: CrashPolicy = CrashPolicy(),  # noqa: B008 - frozen
    feed: SettingsFeed | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code; call it in the main thread.

    `factory` and `settings` are pickled to each worker; `tls` is (certificate, key) or None for plain HTTP. `reload` is
    called at SIGHUP and may raise StartupError. `feed` may change the settings at any time, also those of `reload`.
    `port_setting` is the name of the port's setting, for errors.
    A worker that is ready has a file <state_dir>/workers/<pid>, with a state directory.
    `upkeep` is called in the master after the start and each reload, and then after as many seconds as it returned.
    With a pair, the workers are replaced by others that serve it. Both are called in a thread.
    With `metrics`, workers count in memory that they share (see `metrics_memory`).
    0 after a clean drain; 1 when no worker became ready or one had to be killed. Raises StartupError.
    """
    logs.configure(service, log_level)
    open_files = _raise_process_limits()
    connections = limits.connections.within(open_files)
    if connections.total < limits.connections.total:
        logs.warn(
            "few_file_descriptors",
            limit=open_files,
            connections=connections.total,
            message="a worker accepts fewer connections than it could: raise LimitNOFILE or `ulimit -n`",
        )
    listeners = listen(host, port, limits.backlog, workers, port_setting=port_setting)
    first = _generation(settings, tls)
    markers = _fresh_directory(state_dir / "workers") if state_dir else None
    port = listeners[0].getsockname()[1]
    granian = _granian(log_level, workers, websockets, limits.backlog, connections.total)
    # A reload has one worker more; a killed one keeps its row until it is reaped.
    table = ProcessTable.create(2 * workers + 2)
    logs.count_dropped_in(table.master_dropped)
    counts = MetricsMemory.create(len(table.rows)) if metrics else None

    def spawn(index: int, generation: Generation) -> Worker:
        ready, ready_sender = multiprocessing.Pipe(duplex=False)
        row = table.free_row()
        if counts:
            counts.drop_live_gauges(row)
        plan = WorkerPlan(
            factory=factory,
            settings=generation.settings,
            index=index,
            workers=workers,
            service=service,
            log_level=log_level,
            drain_timeout=limits.drain_timeout,
            quiet=limits.quiet,
            linger=limits.linger,
            master=os.getpid(),
            markers=markers,
            metrics=KeptOpen(counts.fd) if counts else None,
            table=KeptOpen(table.fd),
            rows=len(table.rows),
            row=row,
            ready=ready_sender,
            listener=KeptOpen(listeners[index].fileno()),
            connections=connections,
            tls=generation.tls.kept_open() if generation.tls else None,
            hsts=generation.tls is not None and generation.tls.hsts,
        )
        granian.use_listener(listeners[index])
        granian.use_tls(generation.tls)
        process = granian._spawn_worker(index, partial(run_worker, plan), None).inner
        stderr = CapturedStderr()
        table.rows[row].take()
        try:
            with ready_sender, signals.held(), stderr.given_to_child():
                process.start()
        except BaseException:
            table.rows[row].release()
            raise
        return Worker(process, ready, index, process.pid, table.rows[row], stderr)

    with Signals() as seen:
        # After the handlers are installed: a reader of this line may send signals.
        logs.info("server_starting", host=host, port=port, tls=tls is not None, workers=workers, pid=os.getpid())
        exit_code = Supervisor(
            signals=seen,
            spawn=spawn,
            first=first,
            workers=workers,
            reload=lambda: _generation(*reload(), feed),
            markers=markers,
            table=table,
            crash=crash,
            hang_timeout=limits.hang_timeout,
            ready_timeout=limits.ready_timeout,
            kill_timeout=limits.kill_timeout,
            on_drain=lambda: close(listeners),
            feed=feed,
            upkeep=upkeep,
        ).run()
    logs.info("stopped", exit_code=exit_code)
    return exit_code


class _Granian(MPServer):
    """Granian's settings and its construction of a worker process. `Supervisor` replaces its supervision."""

    def _serve(self, _spawn_target: object, _target_loader: object) -> None:
        """Does nothing, so that `serve` only checks and completes the settings."""

    def use_listener(self, listener: socket.socket) -> None:
        # Granian's holder takes the backlog on Linux only, where the worker calls listen() again with it.
        backlog = (self.backlog,) if sys.platform == "linux" else ()
        self._shd = cast(Any, SocketHolder)(listener.fileno(), False, *backlog)
        self._sso = None

    def use_tls(self, pair: TlsPair | None) -> None:
        # Not build_ssl_context: it resolves links, and the target of /proc/self/fd/N cannot be opened by name.
        paths = (True, pair.cert, pair.key) if pair else (False, None, None)
        self.ssl_ctx = (*paths, *self.ssl_ctx[3:])


def _granian(log_level: str, workers: int, websockets: bool, backlog: int, connections: int) -> _Granian:
    multiprocessing.set_start_method("spawn", force=True)
    # Not within the spawn of a worker, because its start unblocks SIGINT.
    with signals.held():
        resource_tracker.ensure_running()
    granian = _Granian(
        target="",
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        http=HTTPModes.auto,
        workers=workers,
        websockets=websockets,
        backlog=backlog,
        backpressure=connections,
        http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=32 * 1024),
        # Milliseconds, then seconds: a peer that vanished is detected after 50 s.
        http2_settings=HTTP2Settings(
            keep_alive_interval=30_000, keep_alive_timeout=20, max_headers_size=16 * 1024, max_concurrent_streams=128
        ),
        # Older proxies speak TLS 1.2 to their backends (nginx of Debian 12). For it, rustls has suites with forward
        # secrecy and AEAD only.
        ssl_protocol_min=SSLProtocols.tls12,
        log_level=LogLevels.info if log_level == "debug" else LogLevels.warning,
        log_dictconfig=_granian_logs(),
    )
    granian.serve()
    return granian


def _granian_logs() -> dict[str, Any]:
    # No handlers: Granian's records go to the root logger, which writes JSON.
    logger = {"handlers": [], "propagate": True}
    return {"formatters": {}, "handlers": {}, "loggers": {"_granian": {**logger}, "granian.access": {**logger}}}


def _generation(settings: object, tls: TlsPaths, feed: SettingsFeed | None = None) -> Generation:
    return Generation(feed.applied(settings) if feed else settings, TlsPair(*tls) if tls else None)


def _fresh_directory(path: Path) -> Path:
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, parents=True)
    except OSError as exc:
        raise StartupError(file_error("create", path, exc)) from exc
    return path


def _raise_process_limits() -> int:
    """The number of files that this process and its workers may open."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
