"""The last so many names, each with a note: what was told already, in bounded space."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Note = TypeVar("Note")


class Recent(Generic[Note]):
    """Beyond `most`, what was looked at longest ago is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._notes: OrderedDict[str, Note] = OrderedDict()

    def __len__(self) -> int:
        return len(self._notes)

    def get(self, name: str) -> Note | None:
        if name not in self._notes:
            return None
        self._notes.move_to_end(name)
        return self._notes[name]

    def put(self, name: str, note: Note) -> None:
        self._notes[name] = note
        self._notes.move_to_end(name)
        if len(self._notes) > self._most:
            self._notes.popitem(last=False)

    def forget(self, name: str) -> None:
        self._notes.pop(name, None)
