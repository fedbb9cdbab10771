"""Whether somebody is there, as all workers of the host know it: one row each, so that an outage is told of once."""

from __future__ import annotations

import msgspec

from sigil.core.session_store import Decision, Key, Kind

PROBE_SECONDS = 20
"""How long one worker has the only probe: longer than a request may take."""
BACKOFF_SECONDS = (1, 2, 4, 8, 15)
"""From one probe to the next; the last stays. Challenges live for minutes: longer would be too late for them."""


class BreakerState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Up or down since when, and when to probe next (ms). `run` is the start of the server that knows it."""

    run: int
    up: bool
    since_ms: int
    probe_ms: int = 0
    probes: int = 0

    @property
    def due(self) -> int:
        return 0


BREAKER = Kind(b"r", BreakerState)
RELAY_KEY = Key(BREAKER, b"")
RECEIVER_KEY = Key(BREAKER, b"webhooks")


def current_run(run: int, row: BreakerState | None) -> BreakerState | None:
    """The row as this start of the server knows it: what a former one knew has to be told anew."""
    return row if row is not None and row.run == run else None


def is_open(row: BreakerState | None) -> bool:
    return row is not None and not row.up


def record_failure(
    now: float, row: BreakerState | None, *, key: Key, run: int, began: float, probing: bool, jitter: float
) -> Decision[bool]:
    """A request that began at `began` got no answer that counts; True when the outage begins with it."""
    row, now_ms = current_run(run, row), int(now * 1000)
    if row is None or row.up:
        # It may have waited since before the last recovery, which knows better.
        if row is not None and began * 1000 < row.since_ms <= now_ms:
            return Decision(False)
        return _write(key, True, BreakerState(run, False, now_ms, now_ms + _backoff_ms(0, jitter)))
    if not probing:
        return Decision(False)
    probes = row.probes + 1
    later = now_ms + _backoff_ms(probes, jitter)
    return _write(key, False, msgspec.structs.replace(row, probe_ms=later, probes=probes))


def record_success(now: float, row: BreakerState | None, *, key: Key, run: int, began: float) -> Decision[float | None]:
    """A request that began at `began` was answered; the seconds of the outage that ends with it, else None."""
    row, now_ms = current_run(run, row), int(now * 1000)
    if row is None or row.up:
        return Decision(None)
    # What was under way when the outage began proves nothing; an outage from the future, that the clock was set back.
    if row.since_ms <= began * 1000 or row.since_ms > now_ms:
        return Decision(max(0, now_ms - row.since_ms) / 1000, ((key, BreakerState(run, True, now_ms)),))
    return Decision(None)


def may_probe(now: float, row: BreakerState | None, *, key: Key, run: int) -> Decision[bool]:
    """Whether the caller is the one to try now: one worker at a time while they are away."""
    row, now_ms = current_run(run, row), int(now * 1000)
    # A probe further ahead than any may be: the clock was set back.
    if row is None or row.up or now_ms < row.probe_ms <= now_ms + PROBE_SECONDS * 1000:
        return Decision(False)
    return _write(key, True, msgspec.structs.replace(row, probe_ms=now_ms + PROBE_SECONDS * 1000))


def _backoff_ms(probes: int, jitter: float) -> int:
    return int(BACKOFF_SECONDS[min(probes, len(BACKOFF_SECONDS) - 1)] * (0.8 + 0.4 * jitter) * 1000)


def _write(key: Key, result: bool, row: BreakerState) -> Decision[bool]:
    return Decision(result, ((key, row),))
