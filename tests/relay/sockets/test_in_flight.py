"""How far the acknowledgement of a push has come, as one connection knows it."""

from __future__ import annotations

from relay.sockets.in_flight import InFlight
from tests.relay.sockets.test_connections import push

ONE, OTHER = push("one"), push("other")
ID = ONE.push.push_id


def sent_and_late() -> InFlight:
    in_flight = InFlight()
    assert in_flight.goes_out(ID, now=10.0)
    in_flight.late(since=11.0)
    return in_flight


def test_what_was_sent_is_not_sent_again_before_it_is_late() -> None:
    in_flight = InFlight()
    in_flight.goes_out(ID, now=10.0)
    in_flight.late(since=10.0)
    assert in_flight.to_send([ONE, OTHER]) == [OTHER]
    in_flight.late(since=10.1)
    assert in_flight.to_send([ONE, OTHER]) == [ONE, OTHER]


def test_a_late_acknowledgement_holds_back_what_was_already_found_to_be_sent_again() -> None:
    in_flight = sent_and_late()
    assert in_flight.to_send([ONE]) == [ONE]
    assert in_flight.acknowledged(ID)
    assert not in_flight.goes_out(ID, now=12.0)
    in_flight.written(ID)
    assert not in_flight.goes_out(ID, now=12.0)


def test_an_acknowledgement_counts_once_and_only_for_what_was_sent() -> None:
    in_flight = sent_and_late()
    assert not in_flight.acknowledged(OTHER.push.push_id)
    assert [in_flight.acknowledged(ID), in_flight.acknowledged(ID)] == [True, False]
    in_flight.written(ID)
    assert not in_flight.acknowledged(ID)


def test_what_could_not_be_written_is_late_at_the_next_heartbeat_and_not_before() -> None:
    in_flight = InFlight()
    in_flight.goes_out(ID, now=10.0)
    in_flight.acknowledged(ID)
    in_flight.not_written(ID)
    assert in_flight.to_send([ONE]) == []
    in_flight.late(since=0.0)
    assert in_flight.to_send([ONE]) == [ONE]


def test_what_was_written_is_known_to_looks_that_began_before_and_forgotten_then() -> None:
    in_flight = InFlight()
    in_flight.goes_out(ID, now=10.0)
    in_flight.look_begins()
    in_flight.acknowledged(ID)
    in_flight.written(ID)
    assert in_flight.to_send([ONE]) == []
    in_flight.look_begins()
    assert len(in_flight) == 0


def test_what_waits_no_more_is_forgotten_once_it_is_late() -> None:
    in_flight = InFlight()
    in_flight.goes_out(ID, now=10.0)
    in_flight.to_send([])
    assert len(in_flight) == 1
    in_flight.late(since=11.0)
    in_flight.to_send([])
    assert len(in_flight) == 0
