"""Code that runs as a real other user, which only root can become."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

UID = 10001

_AS_ANOTHER_USER = """
import asyncio, json, os, sys
from pathlib import Path
import relay.cli.commands, relay.config, relay.app.master, relay.app.wiring
import sigil.app.master, sigil.app.state, sigil.config.settings, sigil.cli.commands
from sigil.serving.files import errors as file_errors
from sigil.serving.settings import ConfigError
from sigil.serving.startup_error import StartupError

uid, work, given, marks = json.loads(sys.argv[1])
file_errors._CONTAINER_MARKS = tuple(marks)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
os.environ.update(given)
try:
    exec(work)
except ConfigError as error:
    print(*error.lines, sep="\\n")
except Exception as error:
    print(error)
"""

ROOT = Path(__file__).resolve().parents[2]

# Hides the closed directory under an empty one, and shows what is needed of it at its place again. The descriptor leads
# to a directory that has no path any more.
_ENTER = """
closed=$1 needed=$2
shift 2
exec 9<"$needed"
mount -t tmpfs -o mode=755 tmpfs "$closed"
(umask 022 && mkdir -p "$needed")
mount --no-canonicalize --bind /proc/self/fd/9 "$needed"
exec 9<&-
exec "$@"
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, which only root can become")


def enterable(command: list[str]) -> list[str]:
    """As root: the command where every user may enter the checkout and the directory of this Python.

    A checkout may be in a directory of root alone. The command then has a mount namespace of its own; its pid stays.
    """
    for needed in (ROOT, Path(sys.base_prefix)):
        closed = [parent for parent in reversed(needed.parents) if not parent.stat().st_mode & 0o001]
        if closed and os.geteuid() == 0:
            private = ["unshare", "--mount", "--propagation", "private"]
            command = [*private, "sh", "-euc", _ENTER, "sh", str(closed[0]), str(needed), *command]
    return command


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def as_user(work: str, environ: dict[str, str] | None = None, *, container: bool = False, uid: int = UID) -> str:
    """What `work` prints, or the error that it raises."""
    marks = ["/"] if container else []
    given: list[Any] = [uid, work, environ or {}, marks]
    command = [sys.executable, "-c", _AS_ANOTHER_USER, json.dumps(given)]
    ended = subprocess.run(enterable(command), capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()
