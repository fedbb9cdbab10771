"""Whether a file could be created, without creating it."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def creation_error(path: Path) -> OSError | None:
    """The error of creating the file `path` and the directories above it; None for none. `filename` is the directory
    that does not allow it.
    """
    directory = next(place for place in path.parents if os.path.lexists(place))
    try:
        if not directory.is_dir():
            return _error(errno.ENOENT if directory.is_symlink() else errno.ENOTDIR, directory)
        status = os.statvfs(directory)
    except OSError as error:
        return error
    if status.f_flag & os.ST_RDONLY:
        return _error(errno.EROFS, directory)
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return _error(errno.EACCES, directory)
    # Some file systems report no limit, as 0 of 0.
    full = (status.f_blocks and not status.f_bavail) or (status.f_files and not status.f_favail)
    return _error(errno.ENOSPC, directory) if full else None


def _error(number: int, directory: Path) -> OSError:
    return OSError(number, os.strerror(number), str(directory))
