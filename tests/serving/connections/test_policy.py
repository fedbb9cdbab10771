"""Which connections are closed: decisions over tables, with a clock of the test."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigil.serving.connections.activity import ConnectionActivity, Requests
from sigil.serving.connections.limits import ConnectionLimits
from sigil.serving.connections.policy import Connection, to_close
from sigil.serving.connections.unread import UnreadResponses

NOW = 1000.0
LIMITS = ConnectionLimits(total=100, per_address=10, first_request=12, idle=300, write=30, unread=1000, stalled=3)


def connection(
    number: int = 0,
    *,
    address: str | None = "a",
    network: str | None = None,
    age: float = 0,
    idle: float | None = None,
    running: int = 0,
) -> Connection:
    """`idle`: seconds since its last request, None for none yet."""
    requests = None
    if idle is not None or running:
        requests = Requests()
        requests.running, requests.changed_at = running, NOW - (idle or 0)
    unread = UnreadResponses(NOW - age)
    return Connection(number, number, ("h", str(number)), address, network, NOW - age, unread, requests)


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (connection(age=11), None),
        (connection(age=13), "no_request"),
        (connection(age=10_000, idle=299), None),
        (connection(age=10_000, idle=301), "idle"),
        (connection(age=10_000, running=1, idle=301), None),
        (connection(age=10_000, address=None), None),
        (connection(age=10_000, address=None, idle=9_000), None),
    ],
)
def test_a_connection_is_closed_for_its_age_or_its_idle_time(one: Connection, reason: str | None) -> None:
    assert to_close([one], NOW, LIMITS) == ({one: reason} if reason else {})


def test_an_address_above_its_limit_loses_connections_without_a_request_first_then_the_longest_idle() -> None:
    mute = [connection(number, age=number) for number in range(1, 4)]
    idle = [connection(10 + number, age=100, idle=number) for number in range(12)]
    busy = [connection(30 + number, age=100, running=1) for number in range(20)]
    others = [connection(60 + number, address="b") for number in range(10)]
    closed = to_close([*idle, *mute, *busy, *others], NOW, LIMITS)
    assert closed == dict.fromkeys([*mute, *idle[-2:]], "address_limit")


def test_a_network_has_four_times_the_limit_of_an_address() -> None:
    wide = replace(LIMITS, total=1000)
    many = [connection(number, address=str(number), network="n", age=number / 100) for number in range(50)]
    assert to_close(many, NOW, wide) == dict.fromkeys(many[40:], "network_limit")
    assert to_close([replace(one, network=str(one.descriptor)) for one in many], NOW, wide) == {}


def test_a_full_worker_closes_the_idlest_down_to_four_fifths() -> None:
    proxy = [connection(number, address=None, idle=500) for number in range(50)]
    idle = [connection(100 + number, address=str(number), idle=number) for number in range(41)]
    closed = to_close([*proxy, *idle], NOW, LIMITS)
    assert closed == dict.fromkeys(idle[-11:], "total_limit")
    assert to_close([*proxy, *idle[:40]], NOW, LIMITS) == {}


@given(
    st.lists(
        st.builds(
            connection,
            st.integers(0, 10_000),
            address=st.sampled_from(["a", "b", "c", None]),
            age=st.floats(0, 400),
            idle=st.none() | st.floats(0, 400),
            running=st.integers(0, 2),
        ),
        max_size=150,
    )
)
def test_no_proxy_and_no_request_in_progress_is_closed_and_the_limits_hold_for_all_others(
    open_connections: list[Connection],
) -> None:
    closed = to_close(open_connections, NOW, LIMITS)
    for one in closed:
        assert one.address is not None
        assert one.idle_since() is not None
    left = [one for one in open_connections if one not in closed]
    free = [one for one in left if one.address is not None and one.idle_since() is not None]
    for address in "abc":
        assert sum(one.address == address for one in free) <= LIMITS.per_address
    assert len(left) <= 90 or not free


def test_unread_responses_are_late_after_the_time_of_a_write_and_stalled_when_many() -> None:
    one = UnreadResponses(0)
    one.observe(0, 500, 0)
    assert not one.is_behind(29, LIMITS, in_use=False)
    # Bytes arrive, and the response as a whole is late.
    one.observe(29, 500, 400)
    assert one.is_behind(31, LIMITS, in_use=False)
    one.observe(31, 500, 600)
    assert not one.is_behind(100, LIMITS, in_use=False)
    assert one.received_all_of == 500
    # The 100 bytes of headers are no credit for the next response.
    one.observe(100, 2500, 600)
    assert one.size == 2000
    assert not one.is_behind(102, LIMITS, in_use=False)
    assert one.is_behind(104, LIMITS, in_use=False)


def test_a_slow_client_that_receives_every_response_in_time_is_never_behind() -> None:
    """10 bytes a second, and always a response to go: each is received 20 s after it was written."""
    one = UnreadResponses(0)
    for second in range(1, 600):
        one.observe(second, 200 + 10 * second, 10 * second)
        assert not one.is_behind(second, LIMITS, in_use=False)


def test_a_client_that_acknowledges_less_than_it_is_sent_falls_behind() -> None:
    one = UnreadResponses(0)
    for second in range(1, 120):
        one.observe(second, 100 * second, second)
        if one.is_behind(second, LIMITS, in_use=False):
            break
    assert second < 40


def test_few_bytes_of_a_cancelled_request_never_end_a_connection_with_another_request_in_progress() -> None:
    one = UnreadResponses(0)
    one.observe(0, 1000, 0)
    assert not one.is_behind(10_000, LIMITS, in_use=True)
    assert one.is_behind(31, LIMITS, in_use=False)
    one.observe(31, 1001, 0)
    assert one.is_behind(40, LIMITS, in_use=True)


def test_a_connection_is_not_idle_while_its_request_ends() -> None:
    """The guard's thread can run between any two steps of the loop's."""

    class Watched(Requests):
        def __setattr__(self, name: str, value: float) -> None:
            super().__setattr__(name, value)
            if name == "running" and not value and hasattr(self, "changed_at"):
                assert time.monotonic() - self.changed_at < 60

    requests = Watched()
    requests.running = 1
    ConnectionActivity.end(requests)


def test_the_limits_follow_the_descriptors_of_the_process() -> None:
    assert ConnectionLimits().within(1_048_576) == ConnectionLimits()
    for descriptors in range(64, 20_000, 50):
        limits = ConnectionLimits().within(descriptors)
        assert limits.total <= max(8, descriptors - 64)
        assert limits.per_address <= limits.total
    assert ConnectionLimits().within(1024).total == 720


def test_the_activity_of_a_closed_connection_is_dropped_and_that_of_its_successor_kept() -> None:
    activity = ConnectionActivity()
    closed, reused, running = ("h", "1"), ("h", "2"), ("h", "3")
    activity.end(activity.begin(closed))
    activity.begin(running)
    before = activity.of(closed).changed_at + 0.001  # type: ignore[union-attr]
    activity.end(activity.begin(reused))
    activity.of(reused).changed_at = before + 1  # type: ignore[union-attr]
    activity.forget([closed, reused, running, ("h", "9")], before)
    assert set(activity.peers()) == {reused, running}
