"""The most recent names, each with a note, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

Note = TypeVar("Note")


class Recent(Generic[Note]):
    """Least recently used: beyond `limit` names, it forgets the one used longest ago."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
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
        if len(self._notes) > self._limit:
            self._notes.popitem(last=False)

    def forget(self, name: str) -> None:
        self._notes.pop(name, None)
