"""Eviction of tokens whose devices gave no sign of life while a relay could have heard it.

A relay that was off hears no device, and a wrong clock makes every device look silent. So the registry counts the
minutes for which a relay was up, and only those count as silence; an eviction of a large share at once stops and is
logged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from relay.registry.model import Beat, Pruned
from sigil.serving import logs
from sigil.serving.boot_clock import boot_seconds

SILENT_DAYS = 90
MAX_SHARE = 0.2
"""Of the live registrations, that may be evicted as silent on one day; fewer than ALWAYS_EVICTED always are."""
ALWAYS_EVICTED = 100
_DAY = 86_400
_ABSENT_SECONDS = _DAY
_CLOCK_TOLERANCE_SECONDS = 60.0
_BEHIND_SECONDS = 120.0
_STEADY_SECONDS = float(_DAY)
"""A clock that ran for so long without a step is believed, where the database has none: the reports that are later came
from a clock that was ahead, and would stop evictions for years."""


class SilenceRegistry(Protocol):
    async def beat(self, now: float) -> Beat: ...

    async def forget_after(self, now: float) -> None: ...

    async def claim_sweep(self, now: float) -> bool: ...

    async def silent_before(self, days: int) -> int | None: ...

    async def count_silent(self, before: int, limit: int) -> int: ...

    async def count_devices(self) -> dict[str, int]: ...

    async def prune(self, seen_before: int, evicted_before: int, now: int) -> Pruned: ...


class Silence:
    """`clock` gives Unix seconds, `boot` seconds since the boot, `on_evicted` gets the number of evicted tokens."""

    def __init__(
        self,
        registry: SilenceRegistry,
        clock: Callable[[], float],
        on_evicted: Callable[[int], None],
        *,
        boot: Callable[[], float] = boot_seconds,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._boot = boot
        self._on_evicted = on_evicted
        self._last: tuple[float, float] | None = None
        self._steady_since = boot()
        self._clock_is_wrong = False

    async def beat(self) -> None:
        """Record that this relay is up, and compare its clock with what the registry knows. More than once a minute."""
        now = self._clock()
        beat = await self._registry.beat(now)
        self._report_step(now)
        if self._last is None:
            _report_absence(now, beat)
        self._last = now, self._boot()
        self._compare(now, beat)
        if self._clock_is_wrong and beat.database_time is None and self._is_steady():
            await self._registry.forget_after(now)

    async def sweep(self) -> None:
        """Once a day, in one worker of all relays on the database."""
        now = int(self._clock())
        if self._clock_is_wrong or not await self._registry.claim_sweep(now):
            return
        before = await self._registry.silent_before(SILENT_DAYS)
        if before is None:
            return
        devices = await self._registry.count_devices()
        live = sum(count for platform, count in devices.items() if platform != "evicted")
        allowed = max(ALWAYS_EVICTED, int(MAX_SHARE * live))
        silent = await self._registry.count_silent(before, allowed + 1)
        if silent > allowed:
            logs.error(
                "silent_evictions_stopped",
                more_than=allowed,
                registrations=live,
                message=f"no token was evicted: too many devices were silent for {SILENT_DAYS} days at once; check the "
                "clock, and whether devices reach this relay. If they are gone, run `sigil-relay devices prune`",
            )
            return
        await self._evict(before, now)

    async def _evict(self, before: int, now: int) -> None:
        total = Pruned(0, 0)
        while any(pruned := await self._registry.prune(before, before, now)):
            self._on_evicted(pruned.evicted)
            total = Pruned(total.evicted + pruned.evicted, total.forgotten + pruned.forgotten)
        if any(total):
            logs.info("silent_tokens_evicted", count=total.evicted, forgotten=total.forgotten, silent_days=SILENT_DAYS)

    def _report_step(self, now: float) -> None:
        if self._last is None:
            return
        wall, since_boot = self._last
        step = (now - wall) - (self._boot() - since_boot)
        if abs(step) > _CLOCK_TOLERANCE_SECONDS:
            self._steady_since = self._boot()
            logs.warn("clock_stepped", seconds=round(step))

    def _is_steady(self) -> bool:
        return self._boot() - self._steady_since >= _STEADY_SECONDS

    def _compare(self, now: float, beat: Beat) -> None:
        ahead = 0.0
        if beat.database_time is not None:
            ahead = now - beat.database_time
        elif beat.previous is not None and beat.previous - now > _BEHIND_SECONDS:
            ahead = now - beat.previous
        wrong = abs(ahead) > _CLOCK_TOLERANCE_SECONDS
        if wrong and not self._clock_is_wrong:
            logs.warn(
                "clock_differs",
                seconds=round(ahead),
                message="this host's clock is not that of the database or of the relay's last run: synchronise it "
                "(NTP); until then no silent token is evicted",
            )
        self._clock_is_wrong = wrong


def _report_absence(now: float, beat: Beat) -> None:
    if beat.previous is not None and now - beat.previous > _ABSENT_SECONDS:
        logs.warn(
            "relay_was_absent",
            seconds=round(now - beat.previous),
            message="by the clock no relay was up for so long, which does not count as silence of devices. If one was "
            "up, check the clock",
        )
