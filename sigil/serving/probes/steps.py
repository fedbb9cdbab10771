"""Checks that run at once, each in a thread of its own: each may hang, as may a lookup of a name or a file on NFS."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

from sigil.console.findings.report import Report
from sigil.console.findings.result import Result, failed
from sigil.console.program import INTERRUPTED
from sigil.protocol.encoding.display_text import printable
from sigil.serving import logs
from sigil.serving.bounded.calls import Call
from sigil.serving.process.memory_protection import forbid_core_dumps

Check = Callable[[], Iterable[Result]]
_MAX_TEXT = 600


def run(checks: Mapping[str, Check], seconds: float) -> list[Result]:
    """The results of all checks. A check that takes longer, or that fails itself, is a result under its key."""
    ends = time.monotonic() + seconds
    calls = {name: Call(lambda check=check: list(check())) for name, check in checks.items()}  # type: ignore[misc]
    found: list[Result] = []
    for name, call in calls.items():
        if not call.wait(max(0.0, ends - time.monotonic())):
            found.append(failed(name, f"no result within {seconds:.0f} s", "look at the network and the file systems"))
            continue
        try:
            found += call.result()
        except Exception as error:
            # Without the text of the exception, which may quote anything.
            kind = type(error).__name__
            found.append(failed(name, f"this check ended with {kind}", "report it; the other findings hold"))
    return [_clean(result) for result in found]


def examine(checks: Callable[[], Report], *, as_json: bool) -> NoReturn:
    """A whole command: run the checks, print their report, and end the process with its exit code.

    It does not wait for threads that hang: the interpreter joins those of thread pools at its end.
    """
    forbid_core_dumps()
    logs.silence()
    try:
        report = checks()
        sys.stdout.write((report.as_json() if as_json else report.as_text()) + "\n")
        sys.stdout.flush()
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)
    os._exit(report.exit_code)


def _clean(result: Result) -> Result:
    """Texts may contain what a remote service sent: no control characters, and one line."""
    texts = (" ".join(printable(text[:_MAX_TEXT]).split()) for text in (result.text, result.next_step))
    return Result(result.name, result.state, *texts)
