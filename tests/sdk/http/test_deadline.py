"""A synchronous call ends in time, although its library bounds only each single wait."""

from __future__ import annotations

import socket

from sigil.sdk.http.deadline import deadline, shortened
from sigil.sdk.http.tls import tls_context

PIN = "00" * 32


def test_a_wait_is_never_longer_than_the_time_left() -> None:
    with deadline(5):
        assert 0 < (shortened(60) or 0) <= 5
        assert 0 < (shortened(None) or 0) <= 5
        assert shortened(1) == 1
    assert (shortened(60), shortened(None)) == (60, None)


def test_a_wait_that_begins_after_the_deadline_ends_at_once_with_a_timeout() -> None:
    """A timeout of 0 would make the socket non-blocking, which raises another error."""
    with deadline(-1):
        assert shortened(60) == 0.001


def test_sockets_of_every_kind_of_trust_keep_the_deadline() -> None:
    for context in (tls_context(None, PIN), tls_context(None, None)):
        with context.wrap_socket(socket.socket(), server_hostname="localhost") as plain, deadline(5):
            plain.settimeout(60)
            assert (plain.gettimeout() or 0) <= 5
