"""A listener's connection: every close code, every failure, and the errors that end it."""

from __future__ import annotations

import asyncio

import pytest

from sigil.device.errors import ServerRefused
from sigil.device.relay import (
    Connected,
    Disconnected,
    Listener,
    ListenerTiming,
    Received,
    Refused,
    Registered,
    RelayClient,
)
from sigil.device.relay.errors import NotRegisteredAtRelay, RelayAuthRefused, Replaced
from sigil.device.relay.recent import Recent
from tests.device.clock import MovingClock
from tests.device.fake_relay import GUARD_SECONDS, FakeRelay, Heard, Peer, Script, only_welcome
from tests.device.fake_server import problem
from tests.device.listening import DEVICE, PIN, Listen, breaking_off, closing, payload, pushing, rejecting_auth


@pytest.mark.parametrize("code", [1000, 1003, 1009, 1011, 1013, 4001, 4002, 4003, 4004])
async def test_the_listener_reconnects_after_a_close(listen: Listen, code: int) -> None:
    async with listen(closing(code)) as run:
        await run.heard.until(Connected, 2)
        (lost,) = run.heard.of(Disconnected)
        assert (lost.close_code, lost.seconds) == (code, 1.0)


async def test_the_listener_reconnects_after_a_broken_connection(listen: Listen) -> None:
    async with listen(breaking_off) as run:
        await run.heard.until(Connected, 2)
        assert run.heard.of(Disconnected)[0].close_code is None


async def test_the_listener_reconnects_soon_after_every_shutdown(listen: Listen) -> None:
    async with listen(*[closing(1001)] * 8) as run:
        await run.heard.until(Connected, 9)
        assert run.slept == [5.0] * 8


async def test_waits_double_up_to_a_minute_and_restart_after_a_stable_minute(listen: Listen) -> None:
    times = iter([0.0, 1.0] * 8 + [0.0, 60.0] + [0.0] * 100)
    async with listen(*[breaking_off] * 9, monotonic=lambda: next(times)) as run:
        await run.heard.until(Connected, 10)
        assert run.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 1.0]


async def test_waits_are_random_between_0_and_the_ceiling() -> None:
    drawn: list[tuple[float, float]] = []
    backoff = ListenerTiming(uniform=lambda low, high: drawn.append((low, high)) or 0.5).backoff()  # type: ignore[func-returns-value]
    assert [backoff.next(), backoff.next(), backoff.soon()] == [0.5] * 3
    assert drawn == [(0.0, 1.0), (0.0, 2.0), (0.0, 5.0)]


def test_the_wait_stays_at_a_minute_after_months() -> None:
    backoff = ListenerTiming(uniform=lambda low, high: high).backoff()
    assert [backoff.next() for _ in range(5000)][-1] == 60.0


