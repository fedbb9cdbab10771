"""Whether a file with a secret is readable by its user alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.bounded import files
from sigil.serving.files.errors import file_error


def check_secret_file(variable: str, path: Path) -> Result:
    """The file of `variable`: a file, readable by this user and by no other. One line has the whole remedy."""
    user = os.geteuid()
    remedy = f"on the host: sudo chown {user} FILE && sudo chmod 600 FILE"
    try:
        status = files.status(path)
    except FileNotFoundError:
        return failed(variable, f"{path} does not exist", "create it, or correct the path and the mount")
    except OSError as error:
        return failed(variable, file_error("read", path, error), "docs/troubleshooting.md, Files and permissions")
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o007:
        return failed(variable, f"other users can read {path} ({mode:04o})", remedy)
    if mode & 0o070:
        return still_open(variable, f"the group {status.st_gid} can read {path} ({mode:04o})", remedy)
    return ok(variable, f"{path} is readable by user {user} alone ({mode:04o})")
