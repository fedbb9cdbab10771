"""What each signal does to the processes of a service (the table "Signals" of docs/operations.md).

A process inherits ignored signals and blocked ones. With SIGCHLD ignored, the kernel reaps children itself, and the
exit code of a worker or of a command is lost; a blocked SIGTERM drains nothing.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

DRAIN = frozenset(
    getattr(signal, name)
    # The default of each would end the master, and with it all workers, in the middle of requests. SIGPWR is the signal
    # of a power failure, and by which some container managers stop PID 1. After SIGXCPU the kernel sends SIGKILL.
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGPWR", "SIGXCPU")
    if hasattr(signal, name)
)
RELOAD = signal.SIGHUP
_IGNORED_NAMES = (
    "SIGUSR1",
    "SIGUSR2",
    "SIGALRM",
    "SIGVTALRM",
    "SIGPROF",
    "SIGIO",
    "SIGSTKFLT",
    # Errors of the write itself.
    "SIGPIPE",
    "SIGXFSZ",
)
_REAL_TIME = set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1)) if hasattr(signal, "SIGRTMIN") else set()
IGNORED = frozenset({getattr(signal, name) for name in _IGNORED_NAMES if hasattr(signal, name)} | _REAL_TIME)
# A terminal sends these to the whole process group, and some supervisors do with others; the master handles them.
_OF_GROUP = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, getattr(signal, "SIGPWR", signal.SIGINT)})
_HELD = DRAIN | {RELOAD}


def set_for_command(*, serves: bool) -> None:
    """For every command: the exit code of a process that it starts must not be lost.

    `serves`: signals wait for `set_for_master`, which may be half a second later. They would end the process, and PID 1
    of a container would lose them.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if serves:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD | IGNORED)


def set_for_master() -> None:
    """At the start of a service, before it serves: there is nothing to drain, so a signal that drains ends the process.

    SIGHUP waits until `Supervisor` has its handlers. PID 1 of a container would lose each signal without a handler.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, RELOAD}:
        handler = _end if number in DRAIN else signal.SIG_IGN if number in IGNORED else signal.SIG_DFL
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, {RELOAD})


def set_for_worker() -> None:
    """At the start of a worker, which was spawned within `held`. Until it serves, SIGTERM ends it."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in IGNORED | _OF_GROUP else signal.SIG_DFL)
    release()


@contextlib.contextmanager
def held() -> Iterator[None]:
    """A process that starts within inherits the signals of the group blocked: they would end it while it imports."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_GROUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def kept_for_next_program() -> Iterator[None]:
    """Signals that arrive around an exec wait for the handlers of the next program."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def release() -> None:
    """Unblock all signals: those that waited take effect now."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _end(_number: int, _frame: object) -> None:
    sys.exit(0)
