"""The tally of each owner is the sum over its rows, after any sequence of operations, kills and adoptions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.app.state import KINDS, STORE_SCHEMA
from sigil.core.session_store import Tally
from sigil.store.adoption import Stamp, adopt_or_wipe
from sigil.store.lmdb import LmdbStore
from tests.store.tallies import OPERATIONS, SIZE, TalliedServices, Work, stored

STAMP = Stamp(STORE_SCHEMA, "server")
operations = st.lists(st.tuples(st.sampled_from((*OPERATIONS, "adopt")), st.integers(0, 239)), min_size=10, max_size=60)


def adopt(path: Path) -> str:
    directory = os.open(path, os.O_RDONLY)
    try:
        return adopt_or_wipe(path, directory, SIZE, STAMP, frozenset(), adopt_unowned=False)
    finally:
        os.close(directory)


@settings(max_examples=100, deadline=None)
@given(operations)
def test_tallies_equal_a_recount_of_the_store(sequence: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        asyncio.run(check(Path(name), sequence))


async def check(path: Path, sequence: list[tuple[str, int]]) -> None:
    adopt(path)
    services = TalliedServices(directory=path)
    work = Work(services)
    for what, number in sequence:
        if what == "adopt":
            services.store.close()
            assert adopt(path) == ""
            again = TalliedServices(directory=path)
            again.clock.now, work.services, services = services.clock.now, again, again
        else:
            await work.do(what, number)
        tallies, recounted = stored(services.store)
        assert tallies == recounted
    services.store.close()


async def test_the_operations_of_these_tests_count_something(memory_directory: Path) -> None:
    adopt(memory_directory)
    work = Work(TalliedServices(directory=memory_directory))
    for what, number in [("create", 1), ("create", 2), ("request", 5), ("answer", 1), ("vote", 4), ("enrol", 1)]:
        await work.do(what, number)
    tallies, recounted = stored(work.services.store)
    assert tallies == recounted
    assert sum(tally.pending for tally in tallies.values()) == 2
    assert sum(tally.events for tally in tallies.values()) == 1
    assert sum(tally.enrolments for tally in tallies.values()) == 1
    work.services.store.close()


async def test_tallies_equal_a_recount_after_kills(memory_directory: Path) -> None:
    directory = memory_directory / "store"
    directory.mkdir()
    adopt(directory)
    pending = 0
    for _ in range(5):
        begun = [
            subprocess.Popen([sys.executable, "-m", "tests.store.tallies", str(directory)], stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for process in begun:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
        await asyncio.sleep(0.15)
        for process in begun:
            process.kill()
            process.communicate()
        assert adopt(directory) == ""
        store = LmdbStore(directory, size=SIZE, kinds=KINDS, clock=float)
        tallies, recounted = stored(store)
        store.close()
        assert tallies == recounted
        pending = max(pending, sum(tally.pending for tally in tallies.values()))
    assert pending > 0
    shutil.rmtree(directory)


async def test_an_owner_without_rows_has_no_tally(memory_directory: Path) -> None:
    adopt(memory_directory)
    work = Work(TalliedServices(directory=memory_directory))
    for what, number in [("create", 1), ("request", 1), ("cancel", 1), ("cancel", 2), ("expire", 239), ("delete", 0)]:
        await work.do(what, number)
    assert stored(work.services.store) == ({}, {})
    work.services.store.close()


def test_a_store_with_tallied_kinds_needs_the_kind_of_the_tallies(memory_directory: Path) -> None:
    with (
        pytest.raises(ValueError, match="TALLY"),
        contextlib.closing(
            LmdbStore(memory_directory, size=SIZE, kinds=[kind for kind in KINDS if kind.tallied], clock=float)
        ),
    ):
        raise AssertionError(Tally)
