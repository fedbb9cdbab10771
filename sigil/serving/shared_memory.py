"""Memory that the processes of a service share: it has no name in any file system."""

from __future__ import annotations

import os
import sys
import tempfile


def create(name: str, size: int) -> int:
    """A descriptor of `size` bytes of zeros. Pages take memory once they are written.

    Not a file on tmpfs: others can remove or truncate it, and on a full tmpfs it would kill its writer with SIGBUS.
    """
    if sys.platform == "linux":
        fd = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd
