"""A real server: `sigil serve` with one worker, over TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bench.connection import Connection
from bench.measuring import Measure
from bench.wire import approval_request_body, creation_body, response_body, vote_body
from sigil.device import Device
from tests.support.live import LiveServer

_STARTS = 10


class Starts:
    """Starts servers one after the other, each with a new identity, certificate and store."""

    def __init__(self) -> None:
        self._server: LiveServer | None = None

    def prepare(self) -> None:
        self.close()
        self._server = LiveServer(workers=1)

    def run(self) -> None:
        if self._server is not None:
            self._server.start()

    def close(self) -> None:
        if self._server is not None:
            self._server.__exit__(None, None, None)


@pytest.fixture
def starts() -> Iterator[Starts]:
    starts = Starts()
    yield starts
    starts.close()


def test_start_of_a_server(measure: Measure, starts: Starts) -> None:
    """From the command to the first healthy /health, which is polled every 20 ms."""
    measure(starts.run, rounds=_STARTS, prepare=starts.prepare, verifications=500)


def test_complete_challenge_over_tls(measure: Measure) -> None:
    """Creates and answers on one connection; the time includes the device's signature."""
    device = Device.generate()
    creation = creation_body(device)
    with LiveServer(workers=1, SIGIL_DEVICE_RATE="off") as server, Connection(server) as connection:

        def complete() -> None:
            connection.post("/respond", response_body(device, connection.post("/challenge", creation)))

        # A `prepare` that does nothing gives one challenge per round, with a calibration after each.
        measure(complete, rounds=1000, prepare=lambda: None)


def test_complete_m_of_n_over_tls(measure: Measure) -> None:
    """Five devices in three groups, of which two approve: request, status and two votes, in sequence."""
    anna, bert, carl, dora, emil = (Device.generate() for _ in range(5))
    request = approval_request_body([[anna, bert], [carl, dora], [emil]], 2)
    with LiveServer(workers=1, SIGIL_DEVICE_RATE="off") as server, Connection(server) as connection:

        def complete() -> None:
            created = json.loads(connection.post("/mpa/request", request))
            status = connection.get(f"/mpa/status/{created['request_id']}")
            for device in (anna, emil):
                connection.post("/mpa/respond", vote_body(device, status))

        measure(complete, rounds=500, prepare=lambda: None)
