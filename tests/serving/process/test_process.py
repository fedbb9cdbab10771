"""The process model, tested against a real server in a subprocess."""

import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from sigil.serving.process.master import ServerLimits
from tests.serving.running import Running, alive, eventually, write_pair
from tests.support.ports import free_port

FAST = {"delays": [0, 0.01], "stable": 2, "deaths": 10, "window": 60}


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[list[str]]:
    """A certificate behind a symlink, as certbot and Kubernetes keep it."""
    (tmp_path / "live").symlink_to(write_pair(tmp_path / "first", "first"))
    return [str(tmp_path / "live" / "cert.pem"), str(tmp_path / "live" / "key.pem")]


def common_name(port: int) -> str:
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=60)
    return str(
        x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    )


def idle_h2(server: Running, open_clients: list[httpx.Client]) -> None:
    client = server.client(http2=True)
    open_clients.append(client)
    assert client.get(server.url()).http_version == "HTTP/2"


@pytest.fixture
def clients() -> Iterator[list[httpx.Client]]:
    open_clients: list[httpx.Client] = []
    yield open_clients
    for client in open_clients:
        client.close()


def test_serves_both_http_versions_over_tls_and_drains_with_an_idle_connection(
    tmp_path: Path, tls: list[str], clients: list[httpx.Client]
) -> None:
    with Running(tmp_path, tls=tls) as server:
        server.ready()
        assert server.get().http_version == "HTTP/1.1"
        for _ in range(4):
            idle_h2(server, clients)
        with ThreadPoolExecutor(4) as pool:
            polls = [pool.submit(server.get, "/poll", http2=i % 2 == 0) for i in range(4)]
            eventually(lambda: len(server.events("waiting")) == 4, "all polls with the application")
            code = server.terminate()
            answers = [poll.result() for poll in polls]
        assert [(a.status_code, a.text) for a in answers] == [(200, "draining=True")] * 4
        assert code == 0
        assert len(server.events("app_shutdown")) == 2
        assert server.events("stopped")[0]["exit_code"] == 0


def test_serves_plain_http_and_drains_at_ctrl_c(tmp_path: Path) -> None:
    with Running(tmp_path) as server:
        server.ready()
        assert server.get().text == "one"
        os.killpg(server.process.pid, signal.SIGINT)
        server.send(signal.SIGTERM)
        assert server.stopped() == 0
        assert "Traceback" not in server.text
        assert {pid for pid in server.pids if alive(pid)} == set()


def test_an_interrupt_while_workers_are_importing_stops_cleanly(tmp_path: Path) -> None:
    with Running(tmp_path) as server:
        eventually(lambda: server.events("server_starting"), "started")
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.stopped() == 0
        assert "Traceback" not in server.text


def test_a_request_that_never_ends_does_not_block_the_exit(tmp_path: Path) -> None:
    with Running(tmp_path, limits={"drain_timeout": 1}) as server, ThreadPoolExecutor(1) as pool:
        server.ready()
        hanging = pool.submit(server.get, "/hang")
        eventually(lambda: server.events("waiting"), "with the application")
        assert server.terminate() == 0
        assert len(server.events("app_shutdown")) == 2
        assert isinstance(hanging.exception(), httpx.TransportError)


def test_twelve_killed_workers_are_restarted(tmp_path: Path) -> None:
    with Running(tmp_path, crash=FAST) as server:
        for _ in range(12):
            victim = min(server.ready())
            os.kill(victim, signal.SIGKILL)
            eventually(lambda victim=victim: victim not in server.pids, "the marker of the dead worker is gone")
            assert server.get().text == "one"
        server.ready()
        assert len(server.events("worker_died")) == 12
        assert server.events("worker_died")[0]["exit"] == "SIGKILL"
        assert server.terminate() == 0


