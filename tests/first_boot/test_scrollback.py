"""The words of `sigil init` in GNU screen and tmux: no scrollback keeps them, with and without an alternate screen."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conformance.server import minimal_environment
from tests.support.live import DEADLINE

SHELL = f"trap : INT; {shlex.quote(sys.executable)} -m sigil init --create; echo ended; sleep 600"
Type = Callable[[str], None]
History = Callable[[], str]


def call(*command: str, env: dict[str, str]) -> str:
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False).stdout


@contextmanager
def screen(folder: Path, alternate: str) -> Iterator[tuple[Type, History]]:
    sockets, settings, copy = folder / "sockets", folder / "screenrc", folder / "copy"
    sockets.mkdir(mode=0o700)
    settings.write_text(f"altscreen {alternate}\ndefscrollback 2000\nstartup_message off\n")
    env = {**minimal_environment(folder), "SCREENDIR": str(sockets), "TERM": "xterm", "SHELL": "/bin/sh"}
    command = ("screen", "-S", "words")

    def history() -> str:
        copy.unlink(missing_ok=True)
        call(*command, "-p", "0", "-X", "hardcopy", "-h", str(copy), env=env)
        wait_until(copy.exists)
        return copy.read_text(errors="replace")

    call("screen", "-c", str(settings), "-dmS", "words", "sh", "-c", SHELL, env=env)
    try:
        yield lambda text: (call(*command, "-p", "0", "-X", "stuff", text, env=env), None)[1], history
    finally:
        call(*command, "-X", "quit", env=env)


@contextmanager
def tmux(folder: Path, alternate: str) -> Iterator[tuple[Type, History]]:
    settings = folder / "tmux.conf"
    settings.write_text(f"set -g alternate-screen {alternate}\n")
    env = {**minimal_environment(folder), "TERM": "xterm", "SHELL": "/bin/sh", "TMUX_TMPDIR": str(folder)}
    command = ("tmux", "-L", "words", "-f", str(settings))

    def typed(text: str) -> None:
        call(*command, "send-keys", "-l", text, env=env)

    call(*command, "new-session", "-d", "-x", "80", "-y", "24", f"sh -c {shlex.quote(SHELL)}", env=env)
    try:
        yield typed, lambda: call(*command, "capture-pane", "-p", "-S", "-", env=env)
    finally:
        call(*command, "kill-server", env=env)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("alternate", ["on", "off"])
@pytest.mark.parametrize("program", [screen, tmux])
def test_no_word_stays_in_the_scrollback(
    tmp_path: Path, program: Callable[[Path, str], object], alternate: str
) -> None:
    if not shutil.which(program.__name__):
        pytest.skip(f"{program.__name__} is not installed")
    with program(tmp_path, alternate) as (types, history):  # type: ignore[attr-defined]
        wait_until(lambda: "to see them" in history())
        name = "GNU screen" if program is screen else "tmux"
        assert f"This terminal runs in {name}" in history()
        types("\r")
        wait_until(lambda: "they are on paper" in history())
        words = [word for _, word in re.findall(r"\b(\d{1,2}) ([a-z]+)", history()) if word != "words"]
        assert len(words) == 24
        types("\r")
        wait_until(lambda: re.search(r"Word \d+", history()))
        types("\x03")
        wait_until(lambda: "ended" in history())
        kept = history()
        assert "Write them down on paper" in kept, "what was there before stays"
        assert not re.findall(r"\b\d{1,2} [a-z]+ +\d", kept)
        assert len(set(words) & set(re.findall(r"[a-z]+", kept))) < 4, "words of the prompts alone"
