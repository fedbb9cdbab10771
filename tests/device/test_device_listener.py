"""The listener against a relay that follows a script: every rule of the WebSocket, and every way to break one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import MovingClock
from device_fake_relay import GUARD_SECONDS, FakeRelay, Heard, Peer, Registry, Script, only_welcome, push_id
from device_fake_server import NOW, as_json, honest_info, identity, make_payload, problem

from sigil.device import Device, DeviceError, ServerPin, verify_info, verify_payload
from sigil.device.client import Inbox, RefusedPayload
from sigil.device.refusals import RespondToForeign, ServerRefused, Unreachable
from sigil.device.relay import (
    Asked,
    Cleared,
    Connected,
    Disconnected,
    Gone,
    Ignored,
    Listener,
    Pace,
    PendingFailed,
    Refused,
    Registered,
    RelayClient,
    Repeated,
)
from sigil.device.relay.listener import MAX_WAITING
from sigil.device.relay.refusals import NotRegisteredAtRelay, RelayAuthRefused, Replaced

SERVER = identity()
PIN: ServerPin = verify_info(as_json(honest_info(SERVER)), "https://auth.example.com")
DEVICE = Device.generate()


def payload(number: int = 1, **changes: Any) -> dict[str, Any]:
    return make_payload(SERVER, DEVICE.public, number=number, **changes)


def reference(number: int = 1, **changes: Any) -> dict[str, Any]:
    whole = payload(number)
    return {name: whole[name] for name in ("type", "challenge_id", "server_id")} | changes


class Pending:
    """What the server would list; `failures` come first."""

    def __init__(self) -> None:
        self.listed: list[dict[str, Any]] = []
        self.refused: list[RefusedPayload] = []
        self.failures: list[DeviceError] = []
        self.asked = 0

    async def __call__(self) -> Inbox:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        shown = [verify_payload(as_json(item), PIN, DEVICE.public, NOW) for item in self.listed]
        return Inbox(shown, list(self.refused))


class Run:
    """A listener on a scripted relay, and all that it told."""

    def __init__(self, relay: FakeRelay, listener: Listener, heard: Heard, registry: Registry) -> None:
        self.relay, self.listener, self.heard, self.registry = relay, listener, heard, registry
        self.slept: list[float] = []
        self.task: asyncio.Task[None] = asyncio.create_task(listener.run())

    async def ended(self) -> None:
        async with asyncio.timeout(GUARD_SECONDS):
            await self.task


Listen = Callable[..., Any]


@pytest.fixture
def listen(clock: MovingClock) -> Listen:
    """Chance gives the ceiling, so that waits are known; sleeping takes none."""

    @asynccontextmanager
    async def listening(
        *scripts: Script,
        inbox: Callable[[], Awaitable[Inbox]] | None = None,
        registers_again: bool = False,
        monotonic: Callable[[], float] = lambda: 0.0,
        silence: float = float(GUARD_SECONDS),
    ) -> AsyncIterator[Run]:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            await asyncio.sleep(0)

        pace = Pace(clock, monotonic, sleep, lambda low, high: high, silence)
        heard = Heard()
        async with FakeRelay(*scripts) as relay:
            registry = Registry(relay.origin)
            async with RelayClient(relay.origin, transport=registry.transport()) as client:
                listener = Listener(DEVICE, client, PIN, heard, inbox=inbox, registers_again=registers_again, pace=pace)
                run = Run(relay, listener, heard, registry)
                run.slept = slept
                try:
                    yield run
                finally:
                    heard.release()
                    run.task.cancel()
                    await asyncio.wait([run.task])

    return listening


def pushing(*payloads: dict[str, Any]) -> Script:
    """Pushes with the numbers 1, 2, …, each acknowledged before the next."""

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for number, item in enumerate(payloads, start=1):
            await peer.push(item, number)
            await peer.acknowledged(number)
        await peer.gone()

    return script


def closing(code: int) -> Script:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.close(code)

    return script


async def breaking_off(peer: Peer) -> None:
    await peer.welcome()
    peer.connection.transport.abort()


def turning_away(error: str) -> Script:
    return lambda peer: peer.turn_away(error)


async def test_a_challenge_is_told_whole_and_acknowledged(listen: Listen) -> None:
    async with listen(pushing(payload())) as run:
        asked = await run.heard.until(Asked)
        assert asked.push_id == push_id(1)
        assert asked.shown == verify_payload(as_json(payload()), PIN, DEVICE.public, NOW)
        assert run.heard.of(Connected) == [Connected(run.relay.origin)]


async def test_an_acknowledgement_waits_for_the_device_and_pings_do_not(listen: Listen) -> None:
    order: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await run.heard.until(Connected)
        run.heard.hold()
        await peer.push(payload())
        await run.heard.until(Asked)
        for _ in range(3):
            await peer.say(type="ping")
            order.append((await peer.heard())["type"])
        run.heard.release()
        order.append((await peer.heard())["type"])

    async with listen(script) as run:
        await run.heard.until(Disconnected)
        assert order == ["pong", "pong", "pong", "ack"]


async def test_a_push_that_comes_again_is_acknowledged_again_and_told_once(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for _ in range(3):
            await peer.push(payload())
            await peer.acknowledged()
        await peer.gone()

    async with listen(script) as run:
        await run.heard.until(Repeated, 2)
        assert len(run.heard.of(Asked)) == 1


async def test_a_second_push_of_one_challenge_is_a_repeat(listen: Listen) -> None:
    async with listen(pushing(payload(), payload(), payload(2))) as run:
        await run.heard.until(Asked, 2)
        assert run.heard.of(Repeated) == [Repeated(payload()["challenge_id"], push_id(2))]


async def test_repeats_are_known_after_a_reconnect(listen: Listen) -> None:
    async with listen(pushing_then(payload(), breaking_off=True), pushing(payload())) as run:
        await run.heard.until(Repeated)
        assert len(run.heard.of(Asked)) == 1


def pushing_then(item: dict[str, Any], *, breaking_off: bool) -> Script:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.push(item)
        await peer.acknowledged()
        if breaking_off:
            peer.connection.transport.abort()

    return script


ANOTHER = identity(50)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "signed by another server": (
        make_payload(ANOTHER, DEVICE.public, server_id=SERVER.server_id),
        "SERVER_SIGNATURE_INVALID",
    ),
    "of another server": (make_payload(ANOTHER, DEVICE.public), "SERVER_NOT_PINNED"),
    "for another device": (payload(fingerprint="ab" * 32), "NOT_THIS_DEVICE"),
    "expired": (payload(expires_at=int(NOW) - 100), "CHALLENGE_EXPIRED"),
    "answered elsewhere": (payload(respond_to="https://evil.example/respond"), "RESPOND_TO_FOREIGN"),
    "changed": (payload() | {"number_matching": True}, "CHALLENGE_BYTES_MISMATCH"),
    "with another action": (payload() | {"action": {"type": "x", "description": "y"}}, "ACTION_REFUSED"),
    "without a nonce": ({k: v for k, v in payload().items() if k != "nonce"}, "PAYLOAD_MALFORMED"),
    "with an id that is none": (payload() | {"challenge_id": 7}, "PAYLOAD_MALFORMED"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_challenge_that_fails_a_check_is_refused_once_and_never_told(listen: Listen, name: str) -> None:
    bad, code = REFUSED[name]
    async with listen(pushing(bad, payload(9))) as run:
        await run.heard.until(Asked)
        assert [refused.error.code for refused in run.heard.of(Refused)] == [code]
        assert [asked.shown.challenge_id for asked in run.heard.of(Asked)] == [payload(9)["challenge_id"]]


async def test_a_forgery_cannot_have_the_real_one_taken_for_a_repeat(listen: Listen) -> None:
    forged = payload() | {"server_signature": payload(2)["server_signature"]}
    early_clear = {"type": "clear", "challenge_id": payload()["challenge_id"], "status": "verified"}
    async with listen(pushing(forged, early_clear, payload())) as run:
        assert (await run.heard.until(Asked)).push_id == push_id(3)
        assert len(run.heard.of(Refused)) == 1


async def test_a_reference_is_fetched_checked_and_acknowledged(listen: Listen) -> None:
    pending = Pending()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        while not pending.asked:
            await asyncio.sleep(0)
        pending.listed = [payload(1), payload(2)]
        await peer.push(reference(1), 1)
        await peer.acknowledged(1)
        await peer.push(reference(2), 2)
        await peer.acknowledged(2)
        await peer.gone()

    async with listen(script, inbox=pending) as run:
        await run.heard.until(Repeated)
        assert len(run.heard.of(Asked)) == 2
        # One after the connect, one for the first reference; it brought the second challenge, too.
        assert pending.asked == 2


async def test_a_reference_to_what_is_over_is_acknowledged(listen: Listen) -> None:
    async with listen(pushing(reference()), inbox=Pending()) as run:
        assert await run.heard.until(Gone) == Gone(payload()["challenge_id"], push_id(1))


async def test_a_reference_that_cannot_be_fetched_is_not_acknowledged_and_comes_again(listen: Listen) -> None:
    pending = Pending()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.push(payload(8), 8)
        await peer.acknowledged(8)
        pending.failures, pending.listed = [Unreachable()], [payload()]
        await peer.push(reference())
        await run.heard.until(PendingFailed)
        await peer.push(reference())
        await peer.acknowledged()
        await peer.gone()

    async with listen(script, inbox=pending) as run:
        assert (await run.heard.until(Asked, 2)).shown.challenge_id == payload()["challenge_id"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (reference(server_id="ab" * 32), "SERVER_NOT_PINNED"),
        (reference(challenge_id="1"), "PAYLOAD_MALFORMED"),
        (reference(server_id=None), "PAYLOAD_MALFORMED"),
    ],
)
async def test_a_bad_reference_is_refused_unfetched(listen: Listen, bad: dict[str, Any], code: str) -> None:
    pending = Pending()
    async with listen(pushing(bad), inbox=pending) as run:
        assert (await run.heard.until(Refused)).error.code == code


async def test_a_reference_is_refused_where_nothing_can_be_fetched(listen: Listen) -> None:
    async with listen(pushing(reference())) as run:
        assert (await run.heard.until(Refused)).error.code == "PAYLOAD_MALFORMED"


async def test_a_clear_is_told_and_does_nothing_else(listen: Listen) -> None:
    pending = Pending()
    clear = {"type": "clear", "challenge_id": payload()["challenge_id"], "status": "cancelled"}

    async def again(peer: Peer) -> None:
        pending.listed = [payload()]
        await peer.welcome()
        await peer.gone()

    async with listen(pushing_all_then_break(payload(), clear, payload()), again, inbox=pending) as run:
        # A late push of it is a repeat; but what the server still lists was cleared by nobody who may.
        assert (await run.heard.until(Asked, 2)).push_id is None
        assert run.heard.of(Cleared) == [Cleared(payload()["challenge_id"], "cancelled", push_id(2))]
        assert len(run.heard.of(Repeated)) == 1


def pushing_all_then_break(*payloads: dict[str, Any]) -> Script:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for number, item in enumerate(payloads, start=1):
            await peer.push(item, number)
            await peer.acknowledged(number)
        peer.connection.transport.abort()

    return script


@pytest.mark.parametrize(
    "unknown",
    [
        {"type": "mpa", "mpa_id": "x"},
        {"type": "clear"},
        {"type": "clear", "challenge_id": 1},
        {"type": "ping"},
        {"type": "x" * 500},
        {"type": "later", "deep": [[[1]]]},
    ],
)
async def test_a_push_of_an_unknown_type_is_acknowledged_and_ignored(listen: Listen, unknown: dict[str, Any]) -> None:
    async with listen(pushing(unknown, payload())) as run:
        await run.heard.until(Asked)
        assert run.heard.of(Ignored) == [Ignored(unknown["type"][:64], push_id(1))]


async def test_an_unknown_message_of_the_relay_itself_is_ignored(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.say(type="motd", text="hello")
        await peer.push(payload())
        await peer.acknowledged()
        await peer.gone()

    async with listen(script) as run:
        await run.heard.until(Asked)
        assert run.heard.of(Ignored) == [Ignored("motd", None)]


@pytest.mark.parametrize("code", [1000, 1003, 1009, 1011, 1013, 4001, 4002, 4003, 4004])
async def test_a_closed_connection_is_made_again(listen: Listen, code: int) -> None:
    async with listen(closing(code)) as run:
        await run.heard.until(Connected, 2)
        (lost,) = run.heard.of(Disconnected)
        assert (lost.close_code, lost.seconds) == (code, 1.0)


async def test_a_connection_that_breaks_off_is_made_again(listen: Listen) -> None:
    async with listen(breaking_off) as run:
        await run.heard.until(Connected, 2)
        assert run.heard.of(Disconnected)[0].close_code is None


async def test_a_relay_that_shuts_down_is_asked_again_soon_however_often(listen: Listen) -> None:
    async with listen(*[closing(1001)] * 8) as run:
        await run.heard.until(Connected, 9)
        assert run.slept == [5.0] * 8


async def test_waits_double_up_to_a_minute_and_begin_anew_after_a_stable_one(listen: Listen) -> None:
    times = iter([0.0, 1.0] * 8 + [0.0, 60.0] + [0.0] * 100)
    async with listen(*[breaking_off] * 9, monotonic=lambda: next(times)) as run:
        await run.heard.until(Connected, 10)
        assert run.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 1.0]


async def test_waits_are_drawn_from_nothing_to_the_ceiling() -> None:
    drawn: list[tuple[float, float]] = []
    backoff = Pace(uniform=lambda low, high: drawn.append((low, high)) or 0.5).backoff()  # type: ignore[func-returns-value]
    assert [backoff.next(), backoff.next(), backoff.soon()] == [0.5] * 3
    assert drawn == [(0.0, 1.0), (0.0, 2.0), (0.0, 5.0)]


async def test_a_relay_that_is_not_there_is_waited_for(listen: Listen, clock: MovingClock) -> None:
    async with FakeRelay() as gone:
        origin = gone.origin
    heard, waited = Heard(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waited.set()
        await asyncio.sleep(0)

    async with RelayClient(origin) as client:
        run = asyncio.create_task(Listener(DEVICE, client, PIN, heard, pace=Pace(sleep=sleep)).run())
        lost = await heard.until(Disconnected, 3)
        run.cancel()
        await asyncio.wait([run])
    assert origin in lost.reason


async def test_a_newer_connection_ends_this_one_for_good(listen: Listen) -> None:
    async with listen(closing(4000)) as run:
        with pytest.raises(Replaced):
            await run.ended()
        assert len(run.relay.peers) == 1


async def test_a_device_that_was_never_registered_is_told_what_to_do(listen: Listen) -> None:
    async with listen(turning_away("not_registered")) as run:
        with pytest.raises(NotRegisteredAtRelay, match="sigil device register"):
            await run.ended()
        assert run.registry.registered == []


async def test_a_lost_registration_is_made_again_by_itself(listen: Listen) -> None:
    async with listen(turning_away("not_registered"), registers_again=True) as run:
        await run.heard.until(Connected)
        assert run.heard.of(Registered) == [Registered(run.relay.origin)]
        assert [given["push_platform"] for given in run.registry.registered] == ["websocket"]


async def test_a_registration_that_does_not_help_is_not_made_for_ever(listen: Listen) -> None:
    async with listen(*[turning_away("not_registered")] * 2, registers_again=True) as run:
        with pytest.raises(NotRegisteredAtRelay):
            await run.ended()
        assert len(run.registry.registered) == 1


async def test_a_registration_is_made_again_whenever_it_was_lost_since(listen: Listen) -> None:
    lost = turning_away("not_registered")
    async with listen(lost, breaking_off, lost, registers_again=True) as run:
        await run.heard.until(Connected, 2)
        assert len(run.registry.registered) == 2


async def test_a_relay_too_busy_to_register_is_asked_again(listen: Listen) -> None:
    lost = turning_away("not_registered")
    async with listen(lost, lost, lost, registers_again=True) as run:
        run.registry.failures = [problem(503, "OVERLOADED"), problem(429, "RATE_LIMITED")]
        await run.heard.until(Connected)
        assert run.slept == [1.0, 2.0]


async def test_a_registration_that_is_refused_ends_it(listen: Listen) -> None:
    async with listen(turning_away("not_registered"), registers_again=True) as run:
        run.registry.failures = [problem(401, "INVALID_SIGNATURE")]
        with pytest.raises(ServerRefused, match="RELAY_PUBLIC_URL"):
            await run.ended()


async def test_a_signature_that_the_relay_refuses_ends_it_with_what_to_look_at(listen: Listen) -> None:
    async with listen(turning_away("invalid_signature")) as run:
        with pytest.raises(RelayAuthRefused, match=r"invalid_signature.*RELAY_PUBLIC_URL"):
            await run.ended()


async def test_a_close_with_4003_instead_of_a_reason_ends_it_too(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.asked_who()
        await peer.close(4003)

    async with listen(script) as run:
        with pytest.raises(RelayAuthRefused):
            await run.ended()


async def _short_challenge(peer: Peer) -> None:
    await peer.say(type="auth_challenge", challenge="AAAA", expires_at="2027-01-15T08:00:30Z")
    await peer.gone()


async def _no_challenge(peer: Peer) -> None:
    await peer.raw("hello")
    await peer.gone()


async def _another_device(peer: Peer) -> None:
    await peer.asked_who()
    await peer.say(type="auth_success", fingerprint="ab" * 32)
    await peer.gone()


async def _closed_before(peer: Peer) -> None:
    await peer.close(1013)


@pytest.mark.parametrize("script", [_short_challenge, _no_challenge, _another_device, _closed_before, closing(1001)])
async def test_a_relay_that_authenticates_wrongly_is_left_and_tried_again(listen: Listen, script: Script) -> None:
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
async def test_a_frame_that_is_none_ends_the_connection_and_nothing_more(
    listen: Listen, frame: str | bytes, code: int
) -> None:
    closed: list[int | None] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.raw(frame)
        closed.append(await peer.gone())

    async with listen(script, pushing(payload())) as run:
        await run.heard.until(Asked)
        assert closed == [code]
        assert run.heard.of(Refused) == []


async def test_text_that_is_no_utf_8_ends_the_connection(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.connection.send(b"\xff\xfe", text=True)
        await peer.gone()

    async with listen(script) as run:
        await run.heard.until(Connected, 2)


async def test_a_payload_of_the_largest_size_is_taken(listen: Listen) -> None:
    async with listen(pushing({"type": "later", "x": "x" * 3072})) as run:
        await run.heard.until(Ignored)


async def test_a_relay_that_falls_silent_is_left(listen: Listen) -> None:
    async with listen(only_welcome, silence=0.01) as run:
        await run.heard.until(Connected, 2)
        assert "Nothing came" in run.heard.of(Disconnected)[0].reason


async def test_what_is_pending_is_asked_after_every_connect(listen: Listen) -> None:
    pending = Pending()
    pending.listed = [payload()]
    pending.refused = [RefusedPayload("x", RespondToForeign())]
    async with listen(breaking_off, inbox=pending) as run:
        await run.heard.until(Connected, 2)
        while pending.asked < 2:
            await asyncio.sleep(0)
        assert (await run.heard.until(Asked)).push_id is None
        assert (len(run.heard.of(Asked)), len(run.heard.of(Refused))) == (1, 1)


async def test_a_server_that_cannot_be_asked_now_is_asked_later(listen: Listen) -> None:
    pending = Pending()
    pending.listed, pending.failures = [payload()], [Unreachable(), ServerRefused(503, "OVERLOADED", "Later.")]
    async with listen(only_welcome, inbox=pending) as run:
        await run.heard.until(Asked)
        assert (len(run.heard.of(PendingFailed)), run.slept) == (2, [1.0, 2.0])


async def test_a_server_that_refuses_to_be_asked_is_told_once_and_pushes_come_all_the_same(listen: Listen) -> None:
    pending = Pending()
    pending.failures = [ServerRefused(401, "INVALID_SIGNATURE", "No.")] * 9
    async with listen(pushing(payload()), inbox=pending) as run:
        await run.heard.until(Asked)
        await run.heard.until(PendingFailed)
        assert pending.asked == 1


async def test_what_could_not_be_answered_is_told_once_more(listen: Listen) -> None:
    pending = Pending()
    pending.listed = [payload()]
    async with listen(only_welcome, inbox=pending) as run:
        await run.heard.until(Asked)
        run.listener.ask_again(payload()["challenge_id"])
        await run.heard.until(Asked, 2)


async def test_stopping_acknowledges_what_was_told_and_closes_in_order(listen: Listen) -> None:
    closed: list[int | None] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await run.heard.until(Connected)
        run.heard.hold()
        await peer.push(payload())
        await run.heard.until(Asked)
        run.listener.stop()
        run.heard.release()
        await peer.acknowledged()
        closed.append(await peer.gone())

    async with listen(script) as run:
        await run.ended()
        assert closed == [1000]


async def test_more_than_can_wait_is_let_go_unacknowledged_and_pings_are_answered(listen: Listen) -> None:
    acknowledged: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await run.heard.until(Connected)
        run.heard.hold()
        for number in range(MAX_WAITING + 50):
            await peer.push({"type": "later"}, number)
        await peer.say(type="ping")
        assert await peer.heard() == {"type": "pong"}
        run.heard.release()
        for _ in range(MAX_WAITING):
            acknowledged.append((await peer.heard())["push_id"])
        await peer.push({"type": "later"}, MAX_WAITING + 40)
        while (last := (await peer.heard())["push_id"]) != push_id(MAX_WAITING + 40):
            acknowledged.append(last)

    async with listen(script) as run:
        await run.heard.until(Disconnected)
        assert len(acknowledged) in {MAX_WAITING, MAX_WAITING + 1}


async def test_a_fault_of_the_callers_own_is_not_swallowed(listen: Listen, clock: MovingClock) -> None:
    async def faulty(_event: object) -> None:
        raise ZeroDivisionError

    async with FakeRelay(only_welcome) as relay, RelayClient(relay.origin) as client:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(Listener(DEVICE, client, PIN, faulty).run(), GUARD_SECONDS)