async def test_the_listener_keeps_trying_an_unreachable_relay(listen: Listen, clock: MovingClock) -> None:
    async with FakeRelay() as gone:
        origin = gone.origin
    heard, waited = Heard(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waited.set()
        await asyncio.sleep(0)

    async with RelayClient(origin) as client:
        run = asyncio.create_task(Listener(DEVICE, client, PIN, heard, timing=ListenerTiming(sleep=sleep)).run())
        lost = await heard.until(Disconnected, 3)
        run.cancel()
        await asyncio.wait([run])
    assert origin in lost.reason


async def test_a_newer_connection_ends_this_one_permanently(listen: Listen) -> None:
    async with listen(closing(4000)) as run:
        with pytest.raises(Replaced):
            await run.ended()
        assert len(run.relay.peers) == 1


async def test_a_device_that_was_never_registered_gets_an_error_with_the_command(listen: Listen) -> None:
    async with listen(rejecting_auth("not_registered")) as run:
        with pytest.raises(NotRegisteredAtRelay, match="sigil device register"):
            await run.ended()
        assert run.registry.registered == []


async def test_a_lost_registration_is_repeated(listen: Listen) -> None:
    async with listen(rejecting_auth("not_registered"), reregister=True) as run:
        await run.heard.until(Connected)
        assert run.heard.of(Registered) == [Registered(run.relay.origin)]
        assert [given["push_platform"] for given in run.registry.registered] == ["websocket"]


async def test_a_registration_without_effect_is_not_repeated(listen: Listen) -> None:
    async with listen(*[rejecting_auth("not_registered")] * 2, reregister=True) as run:
        with pytest.raises(NotRegisteredAtRelay):
            await run.ended()
        assert len(run.registry.registered) == 1


async def test_a_registration_is_repeated_each_time_it_was_lost(listen: Listen) -> None:
    lost = rejecting_auth("not_registered")
    async with listen(lost, breaking_off, lost, reregister=True) as run:
        await run.heard.until(Connected, 2)
        assert len(run.registry.registered) == 2


async def test_a_registration_at_a_busy_relay_is_retried(listen: Listen) -> None:
    lost = rejecting_auth("not_registered")
    async with listen(lost, lost, lost, reregister=True) as run:
        run.registry.failures = [problem(503, "OVERLOADED"), problem(429, "RATE_LIMITED")]
        await run.heard.until(Connected)
        assert run.slept == [1.0, 2.0]


async def test_a_rejected_registration_ends_the_listener(listen: Listen) -> None:
    async with listen(rejecting_auth("not_registered"), reregister=True) as run:
        run.registry.failures = [problem(401, "INVALID_SIGNATURE")]
        with pytest.raises(ServerRefused, match="RELAY_PUBLIC_URL"):
            await run.ended()


async def test_a_rejected_signature_ends_the_listener_with_a_hint(listen: Listen) -> None:
    async with listen(rejecting_auth("invalid_signature")) as run:
        with pytest.raises(RelayAuthRefused, match=r"invalid_signature.*RELAY_PUBLIC_URL"):
            await run.ended()


async def test_a_close_with_4003_without_a_reason_ends_the_listener(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.authenticate()
        await peer.close(4003)

    async with listen(script) as run:
        with pytest.raises(RelayAuthRefused):
            await run.ended()


async def _short_challenge(peer: Peer) -> None:
    await peer.send(type="auth_challenge", challenge="AAAA", expires_at="2027-01-15T08:00:30Z")
    await peer.gone()


async def _no_challenge(peer: Peer) -> None:
    await peer.raw("hello")
    await peer.gone()


async def _another_device(peer: Peer) -> None:
    await peer.authenticate()
    await peer.send(type="auth_success", fingerprint="ab" * 32)
    await peer.gone()


async def _closed_before(peer: Peer) -> None:
    await peer.close(1013)


@pytest.mark.parametrize("script", [_short_challenge, _no_challenge, _another_device, _closed_before, closing(1001)])
async def test_a_malformed_authentication_is_retried(listen: Listen, script: Script) -> None:
    async with listen(script) as run:
        await run.heard.until(Disconnected)
        await run.heard.until(Connected)


async def test_a_shutdown_before_the_authentication_counts_as_a_failure(listen: Listen) -> None:
    async def draining(peer: Peer) -> None:
        await peer.close(1001)

    async with listen(*[draining] * 3) as run:
        await run.heard.until(Connected)
        assert run.slept == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ('{"type":"later","x":"' + "x" * 8192 + '"}', 1009),
        (b"\x00\x01", 1000),
        ("no json", 1000),
        ("[]", 1000),
        ('{"no":"type"}', 1000),
        ('{"type":"challenge","push_id":""}', 1000),
        ('{"type":"challenge","push_id":"' + "a" * 129 + '"}', 1000),
        ("[" * 5000, 1000),
    ],
)
async def test_a_malformed_frame_ends_only_the_connection(listen: Listen, frame: str | bytes, code: int) -> None:
    closed: list[int | None] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.raw(frame)
        closed.append(await peer.gone())

    async with listen(script, pushing(payload())) as run:
        await run.heard.until(Received)
        assert closed == [code]
        assert run.heard.of(Refused) == []


async def test_text_that_is_not_utf_8_ends_the_connection(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.connection.send(b"\xff\xfe", text=True)
        await peer.gone()

    async with listen(script) as run:
        await run.heard.until(Connected, 2)


async def test_a_silent_relay_is_disconnected(listen: Listen) -> None:
    async with listen(only_welcome, silence=0.01) as run:
        await run.heard.until(Connected, 2)
        assert "sent nothing" in run.heard.of(Disconnected)[0].reason


async def test_stopping_acknowledges_reported_pushes_and_closes_orderly(listen: Listen) -> None:
    closed: list[int | None] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await run.heard.until(Connected)
        run.heard.hold()
        await peer.push(payload())
        await run.heard.until(Received)
        run.listener.stop()
        # The connection is still open.
        await peer.send(type="ping")
        assert await peer.receive() == {"type": "pong"}
        run.heard.release()
        await peer.acknowledged()
        closed.append(await peer.gone())

    async with listen(script) as run:
        await run.ended()
        assert closed == [1000]


async def test_an_error_of_the_caller_is_raised(listen: Listen, clock: MovingClock) -> None:
    async def faulty(_event: object) -> None:
        raise ZeroDivisionError

    async with FakeRelay(only_welcome) as relay, RelayClient(relay.origin) as client:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(Listener(DEVICE, client, PIN, faulty).run(), GUARD_SECONDS)


def test_recent_names_are_bounded_and_used_ones_stay() -> None:
    recent: Recent[int] = Recent(3)
    for name in ("a", "b", "c"):
        recent.put(name, 1)
    assert recent.get("a") == 1
    recent.put("d", 2)
    recent.put("d", 3)
    assert [recent.get(name) for name in ("a", "b", "c", "d")] == [1, None, 1, 3]
    assert len(recent) == 3
    recent.forget("d")
    recent.forget("d")
    assert recent.get("d") is None
