"""Whole servers whose worker hangs, also while it holds the write lock of the session store."""

from __future__ import annotations

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from sigil.device import Device
from tests.flows.backend import ACTION
from tests.support import hung_writer
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay

UNRESPONSIVE = "its event loop did not respond"


def create(server: LiveServer, seconds: float) -> int:
    """The status of one `POST /challenge` on a connection of its own; 0 without an answer."""
    body = {"device_public_key": Device.generate("ES256").wire_key, "action": ACTION}
    try:
        with server.authorised() as client:
            return client.post("/challenge", json=body, timeout=seconds).status_code
    except httpx.TransportError:
        return 0


def health(client: httpx.Client) -> httpx.Response | None:
    try:
        return client.get("/health", timeout=1, headers={"Connection": "close"})
    except httpx.TransportError:
        return None


def is_stopped(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def restarts(client: httpx.Client, service: str, reason: str) -> float:
    found = re.search(
        rf'^{service}_worker_restarts_total{{reason="{reason}"}} (\S+)$', client.get("/metrics").text, re.M
    )
    assert found
    return float(found[1])


def test_a_worker_that_stops_with_the_write_lock_is_killed_before_those_that_wait_for_it(tmp_path: Path) -> None:
    with (
        LiveServer(workers=3, **hung_writer.settings(tmp_path)) as server,
        server.client() as client,
        ThreadPoolExecutor(12) as pool,
    ):
        hung_writer.stop_next_writer(tmp_path)
        # One request: a second one would make another worker wait for the lock, and the third would soon follow.
        pool.submit(create, server, 120)
        victim = wait_until(lambda: hung_writer.stopped(tmp_path), "a stopped writer")

        def unhealthy() -> str | None:
            answer = health(client)
            return answer.json()["details"]["reason"] if answer is not None and answer.status_code == 503 else None

        # The other workers answer /health, which does not wait for the lock.
        assert "holds the session store" in wait_until(unhealthy, "/health reports the hung store")
        # These requests make the other workers wait for the lock: from now on, all workers hang.
        answers = list(pool.map(lambda _: create(server, 120), range(24)))
        assert answers == [201] * 24
        killed = [line for line in server.log() if line["event"] == "worker_killed"]
        assert [(line["pid"], line["reason"], line["held_store_lock"]) for line in killed] == [
            (victim, UNRESPONSIVE, True)
        ]
        assert client.get("/health").status_code == 200
        assert restarts(client, "sigil", "hung") == 1


def test_a_stopped_worker_of_the_relay_is_killed_and_replaced() -> None:
    with LiveRelay() as relay, relay.client() as client:
        (ready,) = relay.events("worker_ready")
        os.kill(ready["pid"], signal.SIGSTOP)
        # Until each thread has stopped, it may still accept the connection, which ends with it then.
        threads = Path(f"/proc/{ready['pid']}/task")
        wait_until(lambda: all(map(is_stopped, threads.iterdir())), "a stopped worker")
        # It waits in the queue of the listening socket, which the next worker inherits.
        assert client.get("/health").status_code == 200
        (killed,) = relay.events("worker_killed")
        assert (killed["pid"], killed["reason"]) == (ready["pid"], UNRESPONSIVE)
        assert restarts(client, "relay", "hung") == 1
