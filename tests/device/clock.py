"""Types of the fixtures in tests of the device."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import Result

from tests.device.fake_server import NOW

Run = Callable[..., Result]


class MovingClock:
    """Time advances only while something sleeps."""

    def __init__(self) -> None:
        self.now = NOW
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
