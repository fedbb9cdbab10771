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

# Imports first: the checkout may belong to a directory that the other user may not enter.
_AS_ANOTHER_USER = """
import asyncio, json, os, sys
from pathlib import Path
import relay.cli.commands, relay.config, relay.app.master, relay.app.wiring
import sigil.app.master, sigil.app.state, sigil.config.settings, sigil.cli.commands
from sigil.serving import file_errors
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

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, which only root can become")


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
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()
