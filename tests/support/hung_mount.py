"""A mount whose file system does not respond, like NFS without its server: FUSE without a daemon that answers."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def can_mount() -> bool:
    return os.geteuid() == 0 and Path("/dev/fuse").exists()


@contextmanager
def hung_mount(directory: Path) -> Iterator[None]:
    """Every call about a file in `directory` waits until the end of the context."""
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    try:
        if _libc.mount(b"hung", str(directory).encode(), b"fuse", 0, options) != 0:
            raise OSError(ctypes.get_errno(), "mount")
        try:
            yield
        finally:
            _libc.umount2(str(directory).encode(), _DETACH)
    finally:
        # Ends the calls that wait.
        os.close(device)
