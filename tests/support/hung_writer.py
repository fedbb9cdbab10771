"""A worker of a real server that stops while it holds the write lock of the session store.

`settings(folder)` are environment variables for `LiveServer`: the interpreter of each process loads `sitecustomize.py`
from PYTHONPATH, which makes the next transaction after `stop_next_writer(folder)` send SIGSTOP to its own process.
"""

from __future__ import annotations

from pathlib import Path

_HOOK = """
import os, signal
from sigil.store.lmdb import LmdbStore

transact = LmdbStore.transact

def stopping(self, keys, rule, **options):
    def stop(now, rows):
        try:
            os.rename("{folder}/stop", "{folder}/stopped-%d" % os.getpid())
        except FileNotFoundError:
            pass
        else:
            os.kill(os.getpid(), signal.{signal})
        return rule(now, rows)
    return transact(self, keys, stop, **options)

LmdbStore.transact = stopping
"""


def settings(folder: Path, signal: str = "SIGSTOP") -> dict[str, str]:
    (folder / "sitecustomize.py").write_text(_HOOK.format(folder=folder, signal=signal))
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}


def stop_next_writer(folder: Path) -> None:
    (folder / "stop").touch()


def stopped(folder: Path) -> int | None:
    """The process that stopped."""
    return next((int(path.name.rpartition("-")[2]) for path in folder.glob("stopped-*")), None)
