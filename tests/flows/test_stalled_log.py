"""Whole servers whose log has a reader that stalls: standard output and standard error are a pipe, as under Docker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from sigil.device import Device
from tests.flows.backend import ACTION
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def stalled(log_path: Path) -> Iterator[Callable[[], list[str]]]:
    """A pipe at the path of a log, without a reader until the function is called; it returns the events read so far."""
    os.mkfifo(log_path)
    fd = os.open(log_path, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(fd, True)
    data, threads = bytearray(), list[threading.Thread]()

    def read_on() -> None:
        while chunk := os.read(fd, 65536):
            data.extend(chunk)

    def read() -> list[str]:
        if not threads:
            threads.append(threading.Thread(target=read_on, daemon=True))
            threads[0].start()
        # The last part is empty, or not yet whole.
        return [json.loads(line)["event"] for line in bytes(data).split(b"\n")[:-1]]

    yield read


def dropped(client: httpx.Client, service: str) -> float:
    found = re.search(rf"^{service}_log_lines_dropped_total (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def test_a_stalled_log_delays_no_challenge_and_its_dropped_lines_are_counted_and_reported() -> None:
    server = LiveServer(workers=1, SIGIL_RATE_LIMIT="off", SIGIL_DEVICE_RATE="off")
    body = {"device_public_key": Device.generate().wire_key, "action": ACTION}
    with stalled(server.log_path) as read, server, server.authorised() as client:
        # A few hundred bytes of log each: more than the pipe and the queue of the worker take.
        while not dropped(client, "sigil"):
            for _ in range(200):
                created = client.post("/challenge", json=body)
                assert created.status_code == 201
                challenge = created.json()["challenge_id"]
                assert client.delete(f"/v1/auth/challenge/{challenge}").status_code == 200
        wait_until(lambda: "log_lines_dropped" in read(), "dropped lines are reported")
        assert server.stop() == 0
        wait_until(lambda: "stopped" in read(), "the end of the log")


def full_pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 512)
    os.set_blocking(writing, True)
    return reading, writing


def test_a_relay_whose_log_takes_no_line_serves_and_stops() -> None:
    relay = LiveRelay()
    reading, writing = full_pipe()
    command = [sys.executable, "-m", "relay", "serve"]
    process = subprocess.Popen(command, env=relay.environ, stdout=writing, stderr=writing, cwd=ROOT)
    os.close(writing)

    def answers() -> bool:
        assert process.poll() is None
        with contextlib.suppress(httpx.TransportError):
            return client.get("/health").status_code == 200
        return False

    try:
        with relay.client() as client:
            wait_until(answers, "the relay to answer /health")
            assert dropped(client, "relay") == 0
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(reading)
        shutil.rmtree(relay.directory, ignore_errors=True)
