"""The shared state of a circuit breaker: one row for the relay and one for the webhook receiver, for all workers.

The shared row makes one worker report an outage, and one worker at a time probe.
"""

from __future__ import annotations

import msgspec

from sigil.core.session_store import Decision, Key, Kind

PROBE_SECONDS = 20
"""How long the probe belongs to one worker: longer than a request may take."""
BACKOFF_SECONDS = (1, 2, 4, 8, 15)
"""Between probes; the last value repeats. Challenges live for minutes: a longer wait would be too late for them."""


class BreakerState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Closed (`up`) or open since `since_ms`; the next probe at `probe_ms`. `run` is the server start that wrote it."""

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
    """The row if this start of the server wrote it: a new start reports an outage again."""
    return row if row is not None and row.run == run else None


def is_open(row: BreakerState | None) -> bool:
    return row is not None and not row.up


def record_failure(
    now: float, row: BreakerState | None, *, key: Key, run: int, began: float, probing: bool, jitter: float
) -> Decision[bool]:
    """A request that began at `began` got no response that counts; True when the breaker opens with it."""
    row, now_ms = current_run(run, row), int(now * 1000)
    if row is None or row.up:
        # The request began before the last recovery, which is the newer information.
        if row is not None and began * 1000 < row.since_ms <= now_ms:
            return Decision(False)
        return _write(key, True, BreakerState(run, False, now_ms, now_ms + _backoff_ms(0, jitter)))
    if not probing:
        return Decision(False)
    probes = row.probes + 1
    later = now_ms + _backoff_ms(probes, jitter)
    return _write(key, False, msgspec.structs.replace(row, probe_ms=later, probes=probes))


def record_success(now: float, row: BreakerState | None, *, key: Key, run: int, began: float) -> Decision[float | None]:
    """A request that began at `began` got a response; the seconds of the outage that it ends, else None."""
    row, now_ms = current_run(run, row), int(now * 1000)
    if row is None or row.up:
        return Decision(None)
    # A request in flight when the outage began proves nothing. An outage in the future: the clock was set back.
    if row.since_ms <= began * 1000 or row.since_ms > now_ms:
        return Decision(max(0, now_ms - row.since_ms) / 1000, ((key, BreakerState(run, True, now_ms)),))
    return Decision(None)


def may_probe(now: float, row: BreakerState | None, *, key: Key, run: int) -> Decision[bool]:
    """Whether the caller may probe now: while the breaker is open, one worker at a time."""
    row, now_ms = current_run(run, row), int(now * 1000)
    # A probe time further ahead than PROBE_SECONDS: the clock was set back.
    if row is None or row.up or now_ms < row.probe_ms <= now_ms + PROBE_SECONDS * 1000:
        return Decision(False)
    return _write(key, True, msgspec.structs.replace(row, probe_ms=now_ms + PROBE_SECONDS * 1000))


def _backoff_ms(probes: int, jitter: float) -> int:
    return int(BACKOFF_SECONDS[min(probes, len(BACKOFF_SECONDS) - 1)] * (0.8 + 0.4 * jitter) * 1000)


def _write(key: Key, result: bool, row: BreakerState) -> Decision[bool]:
    return Decision(result, ((key, row),))
