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
    # What was logged of the outage: the last reason, when, how often, and whether as one of a stack that starts.
    reason: str = ""
    logged_ms: int = 0
    logged: int = 0
    starting: bool = False

    @property
    def due(self) -> int:
        return 0


MAX_REASONS = 5
"""Lines of one outage whose reason changes; beyond them one in REASON_AGAIN_SECONDS."""
REASON_AGAIN_SECONDS = 600
_MAX_REASON = 120

BREAKER = Kind(b"r", BreakerState)
RELAY_KEY = Key(BREAKER, b"")
RECEIVER_KEY = Key(BREAKER, b"webhooks")


def current_run(run: int, row: BreakerState | None) -> BreakerState | None:
    """The row if this start of the server wrote it: a new start reports an outage again."""
    return row if row is not None and row.run == run else None


def is_open(row: BreakerState | None) -> bool:
    return row is not None and not row.up


def record_failure(
    now: float,
    row: BreakerState | None,
    *,
    key: Key,
    run: int,
    began: float,
    probing: bool,
    jitter: float,
    reason: str = "",
    starting: bool = False,
) -> Decision[bool]:
    """A request that began at `began` got no response that counts; True when the caller has to log it.

    It is logged when the breaker opens with it, and when a probe fails for another reason than the one logged last, or
    still fails when the stack is no longer `starting`. The text in parentheses at the end of a reason does not make it
    another one.
    """
    row, now_ms = current_run(run, row), int(now * 1000)
    if row is None or row.up:
        # The request began before the last recovery, which is the newer information.
        if row is not None and began * 1000 < row.since_ms <= now_ms:
            return Decision(False)
        later = now_ms + _backoff_ms(0, jitter)
        return _write(key, True, BreakerState(run, False, now_ms, later, 0, reason[:_MAX_REASON], now_ms, 1, starting))
    if not probing:
        return Decision(False)
    probes = row.probes + 1
    row = msgspec.structs.replace(row, probe_ms=now_ms + _backoff_ms(probes, jitter), probes=probes)
    if not _is_news(row, now_ms, reason[:_MAX_REASON], starting):
        return _write(key, False, row)
    logged = msgspec.structs.replace(
        row, reason=reason[:_MAX_REASON], logged_ms=now_ms, logged=row.logged + 1, starting=starting
    )
    return _write(key, True, logged)


def _is_news(row: BreakerState, now_ms: int, reason: str, starting: bool) -> bool:
    """Whether the reason of an outage that was logged before is to be logged again."""
    if row.starting and not starting:
        return True
    if _kind(reason) == _kind(row.reason):
        return False
    # A relay behind a load balancer may fail in two ways in turn.
    return row.logged < MAX_REASONS or not 0 <= now_ms - row.logged_ms < REASON_AGAIN_SECONDS * 1000


def _kind(reason: str) -> str:
    return reason.partition(" (")[0]


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
