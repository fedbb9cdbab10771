"""Workers that hang, that die again and again, and that never serve, against a real server in a subprocess."""

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.serving.running import Running, eventually

LIMITS = {"hang_timeout": 3}


def answered(server: Running) -> bool:
    """One request on a connection of its own; the kernel chooses the worker by the port of the client."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as client:
        client.settimeout(1)
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return client.recv(4096).startswith(b"HTTP/1.1 200")


def all_answered(server: Running) -> bool:
    return all(answered(server) for _ in range(30))


def test_a_stopped_worker_is_killed_and_replaced(tmp_path: Path) -> None:
    with Running(tmp_path, limits=LIMITS) as server:
        victim = min(server.ready())
        os.kill(victim, signal.SIGSTOP)
        (killed,) = eventually(lambda: server.events("worker_killed"), "the stopped worker is killed", 60)
        assert (killed["pid"], killed["reason"]) == (victim, "its event loop did not respond")
        eventually(lambda: all_answered(server), "all requests are served again", 60)
        assert victim not in server.ready()
        assert server.terminate() == 0


def test_a_worker_whose_event_loop_spins_is_killed_and_replaced(tmp_path: Path) -> None:
    with Running(tmp_path, limits=LIMITS) as server:
        server.ready()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /spin HTTP/1.1\r\nHost: localhost\r\n\r\n")
            eventually(lambda: server.events("worker_killed"), "the spinning worker is killed", 90)
        eventually(lambda: all_answered(server), "all requests are served again", 60)
        assert server.terminate() == 0


def test_all_workers_stopped_at_once_are_replaced(tmp_path: Path) -> None:
    with Running(tmp_path, limits=LIMITS, workers=3) as server:
        victims = server.ready()
        for pid in victims:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: {e["pid"] for e in server.events("worker_killed")} == victims, "all are killed", 60)
        eventually(lambda: all_answered(server), "all requests are served again", 60)
        assert server.terminate() == 0


def test_a_server_that_is_suspended_as_a_whole_kills_no_worker(tmp_path: Path) -> None:
    with Running(tmp_path, limits=LIMITS) as server:
        before = server.ready()
        os.killpg(server.process.pid, signal.SIGSTOP)
        time.sleep(2 * LIMITS["hang_timeout"])
        os.killpg(server.process.pid, signal.SIGCONT)
        # Longer than two checks of the master.
        until = time.monotonic() + 3
        eventually(lambda: time.monotonic() > until and all_answered(server), "requests are served", 60)
        assert server.events("worker_killed") == []
        assert server.ready() == before
        assert server.terminate() == 0


def test_a_worker_that_stops_while_it_drains_does_not_delay_the_exit(tmp_path: Path) -> None:
    with Running(tmp_path, limits={**LIMITS, "kill_timeout": 2}) as server:
        victim = min(server.ready())
        os.kill(victim, signal.SIGSTOP)
        assert server.terminate() == 1
        assert [event["reason"] for event in server.events("worker_killed")] == ["did not drain in time"]


def test_a_worker_is_ready_only_when_it_serves(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"broken": "serving"}')
    with Running(tmp_path, crash={"delays": [0, 0.01], "deaths": 4}) as server:
        assert server.stopped() == 1
        assert server.events("worker_ready") == []
        assert server.events("server_gave_up")[0]["reason"] == "no worker became ready"


def test_a_worker_that_dies_again_and_again_after_it_was_ready_ends_the_server(tmp_path: Path) -> None:
    crash = {"delays": [0, 0.5], "restarts": 4, "restart_window": 600}
    with Running(tmp_path, workers=1, crash=crash) as server:
        for deaths in range(1, 5):
            (pid,) = server.ready()
            os.kill(pid, signal.SIGKILL)
            eventually(lambda deaths=deaths: len(server.events("worker_died")) == deaths, "the death is seen")
        assert server.stopped() == 1
        (event,) = server.events("server_gave_up")
        assert (event["reason"], event["deaths"]) == ("a worker died again and again", 4)


def test_restarts_of_a_worker_that_was_ready_back_off(tmp_path: Path) -> None:
    with Running(tmp_path, workers=1, crash={"delays": [0, 0, 600]}) as server:
        for _ in range(3):
            (pid,) = server.ready()
            # Longer than the two seconds after which a life once counted as stable.
            time.sleep(2.5)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda pid=pid: pid not in server.pids, "the death is seen")
        with pytest.raises(AssertionError):
            eventually(lambda: len(server.events("worker_respawned")) == 3, "a third restart", 2)
        assert server.terminate() == 0


def test_a_server_without_a_ready_worker_gives_up(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"broken": "hang"}')
    with Running(tmp_path, workers=1, crash={"unserved": 3}) as server:
        assert server.stopped() == 1
        assert server.events("server_gave_up")[0]["reason"] == "no worker was ready"
