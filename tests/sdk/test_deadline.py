"""A synchronous call ends in time although its library bounds only each single wait."""

from __future__ import annotations

import socket

from sigil.sdk.deadline import done_within, shortened
from sigil.sdk.tls import tls_context

PIN = "00" * 32


def test_a_wait_is_never_longer_than_what_is_left() -> None:
    with done_within(5):
        assert 0 < (shortened(60) or 0) <= 5
        assert 0 < (shortened(None) or 0) <= 5
        assert shortened(1) == 1
    assert (shortened(60), shortened(None)) == (60, None)


def test_a_wait_that_begins_too_late_ends_at_once_but_is_a_wait() -> None:
    """A time-out of 0 would mean something else to a socket: not to wait, and to say so with another error."""
    with done_within(-1):
        assert shortened(60) == 0.001


def test_sockets_of_every_kind_of_trust_keep_the_end() -> None:
    for context in (tls_context(None, PIN), tls_context(None, None)):
        with context.wrap_socket(socket.socket(), server_hostname="localhost") as plain, done_within(5):
            plain.settimeout(60)
            assert (plain.gettimeout() or 0) <= 5
