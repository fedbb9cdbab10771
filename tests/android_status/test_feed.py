"""The master's fetch of the status list, from a real https server."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sigil.android_status.feed import AndroidStatusFeed, Times
from sigil.android_status.list_file import read, replace
from sigil.attestation.certificates.status_list import MAX_BYTES, StatusList
from sigil.serving import logs
from sigil.serving.fetches.process import FetchProcess
from sigil.serving.fetches.several import SeveralFeeds
from tests.serving.cloudflare.lists_server import ListsServer, lists_server, send

HOUR, DAY = 3600, 86_400
NOW = 1_800_000_000.0


def content(count: int) -> bytes:
    return json.dumps({"entries": {f"a{n:x}": {"status": "REVOKED"} for n in range(count)}}).encode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListsServer]:
    with lists_server(tmp_path_factory.mktemp("server")) as running:
        yield running


class Fetches:
    """A feed whose clocks the test sets, its server, and the lines that it logs."""

    def __init__(self, server: ListsServer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        self.lines: list[dict[str, Any]] = []
        for name in ("info", "warn"):
            monkeypatch.setattr(logs, name, lambda event, **fields: self.lines.append({"event": event, **fields}))
        self.server, self.path = server, path
        self.tags: list[str | None] = []
        self.body, self.status, self.tag = content(10), 200, '"one"'
        server.script = self._respond
        self.now, self.clock = 1000.0, NOW
        self.feed = AndroidStatusFeed(path, f"{server.url}/attestation/status", clock=lambda: self.clock)

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        self.tags.append(handler.headers.get("If-None-Match"))
        unchanged = self.status == 200 and self.tags[-1] == self.tag
        send(handler, b"" if unchanged else self.body, 304 if unchanged else self.status, ETag=self.tag)

    def once(self) -> list[str]:
        """One step of work, with what follows from it; the events that it logged."""
        before = len(self.lines)
        self.feed.step(self.now)
        deadline = time.monotonic() + 120
        while self.feed._fetch is not None or self.feed._work is not None:
            assert time.monotonic() < deadline
            assert not self.feed.step(self.now)
            time.sleep(0.005)
        return [line["event"] for line in self.lines[before:]]

    def later(self, seconds: float) -> list[str]:
        self.now += seconds
        self.clock += seconds
        return self.once()

    def list(self) -> StatusList:
        found = read(self.path)
        assert found is not None
        return found


@pytest.fixture
def fetches(shared: ListsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fetches]:
    made = Fetches(shared, tmp_path / "status.json", monkeypatch)
    yield made
    made.feed.stop()


def test_the_list_is_fetched_at_the_start_and_each_hour(fetches: Fetches) -> None:
    assert fetches.once() == ["android_status_fetched"]
    assert (fetches.list().entries, fetches.list().known_at) == (10, NOW)
    assert fetches.later(HOUR - 1) == []
    assert len(fetches.tags) == 1
    fetches.body, fetches.tag = content(11), '"two"'
    assert fetches.later(1) == ["android_status_fetched"]
    assert fetches.list().entries == 11
    assert fetches.tags == [None, '"one"']


def test_a_list_without_news_is_not_sent_again_and_counts_as_new(fetches: Fetches) -> None:
    fetches.once()
    content_before = fetches.path.read_bytes()
    assert fetches.later(HOUR) == []
    assert fetches.tags == [None, '"one"']
    assert (fetches.list().known_at, fetches.path.read_bytes()) == (NOW + HOUR, content_before)


def test_a_file_that_is_gone_or_was_replaced_is_fetched_whole(fetches: Fetches) -> None:
    """An answer "unchanged" would make an older file of another program the present list."""
    fetches.once()
    assert fetches.later(HOUR) == []
    fetches.path.unlink()
    assert fetches.later(HOUR) == []
    assert fetches.once() == ["android_status_fetched"]
    replace(fetches.path, content(9), NOW - DAY)
    assert fetches.later(HOUR) == []
    assert (fetches.list().entries, fetches.list().known_at) == (9, NOW - DAY)
    assert fetches.once() == ["android_status_fetched"]
    assert fetches.list().entries == 10
    assert fetches.tags == [None, '"one"', '"one"', None, '"one"', None]


@pytest.mark.parametrize("tag", ["unquoted", '"with space"', '"' + "x" * 300 + '"', ""])
def test_a_tag_of_another_form_is_not_sent_back(fetches: Fetches, tag: str) -> None:
    fetches.tag = tag
    fetches.once()
    fetches.later(HOUR)
    assert fetches.tags == [None, None]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, b"", "status 503"),
        (304, b"", "status 304"),
        (200, b"<html>", "it is not a status list in JSON"),
        (200, b'{"entries": {}}', "it has no entries"),
        (200, content(4), "it has 4 entries, and the list in use has 10"),
        (200, b" " * (MAX_BYTES + 1), f"larger than {MAX_BYTES} bytes"),
    ],
)  # fmt: skip
def test_a_list_that_cannot_be_used_leaves_the_old_one(fetches: Fetches, status: int, body: bytes, reason: str) -> None:
    replace(fetches.path, content(10), NOW - DAY)
    fetches.status, fetches.body = status, body
    assert fetches.once() == ["android_status_not_fetched"]
    assert fetches.lines[0]["reason"] == reason
    assert (fetches.list().entries, fetches.list().known_at) == (10, NOW - DAY)


def test_a_list_of_8_mib_passes_the_pipe(fetches: Fetches) -> None:
    fetches.body = content(10).ljust(MAX_BYTES)
    assert fetches.once() == ["android_status_fetched"]


def test_failures_are_logged_once_and_retried_ever_later(fetches: Fetches) -> None:
    replace(fetches.path, content(10), NOW)
    fetches.status = 503
    assert fetches.once() == ["android_status_not_fetched"]
    for wait in (300, 600, 1200, 2400, HOUR, HOUR):
        assert fetches.later(wait - 1) == []
        requests = len(fetches.tags)
        assert fetches.later(1) == []
        assert len(fetches.tags) == requests + 1
    fetches.feed.refresh()
    assert fetches.once() == ["android_status_not_fetched"]
    fetches.status = 200
    assert fetches.later(300) == ["android_status_fetched"]


def test_a_list_that_shrinks_is_used_with_a_warning(fetches: Fetches) -> None:
    replace(fetches.path, content(12), NOW)
    assert fetches.once() == ["android_status_fetched", "android_status_shrank"]
    assert (fetches.lines[1]["entries"], fetches.lines[1]["before"]) == (10, 12)
    assert fetches.list().entries == 10


def test_an_old_list_is_warned_about_once_a_day(fetches: Fetches) -> None:
    replace(fetches.path, content(10), NOW - 31 * DAY)
    fetches.status = 503
    assert fetches.once() == ["android_status_not_fetched", "android_status_old"]
    assert fetches.lines[1]["days"] == 31
    assert fetches.later(300) == []
    assert fetches.later(DAY) == ["android_status_old"]


def test_without_an_address_the_age_alone_is_watched(fetches: Fetches, tmp_path: Path) -> None:
    fetches.feed = AndroidStatusFeed(fetches.path, None, clock=lambda: fetches.clock)
    assert fetches.once() == ["android_status_old"]
    # Of the release: its date is not known.
    assert fetches.lines[0]["days"] is None
    # It is read each hour, and the warning comes once a day.
    assert fetches.later(HOUR) == []
    replace(fetches.path, content(10), NOW)
    assert fetches.later(DAY) == []
    assert fetches.later(30 * DAY) == ["android_status_old"]
    assert fetches.tags == []


def test_a_folder_that_does_not_exist_is_named(fetches: Fetches, tmp_path: Path) -> None:
    fetches.feed = AndroidStatusFeed(tmp_path / "none" / "status.json", f"{fetches.server.url}/x", Times())
    assert fetches.once()[0] == "android_status_not_fetched"
    assert "cannot write" in fetches.lines[0]["reason"]


class _Feed:
    def __init__(self, news: bool) -> None:
        self.news, self.calls = news, []  # type: ignore[var-annotated]

    def step(self, now: float) -> bool:
        self.calls.append("step")
        return self.news

    def applied(self, settings: Any) -> Any:
        return settings + 1 if self.news else settings

    def refresh(self) -> None:
        self.calls.append("refresh")

    def stop(self) -> None:
        self.calls.append("stop")


def test_several_feeds_all_run_and_any_may_have_news() -> None:
    feeds = [_Feed(True), _Feed(False), _Feed(True)]
    several = SeveralFeeds(feeds)  # type: ignore[arg-type]
    assert several.step(0)
    assert several.applied(0) == 2
    several.refresh()
    several.stop()
    assert [feed.calls for feed in feeds] == [["step", "refresh", "stop"]] * 3
    assert not SeveralFeeds([]).step(0)
    settings = object()
    assert SeveralFeeds([_Feed(False)]).applied(settings) is settings  # type: ignore[list-item]


def test_the_pipe_of_a_fetch_holds_more_than_the_default() -> None:
    """The master reads once a second: 64 KiB a second would be too slow for the largest list."""
    process = FetchProcess(["https://127.0.0.1:1/"], max_bytes=MAX_BYTES, seconds=30, now=0)
    try:
        assert fcntl.fcntl(process._pipe, fcntl.F_GETPIPE_SZ) == 1 << 20
    finally:
        process.close()
