"""Concurrent commits, clients under load during a commit, and workers killed around it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from sigil.protocol.identity import generate_mnemonic
from tests.first_boot.init_mode_server import UNKNOWN_CHALLENGE, WORDS, InitModeServer, identity_of, refused
from tests.support.live import DEADLINE, wait_until


def test_of_concurrent_commits_on_two_workers_one_wins_and_the_others_get_an_error() -> None:
    with InitModeServer(workers=2) as server:
        everyone = [generate_mnemonic() for _ in range(8)]
        gate = threading.Barrier(len(everyone))

        def race(words: str) -> httpx.Response:
            with server.client() as client:
                client.get("/health")
                gate.wait(60)
                return client.post("/init/commit", json={"words": words})

        with ThreadPoolExecutor(len(everyone)) as pool:
            answers = list(pool.map(race, everyone))
        winners = [answer for answer in answers if answer.status_code == 201]
        assert len(winners) == 1
        for answer in answers:
            if answer is not winners[0]:
                refused(answer, 409, "ALREADY_INITIALIZED")
        won = winners[0].json()["identity"]["server_id"]
        assert won == identity_of(everyone[answers.index(winners[0])]).server_id
        assert {server.get("/info").json()["server_id"] for _ in range(24)} == {won}
        assert not list(server.state.glob("identity.*"))


async def test_clients_under_load_during_the_commit_get_no_other_error() -> None:
    """Before the 201 an API call is NOT_INITIALIZED. A call that starts after it never is, on any worker."""
    with InitModeServer(workers=2) as server:
        tls, committed, enough = server.tls(), asyncio.Event(), asyncio.Event()
        before: Counter[int] = Counter()
        after: Counter[int] = Counter()

        async def poll(fresh: bool) -> None:
            client = httpx.AsyncClient(base_url=server.url, verify=tls, trust_env=False, timeout=DEADLINE)
            async with client:
                while not enough.is_set():
                    began_after = committed.is_set()
                    headers = {"Connection": "close"} if fresh else {}
                    status = (await client.get(UNKNOWN_CHALLENGE, headers=headers)).status_code
                    (after if began_after else before)[status] += 1

        async with httpx.AsyncClient(base_url=server.url, verify=tls, trust_env=False, timeout=DEADLINE) as own:
            clients = [asyncio.create_task(poll(fresh=number < 4)) for number in range(20)]
            async with asyncio.timeout(DEADLINE):
                while before[503] < 100:
                    await asyncio.sleep(0.01)
            headers = {"Authorization": f"Bearer {server.token()}"}
            answer = await own.post("/init/commit", json={"words": generate_mnemonic()}, headers=headers)
            assert answer.status_code == 201
            committed.set()
            async with asyncio.timeout(DEADLINE):
                while after[401] < 200 and set(after) <= {401}:
                    await asyncio.sleep(0.01)
            enough.set()
            await asyncio.gather(*clients)
        assert set(before) <= {503, 401}, "401 came after the link and before the 201"
        assert set(after) == {401}


def test_workers_killed_before_they_process_a_commit_store_nothing() -> None:
    with InitModeServer(workers=2) as server, server.client() as client:
        client.get("/health")
        before = server.workers()
        with ThreadPoolExecutor(1) as pool:
            signal_all(before, signal.SIGSTOP)
            answered = pool.submit(commit_or_cut, client, generate_mnemonic())
            signal_all(before, signal.SIGKILL)
            assert answered.result(DEADLINE) is None
        wait_until(lambda: set(server.workers()).isdisjoint(before) and len(server.workers()) == 2, "two new workers")
        assert_nothing_is_stored(server)


@pytest.mark.parametrize("attempt", range(4))
def test_workers_killed_around_a_commit_store_all_of_it_or_nothing(attempt: int) -> None:
    """Each attempt uses a new server and a random moment. An answered commit must survive the kill."""
    with InitModeServer(workers=2) as server, server.client() as client:
        words, delay = generate_mnemonic(), random.uniform(0, seconds_of_a_check(client))  # noqa: S311
        before = server.workers()
        with ThreadPoolExecutor(1) as pool:
            answered = pool.submit(commit_or_cut, client, words)
            time.sleep(delay)
            signal_all(before, signal.SIGKILL)
            made = answered.result(DEADLINE)
        wait_until(lambda: set(server.workers()).isdisjoint(before) and len(server.workers()) == 2, "two new workers")
        modes = server.modes(8)
        context = f"{modes} after {'an' if made else 'no'} answer and {delay} s"
        if made or modes == {"operational"}:
            assert_all_is_stored(server, words, made, context)
        else:
            assert modes == {"init"}, context
            assert_nothing_is_stored(server)


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        os.kill(pid, number)


def seconds_of_a_check(client: httpx.Client) -> float:
    """About the duration of a commit on the same connection: it derives the same keys and then writes a file."""

    def once() -> float:
        began = time.monotonic()
        assert client.post("/init/check", json={"words": WORDS}).status_code == 200
        return time.monotonic() - began

    # The first one is slow.
    return min(once() for _ in range(5))


def commit_or_cut(client: httpx.Client, words: str) -> dict[str, Any] | None:
    """The 201 of a commit, None when the connection was cut."""
    try:
        answer = client.post("/init/commit", json={"words": words})
    except httpx.HTTPError:
        return None
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def assert_all_is_stored(server: InitModeServer, words: str, made: dict[str, Any] | None, context: str) -> None:
    assert {server.get("/info").json().get("server_id") for _ in range(8)} == {identity_of(words).server_id}, context
    assert [path.name for path in server.state.glob("identity*")] == ["identity"], context
    assert (server.certificate.parent / "server_id").read_text().strip() == identity_of(words).server_id, context
    refused(server.post("/init/commit", {"words": generate_mnemonic()}), 409, "ALREADY_INITIALIZED")
    if made:
        assert server.post("/init/api-keys", token=made["session"]).status_code == 201, context


def assert_nothing_is_stored(server: InitModeServer) -> None:
    """No trace is left that would prevent the commit of other words."""
    other = generate_mnemonic()
    assert server.get("/init/state").json()["restore_only"] is None
    made = server.commit(other)
    assert made["identity"]["server_id"] == identity_of(other).server_id
    assert_all_is_stored(server, other, made, "after nothing was left")
