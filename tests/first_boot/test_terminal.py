"""`sigil init`: the setup in a terminal, and without a terminal."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.conformance.server import minimal_environment, run
from tests.first_boot.init_mode_server import WORDS, identity_of
from tests.support.live import DEADLINE

KEY = re.compile(r"sgk_test_[0-9a-f]{64}")
_SECOND_SCREEN = re.compile(r"\x1b\[\?1049h(.*?)\x1b\[\?1049l", re.DOTALL)


class Person:
    """A person at a terminal of their own with `sigil init`, whose standard output may be redirected."""

    def __init__(self, folder: Path, *arguments: str, into: IO[str] | None = None) -> None:
        self._ours, theirs = pty.openpty()
        setsid = shutil.which("setsid")
        assert setsid
        self.process = subprocess.Popen(
            [setsid, "--ctty", "--wait", sys.executable, "-m", "sigil", "init", *arguments],
            stdin=theirs,
            stdout=into or theirs,
            stderr=theirs,
            env={**minimal_environment(folder), "TERM": "xterm", "LC_ALL": "C.UTF-8"},
        )
        os.close(theirs)
        self.seen = ""
        # A read may end in the middle of an emoji.
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._read_so_far = 0

    def sees(self, text: str) -> str:
        """Waits for `text` after the last match; returns the output from there to its end."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.seen[self._read_so_far :]:
            assert time.monotonic() < deadline, f"waited for {text!r}, saw {self.seen[self._read_so_far :]!r}"
            if select.select([self._ours], [], [], 1.0)[0]:
                with contextlib.suppress(OSError):
                    self.seen += self._decode(os.read(self._ours, 65536))
        began, self._read_so_far = self._read_so_far, self.seen.index(text, self._read_so_far) + len(text)
        return self.seen[began : self._read_so_far]

    def types(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def ends(self) -> int:
        with contextlib.suppress(OSError):
            while part := os.read(self._ours, 65536):
                self.seen += self._decode(part)
        return self.process.wait(DEADLINE)

    def leave(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
        os.close(self._ours)


@contextlib.contextmanager
def at_a_terminal(folder: Path, *arguments: str, into: IO[str] | None = None) -> Iterator[Person]:
    person = Person(folder, *arguments, into=into)
    try:
        yield person
    finally:
        person.leave()


def copied(screen: str) -> list[str]:
    """The 24 words of the numbered grid."""
    numbered = dict(re.findall(r"\b(\d{1,2}) ([a-z]+)", screen))
    return [numbered[str(place)] for place in range(1, 25)]


def test_a_person_creates_an_identity_and_confirms_three_words(tmp_path: Path) -> None:
    path = tmp_path / "mnemonic"
    with at_a_terminal(tmp_path, "--mnemonic-out", str(path)) as person:
        person.sees("create or restore")
        person.types("create")
        person.sees("to see them")
        person.types("")
        words = copied(person.sees("on paper"))
        person.types("")
        person.sees("Word ")
        person.types("wrong")
        person.sees("Look at them once more")
        person.sees("to see them")
        person.types("")
        assert copied(person.sees("on paper")) == words
        person.types("")
        for _ in range(3):
            position = re.findall(r"Word (\d+)", person.sees(": "))[-1]
            person.types(words[int(position) - 1].upper())
        identity = identity_of(" ".join(words))
        assert identity.server_id in person.sees("Go on with this identity?")
        person.types("y")
        person.sees("Make an API key")
        person.types("y")
        assert person.ends() == 0
        assert f"SIGIL_MNEMONIC_PATH={path}" in person.seen
        assert len(KEY.findall(person.seen)) == 1
        elsewhere = _SECOND_SCREEN.sub("", person.seen)
        assert not [word for word in words if re.search(rf"\d\d? {word}\b", elsewhere)], "only on the second screen"
    assert path.read_text().split() == words
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_cannot_be_written_does_not_end_the_setup(tmp_path: Path) -> None:
    """The words are on paper and confirmed: the person frees space, or names another file."""
    folder, other = tmp_path / "gone", tmp_path / "other"
    with at_a_terminal(tmp_path, "--create", "--mnemonic-out", str(folder / "words")) as person:
        person.sees("to see them")
        person.types("")
        words = copied(person.sees("on paper"))
        person.types("")
        folder.write_text("not a directory")
        for _ in range(3):
            position = re.findall(r"Word (\d+)", person.sees(": "))[-1]
            person.types(words[int(position) - 1])
        assert "cannot create" in person.sees("or type another file")
        person.types("")
        assert "cannot create" in person.sees("or type another file")
        person.types(str(other))
        person.sees("Go on with this identity?")
        assert other.read_text().split() == words, "before the next question"
        person.types("n")
        assert person.ends() == 1
        assert not other.exists(), "the identity was not wanted"


def test_a_terminal_that_would_scroll_shows_no_words(tmp_path: Path) -> None:
    with at_a_terminal(tmp_path, "--create") as person:
        person.sees("to see them")
        fcntl.ioctl(person._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 80, 0, 0))
        person.types("")
        assert "enlarge it to 64 columns and 9 rows" in person.sees("to see them")
        fcntl.ioctl(person._ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        person.types("")
        assert len(copied(person.sees("on paper"))) == 24


def test_a_person_restores_an_identity_after_a_wrong_word_which_no_hint_guesses(tmp_path: Path) -> None:
    with at_a_terminal(tmp_path, "--restore") as person:
        person.sees("on one line")
        person.types(WORDS.replace("cost", "coast"))
        seen = person.sees("on one line")
        assert "at least one word is wrong, or not in its place" in seen
        assert not re.search(r"word \d", seen), "the checksum cannot tell which"
        person.types(WORDS.upper())
        assert identity_of(WORDS).server_id in person.sees("want to restore?")
        person.types("n")
        assert person.ends() == 1
        assert not KEY.search(person.seen)


def test_without_a_terminal_the_options_decide_everything(tmp_path: Path) -> None:
    words, key = tmp_path / "words", tmp_path / "key"
    arguments = ("--yes", "--create", "--mnemonic-out", str(words), "--api-key-out", str(key))
    finished = run("init", *arguments, env=minimal_environment(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert identity_of(words.read_text()).server_id in finished.stdout
    assert KEY.fullmatch(key.read_text().strip())
    assert not KEY.search(finished.stdout)
    assert " ".join(words.read_text().split()[:3]) not in finished.stdout
    assert {stat.S_IMODE(path.stat().st_mode) for path in (words, key)} == {0o600}

    again = run("init", *arguments, env=minimal_environment(tmp_path))
    assert again.returncode == 1
    assert "is there already and is never overwritten" in again.stderr


@pytest.mark.parametrize(("given", "fault"), [(f" {WORDS.upper()}  \n", ""), (f"{WORDS} zoo", "this one has 25")])
def test_a_mnemonic_to_restore_is_read_from_standard_input(tmp_path: Path, given: str, fault: str) -> None:
    path = tmp_path / "words"
    finished = piped(tmp_path, given, "--yes", "--restore", "--mnemonic-out", str(path))
    assert fault in finished.stderr
    assert finished.returncode == (1 if fault else 0)
    assert path.exists() != bool(fault)
    assert fault or path.read_text() == f"{WORDS}\n"


def piped(folder: Path, given: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sigil", "init", *arguments],
        input=given,
        env=minimal_environment(folder),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.mark.parametrize("option", ["--create", "--restore"])
def test_redirected_output_gets_no_words(tmp_path: Path, option: str) -> None:
    """They would stay in a file that others can read, or pass through `tee`."""
    with (tmp_path / "log").open("w+") as log, at_a_terminal(tmp_path, option, into=log) as person:
        assert "no terminal" in person.sees("--restore")
        assert person.ends() == 1
        assert (tmp_path / "log").read_text() == ""


@pytest.mark.parametrize("more", [(), ("--yes",)])
def test_create_and_restore_at_once_are_an_error(tmp_path: Path, more: tuple[str, ...]) -> None:
    finished = piped(tmp_path, WORDS, "--create", "--restore", *more)
    assert (finished.returncode, finished.stdout) == (1, "")
    assert finished.stderr == "sigil: pass either --create or --restore\n"


def test_without_a_file_the_mnemonic_is_printed(tmp_path: Path) -> None:
    finished = run("init", "--yes", "--create", env=minimal_environment(tmp_path))
    [words] = [line for line in finished.stdout.splitlines() if len(line.split()) == 24]
    assert identity_of(words).server_id in finished.stdout


@pytest.mark.parametrize("arguments", [(), ("--yes",), ("--create",), ("--yes", "--mnemonic-out", "x")])
def test_without_a_terminal_missing_options_are_an_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    finished = piped(tmp_path, "", *arguments)
    assert finished.returncode == 1
    assert len(finished.stderr.splitlines()) == 1
    assert finished.stdout == ""


def test_the_next_steps_name_those_of_a_container(tmp_path: Path) -> None:
    """The server of a container runs already, and what the command writes there is lost with the container."""
    shown = run("init", "--yes", "--create", env=minimal_environment(tmp_path)).stdout
    assert "sigil check-config && sigil serve" in shown
    assert "In a container instead: write the words into a file on the host" in shown
    assert "`sudo chown 10001 FILE`" in shown
