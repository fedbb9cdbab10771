"""The clock of the session store never runs backwards, in one process and across all processes on a directory."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.store.steady_clock import CLOCK_FILE, STEP_SECONDS, LocalOffset, Offset, SharedOffset, SteadyClock
from tests.support.services import START, Clock

TOLERANCE = 2 * STEP_SECONDS


def steady(clock: Clock, offset: Offset | None = None) -> SteadyClock:
    return SteadyClock(offset or LocalOffset(), wall=clock, boot=clock.boot)


def test_it_is_the_time_of_day_while_that_is_not_set() -> None:
    clock = Clock()
    now = steady(clock)
    for _ in range(100):
        assert abs(now() - clock()) < 1e-5
        clock.now += 3.7


@pytest.mark.parametrize("back", [0.2, 10, 86_400])
def test_set_back_it_goes_on_and_no_second_lasts_longer(back: float) -> None:
    clock = Clock()
    now = steady(clock)
    before = now()
    clock.step(-back)
    clock.now += 5
    assert now() == pytest.approx(before + 5, abs=1e-5)


@pytest.mark.parametrize("forward", [0.2, 10, 86_400])
def test_it_follows_a_step_forward_and_is_not_frozen_after_the_step_back(forward: float) -> None:
    """A high-water mark alone would stand still until the time of day has caught up."""
    clock = Clock()
    now = steady(clock)
    clock.step(forward)
    ahead = now()
    assert ahead == pytest.approx(clock(), abs=1e-5)
    clock.step(-forward)
    clock.now += 5
    assert now() == pytest.approx(ahead + 5, abs=1e-5)


def test_a_suspended_host_and_a_paused_virtual_machine_both_count() -> None:
    """In a suspension the boot clock runs. A paused machine has neither clock until its time of day is corrected."""
    clock = Clock()
    now = steady(clock)
    before = now()
    clock.now += 3600
    assert now() == pytest.approx(before + 3600, abs=1e-5)
    clock.step(7200)
    assert now() == pytest.approx(before + 10_800, abs=1e-5)


def test_a_step_is_reported_once() -> None:
    clock, offset, steps = Clock(), LocalOffset(), list[float]()
    workers = [SteadyClock(offset, wall=clock, boot=clock.boot, on_step=steps.append) for _ in range(2)]

    def reported() -> list[int]:
        steps.clear()
        for worker in workers * 3:
            worker()
            clock.now += 0.1
        return [round(step) for step in steps]

    assert reported() == []
    clock.step(0.5)
    assert reported() == []
    clock.step(3600)
    assert reported() == [3600], "by one process"
    clock.step(-0.5)
    assert reported() == []
    clock.step(-3600)
    assert reported() == [-3600] * 2, "by each process, since none writes"
    assert reported() == []
    clock.step(-10)
    assert reported() == [-3610] * 2


def test_a_time_of_day_at_the_end_of_the_stored_range_is_not_followed() -> None:
    clock = Clock()
    now = steady(clock)
    before = now()
    clock.step(float(1 << 33))
    assert now() == pytest.approx(before, abs=1e-5)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 100), st.floats(-1e5, 1e5)), max_size=40))
def test_no_sequence_of_steps_takes_it_backwards_in_either_of_two_workers(
    moves: list[tuple[int, float, float]],
) -> None:
    clock, offset = Clock(), LocalOffset()
    workers = [steady(clock, offset), steady(clock, offset)]
    last = began = workers[0]()
    passed, forward = 0.0, 0.0
    for worker, seconds, step in moves:
        clock.now += seconds
        clock.step(step)
        passed, forward = passed + seconds, forward + max(0.0, step)
        now = workers[worker]()
        assert now >= last + seconds - 1e-5
        assert now >= clock() - TOLERANCE
        assert now - began <= passed + forward + 1e-3
        last = now


def test_all_processes_on_a_directory_share_it(memory_directory: Path) -> None:
    clock, other = Clock(), Clock()
    one, two = SharedOffset(memory_directory), SharedOffset(memory_directory)
    first, second = steady(clock, one), steady(other, two)
    assert first() == pytest.approx(START, abs=1e-5)
    clock.step(3600)
    first()
    # The second process has never seen the step.
    assert second() == pytest.approx(START + 3600, abs=1e-5)
    one.close()
    two.close()
    again = SharedOffset(memory_directory)
    assert steady(other, again)() == pytest.approx(START + 3600, abs=1e-5)
    again.close()


def test_a_process_that_is_stopped_while_it_raises_the_offset_blocks_no_other(memory_directory: Path) -> None:
    clock = Clock()
    offset = SharedOffset(memory_directory)
    now = steady(clock, offset)
    before = now()
    holder = os.open(memory_directory / CLOCK_FILE, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    clock.step(3600)
    assert now() == pytest.approx(before, abs=1e-5)
    os.close(holder)
    assert now() == pytest.approx(before + 3600, abs=1e-5)
    offset.close()


def test_the_file_is_private_and_a_link_is_not_followed(memory_directory: Path, tmp_path: Path) -> None:
    SharedOffset(memory_directory).close()
    assert (memory_directory / CLOCK_FILE).stat().st_mode & 0o777 == 0o600
    (memory_directory / CLOCK_FILE).unlink()
    (tmp_path / "elsewhere").touch()
    (memory_directory / CLOCK_FILE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        SharedOffset(memory_directory)


# Each process takes its turns of a shared file offset: it prints every time, in the order in which it got them.
_READER = """
import os, struct, sys, time
from pathlib import Path
from sigil.store.steady_clock import SharedOffset, SteadyClock
steps = os.open(sys.argv[2], os.O_RDONLY)
wall = lambda: time.time() + struct.unpack("d", os.pread(steps, 8, 0))[0]
now = SteadyClock(SharedOffset(Path(sys.argv[1])), wall=wall)
print("ready", flush=True)
for line in sys.stdin:
    print(repr(now()), flush=True)
"""


def test_real_processes_never_see_an_earlier_time_than_another_process_has_seen(
    memory_directory: Path, tmp_path: Path
) -> None:
    steps = tmp_path / "steps"
    steps.write_bytes(struct.pack("d", 0))
    command = [sys.executable, "-c", _READER, str(memory_directory), str(steps)]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for reader in readers:
            assert reader.stdout
            assert reader.stdout.readline() == "ready\n"
        last, highest = 0.0, 0.0
        for turn, step in enumerate([0, -10, 5, 3600, 0, -3600, 7200, 1, 0, -86_400, 7201] * 5):
            steps.write_bytes(struct.pack("d", step))
            highest = max(highest, step)
            reader = readers[turn % 3]
            assert reader.stdin
            assert reader.stdout
            reader.stdin.write("\n")
            reader.stdin.flush()
            now = float(reader.stdout.readline())
            assert now >= last
            assert now == pytest.approx(time.time() + highest, abs=5)
            last = now
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
