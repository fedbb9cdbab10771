"""Whatever a provider does, each push has one outcome, and nothing is left behind. Over both providers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.transports import Outcome, OutgoingPush, Transport
from relay.transports.connection_pool import Pace
from tests.relay.transports.conftest import letter, opened, transport_of
from tests.support.live import DEADLINE
from tests.support.providers import Providers

RETRY_WORD = {"apns": "ServiceUnavailable", "fcm": "UNAVAILABLE"}


async def all_of(transport: Transport, letters: list[OutgoingPush]) -> list[Outcome]:
    return await asyncio.gather(*(transport.send(one) for one in letters))


def kinds(outcomes: list[Outcome]) -> Counter[tuple[str, str | None]]:
    return Counter((outcome.kind, outcome.error) for outcome in outcomes)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    async with asyncio.timeout(DEADLINE):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    assert found, what
    return found


async def told(ask: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """The control port, beside the loop."""
    return await asyncio.to_thread(lambda: ask(*given, **named))


def numbers(providers: Providers, provider: str) -> Counter[str]:
    """How often each token was sent something that arrived."""
    return Counter(push["token"] for push in providers.seen(provider))


async def test_a_reset_stream_is_tried_later_and_those_beside_it_arrive(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, token="bad", fault="reset")
    letters = [letter(provider, "bad"), *(letter(provider, "60") for _ in range(20))]
    first, *others = await all_of(transport, letters)
    assert first == Outcome("retry", "stream reset")
    assert kinds(others) == {("delivered", None): 20}


async def test_a_refused_stream_is_sent_again_at_once_and_arrives_once(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, fault="refused_stream", times=3)
    letters = [letter(provider) for _ in range(30)]
    assert kinds(await all_of(transport, letters)) == {("delivered", None): 30}
    assert numbers(providers, provider) == dict.fromkeys((one.token for one in letters), 1)


async def test_an_error_without_a_body_is_an_outcome(providers: Providers, provider: str, transport: Transport) -> None:
    providers.script(provider, outcome=RETRY_WORD[provider], fault="no_body")
    assert kinds(await all_of(transport, [letter(provider) for _ in range(5)])) == {("retry", "http_503"): 5}


@pytest.mark.parametrize("fault", ["split_data", "empty_data"])
async def test_a_body_in_pieces_is_one_answer(
    providers: Providers, provider: str, transport: Transport, fault: str
) -> None:
    providers.script(provider, token="bad", outcome=RETRY_WORD[provider], fault=fault)
    providers.script(provider, fault=fault)
    letters = [letter(provider, "bad"), letter(provider, "60")]
    assert kinds(await all_of(transport, letters)) == {("retry", RETRY_WORD[provider]): 1, ("delivered", None): 1}


async def test_a_goaway_lets_what_was_begun_end_and_the_rest_go_elsewhere(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, fault="goaway", delay_ms=50, spread_ms=50, times=3)
    providers.script(provider, delay_ms=50)
    letters = [letter(provider) for _ in range(120)]
    assert kinds(await all_of(transport, letters)) == {("delivered", None): 120}
    assert numbers(providers, provider) == dict.fromkeys((one.token for one in letters), 1)


async def test_streams_above_the_last_of_a_goaway_are_sent_again_and_arrive_once(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, fault="goaway_before", times=2)
    letters = [letter(provider) for _ in range(60)]
    assert kinds(await all_of(transport, letters)) == {("delivered", None): 60}
    assert numbers(providers, provider) == dict.fromkeys((one.token for one in letters), 1)


async def allowed(providers: Providers, provider: str, streams: int) -> None:
    """So many on each connection, and every client knows."""
    await told(providers.connections, provider, max_concurrent_streams=streams)

    async def heard() -> bool:
        return bool((await told(providers.counters, provider))["settings_unacknowledged"] == 0)

    await until(heard, "settings to be acknowledged on all connections")


async def test_one_stream_a_connection_slows_and_loses_nothing_and_a_thousand_are_used_again(
    providers: Providers, provider: str, transport: Transport
) -> None:
    await transport.send(letter(provider))
    await allowed(providers, provider, 1)
    assert kinds(await all_of(transport, [letter(provider) for _ in range(40)])) == {("delivered", None): 40}
    await allowed(providers, provider, 1000)
    providers.script(provider, fault="silence")
    sending = [asyncio.create_task(transport.send(letter(provider))) for _ in range(80)]

    async def all_on_their_way() -> bool:
        counted = await told(providers.counters, provider)
        return bool(counted["streams"] == 80 and max(counted["streams_by_connection"]) <= 21)

    await until(all_on_their_way, "every push to have a stream, spread over all connections")
    await cancelled(sending)


async def test_only_one_stream_is_opened_until_the_first_answer_when_the_provider_wants_it_so(
    providers: Providers,
) -> None:
    providers.settings("apns", first_streams=1, max_streams=1000)
    async with opened("apns", providers) as transport:
        assert kinds(await all_of(transport, [letter("apns") for _ in range(100)])) == {("delivered", None): 100}
    assert "refused_stream" not in providers.counters("apns")["outcomes"]


async def cancelled(sending: list[asyncio.Task[Outcome]]) -> None:
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)


async def test_cancelled_sends_take_nobody_with_them(providers: Providers, provider: str, transport: Transport) -> None:
    """The library's future was set twice then, and the connection died with all that was in flight."""
    await transport.send(letter(provider))
    before = (await told(providers.counters, provider))["connections_accepted"]
    providers.script(provider, delay_ms=300)
    living = [asyncio.create_task(transport.send(letter(provider, "a1"))) for _ in range(30)]
    dying = [asyncio.create_task(transport.send(letter(provider, "de"))) for _ in range(30)]

    async def under_way() -> bool:
        return transport.load().streams == 60

    await until(under_way, "all to be on their way")
    await cancelled(dying)
    assert kinds(await asyncio.gather(*living)) == {("delivered", None): 30}
    assert all(push["token"].startswith("a1") for push in providers.seen(provider)[1:])
    counted = await told(providers.counters, provider)
    assert (counted["streams"], counted["connections_accepted"]) == (0, before)


