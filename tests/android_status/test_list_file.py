"""The file of the status list: replaced in one step, never by a list that lost its entries; workers read it again."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from sigil.android_status import list_file
from sigil.android_status.list_file import of_release, read, write
from sigil.android_status.reader import AndroidStatus
from sigil.attestation.certificates.status_list import OLD_SECONDS, UnusableStatusList

NOW = 1_800_000_000


def content(*serials: str) -> bytes:
    return json.dumps({"entries": {serial: {"status": "REVOKED"} for serial in serials}}).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "status.json"


def test_the_list_of_the_release_is_usable_and_counts_as_old() -> None:
    status = of_release()
    assert status.entries == 48
    # Of the published list, in both notations.
    assert status.revoked("5cb838f1fe157a85")
    assert status.revoked("c35747a084470c3135aeefe2b8d40cd6")
    assert status.is_old(0.0 + OLD_SECONDS + 1)


def test_a_file_has_the_time_at_which_its_list_was_known(path: Path) -> None:
    assert read(path) is None
    write(path, content("ab"), NOW)
    found = read(path)
    assert found is not None
    assert (found.known_at, found.revoked("ab")) == (NOW, True)
    assert [file.name for file in path.parent.iterdir()] == ["status.json"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_list_that_cannot_be_used_replaces_nothing(path: Path) -> None:
    write(path, content("ab"), NOW)
    with pytest.raises(UnusableStatusList):
        write(path, b"<html>", NOW + 1)
    assert path.read_bytes() == content("ab")


def test_a_list_that_lost_more_than_half_of_its_entries_replaces_nothing(path: Path) -> None:
    write(path, content("a1", "a2", "a3", "a4", "a5"), NOW)
    with pytest.raises(UnusableStatusList, match="it has 2 entries, and the list in use has 5"):
        write(path, content("a1", "a2"), NOW + 1)
    assert write(path, content("a1", "a2", "a3"), NOW + 1).entries == 3


def test_a_file_that_is_broken_is_replaced(path: Path) -> None:
    path.write_text("{")
    with pytest.raises(UnusableStatusList):
        read(path)
    assert write(path, content("ab"), NOW).entries == 1


def test_a_failed_write_leaves_the_old_file_and_no_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, content("ab"), NOW)

    def full(_fd: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(list_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(path, content("ab", "cd"), NOW + 1)
    assert path.read_bytes() == content("ab")
    assert [file.name for file in path.parent.iterdir()] == ["status.json"]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_cannot_be_used(path: Path, make: object) -> None:
    make(path)  # type: ignore[operator]
    with pytest.raises(UnusableStatusList, match=r"cannot read|status list"):
        read(path)


def test_a_file_that_every_user_can_change_is_not_used(path: Path) -> None:
    write(path, content("ab"), NOW)
    path.chmod(0o646)
    with pytest.raises(UnusableStatusList, match="every user can change it"):
        read(path)


def test_a_worker_reads_a_changed_file_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigil.android_status.reader.CHECK_SECONDS", 0)
    status = AndroidStatus(path)
    assert status.entries == of_release().entries
    assert status.is_old(NOW)

    write(path, content("ab"), NOW)
    asyncio.run(status.run_once())
    assert (status.revoked("ab"), status.is_old(NOW + 1), status.age(NOW + 60)) == (True, False, 60)

    # What is unusable, and a file that is gone, leave the list in use.
    path.write_text("{")
    asyncio.run(status.run_once())
    asyncio.run(status.run_once())
    path.unlink()
    asyncio.run(status.run_once())
    assert status.revoked("ab")

    write(path, content("cd", "ef"), NOW + 5)
    asyncio.run(status.run_once())
    assert (status.revoked("ab"), status.revoked("cd")) == (False, True)


def test_a_worker_uses_a_file_after_the_remedy_that_its_warning_names(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sigil.android_status.reader.CHECK_SECONDS", 0)
    write(path, content("ab"), NOW)
    path.chmod(0o646)
    status = AndroidStatus(path)
    asyncio.run(status.run_once())
    assert not status.revoked("ab")
    path.chmod(0o644)
    asyncio.run(status.run_once())
    assert status.revoked("ab")
    assert capfd.readouterr().out.count("android_status_unusable") == 1


def test_a_worker_reads_a_file_again_that_it_could_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sigil.android_status.reader.CHECK_SECONDS", 0)
    write(path, content("ab"), NOW)
    with monkeypatch.context() as hung:

        def late(*_: object) -> None:
            raise TimeoutError(110, "the file system does not respond")

        hung.setattr("sigil.serving.bounded.files.read", late)
        status = AndroidStatus(path)
        asyncio.run(status.run_once())
        assert not status.revoked("ab")
    # One line, however often it is tried.
    assert capfd.readouterr().out.count("android_status_unusable") == 1
    asyncio.run(status.run_once())
    assert status.revoked("ab")


def test_a_worker_that_starts_has_the_list_of_the_file(path: Path) -> None:
    write(path, content("ab"), NOW)
    assert AndroidStatus(path).revoked("ab")
    path.write_text("{")
    assert AndroidStatus(path).entries == of_release().entries
    assert AndroidStatus(None).entries == of_release().entries
