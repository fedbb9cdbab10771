"""Files of secrets are whole or absent: a full disk, a limit, a name that is taken, a directory that is closed."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sigil.console.new_file import create_file, replace_file
from tests.conformance.server import minimal_environment
from tests.device.clock import MovingClock
from tests.device.fake_server import FakeServer
from tests.support.live import DEADLINE

WORDS = "zoo " * 23 + "vote"


def run(folder: Path, *arguments: str, limit: int | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
    """`limit`: the largest file, as on a disk that is nearly full."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "sigil", *arguments],
        env={**minimal_environment(folder), "SIGIL_MNEMONIC": WORDS, "PYTHONDONTWRITEBYTECODE": "1"},
        input=given,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        preexec_fn=limited,
    )


WRITERS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "mnemonic": lambda path: ("mnemonic", "--out", str(path)),
    "keygen": lambda path: ("keygen", "--out", str(path)),
    "init, mnemonic": lambda path: ("init", "--yes", "--create", "--mnemonic-out", str(path)),
    "init, API key": lambda path: ("init", "--yes", "--create", "--api-key-out", str(path)),
}
each_writer = pytest.mark.parametrize("writer", WRITERS)


@each_writer
def test_a_full_disk_is_one_line_leaves_nothing_and_a_retry_works(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "out" / "secret"
    full = run(tmp_path, *WRITERS[writer](path), limit=20)
    assert (full.returncode, len(full.stderr.splitlines())) == (1, 1), full.stderr
    assert full.stderr.startswith(f"sigil: cannot create {path}: ")
    assert list(path.parent.iterdir()) == []
    again = run(tmp_path, *WRITERS[writer](path))
    assert again.returncode == 0, again.stderr
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().endswith("\n")


@each_writer
@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "directory"])
def test_a_name_that_is_taken_is_not_touched(tmp_path: Path, writer: str, kind: str) -> None:
    path, other = tmp_path / "secret", tmp_path / "other"
    if kind == "file":
        path.write_text("kept")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(other)
        if kind == "link":
            other.write_text("kept")
    before = sorted(tmp_path.iterdir())
    refused = run(tmp_path, *WRITERS[writer](path))
    assert refused.returncode == 1
    assert refused.stderr == f"sigil: {path} is there already and is never overwritten; choose another name\n"
    assert sorted(tmp_path.iterdir()) == before
    assert other.exists() == (kind == "link")


@each_writer
def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, writer: str) -> None:
    (tmp_path / "file").write_text("kept")
    refused = run(tmp_path, *WRITERS[writer](tmp_path / "file" / "secret"))
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert refused.stderr.startswith(f"sigil: cannot create {tmp_path / 'file'}")


def test_the_keyring_on_a_full_disk_keeps_no_half_key(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with FakeServer(MovingClock()) as server:
        arguments = ("device", "init", "--home", str(home), "--server", server.url, "--yes")
        full = run(tmp_path, *arguments, limit=20)
        assert (full.returncode, full.stderr.count("\n")) == (1, 1), full.stderr
        assert str(home) in full.stderr
        assert list(home.iterdir()) == []
        assert run(tmp_path, *arguments).returncode == 0
        [file] = home.iterdir()
        listed = run(tmp_path, "device", "pending", "--home", str(home), limit=0)
        assert (listed.returncode, listed.stderr.count("\n")) == (1, 1), listed.stderr
        assert ".second" in listed.stderr
    assert json.loads(file.read_text())["suite"] == "ES256"


def test_a_file_is_whole_or_absent_when_its_bytes_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk, whose error may come with fsync alone."""

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    old = tmp_path / "old"
    old.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    for write in (create_file, replace_file):
        with pytest.raises(OSError, match="No space") as failed:
            write(tmp_path / "new", b"secret")
        assert failed.value.filename == str(tmp_path / "new")
    with pytest.raises(OSError, match="No space"):
        replace_file(old, b"secret")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert old.read_bytes() == b"old"


def test_without_hard_links_a_file_is_renamed_and_never_overwrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_arguments: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "secret"
    create_file(path, b"one")
    with pytest.raises(FileExistsError):
        create_file(path, b"two")
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("secret", b"one")]
