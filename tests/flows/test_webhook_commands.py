"""`sigil webhook`: failures and replays of a running server, and what a developer of a receiver has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.protocol.webhook import signed_headers
from tests.flows.people import Backend
from tests.flows.test_metrics import scrape
from tests.flows.test_webhooks import MANY, SECRET, approved
from tests.support.live import LiveServer, wait_until
from tests.support.webhook_endpoint import WebhookEndpoint, checked


def sigil(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sigil", "webhook", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module")
def telling(endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with LiveServer(workers=1, WEBHOOK_URL=endpoint.url, **MANY) as running:
        yield running


@pytest.fixture
def given_up(telling: LiveServer, endpoint: WebhookEndpoint) -> list[str]:
    """Ids of three events that the endpoint has refused; from now on it takes all."""
    endpoint.says = lambda number: 404
    with Backend(telling) as backend:
        before = scrape(backend.http)["sigil_webhook_failures", ()]
        ids = [f"evt_{approved(backend)['challenge_id']}" for _ in range(3)]
        wait_until(lambda: scrape(backend.http)["sigil_webhook_failures", ()] == before + 3, "the failures")
    endpoint.says = lambda number: 200
    return ids


def taken(endpoint: WebhookEndpoint, event_id: str) -> Any:
    return wait_until(lambda: [one for one in endpoint.of(event_id) if one.said == 200], f"{event_id} to be taken")


def test_failures_are_listed_and_replayed_one_by_one_or_all(
    telling: LiveServer, endpoint: WebhookEndpoint, given_up: list[str]
) -> None:
    listed = sigil(telling.environ, "failures")
    assert listed.returncode == 0, listed.stderr
    # Of one second in any order.
    assert sorted(line.split("  ")[1] for line in listed.stdout.splitlines()) == sorted(given_up)
    assert listed.stdout.splitlines()[0].endswith("challenge.verified  1 try: 404")
    lines = [json.loads(line) for line in sigil(telling.environ, "failures", "--json").stdout.splitlines()]
    assert {(line["event_id"], line["reason"], line["tries"]) for line in lines} == {(i, "404", 1) for i in given_up}

    again = sigil(telling.environ, "replay", given_up[1])
    assert (again.stdout, again.returncode) == ("1 event will be sent again\n", 0)
    (arrival,) = taken(endpoint, given_up[1])
    assert checked(arrival, SECRET).id == given_up[1]
    assert arrival.body == endpoint.of(given_up[1])[0].body

    twice = sigil(telling.environ, "replay", given_up[1])
    assert twice.returncode == 1
    assert "no such event" in twice.stderr

    assert sigil(telling.environ, "replay", "--all").stdout == "2 events will be sent again\n"
    for event_id in given_up:
        taken(endpoint, event_id)
    assert sigil(telling.environ, "failures").stdout == "no event was given up\n"
    assert sigil(telling.environ, "replay", "--all").stdout == "0 events will be sent again\n"


@pytest.mark.parametrize("name", ["evt_", "x", "evt_00000000-0000-4000-8000-000000000000", "../../etc"])
def test_what_is_no_event_cannot_be_replayed(telling: LiveServer, name: str) -> None:
    ran = sigil(telling.environ, "replay", name)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("evt_x", "--all")])
def test_a_replay_is_of_one_or_of_all(telling: LiveServer, arguments: tuple[str, ...]) -> None:
    assert sigil(telling.environ, "replay", *arguments).returncode == 2


@pytest.mark.parametrize("command", [("failures",), ("replay", "--all")])
def test_without_a_running_server_there_is_one_clear_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "stopped").mkdir(0o700)
    (tmp_path / "stopped" / "lock").touch()
    (tmp_path / "a-file").touch()
    for place, words in (("nothing", "no server"), ("stopped", "no server"), ("a-file", "not a directory")):
        ran = sigil({**os.environ, "SIGIL_STATE_DIR": str(tmp_path / place)}, *command)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert words in ran.stderr
        assert ran.stderr.count("\n") == 1
        assert not (tmp_path / "nothing").exists()


def test_the_server_of_another_version_is_left_alone(telling: LiveServer) -> None:
    stamp = telling.state / "stamp"
    content = stamp.read_text()
    stamp.write_text(content.replace('"schema":"', '"schema":"later-'))
    try:
        ran = sigil(telling.environ, "replay", "--all")
    finally:
        stamp.write_text(content)
    assert ran.returncode == 1
    assert "another version" in ran.stderr


def test_the_size_of_the_store_is_the_servers_and_not_the_settings(telling: LiveServer) -> None:
    before = (telling.state / "data.mdb").stat().st_size
    ran = sigil({**telling.environ, "SIGIL_STORE_SIZE": "1GiB"}, "failures")
    assert ran.returncode == 0
    assert (telling.state / "data.mdb").stat().st_size == before


def test_a_sample_is_sent_as_an_event_would_be(endpoint: WebhookEndpoint) -> None:
    environ = {**os.environ, "WEBHOOK_SECRET": SECRET}
    for arguments, more in ((("--url", endpoint.url), {}), ((), {"WEBHOOK_URL": endpoint.url})):
        before = len(endpoint.arrivals)
        ran = sigil(environ | more, "send-test", *arguments)
        assert (ran.returncode, ran.stdout.strip()[-3:]) == (0, "200"), ran.stderr
        assert len(endpoint.arrivals) == before + 1
        event = checked(endpoint.arrivals[-1], SECRET)
        assert (event.type, event.action_type, event.approved) == ("challenge.expired", "sigil.webhook_test", False)


def test_a_sample_that_is_refused_is_told_of(endpoint: WebhookEndpoint) -> None:
    endpoint.says = lambda number: 401
    ran = sigil({**os.environ, "WEBHOOK_SECRET": SECRET}, "send-test", "--url", endpoint.url)
    endpoint.says = lambda number: 200
    assert ran.returncode == 1
    assert "401" in ran.stdout
    assert "2xx" in ran.stderr


@pytest.mark.parametrize(
    ("environ", "arguments", "words"),
    [
        ({}, (), "WEBHOOK_SECRET"),
        ({"WEBHOOK_SECRET": SECRET}, (), "--url"),
        ({"WEBHOOK_SECRET": "short", "WEBHOOK_URL": "https://x.test/"}, (), "32 characters"),
        ({"WEBHOOK_SECRET": SECRET}, ("--url", "http://8.8.8.8/"), "private"),
        ({"WEBHOOK_SECRET": SECRET}, ("--url", "ftp://x"), "https"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(environ: dict[str, str], arguments: tuple[str, ...], words: str) -> None:
    ran = sigil({"PATH": os.environ["PATH"], **environ}, "send-test", *arguments)
    assert ran.returncode == 1
    assert words in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "short" not in ran.stderr


def test_a_developer_sees_what_arrives_and_whether_it_is_signed() -> None:
    environ = {**os.environ, "WEBHOOK_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sigil", "webhook", "listen", "--port", "0", "--count", "3", "--status", "202"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        url = listening.stdout.readline().removeprefix("listening on ").strip()
        assert url.startswith("http://127.0.0.1:")
        ran = sigil(environ, "send-test", "--url", url)
        assert (ran.returncode, ran.stdout.strip()[-3:]) == (0, "202")
        with httpx.Client(trust_env=False) as client:
            forged = signed_headers(["another secret " * 3], "evt_1", int(time.time()), b"{}")
            assert client.post(url, content=b"{}", headers=forged).status_code == 400
            assert client.post(url, content=b"{}").status_code == 400
        told, _ = listening.communicate(timeout=120)
    assert listening.returncode == 0
    lines = told.splitlines()
    assert lines[0].startswith("VERIFIED challenge.expired  evt_")
    assert '"status": "expired"' in told
    refused = [line for line in lines if line.startswith("REJECTED")]
    assert len(refused) == 2
    assert "does not match" in refused[0]
    assert "webhook-id" in refused[1]
    assert SECRET not in told
