"""Variables of the environment and the files that they name, by the rule for text that a person wrote."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from sigil.protocol.encoding.plain_text import NotPlainText, check, text_of

_PIPE_SECONDS = 10.0


def variable(name: str) -> str:
    """Its value without the blanks around it, "" if it is not set; NotPlainText, whose message is a sentence."""
    try:
        return check(os.environ.get(name, ""))
    except NotPlainText as error:
        fault = f"{name} {error}."
    raise NotPlainText(fault)


def file_text(path: str | Path, limit: int) -> str:
    """The text of a small file or of a pipe, as of a shell's <(pass show sigil); OSError, NotPlainText.

    Bounded in size and time: a pipe that no program writes to would make the constructor of a client wait for ever.
    """
    content, end = b"", time.monotonic() + _PIPE_SECONDS
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while len(content) <= limit:
            if not select.select([handle], [], [], max(end - time.monotonic(), 0))[0]:
                raise TimeoutError(f"a pipe without data for {_PIPE_SECONDS:.0f} s")
            part = os.read(handle, limit + 1 - len(content))
            if not part:
                return text_of(content)
            content += part
    finally:
        os.close(handle)
    raise OSError(f"it is larger than {limit} bytes")
