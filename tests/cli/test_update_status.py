"""`sigil attest update-status`: from a file and from an address, and what it does not write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sigil.android_status.list_file import read
from sigil.cli.commands import sigil
from tests.serving.cloudflare.lists_server import ListsServer, lists_server, send

OLD = 1_600_000_000


def content(count: int) -> bytes:
    return json.dumps({"entries": {f"a{n:x}": {"status": "REVOKED"} for n in range(count)}}).encode()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "list" / "status.json"
    path.parent.mkdir()
    for name in os.environ:
        if name.startswith("SIGIL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SIGIL_ANDROID_STATUS_PATH", str(path))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListsServer]:
    with lists_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def update(*arguments: str) -> Result:
    return CliRunner().invoke(sigil, ["attest", "update-status", *arguments])


def test_a_file_is_written_with_its_own_time(path: Path, tmp_path: Path) -> None:
    given = tmp_path / "given.json"
    given.write_bytes(content(5))
    done = update("--from", str(given))
    assert (done.exit_code, done.stdout) == (0, f"{path}: 5 entries\n")
    given.write_bytes(content(6))
    os.utime(given, (OLD, OLD))
    done = update("--from", str(given))
    assert done.stdout == f"{path}: 6 entries, 5 before\n"
    assert "older than 30 days" in done.stderr
    found = read(path)
    assert found is not None
    assert (found.entries, found.known_at) == (6, OLD)


def test_an_address_is_fetched(path: Path, server: ListsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
    server.script = lambda handler: send(handler, content(7))
    assert update("--from", f"{server.url}/status").stdout == f"{path}: 7 entries\n"
    monkeypatch.setenv("SIGIL_ANDROID_STATUS_FETCH", f"{server.url}/mirror")
    assert update().stdout == f"{path}: 7 entries, 7 before\n"
    assert server.paths[-1] == "/mirror"
    server.script = lambda handler: send(handler, b"", 503)
    done = update()
    assert done.exit_code == 1
    assert done.stderr == f"sigil: cannot fetch {server.url}/mirror: status 503; or pass a file with --from\n"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"<html>", "the status list is not used: it is not a status list in JSON"),
        (content(2), "the status list is not used: it has 2 entries, and the list in use has 5; --force writes it "),
    ],
)
def test_a_list_that_cannot_be_used_is_not_written(path: Path, tmp_path: Path, given: bytes, reason: str) -> None:
    path.write_bytes(content(5))
    file = tmp_path / "given.json"
    file.write_bytes(given)
    done = update("--from", str(file))
    assert done.exit_code == 1
    assert done.stderr.startswith(f"sigil: {reason}")
    assert path.read_bytes() == content(5)


def test_force_writes_a_smaller_list_and_no_other_content(path: Path, tmp_path: Path) -> None:
    path.write_bytes(content(5))
    file = tmp_path / "given.json"
    file.write_bytes(content(2))
    assert update("--from", str(file), "--force").stdout == f"{path}: 2 entries, 5 before\n"
    file.write_bytes(b"{}")
    assert update("--from", str(file), "--force").exit_code == 1
    assert path.read_bytes() == content(2)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("/nonexistent", "cannot read /nonexistent"),
        ("http://localhost/status", "--from: must be an https URL"),
        ("ftp://localhost/", "--from: must be an https URL"),
    ],
)
def test_a_source_that_cannot_be_used_is_one_line(path: Path, source: str, line: str) -> None:
    done = update("--from", source)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"sigil: {line}")
    assert done.stderr.count("\n") == 1


def test_without_a_path_the_setting_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIGIL_ANDROID_STATUS_PATH")
    done = update("--from", str(path))
    assert (done.exit_code, done.stderr.count("SIGIL_ANDROID_STATUS_PATH")) == (1, 1)


def test_a_folder_that_does_not_exist_is_named(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGIL_ANDROID_STATUS_PATH", str(tmp_path / "none" / "status.json"))
    given = tmp_path / "given.json"
    given.write_bytes(content(5))
    done = update("--from", str(given))
    assert done.exit_code == 1
    assert "cannot write" in done.stderr
