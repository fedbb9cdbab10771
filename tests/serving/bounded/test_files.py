"""Files of settings that are no files, or lie where nothing responds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sigil.serving.bounded import files
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.tls_pair import TlsPair
from tests.serving.running import ROOT, write_pair
from tests.support.hung_mount import can_mount, hung_mount
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay

needs_fuse = pytest.mark.skipif(not can_mount(), reason="needs root and FUSE")
KEY = "a-preset-key-of-this-test-of-32-characters"


def test_a_regular_file_has_a_bound_of_size(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    file.chmod(0o640)
    assert files.read(file) == (0o640, b"x" * 100)
    assert files.read(file, 10).data == b"x" * 11


@pytest.mark.parametrize("kind", ["pipe", "open pipe", "directory", "socket", "zeros", "terminal", "missing"])
def test_every_other_kind_ends_in_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    held = -1
    if "pipe" in kind:
        os.mkfifo(path)
        held = os.open(path, os.O_RDWR) if kind == "open pipe" else -1
    elif kind == "directory":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
        assert len(files.read(path, 10).data) == 11
        return
    elif kind == "terminal":
        path.symlink_to(os.ttyname(held := os.openpty()[1]))
    with pytest.raises(OSError, match=str(path)) as raised:
        files.read(path, pipe_seconds=0.1)
    assert raised.value.strerror
    if held >= 0:
        os.close(held)


def test_a_file_system_that_does_not_respond_holds_one_thread_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOUNT_SECONDS", 0.05)
    go, dropped = threading.Event(), []
    before = threading.active_count()
    for _ in range(5):
        with pytest.raises(TimeoutError, match="its file system has not responded") as raised:
            files.within_mount_time("read", tmp_path, lambda: go.wait(60), dropped.append)
        assert raised.value.filename == str(tmp_path)
    assert threading.active_count() == before + 1
    go.set()
    monkeypatch.setattr(files, "MOUNT_SECONDS", 60)
    assert files.within_mount_time("read", tmp_path, lambda: "new", dropped.append) == "new"
    assert dropped == [True]


def test_a_certificate_that_is_a_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "RELOAD_PIPE_SECONDS", 0.1)
    folder = write_pair(tmp_path / "tls", "sigil.example.com")
    key = folder / "key.pem"
    key.unlink()
    os.mkfifo(key)
    held = os.open(key, os.O_RDWR)
    with pytest.raises(StartupError, match=f"TLS: cannot read {key}: a pipe without data for 0 s: use a file"):
        TlsPair(folder / "cert.pem", key)
    os.close(held)


def refused(log: LiveServer | LiveRelay) -> str:
    line = wait_until(lambda: lines(log, "reload_refused"), "the line that refuses the reload")[0]
    return str(line["reason"])


def lines(log: LiveServer | LiveRelay, event: str) -> list[dict[str, object]]:
    text = log.log_path.read_text().splitlines()
    return [line for line in map(json.loads, text) if line["event"] == event]


def put_key(folder: Path) -> Path:
    folder.mkdir()
    key = folder / "keys"
    key.touch(0o600)
    key.write_text(KEY)
    return key


def test_a_reload_that_waits_for_a_pipe_stops_neither_restarts_nor_the_drain(tmp_path: Path) -> None:
    key = put_key(tmp_path / "secrets")
    with LiveServer(workers=1, SIGIL_STORE_SIZE="16MiB", API_KEY_FILE=str(key)) as server:
        key.unlink()
        os.mkfifo(key, 0o600)
        held = os.open(key, os.O_RDWR)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: lines(server, "reload_started"), "the reload")
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_until(lambda: lines(server, "worker_respawned"), "a new worker")
        # Both happened while the reload waited: it takes ten seconds from its start.
        assert "a pipe without data for 10 s: use a file" in refused(server)
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: len(lines(server, "reload_started")) == 2, "another reload")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 60
        assert len(lines(server, "reload_refused")) == 1
        os.close(held)


@needs_fuse
@pytest.mark.parametrize("what", ["keys", "certificate"])
def test_a_reload_from_a_mount_that_hangs_is_refused_with_the_name_of_the_file(tmp_path: Path, what: str) -> None:
    key = put_key(tmp_path / "secrets")
    with LiveServer(workers=1, SIGIL_STORE_SIZE="16MiB", API_KEY_FILE=str(key)) as server:
        hung = key.parent if what == "keys" else server.certificate.parent
        name = key if what == "keys" else server.certificate
        with server.client() as client:
            with hung_mount(hung):
                os.kill(server.pid, signal.SIGHUP)
                wait_until(lambda: lines(server, "reload_started"), "the reload")
                os.kill(server.workers()[0], signal.SIGKILL)
                wait_until(lambda: lines(server, "worker_respawned"), "a new worker")
                reason = refused(server)
                assert f"cannot read {name}: its file system has not responded for 10 s" in reason
                assert client.get("/health").status_code == 200
            # The mount responds again, and so does the reload.
            os.kill(server.pid, signal.SIGHUP)
            wait_until(lambda: lines(server, "reload_finished"), "the next reload")


@needs_fuse
def test_a_relay_reloads_nothing_from_a_mount_that_hangs(tmp_path: Path) -> None:
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "servers").touch(0o600)
    settings = {"RELAY_TRUSTED_SERVERS_FILE": str(folder / "servers"), "RELAY_TRUST_ON_FIRST_USE": "true"}
    with LiveRelay(**settings) as relay, hung_mount(folder):
        os.kill(relay.pid, signal.SIGHUP)
        assert f"cannot read {folder / 'servers'}: its file system has not responded" in refused(relay)
        assert relay.stop() == 0


@needs_fuse
@pytest.mark.parametrize("command", ["serve", "check-config"])
def test_a_start_from_a_mount_that_hangs_is_one_line(tmp_path: Path, command: str) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    with hung_mount(folder):
        done = subprocess.run(
            [sys.executable, "-m", "sigil", command],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "SIGIL_MNEMONIC_PATH": str(folder / "mnemonic")},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "mnemonic" in line]
    assert f"cannot read {folder / 'mnemonic'}: its file system has not responded for 10 s" in line
    assert "Traceback" not in done.stderr
