"""A listener checks each push, reports it once, and acknowledges it when the device has accepted it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from sigil.device import verify_payload
from sigil.device.approval_checks import verify_mpa_payload
from sigil.device.client import RefusedPayload
from sigil.device.errors import RespondToForeign, ServerRefused, Unreachable
from sigil.device.relay import (
    Cleared,
    Connected,
    Disconnected,
    Gone,
    Ignored,
    PendingFailed,
    Received,
    Refused,
    Repeated,
)
from sigil.device.relay.listener import MAX_QUEUED, WAITED_SECONDS
from tests.device.fake_relay import Peer, only_welcome, push_id
from tests.device.fake_server import NOW, as_json, identity, make_payload
from tests.device.listening import (
    DEVICE,
    PIN,
    SERVER,
    Listen,
    Pending,
    breaking_off,
    mpa_payload,
    payload,
    pushing,
    pushing_then_breaking_off,
    reference,
)


async def test_a_challenge_is_reported_with_all_members_and_acknowledged(listen: Listen) -> None:
    async with listen(pushing(payload())) as run:
        received = await run.heard.until(Received)
        assert received.push_id == push_id(1)
        assert received.shown == verify_payload(as_json(payload()), PIN, DEVICE.public, NOW)
        assert run.heard.of(Connected) == [Connected(run.relay.origin)]


async def test_an_approval_request_is_reported_once_cleared_and_acknowledged(listen: Listen) -> None:
    clear = {"type": "clear", "mpa_id": mpa_payload()["mpa_id"], "status": "approved"}
    async with listen(pushing(mpa_payload(), mpa_payload(), clear)) as run:
        received = await run.heard.until(Received)
        assert received.shown == verify_mpa_payload(as_json(mpa_payload()), PIN, DEVICE.public, NOW)
        assert await run.heard.until(Cleared) == Cleared(mpa_payload()["mpa_id"], "approved", push_id(3))
        assert len(run.heard.of(Received)) == 1
        assert run.heard.of(Repeated) == [Repeated(mpa_payload()["mpa_id"], push_id(2))]


async def test_an_approval_request_by_reference_is_fetched(listen: Listen) -> None:
    pending, pushed = Pending(), {name: mpa_payload()[name] for name in ("type", "mpa_id", "server_id")}
    pending.listed = [mpa_payload()]
    async with listen(pushing(pushed), inbox=pending) as run:
        assert (await run.heard.until(Received)).shown.id == mpa_payload()["mpa_id"]


async def test_a_tampered_approval_request_is_refused(listen: Listen) -> None:
    bad = mpa_payload() | {"server_signature": mpa_payload(2)["server_signature"]}
    async with listen(pushing(bad, mpa_payload(9))) as run:
        await run.heard.until(Received)
        assert [refused.error.code for refused in run.heard.of(Refused)] == ["SERVER_SIGNATURE_INVALID"]
        assert [refused.challenge_id for refused in run.heard.of(Refused)] == [mpa_payload()["mpa_id"]]


async def test_an_acknowledgement_waits_for_the_device_and_pings_do_not(listen: Listen) -> None:
    order: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await run.heard.until(Connected)
        run.heard.hold()
        await peer.push(payload())
        await run.heard.until(Received)
        for _ in range(3):
            await peer.send(type="ping")
            order.append((await peer.receive())["type"])
        run.heard.release()
        order.append((await peer.receive())["type"])

    async with listen(script) as run:
        await run.heard.until(Disconnected)
        assert order == ["pong", "pong", "pong", "ack"]


async def test_a_repeated_push_is_acknowledged_again_and_reported_once(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for _ in range(3):
            await peer.push(payload())
            await peer.acknowledged()
        await peer.gone()

    async with listen(script) as run:
        await run.heard.until(Repeated, 2)
        assert len(run.heard.of(Received)) == 1


@pytest.mark.parametrize("item", [{"type": "later"}, payload(respond_to="https://evil.example/respond")])
async def test_an_ignored_or_refused_push_is_reported_once_too(listen: Listen, item: dict[str, Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for _ in range(2):
            await peer.push(item)
            await peer.acknowledged()
        await peer.gone()

    async with listen(script) as run:
        await run.heard.until(Repeated)
        assert len(run.heard.of(Ignored) + run.heard.of(Refused)) == 1


async def test_a_second_push_of_one_challenge_is_a_repeat(listen: Listen) -> None:
    async with listen(pushing(payload(), payload(), payload(2))) as run:
        await run.heard.until(Received, 2)
        assert run.heard.of(Repeated) == [Repeated(payload()["challenge_id"], push_id(2))]


async def test_repeats_are_detected_after_a_reconnect(listen: Listen) -> None:
    async with listen(pushing_then_breaking_off(payload()), pushing(payload())) as run:
        await run.heard.until(Repeated)
        assert len(run.heard.of(Received)) == 1


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
    "with a malformed id": (payload() | {"challenge_id": 7}, "PAYLOAD_MALFORMED"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_challenge_that_fails_a_check_is_refused_once_and_never_shown(listen: Listen, name: str) -> None:
    bad, code = REFUSED[name]
    async with listen(pushing(bad, payload(9))) as run:
        await run.heard.until(Received)
        assert [refused.error.code for refused in run.heard.of(Refused)] == [code]
        assert [event.shown.challenge_id for event in run.heard.of(Received)] == [payload(9)["challenge_id"]]


async def test_a_forgery_cannot_make_the_real_push_a_repeat(listen: Listen) -> None:
    forged = payload() | {"server_signature": payload(2)["server_signature"]}
    early_clear = {"type": "clear", "challenge_id": payload()["challenge_id"], "status": "verified"}
    async with listen(pushing(forged, early_clear, payload())) as run:
        assert (await run.heard.until(Received)).push_id == push_id(3)
        assert len(run.heard.of(Refused)) == 1


async def test_a_reference_is_fetched_checked_and_acknowledged(listen: Listen) -> None:
    pending = Pending()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await pending.until_fetched(1)
        pending.listed = [payload(1), payload(2)]
        await peer.push(reference(1), 1)
        await peer.acknowledged(1)
        await peer.push(reference(2), 2)
        await peer.acknowledged(2)
        await peer.gone()

    async with listen(script, inbox=pending) as run:
        await run.heard.until(Repeated)
        assert len(run.heard.of(Received)) == 2
        # One after the connect, one for the first reference, which also returned the second challenge.
        assert pending.fetches == 2


async def test_a_reference_to_an_ended_challenge_is_acknowledged(listen: Listen) -> None:
    async with listen(pushing(reference()), inbox=Pending()) as run:
        assert await run.heard.until(Gone) == Gone(payload()["challenge_id"], push_id(1))


async def test_a_reference_that_cannot_be_fetched_is_not_acknowledged(listen: Listen) -> None:
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

    async with listen(script, inbox=pending, monotonic=long_after_the_connect()) as run:
        assert (await run.heard.until(Received, 2)).shown.challenge_id == payload()["challenge_id"]


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


async def test_a_reference_is_refused_without_an_inbox(listen: Listen) -> None:
    async with listen(pushing(reference())) as run:
        assert (await run.heard.until(Refused)).error.code == "PAYLOAD_MALFORMED"


def long_after_the_connect() -> Callable[[], float]:
    """A monotonic clock that is over WAITED_SECONDS later each time: no push has waited at the relay."""
    return count(step=2 * WAITED_SECONDS).__next__


async def test_a_push_that_waited_for_the_device_is_not_reported_if_its_challenge_was_answered(listen: Listen) -> None:
    """From the list of what is pending, before the device connected."""
    pending = Pending()
    async with listen(pushing(payload(), mpa_payload(), payload(2)), inbox=pending) as run:
        assert await run.heard.until(Gone, 3) == Gone(payload(2)["challenge_id"], push_id(3))
        assert run.heard.of(Received) == []
        assert pending.fetches <= 2, "a query that is newer than a push is used for it"


async def test_a_push_that_waited_is_reported_if_its_challenge_is_still_pending(listen: Listen) -> None:
    pending = Pending()
    pending.listed = [payload()]
    async with listen(pushing(payload()), inbox=pending) as run:
        await run.heard.until(Received)
        await pending.until_fetched(1)
        assert len(run.heard.of(Received)) == 1


async def test_a_push_that_waited_is_reported_if_the_server_cannot_be_reached(listen: Listen) -> None:
    pending = Pending()
    pending.failures = [Unreachable()] * 1_000_000
    async with listen(pushing(payload()), inbox=pending) as run:
        assert (await run.heard.until(Received)).push_id == push_id(1)


async def test_a_push_long_after_the_connect_causes_no_query(listen: Listen) -> None:
    pending = Pending()
    async with listen(pushing(payload()), inbox=pending, monotonic=long_after_the_connect()) as run:
        await run.heard.until(Received)
        assert pending.fetches <= 1


async def test_a_clear_is_reported_and_has_no_other_effect(listen: Listen) -> None:
    pending = Pending()
    clear = {"type": "clear", "challenge_id": payload()["challenge_id"], "status": "cancelled"}

    async def again(peer: Peer) -> None:
        pending.listed = [payload()]
        await peer.welcome()
        await peer.gone()

    script, late = pushing_then_breaking_off(payload(), clear, payload()), long_after_the_connect()
    async with listen(script, again, inbox=pending, monotonic=late) as run:
        # A late push of it is a repeat. But the server still lists the challenge, and a clear is not signed.
        assert (await run.heard.until(Received, 2)).push_id is None
        assert run.heard.of(Cleared) == [Cleared(payload()["challenge_id"], "cancelled", push_id(2))]
        assert len(run.heard.of(Repeated)) == 1


@pytest.mark.parametrize(
    "unknown",
    [
        {"type": "clear"},
        {"type": "clear", "challenge_id": 1},
        {"type": "ping"},
        {"type": "x" * 500},
        {"type": "later", "deep": [[[1]]]},
    ],
)
async def test_a_push_of_an_unknown_type_is_acknowledged_and_ignored(listen: Listen, unknown: dict[str, Any]) -> None:
    async with listen(pushing(unknown, payload())) as run:
        await run.heard.until(Received)
        assert run.heard.of(Ignored) == [Ignored(unknown["type"][:64], push_id(1))]


async def test_an_unknown_message_of_the_relay_itself_is_ignored(listen: Listen) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.send(type="motd", text="hello")
        await peer.push(payload())
        await peer.acknowledged()
        await peer.gone()

    async with listen(script) as run:
        await run.heard.until(Received)
        assert run.heard.of(Ignored) == [Ignored("motd", None)]


async def test_pushes_beyond_the_queue_are_dropped_unacknowledged_and_pings_are_answered(listen: Listen) -> None:
    acknowledged: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await run.heard.until(Connected)
        run.heard.hold()
        for number in range(MAX_QUEUED + 50):
            await peer.push({"type": "later"}, number)
        await peer.send(type="ping")
        assert await peer.receive() == {"type": "pong"}
        run.heard.release()
        for _ in range(MAX_QUEUED):
            acknowledged.append((await peer.receive())["push_id"])
        await peer.push({"type": "later"}, MAX_QUEUED + 40)
        while (last := (await peer.receive())["push_id"]) != push_id(MAX_QUEUED + 40):
            acknowledged.append(last)

    async with listen(script) as run:
        await run.heard.until(Disconnected)
        assert len(acknowledged) in {MAX_QUEUED, MAX_QUEUED + 1}


async def test_a_payload_of_the_largest_size_is_accepted(listen: Listen) -> None:
    async with listen(pushing({"type": "later", "x": "x" * 3072})) as run:
        await run.heard.until(Ignored)


async def test_a_challenge_that_could_not_be_answered_is_reported_again(listen: Listen) -> None:
    pending = Pending()
    pending.listed = [payload()]
    async with listen(only_welcome, inbox=pending) as run:
        await run.heard.until(Received)
        run.listener.report_again(payload()["challenge_id"])
        await run.heard.until(Received, 2)


async def test_pending_challenges_are_fetched_after_every_connect(listen: Listen) -> None:
    pending = Pending()
    pending.listed = [payload()]
    pending.refused = [RefusedPayload("x", RespondToForeign())]
    async with listen(breaking_off, inbox=pending) as run:
        await run.heard.until(Connected, 2)
        await pending.until_fetched(2)
        assert (await run.heard.until(Received)).push_id is None
        assert (len(run.heard.of(Received)), len(run.heard.of(Refused))) == (1, 1)


async def test_a_query_that_fails_temporarily_is_retried(listen: Listen) -> None:
    pending = Pending()
    pending.listed, pending.failures = [payload()], [Unreachable(), ServerRefused(503, "OVERLOADED", "Later.")]
    async with listen(only_welcome, inbox=pending) as run:
        await run.heard.until(Received)
        assert (len(run.heard.of(PendingFailed)), run.slept) == (2, [1.0, 2.0])


async def test_a_rejected_query_is_reported_once_and_pushes_still_arrive(listen: Listen) -> None:
    pending = Pending()
    pending.failures = [ServerRefused(401, "INVALID_SIGNATURE", "No.")] * 9
    async with listen(pushing(payload()), inbox=pending) as run:
        await run.heard.until(Received)
        await run.heard.until(PendingFailed)
        # One after the connect, and one for the push, which may have waited at the relay.
        assert pending.fetches == 2
