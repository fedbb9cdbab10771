"""Secrets of the environment are in the memory and the environment of no process, and processes are not dumpable."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigil.protocol.identity import generate_mnemonic
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")

OTHER_USER = 65534


def family(master: int) -> list[int]:
    lists = Path(f"/proc/{master}/task").glob("*/children")
    return [master, *(int(pid) for children in lists for pid in children.read_text().split())]


def memory(pid: int) -> Iterator[bytes]:
    """The writable memory of a process, without the session store and other shared files."""
    regions = [line.split(maxsplit=5) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for region in regions:
            if region[1].startswith("rw-p"):
                start, end = (int(edge, 16) for edge in region[0].split("-"))
                file.seek(start)
                try:
                    yield file.read(end - start)
                except OSError:
                    continue


def with_mnemonic_in_environment(**settings: str) -> LiveServer:
    server = LiveServer(workers=2, SIGIL_STORE_SIZE="16MiB", **settings)
    del server.environ["SIGIL_MNEMONIC_PATH"]
    server.environ["SIGIL_MNEMONIC"] = server.mnemonic
    return server


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of a process that is not dumpable")
@pytest.mark.parametrize("given", ["variable", "file"])
def test_the_words_are_in_the_memory_of_no_process(given: str) -> None:
    server = LiveServer(workers=2, SIGIL_STORE_SIZE="16MiB") if given == "file" else with_mnemonic_in_environment()
    words = server.mnemonic.split()
    sought = [" ".join(words[at : at + 3]).encode() for at in range(22)]
    with server:
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        processes = family(server.pid)
        assert set(server.workers()) < set(processes)
        for pid in processes:
            assert not any(form in Path(f"/proc/{pid}/environ").read_bytes() for form in sought), pid
            found = [form for part in memory(pid) for form in sought if form in part]
            assert found == [], f"{len(found)} times in {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the environment of a process that is not dumpable")
def test_no_secret_is_in_the_environment_of_any_process() -> None:
    token, key = "metrics-token-of-this-test", "a-preset-key-of-this-test-of-32-characters"
    with with_mnemonic_in_environment(METRICS_TOKEN=token, API_KEY=key) as server:
        for pid in family(server.pid):
            environ = Path(f"/proc/{pid}/environ").read_bytes()
            assert b"PATH=" in environ
            assert not any(secret.encode() in environ for secret in (token, key, server.mnemonic))
        with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
            assert client.get("/v1/auth/challenge/11111111-1111-4111-8111-111111111111/status").status_code == 404
    with LiveRelay(METRICS_TOKEN=token, TOKEN_ENCRYPTION_KEY=key) as relay:
        for pid in family(relay.pid):
            assert not any(secret.encode() in Path(f"/proc/{pid}/environ").read_bytes() for secret in (token, key))


def can_run_as(user: int) -> bool:
    command = [sys.executable, "-c", "import sigil.app.master"]
    try:
        return subprocess.run(command, check=False, capture_output=True, user=user, group=user).returncode == 0
    except OSError:
        return False


def test_no_process_is_dumpable_and_tls_is_served_all_the_same() -> None:
    """/proc/PID of such a process belongs to root, although another user runs it: that user may not trace it either.

    A worker opens its certificate as /proc/self/fd/N, which must still work.
    """
    server = LiveServer(workers=2, SIGIL_STORE_SIZE="16MiB", mnemonic=generate_mnemonic())
    user = os.geteuid()
    # Root may open anything, so another user shows more; but it may not be able to read this checkout.
    if user == 0 and can_run_as(OTHER_USER):
        user = server.user = OTHER_USER
        for path in (server.directory, *server.directory.iterdir()):
            shutil.chown(path, OTHER_USER, OTHER_USER)
    with server:
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        with server.client() as client:
            assert client.get("/info").json()["server_id"] == server.identity.server_id
        for pid in (server.pid, *server.workers()):
            status = Path(f"/proc/{pid}/status").read_text()
            assert f"\nUid:\t{user}\t" in status
            assert Path(f"/proc/{pid}/environ").stat().st_uid == 0, "dumpable"
            assert "\nCoreDumping:\t0\n" in status
            assert "Max core file size        0                    0 " in Path(f"/proc/{pid}/limits").read_text() or (
                os.geteuid() != 0
            )
