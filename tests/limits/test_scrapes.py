"""Readers of `/metrics` cannot load a worker: one rendering at a time, with pauses between."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: it measures its own CPU time.
_SCRIPT = """
import asyncio, time
from sigil.protocol.errors import Overloaded
from sigil.serving.http.metrics import Scrape

running = renderings = overlaps = 0
cpu = 0.0

def gauges():
    global running, renderings, overlaps, cpu
    running += 1
    renderings += 1
    overlaps += running > 1
    began = time.thread_time()
    while time.thread_time() - began < 0.01:
        pass
    time.sleep(0.01)
    cpu += time.thread_time() - began
    running -= 1
    return []

async def read(scrape, accept, until):
    while renderings < until:
        await scrape.text(accept)

async def main():
    scrape = Scrape("sigil", "1", None, gauges)
    began = time.monotonic()
    accepts = ["", "text/plain", "application/openmetrics-text", "text/plain; version=1.0.0; escaping=dots"]
    await asyncio.gather(*(read(scrape, accept, 8) for accept in accepts * 2))
    share = cpu / (time.monotonic() - began)
    results = await asyncio.gather(*(scrape.text("") for _ in range(200)), return_exceptions=True)
    rejected = sum(isinstance(result, Overloaded) for result in results)
    print(overlaps, share < 0.2, rejected, len(results) - rejected)

asyncio.run(main())
"""


def test_renderings_never_overlap_take_a_part_of_the_time_and_have_a_bound_of_readers() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["0", "True", "136", "64"], done.stderr