@pytest.mark.parametrize("fault", ["silence", "stall"])
async def test_a_push_that_is_never_answered_ends_with_its_caller_and_its_stream_is_given_back(
    providers: Providers, provider: str, transport: Transport, fault: str
) -> None:
    await transport.send(letter(provider))
    before = (await told(providers.counters, provider))["streams_reset_by_client"]
    providers.script(provider, token="dead", fault=fault)
    silent = [asyncio.create_task(transport.send(letter(provider, "dead"))) for _ in range(10)]
    assert kinds(await all_of(transport, [letter(provider, "a1") for _ in range(20)])) == {("delivered", None): 20}

    async def only_they_are_left() -> bool:
        return bool((await told(providers.counters, provider))["streams"] == 10)

    await until(only_they_are_left, "ten to be on their way")
    await cancelled(silent)

    async def given_back() -> bool:
        counted = await told(providers.counters, provider)
        return bool(counted["streams"] == 0 and counted["streams_reset_by_client"] - before == 10)

    await until(given_back, "ten resets")


async def test_a_connection_on_which_nothing_is_answered_is_left(providers: Providers, provider: str) -> None:
    async with opened(provider, providers, Pace(lanes=1, connect=20, rest=0.2, patience=0)) as transport:
        await transport.send(letter(provider))
        before = (await told(providers.counters, provider))["connections_accepted"]
        providers.script(provider, fault="silence", times=3)
        silent = [asyncio.create_task(transport.send(letter(provider))) for _ in range(3)]

        async def under_way() -> bool:
            return bool((await told(providers.counters, provider))["streams"] == 3)

        await until(under_way, "three to be on their way")
        await cancelled(silent)
        assert await transport.send(letter(provider)) == Outcome("delivered")
        assert (await told(providers.counters, provider))["connections_accepted"] == before + 1


