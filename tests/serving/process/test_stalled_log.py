"""A server whose log has a reader that stalls."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.running import Running, eventually


class Reader(threading.Thread):
    """Reads a pipe from now on, to its end."""

    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True)
        self.fd = fd
        self.data = b""
        self.start()

    def run(self) -> None:
        while chunk := os.read(self.fd, 65536):
            self.data += chunk

    def events(self, name: str) -> list[dict[str, Any]]:
        """Every line must be whole."""
        lines = [json.loads(line) for line in self.data.splitlines(keepends=True) if line.endswith(b"\n")]
        return [line for line in lines if line["event"] == name]


def test_a_stalled_reader_stops_neither_requests_nor_restarts_nor_the_exit(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with Running(tmp_path, stdout=writing) as server:
        os.close(writing)
        server.ready()
        # 100 KB each; the pipe takes 64 KiB.
        for _ in range(20):
            assert server.get("/log").text == "one"
        victim = min(server.pids)
        os.kill(victim, 9)
        eventually(lambda: victim not in server.ready(), "the master replaces a worker", 60)
        reader = Reader(reading)
        dropped = eventually(lambda: reader.events("log_lines_dropped"), "dropped lines are reported", 60)
        assert dropped[0]["count"] > 0
        assert server.get("/").text == "one"
        assert server.terminate() == 0
        reader.join(60)
        assert reader.events("stopped")


def test_a_server_whose_reader_never_reads_exits_in_time(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with Running(tmp_path, stdout=writing) as server:
        os.close(writing)
        server.ready()
        for _ in range(10):
            assert server.get("/log").text == "one"
        began = time.monotonic()
        assert server.terminate() == 0
        # The drain takes 3 s here, and each process waits half a second for its reader.
        assert time.monotonic() - began < 60
    os.close(reading)


def test_a_stalled_reader_of_standard_error_stops_no_request(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with Running(tmp_path, stdout=writing, stderr=writing) as server:
        os.close(writing)
        server.ready()
        for _ in range(10):
            assert server.get("/errors").text == "one"
        assert server.terminate() == 0
    os.close(reading)


def test_the_last_words_of_a_dead_worker_are_in_the_log_without_the_message_of_an_exception(tmp_path: Path) -> None:
    with Running(tmp_path) as server:
        server.ready()
        with pytest.raises(httpx.TransportError):
            server.get("/abort")
        died = eventually(lambda: server.events("worker_died"), "the death is logged", 60)
        lines = server.events("worker_stderr")
        assert [line["message"] for line in lines] == ["Traceback (most recent call last):", "ValueError", "last words"]
        assert {line["pid"] for line in lines} == {died[0]["pid"]}
        assert server.terminate() == 0
