"""Two who set up at once, clients that hammer meanwhile, workers that die in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from sigil.protocol.identity import generate_mnemonic
from tests.first_boot.newborn import NOBODY, Newborn, identity_of, refused
from tests.live import DEADLINE, wait_until


def test_of_two_windows_on_two_workers_one_wins_and_the_other_is_told() -> None:
    with Newborn(workers=2) as server:
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


async def test_clients_that_hammer_while_it_is_set_up_are_never_refused() -> None:
    """Before the 201 an API call is NOT_INITIALIZED; one that begins after it never is, on any worker."""
    with Newborn(workers=2) as server:
        tls, committed, enough = server.tls(), asyncio.Event(), asyncio.Event()
        before: Counter[int] = Counter()
        after: Counter[int] = Counter()

        async def hammer(fresh: bool) -> None:
            client = httpx.AsyncClient(base_url=server.url, verify=tls, trust_env=False, timeout=DEADLINE)
            async with client:
                while not enough.is_set():
                    began_after = committed.is_set()
                    headers = {"Connection": "close"} if fresh else {}
                    status = (await client.get(NOBODY, headers=headers)).status_code
                    (after if began_after else before)[status] += 1

        async with httpx.AsyncClient(base_url=server.url, verify=tls, trust_env=False, timeout=DEADLINE) as own:
            clients = [asyncio.create_task(hammer(fresh=number < 4)) for number in range(20)]
            async with asyncio.timeout(DEADLINE):
                while before[503] < 100:
                    await asyncio.sleep(0.01)
            assert (await own.post("/init/commit", json={"words": generate_mnemonic()})).status_code == 201
            committed.set()
            async with asyncio.timeout(DEADLINE):
                while after[401] < 200 and set(after) <= {401}:
                    await asyncio.sleep(0.01)
            enough.set()
            await asyncio.gather(*clients)
        assert set(before) <= {503, 401}, "401 came after the link and before the 201"
        assert set(after) == {401}


def test_workers_that_die_around_the_commit_leave_it_done_or_undone_and_nothing_else() -> None:
    with Newborn(workers=2) as server:
        words = generate_mnemonic()
        for attempt in range(2):
            before = server.workers()
            with ThreadPoolExecutor(2) as pool:
                answered = pool.submit(_commit_or_cut, server, words)
                wait_until(lambda at=attempt, done=answered: at % 2 or done.done(), "the moment to kill")
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                status = answered.result(120)
            wait_until(lambda old=before: len(set(server.workers()) - set(old)) == 2, "two new workers")
            modes = server.modes(8)
            assert len(modes) == 1
            if status in {201, 409}:
                assert modes == {"operational"}
            assert {path.name for path in server.state.glob("identity*")} <= {"identity"}
        assert server.get("/info").json()["server_id"] == identity_of(words).server_id


def _commit_or_cut(server: Newborn, words: str) -> int:
    """The status of a commit, 0 when the connection was cut."""
    try:
        return server.post("/init/commit", {"words": words}).status_code
    except httpx.HTTPError:
        return 0
