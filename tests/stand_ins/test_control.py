"""The control port of the stand-ins, and reproducible faults."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from deploy.providers.record import KEPT, Record
from tests.stand_ins.clients import ApnsClient, FcmClient
from tests.support.live import DEADLINE
from tests.support.providers import Providers, apns_token


def test_a_rule_is_used_at_most_as_often_as_it_states(providers: Providers, apns: ApnsClient) -> None:
    providers.script("apns", outcome="ServiceUnavailable", times=2)
    assert [apns.push().status_code for _ in range(3)] == [503, 503, 200]
    assert [rule["used"] for rule in providers.control("GET", "/rules")] == [2]


def test_the_first_rule_that_matches_decides(providers: Providers, apns: ApnsClient) -> None:
    providers.script("fcm", outcome="INTERNAL")
    providers.script("apns", token="ab", outcome="Unregistered", timestamp=1)
    providers.script("apns", outcome="Shutdown")
    assert [apns.push(apns_token(prefix)).status_code for prefix in ("ab", "ac")] == [410, 503]
    providers.clear_rules()
    assert apns.push(apns_token("ab")).status_code == 200


def test_the_same_seed_gives_the_same_faults(providers: Providers, apns: ApnsClient) -> None:
    def run(seed: int) -> list[int]:
        providers.reset(seed)
        providers.script("apns", outcome="InternalServerError", probability=0.5)
        return [apns.push().status_code for _ in range(40)]

    first = run(7)
    assert set(first) == {200, 500}
    assert run(7) == first
    assert run(8) != first


def test_a_device_waits_for_the_next_push_of_its_own(providers: Providers, apns: ApnsClient, fcm: FcmClient) -> None:
    mine = apns_token("aa")
    apns.push(mine)
    after = providers.last()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(providers.seen, "apns", after=after, token=mine, wait=25)
        fcm.push()
        apns.push(apns_token("bb"))
        apns.push(mine)
        [seen] = waiting.result(DEADLINE)
    assert (seen["token"], seen["number"]) == (mine, after + 3)


def test_a_wait_without_a_push_ends(providers: Providers) -> None:
    assert providers.seen(after=providers.last(), wait=0.05) == []


def test_pushes_are_read_in_pages(providers: Providers, apns: ApnsClient) -> None:
    for _ in range(5):
        apns.push()
    first = providers.control("GET", "/seen", after=0, limit=3)["pushes"]
    rest = providers.seen(after=first[-1]["number"])
    assert (len(first), len(rest)) == (3, 2)
    assert rest[0]["number"] == first[-1]["number"] + 1


def test_the_newest_pushes_are_kept() -> None:
    async def many() -> list[int]:
        record = Record()
        for _ in range(KEPT + 5):
            record.accept("apns", "ab", 0.0, {}, b"{}", sigil=None)
        return [push.number for push in record.seen(0, None, "", 2 * KEPT)]

    assert asyncio.run(many()) == list(range(6, KEPT + 6))


def test_a_reset_clears_all_but_numbers_and_connections(providers: Providers, apns: ApnsClient) -> None:
    providers.settings("apns", max_streams=5)
    providers.script("apns", outcome="Shutdown")
    apns.push()
    providers.clear_rules()
    apns.push()
    last = providers.last()
    providers.reset()
    counters = providers.counters("apns")
    assert (counters["outcomes"], counters["connections_accepted"], counters["connections"]) == ({}, 0, 1)
    assert (providers.seen(), providers.last()) == ([], last)
    assert providers.control("GET", "/settings")["apns"]["max_streams"] == 1000
    assert apns.push().status_code == 200


@pytest.mark.parametrize(
    ("path", "message", "error"),
    [
        ("/rules", {"provider": "apns", "outcome": "UNREGISTERED"}, "apns has no outcome UNREGISTERED"),
        ("/rules", {"provider": "fcm", "outcome": "Unregistered"}, "fcm has no outcome Unregistered"),
        ("/rules", {"provider": "apns", "fault": "thunder"}, "thunder"),
        ("/rules", {"provider": "token", "fault": "goaway"}, "no frames"),
        ("/rules", {"provider": "apns", "fault": "early"}, "outcome or status"),
        ("/rules", {"provider": "apns", "probability": 2}, "probability"),
        ("/rules", {"provider": "apns", "delay_ms": -1}, "delay_ms"),
        ("/rules", {"provider": "apns", "status": 99}, "status"),
        ("/rules", {"provider": "apns", "status": 500, "outcome": "Shutdown"}, "give one of them"),
        ("/rules", {"provider": "apns", "surprise": 1}, "surprise"),
        ("/rules", [{"provider": "apns"}] * 1001, "at most 1000"),
        ("/settings", {"apns": {"surprise": 1}}, "surprise"),
        ("/settings", {"apns": {"max_streams": "many"}}, "max_streams"),
        ("/listener", {"provider": "apns", "mode": "sleeping"}, "sleeping"),
        ("/connections", {"provider": "token"}, "token"),
        ("/connections", {"provider": "apns", "max_concurrent_streams": -1}, "max_concurrent_streams"),
        ("/reset", {"seed": "x"}, "seed"),
    ],
)
def test_an_invalid_command_is_rejected_with_its_reason(
    providers: Providers, path: str, message: Any, error: str
) -> None:
    answer = httpx.post(providers.control_url + path, json=message, trust_env=False)
    assert answer.status_code == 400
    assert error in answer.json()["error"]
    assert providers.control("GET", "/rules") == []


def test_unknown_routes_methods_and_queries_have_their_own_statuses(providers: Providers) -> None:
    with httpx.Client(base_url=providers.control_url, trust_env=False) as client:
        assert client.get("/nothing").status_code == 404
        assert client.put("/rules").status_code == 405
        assert client.get("/seen?after=x").status_code == 400
        assert client.get("/seen?wait=26").status_code == 400
        assert client.post("/rules", content=b"x" * 1_100_000).status_code == 413


def test_a_web_page_cannot_script_them(providers: Providers) -> None:
    with httpx.Client(base_url=providers.control_url, trust_env=False) as client:
        assert client.post("/reset", headers={"Origin": "https://example.com"}).status_code == 403
        assert client.post("/reset", headers={"Host": "rebound.example.com"}).status_code == 403
        assert client.post("/reset", headers={"Host": "["}).status_code == 403