def test_workers_that_die_at_once_are_restarted(tmp_path: Path) -> None:
    with Running(tmp_path, workers=3, crash=FAST) as server:
        before = server.ready()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not before & server.pids, "the markers of the dead workers are gone")
        # The master owns the listening sockets: this request waits in a queue until a worker is back.
        assert server.get().text == "one"
        assert server.terminate() == 0


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 2>&-"])
def test_a_server_that_starts_without_standard_descriptors_serves(tmp_path: Path, closed: str) -> None:
    with Running(tmp_path, setup=f"exec {closed}") as server:
        server.ready()
        for _ in range(10):
            assert server.get(timeout=5).text == "one"
        assert server.terminate() == 0
        assert not server.events("worker_died")


def test_sigterm_takes_effect_during_the_delay_before_a_restart(tmp_path: Path) -> None:
    with Running(tmp_path, workers=1, crash={**FAST, "delays": [600]}) as server:
        os.kill(min(server.ready()), signal.SIGKILL)
        eventually(lambda: server.events("worker_died"), "death seen")
        assert server.terminate() == 0


@pytest.mark.parametrize("broken", ["startup", "factory"])
def test_gives_up_when_no_worker_ever_becomes_ready(tmp_path: Path, broken: str) -> None:
    (tmp_path / "settings.json").write_text(f'{{"broken": "{broken}"}}')
    with Running(tmp_path, crash={**FAST, "deaths": 4}) as server:
        assert server.stopped() == 1
        assert len(server.events("server_gave_up")) == 1
        assert "sgk_live" not in server.text
        assert "Traceback" not in server.text
        assert any("tiny_service.py" in e["location"] for e in map(located, server.text.splitlines()) if e)


def located(line: str) -> dict[str, str] | None:
    fields: dict[str, str] = json.loads(line)
    return fields if "location" in fields else None


def test_workers_die_with_a_killed_master(tmp_path: Path) -> None:
    with Running(tmp_path) as server:
        server.ready()
        spawned = server.spawned
        server.process.kill()
        eventually(lambda: not any(map(alive, spawned)), "no process left")


def test_workers_that_are_importing_die_with_a_killed_master(tmp_path: Path) -> None:
    with Running(tmp_path) as server:
        spawned = eventually(lambda: len(server.spawned) == 3 and server.spawned, "two workers and the tracker")
        server.process.kill()
        eventually(lambda: not any(map(alive, spawned)), "no process left")


def test_a_reload_replaces_certificate_and_settings_without_a_failed_request(tmp_path: Path, tls: list[str]) -> None:
    # Long enough for clients on a very busy machine.
    with Running(tmp_path, tls=tls, limits={"linger": 3}) as server:
        before = server.ready()
        load = Load(server)
        eventually(lambda: load.answers, "an answer with the old settings")
        repoint(tmp_path, "second")
        server.configure({"greeting": "two"})
        server.send(signal.SIGHUP)
        eventually(lambda: server.events("reload_started"), "reload started")
        # A key that is revoked during a reload must not stay valid until another event wakes the master.
        server.send(signal.SIGHUP)
        eventually(lambda: len(server.events("reload_finished")) == 2, "both reloads")
        after = server.ready()
        eventually(lambda: load.answers[-1] == (200, "two"), "an answer with the new settings")
        load.stop()
        assert not before & after
        assert common_name(server.port) == "second"
        assert server.get().text == "two"
        assert set(load.answers) == {(200, "one"), (200, "two")}
        assert load.resets == []
        os.kill(min(after), signal.SIGKILL)
        assert all(server.get().text == "two" for _ in range(5))
        assert server.terminate() == 0


def repoint(folder: Path, name: str) -> None:
    (folder / "next").symlink_to(write_pair(folder / name, name))
    (folder / "next").rename(folder / "live")


class Load:
    """Requests in two threads, on persistent and on new connections, until stopped."""

    def __init__(self, server: Running) -> None:
        self.server, self.stopped = server, threading.Event()
        self.pool = ThreadPoolExecutor(2)
        self.answers: list[tuple[int, str]] = []
        self.resets: list[httpx.TransportError] = []
        self.results = [self.pool.submit(self.run, persistent) for persistent in (True, False)]

    def run(self, persistent: bool) -> None:
        with self.server.client() as client:
            while not self.stopped.is_set():
                try:
                    answer = client.get(self.server.url(), headers={} if persistent else {"connection": "close"})
                except httpx.TransportError as reset:
                    self.resets.append(reset)
                else:
                    self.answers.append((answer.status_code, answer.text))

    def stop(self) -> None:
        self.stopped.set()
        for result in self.results:
            result.result(60)
        self.pool.shutdown()


