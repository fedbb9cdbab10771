"""The memory in which the workers of a service keep their metrics, so that a scrape of any worker covers all of them.

A slot is the part of one row of the process table: the worker in that row counts there, and the next one continues its
counters. So no counts are lost with a worker. The master creates the memory, which has no name: nothing outside the
service can remove, truncate or damage it, and a full or read-only file system does not concern it.

prometheus_client keeps its values in files that it maps; its class of such a file is replaced by one of this memory.
It is imported only inside functions: it decides at its first import, and the master does not need it.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from sigil.serving import shared_memory

# The files that prometheus_client would have: one for each type of metric, of gauges one for each mode.
_KINDS = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
# Of address space: the largest has 36 kB in use, which is the memory that it takes.
_BYTES = 1 << 20
_USED = struct.Struct("i")


class MetricsMemory:
    """`slots` slots in the memory behind `fd`; `live` tells whether a process holds a slot now."""

    def __init__(self, fd: int, slots: int, live: Callable[[int], bool] = lambda slot: True) -> None:
        self.fd = fd
        self._slots = slots
        self._live = live
        self._memory = mmap.mmap(fd, slots * len(_KINDS) * _BYTES)

    @classmethod
    def create(cls, slots: int) -> MetricsMemory:
        return cls(shared_memory.create("metrics", slots * len(_KINDS) * _BYTES), slots)

    def drop_live_gauges(self, slot: int) -> None:
        """The gauges of a dead process, before the next one takes the slot; counters stay."""
        for kind in _KINDS:
            if kind.startswith("gauge_live"):
                start = self._start(kind, slot)
                self._memory[start : start + _USED.size] = _USED.pack(0)

    def count_in(self, slot: int) -> None:
        """All metrics of this process count in `slot` from now on; call it before any metric is created."""
        # prometheus_client joins it with the name of a file, and warns where it is not set.
        os.environ.update(PROMETHEUS_MULTIPROC_DIR="")
        from prometheus_client import values

        cast(Any, values).MmapedDict = self._dictionary_class()
        values.ValueClass = cast(Any, values).MultiProcessValue(process_identifier=lambda: slot)

    def collect(self) -> Iterable[Any]:
        """The sums over all slots, for a registry of prometheus_client."""
        from prometheus_client import multiprocess

        cast(Any, multiprocess).MmapedDict = self._dictionary_class()
        return cast(Iterable[Any], cast(Any, multiprocess).MultiProcessCollector.merge(list(self._names())))

    def _names(self) -> Iterator[str]:
        for slot in range(self._slots):
            live = self._live(slot)
            for kind in _KINDS:
                if self._content(kind, slot) and (live or not kind.startswith("gauge_live")):
                    yield f"{kind}_{slot}.db"

    def _start(self, kind: str, slot: int) -> int:
        return (slot * len(_KINDS) + _KINDS.index(kind)) * _BYTES

    def _start_of_name(self, name: str) -> int:
        kind, _, slot = name.removesuffix(".db").rpartition("_")
        return self._start(kind, int(slot))

    def _content(self, kind: str, slot: int) -> bytes:
        start = self._start(kind, slot)
        # The writer writes the number of used bytes last.
        return self._memory[start : start + _USED.unpack_from(self._memory, start)[0]]

    def _dictionary_class(self) -> type[Any]:
        from prometheus_client import mmap_dict

        memory = self

        class Dictionary(mmap_dict.MmapedDict):
            """The part of the memory that has the name of a file."""

            def __init__(self, filename: str, read_mode: bool = False) -> None:
                own: Any = self
                own._f = None
                own._capacity = _BYTES
                own._m = mmap.mmap(memory.fd, _BYTES, offset=memory._start_of_name(filename))
                own._used = _USED.unpack_from(own._m)[0] or 8
                own._m[: _USED.size] = _USED.pack(own._used)
                own._positions = {key: position for key, _, _, position in own._read_all_values()}

            @staticmethod
            def read_all_values_from_file(filename: str) -> Any:
                kind, _, slot = filename.removesuffix(".db").rpartition("_")
                content = memory._content(kind, int(slot))
                # The master may have emptied the slot of a dead process since this scrape listed it.
                return cast(Any, mmap_dict)._read_all_values(content, len(content)) if content else ()

        return Dictionary
