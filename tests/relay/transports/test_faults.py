"""Faults of a provider, with both providers: each push has one outcome, and no stream stays open."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from relay.transports import Outcome, OutgoingPush, Transport
from relay.transports.connection_pool import PoolSettings
from tests.relay.transports.conftest import new_push, opened, transport_of
from tests.support.live import DEADLINE
from tests.support.providers import Providers

RETRY_CODE = {"apns": "ServiceUnavailable", "fcm": "UNAVAILABLE"}


async def send_all(transport: Transport, pushes: list[OutgoingPush]) -> list[Outcome]:
    return await asyncio.gather(*(transport.send(one) for one in pushes))


def kinds(outcomes: list[Outcome]) -> Counter[tuple[str, str | None]]:
    return Counter((outcome.kind, outcome.error) for outcome in outcomes)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    async with asyncio.timeout(DEADLINE):
        while not (found := await condition()):
            await asyncio.sleep(0.02)
    assert found, what
    return found


async def in_thread(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call to the control port, outside of the event loop."""
    return await asyncio.to_thread(lambda: call(*args, **kwargs))


def deliveries(providers: Providers, provider: str) -> Counter[str]:
    """How many pushes arrived for each token."""
    return Counter(push["token"] for push in providers.seen(provider))


async def test_a_reset_stream_is_retried_and_the_other_streams_are_answered(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, token="bad", fault="reset")
    pushes = [new_push(provider, "bad"), *(new_push(provider, "60") for _ in range(20))]
    first, *others = await send_all(transport, pushes)
    assert first == Outcome("retry", "stream reset")
    assert kinds(others) == {("delivered", None): 20}


async def test_a_refused_stream_is_sent_again_at_once_and_arrives_once(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, fault="refused_stream", times=3)
    pushes = [new_push(provider) for _ in range(30)]
    assert kinds(await send_all(transport, pushes)) == {("delivered", None): 30}
    assert deliveries(providers, provider) == dict.fromkeys((one.token for one in pushes), 1)


async def test_an_error_without_a_body_is_an_outcome(providers: Providers, provider: str, transport: Transport) -> None:
    providers.script(provider, outcome=RETRY_CODE[provider], fault="no_body")
    assert kinds(await send_all(transport, [new_push(provider) for _ in range(5)])) == {("retry", "http_503"): 5}


@pytest.mark.parametrize("fault", ["split_data", "empty_data"])
async def test_a_body_in_several_frames_is_one_response(
    providers: Providers, provider: str, transport: Transport, fault: str
) -> None:
    providers.script(provider, token="bad", outcome=RETRY_CODE[provider], fault=fault)
    providers.script(provider, fault=fault)
    pushes = [new_push(provider, "bad"), new_push(provider, "60")]
    assert kinds(await send_all(transport, pushes)) == {("retry", RETRY_CODE[provider]): 1, ("delivered", None): 1}


async def test_after_a_goaway_open_requests_end_and_new_ones_use_other_connections(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, fault="goaway", delay_ms=50, spread_ms=50, times=3)
    providers.script(provider, delay_ms=50)
    pushes = [new_push(provider) for _ in range(120)]
    assert kinds(await send_all(transport, pushes)) == {("delivered", None): 120}
    assert deliveries(providers, provider) == dict.fromkeys((one.token for one in pushes), 1)


async def test_streams_above_the_last_of_a_goaway_are_sent_again_and_arrive_once(
    providers: Providers, provider: str, transport: Transport
) -> None:
    providers.script(provider, fault="goaway_before", times=2)
    pushes = [new_push(provider) for _ in range(60)]
    assert kinds(await send_all(transport, pushes)) == {("delivered", None): 60}
    assert deliveries(providers, provider) == dict.fromkeys((one.token for one in pushes), 1)


async def allow_streams(providers: Providers, provider: str, streams: int) -> None:
    """Allow so many streams on each connection, and wait until the client knows."""
    await in_thread(providers.connections, provider, max_concurrent_streams=streams)

    async def acknowledged() -> bool:
        return bool((await in_thread(providers.counters, provider))["settings_unacknowledged"] == 0)

    await until(acknowledged, "settings to be acknowledged on all connections")


