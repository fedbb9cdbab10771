"""The writer of log lines, on real pipes, sockets, terminals and files whose reader stalls."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sigil.serving.log_output import line_writer
from sigil.serving.log_output.line_writer import QUEUE_BYTES, URGENT_BYTES, LineWriter

LINES = 4000
Channel = tuple[int, int]


def line(number: int) -> bytes:
    return b'{"event": "a", "number": %d, "text": "%s"}\n' % (number, b"x" * 200)


def summary(count: int, _seconds: float) -> bytes:
    return b'{"event": "dropped", "count": %d}\n' % count


def pipe() -> Channel:
    return os.pipe()


def unix_socket() -> Channel:
    reading, writing = socket.socketpair()
    return reading.detach(), writing.detach()


def terminal() -> Channel:
    return os.openpty()


@pytest.fixture(params=[pipe, unix_socket, terminal, "a pipe that cannot be opened again"])
def channel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    """(reading, writing) descriptors, without a reader that reads."""
    if callable(request.param):
        reading, writing = request.param()
    else:
        monkeypatch.setattr(line_writer, "_sender", lambda _fd: None)
        reading, writing = pipe()
    yield reading, writing
    # The other end stays open: the thread of a writer must never meet its number for another test's channel.
    os.close(reading)


def read(fd: int, done: Callable[[list[dict[str, Any]]], bool], chunk: int = 3001) -> list[dict[str, Any]]:
    """The lines, read until `done`; each must be one whole JSON object."""
    data, deadline = b"", time.monotonic() + 60
    found: list[dict[str, Any]] = []
    while not done(found):
        assert time.monotonic() < deadline, found[-3:]
        if select.select([fd], [], [], 0.1)[0]:
            *whole, data = (data + os.read(fd, chunk)).split(b"\n")
            found += [json.loads(text) for text in whole]
    return found


def accounted(lines: list[dict[str, Any]]) -> int:
    return sum(found.get("count", 1) for found in lines)


def test_a_stalled_reader_delays_no_caller_and_gets_whole_lines_and_the_number_of_the_others(channel: Channel) -> None:
    reading, writing = channel
    writer = LineWriter(writing, summary)
    for number in range(LINES):
        writer.write(line(number))
    # A writer that waits for the reader never comes here.
    dropped = writer.dropped[0]
    assert 0 < dropped < LINES
    lines = read(reading, lambda found: accounted(found) >= LINES)
    assert accounted(lines) == LINES
    numbers = [found["number"] for found in lines if "number" in found]
    assert numbers == sorted(numbers)
    assert len(numbers) == LINES - dropped
    assert lines[-1]["event"] == "dropped"
    # And the reader gets the next line at once.
    writer.write(line(LINES))
    assert read(reading, lambda found: len(found) == 1)[0]["number"] == LINES


def test_the_flags_of_the_inherited_description_stay_as_they_are(channel: Channel) -> None:
    _, writing = channel
    writer = LineWriter(writing, summary)
    for number in range(LINES):
        writer.write(line(number))
    assert os.get_blocking(writing)


def test_errors_have_space_that_other_lines_cannot_take(channel: Channel) -> None:
    reading, writing = channel
    writer = LineWriter(writing, summary)
    for number in range(LINES):
        writer.write(line(number))
    writer.write(b'{"event": "last words"}\n', urgent=True)
    lines = read(reading, lambda found: accounted(found) >= LINES + 1)
    assert {"event": "last words"} in lines


def test_the_queue_is_bounded(channel: Channel) -> None:
    _, writing = channel
    writer = LineWriter(writing, summary)
    for number in range(LINES):
        writer.write(line(number))
    assert writer._queued_bytes == sum(map(len, writer._queue)) <= QUEUE_BYTES - URGENT_BYTES


def test_a_flush_takes_bounded_time_and_drops_what_the_reader_did_not_take(channel: Channel) -> None:
    _, writing = channel
    writer = LineWriter(writing, summary)
    for number in range(LINES):
        writer.write(line(number))
    before = writer.dropped[0]
    writer.flush(0.1)
    # The channel takes less than the queue, so some lines were left.
    assert before < writer.dropped[0] < LINES


def test_a_file_gets_every_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter(file.fileno(), summary)
        for number in range(LINES):
            writer.write(line(number))
    lines = [json.loads(text) for text in (tmp_path / "log").read_bytes().splitlines()]
    assert [found["number"] for found in lines] == list(range(LINES))


def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    with Path("/dev/full").open("wb") as full:
        writer = LineWriter(full.fileno(), summary)
        for number in range(10):
            writer.write(line(number))
        assert writer.dropped[0] >= 10


PROGRAM = """
import sys
from sigil.serving import logs
logs.configure("sigil", "info")
for number in range(2000):
    logs.info("a", program=sys.argv[1], number=number, text="x" * 150)
sys.stdin.read()
logs.info("last", program=sys.argv[1])
"""


def test_lines_of_several_processes_on_one_stalled_pipe_stay_whole_and_in_order() -> None:
    reading, writing = os.pipe()
    command = [sys.executable, "-c", PROGRAM]
    programs = [subprocess.Popen([*command, str(i)], stdin=subprocess.PIPE, stdout=writing) for i in range(3)]
    os.close(writing)
    lines = read(reading, lambda found: accounted(found) >= 6000, chunk=777)
    for program in programs:
        program.communicate()
    lines += read(reading, lambda found: len(found) == 3)
    os.close(reading)
    assert accounted(lines) == 6003
    for program in "012":
        numbers = [found["number"] for found in lines if found.get("program") == program and found["event"] == "a"]
        assert numbers == sorted(numbers)
    assert [program.returncode for program in programs] == [0, 0, 0]
