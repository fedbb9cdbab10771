"""This host's clock, compared with that of the relay, which rejects requests whose time is too far from its own."""

from __future__ import annotations

import time

from sigil.console.findings.result import Result, failed, ok, still_open
from sigil.serving.probes.host import RELEASED, clock_is_unsynchronised
from sigil.serving.probes.http import Answer

SIGNATURE_SECONDS = 60
"""Of docs/protocol.md, section 6."""
_WARN_SECONDS = 10
_SYNCHRONISE = "synchronise it (chrony, systemd-timesyncd)"


def offset_of(answer: Answer) -> float | None:
    """Seconds by which the clock of the peer is ahead, to about one second and half of the round trip."""
    # A Date is cut off to whole seconds.
    return None if answer.date is None else answer.date + 0.5 - (answer.sent + answer.received) / 2


def clock_result(offset: float | None) -> Result:
    """`offset`: by how many seconds the relay is ahead of this host; None without an answer of the relay."""
    if offset is None:
        return _alone()
    if abs(offset) <= _WARN_SECONDS:
        return ok("clock", f"within {max(1, round(abs(offset)))} s of the relay's")
    text = f"this host is {abs(offset):.0f} s {'behind' if offset > 0 else 'ahead of'} the relay"
    limit = f"requests are rejected beyond {SIGNATURE_SECONDS} s"
    make = failed if abs(offset) > SIGNATURE_SECONDS else still_open
    return make("clock", f"{text}: {limit}", _next_step(offset))


def _alone() -> Result:
    if time.time() < RELEASED.timestamp():
        return failed("clock", "the clock of this host is before this version was made", _SYNCHRONISE)
    if clock_is_unsynchronised():
        text = "not compared with the relay's; the kernel reports that this host's clock is not synchronised"
        return still_open("clock", text, _SYNCHRONISE)
    return ok("clock", "not compared with the relay's; the kernel reports no fault of this host's clock")


def _next_step(offset: float) -> str:
    """Names the host whose clock is likely wrong, if anything tells."""
    here, there, released = time.time(), time.time() + offset, RELEASED.timestamp()
    if here < released <= there:
        return f"the clock of this host is wrong, since it is before this version was made: {_SYNCHRONISE}"
    if there < released <= here:
        return f"the clock of the relay is wrong, since it is before this version was made: {_SYNCHRONISE}"
    if clock_is_unsynchronised():
        return f"likely that of this host, which the kernel reports as not synchronised: {_SYNCHRONISE}"
    return f"run `date -u` on both hosts; where it is wrong, {_SYNCHRONISE}"
