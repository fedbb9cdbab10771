"""The server of a load test, and the calibration of the machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.approvals import ACTION
from sigil.device import Device
from sigil.protocol import signed_bytes
from tests.support.live import LiveServer, wait_until


@contextmanager
def live_server(workers: int, **more: str) -> Iterator[LiveServer]:
    """A server with a large store and without rate limits: few devices on one address send many requests.

    It is yielded when all workers are ready.
    """
    settings = {"SIGIL_DEVICE_RATE": "off", "SIGIL_RATE_LIMIT": "off", "SIGIL_STORE_SIZE": "1GiB", "LOG_LEVEL": "info"}
    with LiveServer(workers=workers, **settings | more) as server:
        wait_until(lambda: len(server.workers()) == workers, "all workers to be ready")
        yield server


def calibrate(seconds: float = 1.0) -> float:
    """Raw P-256 verifications per second on one core of this machine now: the unit of other results."""
    device = Device.generate("ES256")
    signature = device.sign_rejection(bytes(32), ACTION)
    message = signed_bytes.rejection(bytes(32), ACTION)
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        device.public.verify(message, signature)
        count += 1
    return count / seconds
