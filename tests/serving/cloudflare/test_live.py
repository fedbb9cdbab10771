"""Fetched ranges of Cloudflare in running servers: whose CF-Connecting-IP counts, and which workers are replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.cloudflare import lists_server as given
from tests.serving.cloudflare.lists_server import EMBEDDED_TEXT, ListsServer, lists_server
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay

NEW = "104.28.0.0/15"
EDGE = "104.28.7.7"
"""An address in the new range."""


@pytest.fixture
def lists(tmp_path: Path) -> Iterator[ListsServer]:
    with lists_server(tmp_path) as running:
        yield running


def settings(lists: ListsServer) -> dict[str, str]:
    return {
        "TRUSTED_PROXY_IP": "127.0.0.1",
        "USE_CF_CONNECTING_IP": "true",
        "TRUSTED_PROXY_RANGES_URL": lists.url,
        "SSL_CERT_FILE": str(lists.certificate),
    }


def events(server: LiveServer, *names: str) -> list[str]:
    return [line["event"] for line in server.log() if line["event"] in names]


def wait_for(server: LiveServer, event: str, count: int = 1) -> dict[str, Any]:
    wait_until(lambda: len(events(server, event)) >= count, event)
    return [line for line in server.log() if line["event"] == event][count - 1]


def attempts(server: LiveServer, client: str, count: int = 1) -> list[int]:
    """Failed requests of a client of Cloudflare, through its edge at EDGE and an own proxy on this host."""
    with server.client(headers={"X-Forwarded-For": EDGE, "CF-Connecting-IP": client}) as http:
        return [http.post("/device/pending", json={}).status_code for _ in range(count)]


def test_a_new_range_reaches_the_workers_and_its_clients_have_limits_of_their_own(lists: ListsServer) -> None:
    lists.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}")
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="60/min", **settings(lists)) as server:
        line = wait_for(server, "cloudflare_ranges")
        assert (line["changed"], line["added"], line["removed"], line["ranges"]) == (True, [NEW], [], 23)
        wait_for(server, "reload_finished")
        assert attempts(server, "192.0.2.1", 20)[-1] == 429
        assert attempts(server, "192.0.2.2") == [400]
        # A worker that dies is replaced by one with the same ranges.
        (worker,) = server.workers()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: server.workers() not in ([worker], []), "another worker")
        assert attempts(server, "192.0.2.1", 20)[-1] == 429
        assert attempts(server, "192.0.2.2") == [400]


def test_a_list_that_cannot_be_used_changes_nothing_and_delays_no_start(lists: ListsServer) -> None:
    lists.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}\n0.0.0.0/0")
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="60/min", **settings(lists)) as server:
        line = wait_for(server, "cloudflare_ranges_not_fetched")
        assert line["level"] == "warn"
        assert line["reason"] == "ips-v4 has the range 0.0.0.0/0, wider than /11"
        # All clients behind the address count as one.
        assert attempts(server, "192.0.2.1", 20)[-1] == 429
        assert attempts(server, "192.0.2.2") == [429]
        assert events(server, "reload_started") == []


def test_a_server_starts_and_stops_while_the_lists_hang(lists: ListsServer) -> None:
    lists.script = given.slow(lists.ended)
    with LiveServer(workers=1, **settings(lists)) as server:
        wait_until(lambda: lists.paths, "the request for the list")
        assert attempts(server, "192.0.2.1") == [400]
        (fetching,) = [pid for pid in children(server.pid) if b"fetch.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert server.stop() == 0
        assert not Path(f"/proc/{fetching}").exists()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_lists_without_news_replace_no_worker_and_sighup_fetches_at_once(lists: ListsServer) -> None:
    with LiveServer(workers=1, **settings(lists)) as server:
        assert wait_for(server, "cloudflare_ranges")["changed"] is False
        workers = server.workers()
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server, "cloudflare_ranges", 2)
        wait_for(server, "reload_finished")
        assert workers != server.workers()
        # The reload was that of SIGHUP. A second one would have begun with the answer, before this SIGHUP's.
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server, "reload_finished", 2)
        wait_for(server, "cloudflare_ranges", 3)
        assert len(events(server, "reload_started")) == 2


def test_new_ranges_do_not_hide_that_the_reload_of_files_failed(lists: ListsServer, tmp_path: Path) -> None:
    def successful(server: LiveServer) -> str:
        with server.client() as http:
            lines = http.get("/metrics").text.splitlines()
        return next(line.split()[1] for line in lines if line.startswith("sigil_last_reload_successful "))

    keys = tmp_path / "keys"
    keys.touch(0o600)
    good = "a-pre-set-key-of-more-than-32-characters"
    keys.write_text(good)
    with LiveServer(workers=1, METRICS_TOKEN="off", API_KEY_FILE=str(keys), **settings(lists)) as server:
        wait_for(server, "cloudflare_ranges")
        keys.write_text("no key")
        lists.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}")
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server, "reload_refused")
        wait_for(server, "reload_finished")
        assert successful(server) == "0.0"
        keys.write_text(good)
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server, "reload_finished", 2)
        assert successful(server) == "1.0"


def test_sighup_keeps_fetched_ranges_while_the_lists_are_unreachable(lists: ListsServer) -> None:
    lists.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}")
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="60/min", **settings(lists)) as server:
        wait_for(server, "reload_finished")
        lists.script = lambda handler: given.send(handler, b"", 503)
        os.kill(server.pid, signal.SIGHUP)
        wait_for(server, "reload_finished", 2)
        wait_for(server, "cloudflare_ranges_not_fetched")
        assert attempts(server, "192.0.2.1", 20)[-1] == 429
        assert attempts(server, "192.0.2.2") == [400]


def test_a_new_list_keeps_what_sighup_read(lists: ListsServer, tmp_path: Path) -> None:
    keys, added_key = tmp_path / "keys", "b" * 40
    keys.write_text("a" * 40)
    keys.chmod(0o600)
    lists.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}")
    limits = {"SIGIL_RATE_LIMIT": "60/min", "API_KEY_FILE": str(keys)}
    with LiveServer(workers=1, **limits, **settings(lists)) as server:
        wait_for(server, "reload_finished")
        keys.write_text(f"{'a' * 40},{added_key}")
        lists.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}\n104.30.0.0/15")
        os.kill(server.pid, signal.SIGHUP)
        # That of SIGHUP, then that of the new list.
        wait_for(server, "reload_finished", 3)
        with server.client(headers={"Authorization": f"Bearer {added_key}"}) as http:
            assert http.post("/challenge", json={}).status_code == 400
        assert attempts(server, "192.0.2.1", 20)[-1] == 429
        assert attempts(server, "192.0.2.2") == [400]


def test_the_relay_fetches_the_ranges_too(lists: ListsServer) -> None:
    lists.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}")
    with LiveRelay(**settings(lists)) as relay:
        wait_until(lambda: relay.events("reload_finished"), "the new worker")
        (line,) = relay.events("cloudflare_ranges")
        assert line["added"] == [NEW]
        with relay.client() as http:
            assert http.get("/health").status_code == 200


def test_nothing_is_fetched_unless_requests_come_through_cloudflare(lists: ListsServer) -> None:
    without = settings(lists) | {"USE_CF_CONNECTING_IP": "false"}
    with LiveServer(workers=1, **without) as server:
        warnings = [line["message"] for line in server.log() if line["event"] == "setting"]
        assert any("TRUSTED_PROXY_RANGES_URL has no effect" in message for message in warnings)
    with LiveServer(workers=1, **(settings(lists) | {"TRUSTED_PROXY_RANGES_URL": "off"})) as server:
        assert attempts(server, "192.0.2.1") == [400]
    assert lists.paths == []
