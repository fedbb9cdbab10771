"""Runs a server on a tmpfs of its own and fills that tmpfs: `python -m tests.store.full_tmpfs FOLDER before|after`.

It runs in a mount namespace of its own and prints one JSON object.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx

from sigil.device import Device
from tests.support.live import LiveServer, wait_until

CHALLENGES = 600


def fill(folder: Path) -> int:
    """Writes until the file system is full; the bytes that it took."""
    file, written = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 0
    try:
        while True:
            written += os.write(file, bytes(4096))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(file)
    return written


def create(server: LiveServer) -> dict[str, int]:
    """Challenges whose rows need pages that the store has not used before; their statuses."""
    statuses: dict[str, int] = {}
    action = {"type": "t", "description": "d", "params": {"x": "x" * 1900}}
    with server.authorised() as client:
        client.timeout = httpx.Timeout(20)
        for _ in range(CHALLENGES):
            body = {"device_public_key": Device.generate().wire_key, "action": action}
            try:
                status = str(client.post("/challenge", json=body).status_code)
            except httpx.HTTPError as error:
                status = type(error).__name__
            statuses[status] = statuses.get(status, 0) + 1
            if status != "201":
                break
    return statuses


def report(found: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")


def main(folder: Path, when: str) -> int:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=0700", "tmpfs", str(folder)], check=True)
    server = LiveServer(workers=2, SIGIL_STORE_SIZE="16MiB", SIGIL_STATE_DIR=str(folder / "state"))
    server.state = folder / "state"
    if when == "before":
        (folder / "state").mkdir(0o700)
        os.posix_fallocate(os.open(folder / "filler", os.O_WRONLY | os.O_CREAT, 0o600), 0, 36 << 20)
        command = [sys.executable, "-m", "sigil", "serve"]
        done = subprocess.run(command, env=server.environ, check=False, capture_output=True, text=True, timeout=60)
        report({"exit": done.returncode, "output": done.stdout + done.stderr})
        return 0
    with server:
        workers = wait_until(lambda: (ready := server.workers())[1:] and ready, "both workers")
        filled = fill(folder)
        statuses = create(server)
        with server.client() as client:
            scraped = client.get("/metrics").status_code
        deaths = [line for line in server.log() if line["event"] == "worker_died"]
        same = server.workers() == workers
        replaced = replace_worker(server, folder, workers)
    found = {"filled": filled, "statuses": statuses, "deaths": deaths, "same": same, "metrics": scraped}
    report(found | {"replaced": replaced})
    return 0


def replace_worker(server: LiveServer, folder: Path, workers: list[int]) -> bool:
    """Whether a new worker starts for one that is killed, while others take each byte that becomes free."""
    done = threading.Event()

    def keep_full() -> None:
        while not done.is_set():
            fill(folder)

    filler = threading.Thread(target=keep_full)
    filler.start()
    try:
        os.kill(workers[0], signal.SIGKILL)
        wait_until(lambda: workers[0] not in server.workers(), "the death of the worker")
        with server.client() as client:
            client.timeout = httpx.Timeout(20)
            client.get("/metrics")
        wait_until(lambda: len(server.workers()) == len(workers), "another worker", 60)
    except (AssertionError, httpx.HTTPError):
        return False
    finally:
        done.set()
        filler.join()
    return True


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