@pytest.mark.parametrize("count", [5000])
async def test_thousands_of_errors_on_one_connection_are_answered_on_it(
    providers: Providers, provider: str, count: int
) -> None:
    """The library took no window back: after 65 535 bytes of error bodies its connection died."""
    async with opened(provider, providers, Pace(lanes=1, connect=20)) as transport:
        await transport.send(letter(provider))
        before = (await told(providers.counters, provider))["connections_accepted"]
        providers.script(provider, outcome=RETRY_WORD[provider])
        pushes, outcomes = iter(range(count if provider == "apns" else count // 5)), []

        async def send_some() -> None:
            for _ in pushes:
                outcomes.append(await transport.send(letter(provider)))

        await asyncio.gather(*(send_some() for _ in range(100)))
        assert set(kinds(outcomes)) == {("retry", RETRY_WORD[provider])}
        counted = await told(providers.counters, provider)
        assert (counted["connections_accepted"], counted["outcomes"][RETRY_WORD[provider]]) == (before, len(outcomes))


async def test_a_connection_that_breaks_takes_only_its_own_and_another_takes_its_place(
    providers: Providers, provider: str, transport: Transport
) -> None:
    await transport.send(letter(provider))
    providers.script(provider, fault="close", times=1)
    providers.script(provider, delay_ms=100)
    outcomes = kinds(await all_of(transport, [letter(provider) for _ in range(40)]))
    assert set(outcomes) == {("delivered", None), ("retry", "closed")}
    assert outcomes["delivered", None] >= 20

    async def all_back() -> bool:
        return transport.load().connections == 4

    await until(all_back, "four connections")


async def test_a_provider_that_refuses_connections_is_known_to_be_away_and_found_again(
    providers: Providers, provider: str, transport: Transport
) -> None:
    await transport.send(letter(provider))
    await told(providers.kill, provider)

    async def known() -> bool:
        return await transport.send(letter(provider)) == Outcome("retry", "unreachable")

    await until(known, "the provider to be known as away")
    await told(providers.start, provider)

    async def back() -> bool:
        return await transport.send(letter(provider)) == Outcome("delivered")

    await until(back, "the provider to be back")


async def test_a_black_hole_is_noticed_by_pings_and_by_the_time_that_connecting_takes(
    providers: Providers, provider: str
) -> None:
    async with opened(provider, providers, Pace(connect=1, ping=0.2, pong=1, rest=0.2)) as transport:
        await transport.send(letter(provider))
        await told(providers.listener, provider, "black_hole")

        async def known() -> bool:
            return await transport.send(letter(provider)) == Outcome("retry", "unreachable")

        await until(known, "the black hole to be known")
        await told(providers.start, provider)

        async def back() -> bool:
            return await transport.send(letter(provider)) == Outcome("delivered")

        await until(back, "the provider to be back")


@pytest.mark.parametrize("certificate", ["untrusted", "wrong_name", "expired"])
async def test_a_certificate_that_does_not_fit_is_never_accepted(
    providers: Providers, provider: str, certificate: str
) -> None:
    await told(providers.listener, provider, certificate, drop=True)
    before = providers.last()
    async with opened(provider, providers) as transport:
        assert await transport.send(letter(provider)) == Outcome("retry", "unreachable")
    assert providers.last() == before


async def test_idle_connections_are_kept_warm_and_pinged(providers: Providers, provider: str) -> None:
    before = providers.counters(provider)["pings"]
    async with opened(provider, providers, Pace(connect=20, ping=0.05)):

        async def pinged() -> bool:
            counted = await told(providers.counters, provider)
            return bool(counted["connections"] >= 4 and counted["pings"] - before >= 8)

        await until(pinged, "pings on four connections")


async def test_who_closes_while_pushes_are_under_way_leaves_nothing(providers: Providers, provider: str) -> None:
    transport = transport_of(provider, providers)
    transport.open()
    await transport.send(letter(provider))
    providers.script(provider, fault="silence")
    sending = [asyncio.create_task(transport.send(letter(provider))) for _ in range(5)]

    async def under_way() -> bool:
        return transport.load().streams == 5

    await until(under_way, "five to be on their way")
    await transport.close()
    assert kinds(await asyncio.gather(*sending)) == {("retry", "closed"): 5}
    assert transport.load() == (0, 0)


WINDOW = 64
REFUSAL = {"apns": "TooManyRequests", "fcm": "QUOTA_EXCEEDED"}


@asynccontextmanager
async def one_narrow_connection(provider: str, providers: Providers) -> AsyncIterator[Transport]:
    """A peer that takes so much of a body, and then asks for more."""
    providers.settings(provider, window=WINDOW, max_streams=10)
    async with opened(provider, providers, Pace(lanes=1, connect=20, rest=0.2)) as transport:
        assert await transport.send(letter(provider)) == Outcome("delivered")
        yield transport


async def test_an_early_answer_that_ends_a_stream_takes_nobody_with_it(providers: Providers, provider: str) -> None:
    """In one piece with room for the rest of its body: h2 has closed the stream when it is that body's turn."""
    async with one_narrow_connection(provider, providers) as transport:
        before = (await told(providers.counters, provider))["connections_accepted"]
        providers.script(provider, outcome=REFUSAL[provider], fault="early", times=1)
        providers.script(provider, delay_ms=100)
        outcomes = kinds(await all_of(transport, [letter(provider) for _ in range(10)]))
        assert outcomes == {("retry", REFUSAL[provider]): 1, ("delivered", None): 9}
        assert (await told(providers.counters, provider))["connections_accepted"] == before


async def test_an_early_answer_that_leaves_its_stream_open_takes_no_room_for_ever(
    providers: Providers, provider: str
) -> None:
    async with one_narrow_connection(provider, providers) as transport:
        before = await told(providers.counters, provider)
        providers.script(provider, outcome=REFUSAL[provider], fault="early_open", times=30)
        for _ in range(3):
            outcomes = kinds(await all_of(transport, [letter(provider) for _ in range(10)]))
            assert outcomes == {("retry", REFUSAL[provider]): 10}
        assert await transport.send(letter(provider)) == Outcome("delivered")
        after = await told(providers.counters, provider)
        assert after["connections_accepted"] == before["connections_accepted"]
        assert after["streams_reset_by_client"] - before["streams_reset_by_client"] == 30


async def test_who_is_cancelled_in_the_turn_in_which_room_comes_is_cancelled_and_no_more(
    providers: Providers, provider: str
) -> None:
    """It was a ValueError then: the time-outs of a provider that hangs, told as faults of ours."""
    providers.settings("apns", first_streams=1, max_streams=1)
    providers.settings("fcm", max_streams=1)
    async with opened(provider, providers, Pace(lanes=1, connect=20, rest=0.2)) as transport:
        await transport.send(letter(provider))
        providers.script(provider, fault="silence")
        sending = [asyncio.create_task(transport.send(letter(provider))) for _ in range(5)]

        async def under_way() -> bool:
            return bool((await told(providers.counters, provider))["streams"] == 1)

        await until(under_way, "one to have the only stream, and the others to wait for it")
        for task in sending:
            task.cancel()
        ends = await asyncio.gather(*sending, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 5
