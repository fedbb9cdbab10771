"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Result:
    """`text` and `next_step` are one line each, and never contain a secret.

    ok: nothing to do. open: the check cannot see it from here, or the server runs with less safety: the operator
    decides. failed: the server must not go into production like this.
    """

    name: str
    state: Literal["ok", "open", "failed"]
    text: str
    next_step: str = ""


def ok(name: str, text: str) -> Result:
    return Result(name, "ok", text)


def still_open(name: str, text: str, next_step: str) -> Result:
    return Result(name, "open", text, next_step)


def failed(name: str, text: str, next_step: str = "") -> Result:
    return Result(name, "failed", text, next_step)