async def test_with_one_stream_a_connection_no_push_is_lost_and_a_higher_limit_is_used(
    providers: Providers, provider: str, transport: Transport
) -> None:
    await transport.send(new_push(provider))
    await allow_streams(providers, provider, 1)
    assert kinds(await send_all(transport, [new_push(provider) for _ in range(40)])) == {("delivered", None): 40}
    await allow_streams(providers, provider, 1000)
    providers.script(provider, fault="silence")
    sending = [asyncio.create_task(transport.send(new_push(provider))) for _ in range(80)]

    async def all_in_flight() -> bool:
        counted = await in_thread(providers.counters, provider)
        return bool(counted["streams"] == 80 and max(counted["streams_by_connection"]) <= 21)

    await until(all_in_flight, "every push to have a stream, spread over all connections")
    await cancel(sending)


async def test_only_one_stream_is_opened_until_the_first_response_if_the_provider_allows_only_one(
    providers: Providers,
) -> None:
    providers.settings("apns", first_streams=1, max_streams=1000)
    async with opened("apns", providers) as transport:
        assert kinds(await send_all(transport, [new_push("apns") for _ in range(100)])) == {("delivered", None): 100}
    assert "refused_stream" not in providers.counters("apns")["outcomes"]


async def cancel(sending: list[asyncio.Task[Outcome]]) -> None:
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)


async def test_cancelled_sends_end_no_other_request(providers: Providers, provider: str, transport: Transport) -> None:
    """aioapns set a future twice then: the connection closed, and all requests in flight were lost."""
    await transport.send(new_push(provider))
    before = (await in_thread(providers.counters, provider))["connections_accepted"]
    providers.script(provider, delay_ms=300)
    living = [asyncio.create_task(transport.send(new_push(provider, "a1"))) for _ in range(30)]
    dying = [asyncio.create_task(transport.send(new_push(provider, "de"))) for _ in range(30)]

    async def in_flight() -> bool:
        return transport.load().streams == 60

    await until(in_flight, "all to be in flight")
    await cancel(dying)
    assert kinds(await asyncio.gather(*living)) == {("delivered", None): 30}
    assert all(push["token"].startswith("a1") for push in providers.seen(provider)[1:])
    counted = await in_thread(providers.counters, provider)
    assert (counted["streams"], counted["connections_accepted"]) == (0, before)


@pytest.mark.parametrize("fault", ["silence", "stall"])
async def test_cancelling_a_push_without_a_response_frees_its_stream(
    providers: Providers, provider: str, transport: Transport, fault: str
) -> None:
    await transport.send(new_push(provider))
    before = (await in_thread(providers.counters, provider))["streams_reset_by_client"]
    providers.script(provider, token="dead", fault=fault)
    silent = [asyncio.create_task(transport.send(new_push(provider, "dead"))) for _ in range(10)]
    assert kinds(await send_all(transport, [new_push(provider, "a1") for _ in range(20)])) == {("delivered", None): 20}

    async def only_they_are_left() -> bool:
        return bool((await in_thread(providers.counters, provider))["streams"] == 10)

    await until(only_they_are_left, "ten to be on their way")
    await cancel(silent)

    async def given_back() -> bool:
        counted = await in_thread(providers.counters, provider)
        return bool(counted["streams"] == 0 and counted["streams_reset_by_client"] - before == 10)

    await until(given_back, "ten resets")


async def test_a_connection_without_responses_is_replaced(providers: Providers, provider: str) -> None:
    async with opened(
        provider, providers, PoolSettings(connections=1, connect_timeout=20, max_backoff=0.2, answer_timeout=0)
    ) as transport:
        await transport.send(new_push(provider))
        before = (await in_thread(providers.counters, provider))["connections_accepted"]
        providers.script(provider, fault="silence", times=3)
        silent = [asyncio.create_task(transport.send(new_push(provider))) for _ in range(3)]

        async def in_flight() -> bool:
            return bool((await in_thread(providers.counters, provider))["streams"] == 3)

        await until(in_flight, "three to be in flight")
        await cancel(silent)
        assert await transport.send(new_push(provider)) == Outcome("delivered")
        assert (await in_thread(providers.counters, provider))["connections_accepted"] == before + 1