def test_a_failed_reload_changes_nothing(tmp_path: Path, tls: list[str]) -> None:
    with Running(tmp_path, tls=tls) as server:
        before = server.ready()
        server.configure({"refuse": True})
        server.send(signal.SIGHUP)
        eventually(lambda: len(server.events("reload_refused")) == 1, "failed for its settings")
        server.configure({"greeting": "two"})
        (tmp_path / "first" / "key.pem").write_text("not a key")
        server.send(signal.SIGHUP)
        eventually(lambda: len(server.events("reload_refused")) == 2, "failed for its key")
        assert server.events("reload_refused")[0]["reason"] == "GREETING is not polite"
        assert all("old values stay in use" in event["message"] for event in server.events("reload_refused"))
        assert server.ready() == before
        # The restart uses memory: the files are broken, and the old settings are not on disk.
        os.kill(min(before), signal.SIGKILL)
        eventually(lambda: server.ready() != before, "a new worker")
        assert {server.get().text for _ in range(8)} == {"one"}
        assert server.terminate() == 0


def test_a_worker_has_two_minutes_to_become_ready() -> None:
    """At a load of 20 on two cores, workers were killed after 30 s while they still imported."""
    assert ServerLimits().ready_timeout == 120


@pytest.mark.parametrize("broken", ["startup", "hang"])
def test_a_reload_whose_workers_do_not_become_ready_keeps_the_old_ones(tmp_path: Path, broken: str) -> None:
    with Running(tmp_path, limits={"ready_timeout": 4}) as server:
        before = server.ready()
        server.configure({"broken": broken})
        server.send(signal.SIGHUP)
        eventually(lambda: server.events("reload_refused"), "refused")
        assert server.ready() == before
        assert server.get().text == "one"
        assert server.terminate() == 0


def test_workers_killed_during_a_reload_and_sigterm_during_a_reload(tmp_path: Path) -> None:
    with Running(tmp_path, crash=FAST) as server:
        before = server.ready()
        server.send(signal.SIGHUP)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.events("reload_finished"), "reload finished")
        server.ready()
        server.send(signal.SIGHUP)
        eventually(lambda: len(server.events("reload_started")) == 2, "second reload")
        assert server.terminate() == 0
        # The end of the server is no fault of the new worker.
        assert not server.events("reload_refused")


def test_a_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    port = free_port()
    with socket.socket() as other:
        # Granian binds like this: the kernel would let a second server bind the port.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with Running(tmp_path, port=port) as server:
            assert server.stopped() == 1
            assert server.text == (
                f"error: cannot listen on 127.0.0.1 port {port}: Address already in use; "
                "stop that program, or set PORT to another port\n"
            )


def test_a_missing_key_is_reported_in_one_line(tmp_path: Path, tls: list[str]) -> None:
    (tmp_path / "first" / "key.pem").unlink()
    with Running(tmp_path, tls=tls) as server:
        assert server.stopped() == 1
        assert server.text == f"error: TLS: cannot read {tls[1]}: No such file or directory\n"


def test_a_worker_that_exits_and_one_that_is_terminated_are_replaced(tmp_path: Path) -> None:
    with Running(tmp_path, crash=FAST) as server:
        server.ready()
        with pytest.raises(httpx.TransportError):
            server.get("/die")
        os.kill(min(server.ready()), signal.SIGTERM)
        eventually(lambda: {e["exit"] for e in server.events("worker_died")} == {7, 0}, "both deaths")
        server.ready()
        assert server.terminate() == 0


def test_a_worker_that_is_terminated_just_before_it_serves_ends(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"broken": "SIGTERM between two runs of the loop"}')
    with Running(tmp_path, workers=1, crash={**FAST, "delays": [600]}) as server:
        # uvloop loses a signal that arrives while it does not run.
        assert eventually(lambda: server.events("worker_died"), "ended")[0]["exit"] == 0
        assert len(server.events("app_shutdown")) == 1
