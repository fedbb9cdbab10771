"""The reader of the server's log, and the signals that stop a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from loadtest.soak.faults import FaultLog, Faults
from loadtest.soak.stack import LogReader, parent
from tests.support.live import wait_until


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[LogReader]:
    one = LogReader(tmp_path / "log")
    yield one
    one.close()


def write(reader: LogReader, *lines: str) -> None:
    with reader.open_sink() as sink:
        sink.write("".join(f"{line}\n" for line in lines).encode())


def test_the_reader_counts_events_errors_and_lines_that_are_no_json(reader: LogReader, tmp_path: Path) -> None:
    write(
        reader, '{"event": "draining", "level": "info"}', '{"event": "internal_error", "level": "error"}', "Traceback"
    )
    wait_until(lambda: reader.unreadable == 1, "all lines")
    assert reader.events == {"draining": 1, "internal_error": 1}
    assert reader.errors == {"internal_error": 1}
    assert (tmp_path / "log").read_text().endswith("Traceback\n")


def test_a_stalled_reader_reads_on_after_it_resumes(reader: LogReader) -> None:
    reader.stall()
    # The reader is inside a read already, which takes the first of these.
    for number in range(3):
        write(reader, f'{{"event": "event_{number}", "level": "info"}}')
        time.sleep(0.05)
    assert len(reader.events) < 3
    reader.resume()
    wait_until(lambda: len(reader.events) == 3, "the other lines")


async def stop_process(pid: int, master: int, seconds: float) -> FaultLog:
    log = FaultLog(lambda text: None)
    faults = Faults(cast(Any, None), cast(Any, FakeFloods()), log, 1)
    await faults._stop_process(pid, master, seconds)
    return log


class FakeFloods:
    async def run(self, kind: str, seconds: float) -> None: ...


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


async def test_a_stopped_process_continues_after_its_time() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        master = parent(process.pid)
        assert master is not None
        began = time.monotonic()
        await stop_process(process.pid, master, 0.3)
        assert time.monotonic() - began >= 0.3
        wait_until(lambda: state(process.pid) != "T", "the process to continue")
        process.kill()


async def test_a_process_that_is_no_longer_a_child_of_its_master_is_left_alone() -> None:
    """The watchdog killed it, and another process may have its id by now."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        await stop_process(process.pid, 1, 5)
        wait_until(lambda: state(process.pid) == "T", "the process to be stopped still")
        process.kill()
    assert parent(process.pid) is None