@pytest.mark.parametrize("count", [5000])
async def test_thousands_of_errors_do_not_exhaust_a_connection(providers: Providers, provider: str, count: int) -> None:
    """aioapns never enlarged the window: after 65 535 bytes of error bodies its connection stopped working."""
    async with opened(provider, providers, PoolSettings(connections=1, connect_timeout=20)) as transport:
        await transport.send(new_push(provider))
        before = (await in_thread(providers.counters, provider))["connections_accepted"]
        providers.script(provider, outcome=RETRY_CODE[provider])
        pushes, outcomes = iter(range(count if provider == "apns" else count // 5)), []

        async def send_some() -> None:
            for _ in pushes:
                outcomes.append(await transport.send(new_push(provider)))

        await asyncio.gather(*(send_some() for _ in range(100)))
        assert set(kinds(outcomes)) == {("retry", RETRY_CODE[provider])}
        counted = await in_thread(providers.counters, provider)
        assert (counted["connections_accepted"], counted["outcomes"][RETRY_CODE[provider]]) == (before, len(outcomes))


async def test_a_closed_connection_ends_only_its_own_requests_and_is_replaced(
    providers: Providers, provider: str, transport: Transport
) -> None:
    await transport.send(new_push(provider))
    providers.script(provider, fault="close", times=1)
    providers.script(provider, delay_ms=100)
    outcomes = kinds(await send_all(transport, [new_push(provider) for _ in range(40)]))
    assert set(outcomes) == {("delivered", None), ("retry", "closed")}
    assert outcomes["delivered", None] >= 20

    async def all_back() -> bool:
        return transport.load().connections == 4

    await until(all_back, "four connections")


async def test_a_provider_that_refuses_connections_is_unreachable_until_it_accepts_them(
    providers: Providers, provider: str, transport: Transport
) -> None:
    await transport.send(new_push(provider))
    await in_thread(providers.kill, provider)

    async def unreachable() -> bool:
        return await transport.send(new_push(provider)) == Outcome("retry", "unreachable")

    await until(unreachable, "the provider to be unreachable")
    await in_thread(providers.start, provider)

    async def reachable() -> bool:
        return await transport.send(new_push(provider)) == Outcome("delivered")

    await until(reachable, "the provider to be reachable")


async def test_a_black_hole_is_detected_by_pings_and_by_the_connect_timeout(
    providers: Providers, provider: str
) -> None:
    async with opened(
        provider, providers, PoolSettings(connect_timeout=1, ping_interval=0.2, ping_timeout=1, max_backoff=0.2)
    ) as transport:
        await transport.send(new_push(provider))
        await in_thread(providers.listener, provider, "black_hole")

        async def unreachable() -> bool:
            return await transport.send(new_push(provider)) == Outcome("retry", "unreachable")

        await until(unreachable, "the provider to be unreachable")
        await in_thread(providers.start, provider)

        async def reachable() -> bool:
            return await transport.send(new_push(provider)) == Outcome("delivered")

        await until(reachable, "the provider to be reachable")


@pytest.mark.parametrize("certificate", ["untrusted", "wrong_name", "expired"])
async def test_an_invalid_certificate_is_never_accepted(providers: Providers, provider: str, certificate: str) -> None:
    await in_thread(providers.listener, provider, certificate, drop=True)
    before = providers.last()
    async with opened(provider, providers) as transport:
        assert await transport.send(new_push(provider)) == Outcome("retry", "unreachable")
    assert providers.last() == before


async def test_idle_connections_are_kept_warm_and_pinged(providers: Providers, provider: str) -> None:
    before = providers.counters(provider)["pings"]
    async with opened(provider, providers, PoolSettings(connect_timeout=20, ping_interval=0.05)):

        async def pinged() -> bool:
            counted = await in_thread(providers.counters, provider)
            return bool(counted["connections"] >= 4 and counted["pings"] - before >= 8)

        await until(pinged, "pings on four connections")


async def test_closing_ends_all_pushes_in_flight(providers: Providers, provider: str) -> None:
    transport = transport_of(provider, providers)
    transport.open()
    await transport.send(new_push(provider))
    providers.script(provider, fault="silence")
    sending = [asyncio.create_task(transport.send(new_push(provider))) for _ in range(5)]

    async def in_flight() -> bool:
        return transport.load().streams == 5

    await until(in_flight, "five to be in flight")
    await transport.close()
    assert kinds(await asyncio.gather(*sending)) == {("retry", "closed"): 5}
    assert transport.load() == (0, 0)


WINDOW = 64
THROTTLED = {"apns": "TooManyRequests", "fcm": "QUOTA_EXCEEDED"}


@asynccontextmanager
async def one_narrow_connection(provider: str, providers: Providers) -> AsyncIterator[Transport]:
    """A peer whose window is smaller than a body."""
    providers.settings(provider, window=WINDOW, max_streams=10)
    async with opened(
        provider, providers, PoolSettings(connections=1, connect_timeout=20, max_backoff=0.2)
    ) as transport:
        assert await transport.send(new_push(provider)) == Outcome("delivered")
        yield transport


async def test_an_early_response_that_ends_a_stream_ends_no_other(providers: Providers, provider: str) -> None:
    """The response comes together with a window update: h2 has closed the stream when the rest of its body is due."""
    async with one_narrow_connection(provider, providers) as transport:
        before = (await in_thread(providers.counters, provider))["connections_accepted"]
        providers.script(provider, outcome=THROTTLED[provider], fault="early", times=1)
        providers.script(provider, delay_ms=100)
        outcomes = kinds(await send_all(transport, [new_push(provider) for _ in range(10)]))
        assert outcomes == {("retry", THROTTLED[provider]): 1, ("delivered", None): 9}
        assert (await in_thread(providers.counters, provider))["connections_accepted"] == before


async def test_an_early_response_that_leaves_its_stream_open_does_not_hold_the_stream(
    providers: Providers, provider: str
) -> None:
    async with one_narrow_connection(provider, providers) as transport:
        before = await in_thread(providers.counters, provider)
        providers.script(provider, outcome=THROTTLED[provider], fault="early_open", times=30)
        for _ in range(3):
            outcomes = kinds(await send_all(transport, [new_push(provider) for _ in range(10)]))
            assert outcomes == {("retry", THROTTLED[provider]): 10}
        assert await transport.send(new_push(provider)) == Outcome("delivered")
        after = await in_thread(providers.counters, provider)
        assert after["connections_accepted"] == before["connections_accepted"]
        assert after["streams_reset_by_client"] - before["streams_reset_by_client"] == 30


async def test_a_send_that_is_cancelled_when_capacity_becomes_free_is_only_cancelled(
    providers: Providers, provider: str
) -> None:
    """It raised ValueError then, so that time-outs of a provider were reported as internal faults."""
    providers.settings("apns", first_streams=1, max_streams=1)
    providers.settings("fcm", max_streams=1)
    async with opened(
        provider, providers, PoolSettings(connections=1, connect_timeout=20, max_backoff=0.2)
    ) as transport:
        await transport.send(new_push(provider))
        providers.script(provider, fault="silence")
        sending = [asyncio.create_task(transport.send(new_push(provider))) for _ in range(5)]

        async def in_flight() -> bool:
            return bool((await in_thread(providers.counters, provider))["streams"] == 1)

        await until(in_flight, "one to hold the only stream, and the others to wait for it")
        for task in sending:
            task.cancel()
        ends = await asyncio.gather(*sending, return_exceptions=True)
        assert [type(end) for end in ends] == [asyncio.CancelledError] * 5
