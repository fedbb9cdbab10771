"""The state of each push in flight on one connection."""

from __future__ import annotations

from relay.sockets.in_flight import InFlightPushes
from tests.relay.sockets.test_connections import push

ONE, OTHER = push("one"), push("other")
ID = ONE.push.push_id


def sent_and_late() -> InFlightPushes:
    in_flight = InFlightPushes()
    assert in_flight.mark_sent(ID, now=10.0)
    in_flight.mark_late(sent_before=11.0)
    return in_flight


def test_a_push_is_not_sent_again_before_it_is_late() -> None:
    in_flight = InFlightPushes()
    in_flight.mark_sent(ID, now=10.0)
    in_flight.mark_late(sent_before=10.0)
    assert in_flight.to_send([ONE, OTHER]) == [OTHER]
    in_flight.mark_late(sent_before=10.1)
    assert in_flight.to_send([ONE, OTHER]) == [ONE, OTHER]


def test_a_late_acknowledgement_prevents_the_repeat() -> None:
    in_flight = sent_and_late()
    assert in_flight.to_send([ONE]) == [ONE]
    assert in_flight.start_acknowledgement(ID)
    assert not in_flight.mark_sent(ID, now=12.0)
    in_flight.acknowledgement_stored(ID)
    assert not in_flight.mark_sent(ID, now=12.0)


def test_an_acknowledgement_counts_once_and_only_for_a_push_that_was_sent() -> None:
    in_flight = sent_and_late()
    assert not in_flight.start_acknowledgement(OTHER.push.push_id)
    assert [in_flight.start_acknowledgement(ID), in_flight.start_acknowledgement(ID)] == [True, False]
    in_flight.acknowledgement_stored(ID)
    assert not in_flight.start_acknowledgement(ID)


def test_after_a_failed_acknowledgement_a_push_is_late_at_the_next_heartbeat_and_not_before() -> None:
    in_flight = InFlightPushes()
    in_flight.mark_sent(ID, now=10.0)
    in_flight.start_acknowledgement(ID)
    in_flight.acknowledgement_failed(ID)
    assert in_flight.to_send([ONE]) == []
    in_flight.mark_late(sent_before=0.0)
    assert in_flight.to_send([ONE]) == [ONE]


def test_a_stored_acknowledgement_is_kept_for_queries_that_started_before_it() -> None:
    in_flight = InFlightPushes()
    in_flight.mark_sent(ID, now=10.0)
    in_flight.query_started()
    in_flight.start_acknowledgement(ID)
    in_flight.acknowledgement_stored(ID)
    assert in_flight.to_send([ONE]) == []
    in_flight.query_started()
    assert len(in_flight) == 0


def test_a_push_that_no_longer_waits_is_forgotten_once_it_is_late() -> None:
    in_flight = InFlightPushes()
    in_flight.mark_sent(ID, now=10.0)
    in_flight.to_send([])
    assert len(in_flight) == 1
    in_flight.mark_late(sent_before=11.0)
    in_flight.to_send([])
    assert len(in_flight) == 0
