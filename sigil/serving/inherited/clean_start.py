"""A process replaces itself by one that never had the secrets of its environment.

    if (state := clean_start.received()) is None:
        state = ...                                       # read the environment, derive keys
        clean_start.restart(state, forget=("SECRET",))    # does not return where it is possible
    serve(state)

Neither unsetenv nor a dropped string clears memory: /proc/PID/environ is the block of the exec, and freed objects keep
their bytes. execve gives the process a new block and new memory, with the same PID. The state passes through a memfd,
which no file system shows.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import sys
from collections.abc import Iterable

from sigil.serving import logs
from sigil.serving.inherited import signals
from sigil.serving.startup_error import StartupError

_DESCRIPTOR = "_SERVICE_START_STATE"
# fcntl(2), Linux; the module has no names for the seals.
_ADD_SEALS, _GET_SEALS = 1033, 1034
_SEALS = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, SHRINK, GROW, WRITE


def restart(state: object, forget: Iterable[str]) -> None:
    """Run this command again with `state`, and without the variables `forget`; returns only where that fails."""
    forgotten = set(forget)
    for name in forgotten:
        os.environ.pop(name, None)
    if sys.platform != "linux":
        return
    descriptor = os.memfd_create("start", os.MFD_ALLOW_SEALING)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            pickle.dump(state, file)
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, _ADD_SEALS, _SEALS)
        environ = {name: value for name, value in os.environ.items() if name not in forgotten}
        logs.flush()
        # sys.executable: an interpreter finds its virtual environment by the path with which it is called.
        with signals.kept_for_next_program():
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ | {_DESCRIPTOR: str(descriptor)})  # noqa: S606
    except OSError as error:
        os.close(descriptor)
        message = "secrets of the environment stay in the memory of the master process: give them in files"
        logs.warn("environment_not_cleared", reason=error.strerror, message=message)


def received() -> object | None:
    """The state of `restart`, in the process that it made; else None. StartupError for a variable of another origin."""
    descriptor = os.environ.pop(_DESCRIPTOR, None)
    if descriptor is None:
        return None
    try:
        # Only memory has seals, and only the writer of `restart` sets all of them.
        if fcntl.fcntl(int(descriptor), _GET_SEALS) != _SEALS:
            raise ValueError
        with open(int(descriptor), "rb") as file:  # noqa: PTH123 - a descriptor
            state: object = pickle.load(file)  # noqa: S301 - this program wrote it
    except (OSError, ValueError, OverflowError, EOFError, pickle.UnpicklingError):
        raise StartupError(f"{_DESCRIPTOR} is set: only the service itself may set it; unset it") from None
    return state
