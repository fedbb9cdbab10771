"""The fetch of Cloudflare's lists from a real https server, by the process that the master starts for it."""

from __future__ import annotations

import ipaddress
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sigil.serving import logs
from sigil.serving.addresses.proxies import Proxies
from sigil.serving.cloudflare.feed import CloudflareFeed, Times, feed_for
from sigil.serving.cloudflare.ranges import EMBEDDED
from tests.serving.cloudflare import lists_server as given
from tests.serving.cloudflare.lists_server import EMBEDDED_TEXT, ListsServer, Script, lists_server
from tests.serving.running import write_pair

DAY = 86_400
DEFAULT = Times()
NEW = "104.28.0.0/15"


@dataclass(frozen=True)
class Config:
    proxies: Proxies = field(default_factory=lambda: Proxies(cloudflare=EMBEDDED, lists_url="https://localhost"))


@dataclass(frozen=True)
class Settings:
    config: Config = Config()


class Log:
    """The lines that the feed wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[dict[str, Any]] = []
        for name in ("info", "warn"):
            monkeypatch.setattr(logs, name, lambda event, **fields: self.lines.append({"event": event, **fields}))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(monkeypatch)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ListsServer]:
    with lists_server(tmp_path) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.certificate))
        yield running


class Fetches:
    """A feed whose clock the test sets."""

    def __init__(self, url: str, times: Times = DEFAULT) -> None:
        self.feed = CloudflareFeed(url, times)
        self.now = 1000.0

    def once(self) -> bool:
        """One fetch, from its start to its end; whether it gave a usable list."""
        assert not self.feed.step(self.now)
        assert self.feed._fetch is not None, "no fetch was due"
        deadline = time.monotonic() + 120
        while self.feed._fetch is not None:
            assert time.monotonic() < deadline
            if self.feed.step(self.now):
                return True
            time.sleep(0.01)
        return False

    def is_due(self) -> bool:
        self.feed.step(self.now)
        due = self.feed._fetch is not None
        self.feed.stop()
        return due

    def ranges(self) -> tuple[Any, ...]:
        config: Config = self.feed.applied(Settings()).config
        return config.proxies.cloudflare


def test_lists_without_news_change_nothing(server: ListsServer, log: Log) -> None:
    fetches, settings = Fetches(server.url), Settings()
    assert fetches.once()
    assert fetches.feed.applied(settings) is settings
    assert server.paths == ["/ips-v4", "/ips-v6"]
    assert log.lines == [{"event": "cloudflare_ranges", "ranges": 22, "changed": False, "added": [], "removed": []}]


def test_new_lists_replace_the_ranges_in_use(server: ListsServer, log: Log) -> None:
    server.script = given.lists_with(EMBEDDED_TEXT[4].replace("131.0.72.0/22", NEW))
    fetches = Fetches(server.url)
    assert fetches.once()
    assert ipaddress.ip_network(NEW) in fetches.ranges()
    assert ipaddress.ip_network("131.0.72.0/22") not in fetches.ranges()
    assert log.lines == [
        {"event": "cloudflare_ranges", "ranges": 22, "changed": True, "added": [NEW], "removed": ["131.0.72.0/22"]}
    ]
    settings = fetches.feed.applied(Settings())
    assert fetches.feed.applied(settings) is settings


def test_the_next_fetch_comes_after_a_day_or_at_a_refresh(server: ListsServer, log: Log) -> None:
    fetches = Fetches(server.url)
    fetches.once()
    fetches.now += DAY - 1
    assert not fetches.is_due()
    fetches.now += 1
    assert fetches.once()
    fetches.feed.refresh()
    assert fetches.once()
    assert len(log.lines) == 3


def test_failures_are_logged_once_and_retried_later_and_later(server: ListsServer, log: Log) -> None:
    server.script = lambda handler: given.send(handler, b"", 503)
    fetches = Fetches(server.url)
    for wait in (300, 600, 1200):
        assert not fetches.once()
        fetches.now += wait - 1
        assert not fetches.is_due()
        fetches.now += 1
    assert [(line["event"], line["reason"]) for line in log.lines] == [("cloudflare_ranges_not_fetched", "status 503")]
    server.script = None
    assert fetches.once()
    assert [line["event"] for line in log.lines[1:]] == ["cloudflare_ranges"]
    server.script = lambda handler: given.send(handler, b"", 500)
    fetches.now += DAY
    assert not fetches.once()
    assert log.lines[-1]["reason"] == "status 500"


def test_a_failure_keeps_the_ranges_that_were_fetched_before(server: ListsServer, log: Log) -> None:
    server.script = given.lists_with(f"{EMBEDDED_TEXT[4]}\n{NEW}")
    fetches = Fetches(server.url)
    fetches.once()
    server.script = given.lists_with("")
    fetches.now += DAY
    assert not fetches.once()
    assert ipaddress.ip_network(NEW) in fetches.ranges()


BIG = b"104.16.0.0/13\n" * 5000
HALF = EMBEDDED_TEXT[4].encode()[:100]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(lambda h: given.send(h, BIG), "larger than 65536 bytes", id="65 KiB"),
        pytest.param(given.chunked(*[BIG[:7000]] * 10), "larger than 65536 bytes", id="65 KiB in chunks"),
        pytest.param(lambda h: given.send(h, b"", Content_Length="99999999999"), "larger than", id="a huge length"),
        pytest.param(given.cut_off, "a response that ends early", id="cut off"),
        pytest.param(given.chunked(HALF, end=False), "a response that ends early", id="cut off after a chunk"),
        pytest.param(given.without_length, "a response without a length", id="ended by the connection"),
        pytest.param(lambda h: h.wfile.write(b"\x00" * 70_000), "", id="not HTTP"),
        pytest.param(lambda h: given.send(h, b"\xff\xfe\x00" * 99), "has a line that is not a range", id="garbage"),
        pytest.param(given.lists_with("0.0.0.0/0"), "wider than /11", id="everything"),
        pytest.param(given.lists_with(f"{EMBEDDED_TEXT[4]}\n8.0.0.0/7"), "8.0.0.0/7, wider than /11", id="a /7"),
        pytest.param(given.lists_with(f"{EMBEDDED_TEXT[4]}\n127.0.0.0/8"), "wider than /11", id="loopback"),
        pytest.param(given.lists_with(f"{EMBEDDED_TEXT[4]}\n10.0.0.0/16"), "not of public", id="private"),
        pytest.param(given.redirect("https://localhost.:1/ips-v4"), "a redirect to another host", id="redirect"),
        pytest.param(given.redirect("https://127.0.0.1/ips-v4"), "a redirect to another host", id="to an IP"),
        pytest.param(given.redirect("http://localhost/ips-v4"), "a redirect to another host", id="to http"),
        pytest.param(given.redirect("https://[::1/"), "", id="to an address that is not valid"),
        pytest.param(given.redirect("https://localhost:x/"), "", id="to a port that is not a number"),
        pytest.param(given.redirect("file:///etc/passwd"), "a redirect to another host", id="to a file"),
        pytest.param(given.redirect("/ips-v4"), "too many redirects", id="redirect to itself"),
        pytest.param(lambda h: given.send(h, b"", 404), "status 404", id="404"),
    ],
)  # fmt: skip
def test_a_response_that_cannot_be_used(server: ListsServer, log: Log, script: Script, reason: str) -> None:
    server.script = script
    fetches = Fetches(server.url)
    assert not fetches.once()
    assert fetches.ranges() == EMBEDDED
    (line,) = log.lines
    assert line["event"] == "cloudflare_ranges_not_fetched"
    assert reason in line["reason"]
    assert "\n" not in line["reason"]


def test_a_redirect_on_the_same_host_is_followed(server: ListsServer, log: Log) -> None:
    server.script = given.redirect_once("/")
    assert Fetches(server.url).once()
    assert server.paths == ["/ips-v4", "/ips-v4/", "/ips-v6", "/ips-v6/"]


def test_lists_in_chunks_and_below_a_path(server: ListsServer, log: Log) -> None:
    half = len(EMBEDDED_TEXT[4]) // 2
    server.script = given.chunked(EMBEDDED_TEXT[4].encode()[:half], EMBEDDED_TEXT[4].encode()[half:])
    assert Fetches(server.url).once()
    server.script = None
    server.lists = {f"/mirror{path}": text for path, text in server.lists.items()}
    assert Fetches(f"{server.url}/mirror/").once()


def test_a_certificate_that_no_authority_issued(server: ListsServer, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    assert not Fetches(server.url).once()
    assert "a certificate that is not trusted" in log.lines[0]["reason"]
    assert server.paths == []


def test_a_certificate_of_another_name(tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    with lists_server(write_pair(tmp_path / "other", "other.example.com")) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        assert not Fetches(server.url).once()
    assert "a certificate that is not trusted" in log.lines[0]["reason"]
    assert server.paths == []


def test_nothing_listens(log: Log) -> None:
    assert not Fetches("https://127.0.0.1:1").once()
    assert log.lines[0]["reason"] == "Connection refused"


def test_a_response_that_never_ends_is_given_up(server: ListsServer, log: Log) -> None:
    server.script = given.slow(server.ended)
    assert not Fetches(server.url, Times(fetch=2)).once()
    assert log.lines[0]["reason"] == "no answer in time"


def test_a_process_that_does_not_end_itself_is_killed(server: ListsServer, log: Log) -> None:
    server.script = given.slow(server.ended)
    fetches = Fetches(server.url)
    assert not fetches.feed.step(fetches.now)
    assert fetches.feed._fetch is not None
    pid = fetches.feed._fetch._process.pid
    fetches.now += 41
    assert not fetches.feed.step(fetches.now)
    assert log.lines[0]["reason"] == "no answer in time"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("program", "reason"), [("exit 3", "ended with exit code 3"), ("kill -9 $$", "ended with signal 9")]
)
def test_a_process_that_fails_is_no_fault_of_the_network(
    tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch, program: str, reason: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert not Fetches("https://127.0.0.1:1").once()
    assert reason in log.lines[0]["reason"]


def test_the_process_gets_no_secret(server: ListsServer, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    environ: list[bytes] = []
    monkeypatch.setenv("WEBHOOK_SECRET", "never-pass-this-on-0123456789abcdef")
    fetches = Fetches(server.url)

    def read_environ(handler: Any) -> None:
        assert fetches.feed._fetch is not None
        environ.append(Path(f"/proc/{fetches.feed._fetch._process.pid}/environ").read_bytes())
        given.send(handler, EMBEDDED_TEXT[4 if "v4" in handler.path else 6].encode())

    server.script = read_environ
    assert fetches.once()
    assert b"SSL_CERT_FILE" in environ[0]
    assert b"never-pass" not in environ[0]


def test_without_cloudflare_nothing_is_fetched() -> None:
    assert feed_for(Proxies()) is None
    assert feed_for(Proxies(cloudflare=EMBEDDED)) is None
    assert feed_for(Proxies(cloudflare=EMBEDDED, lists_url="https://localhost")) is not None
