"""How often a person typed a wrong match code for a challenge: the server counts, and does not report the number."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

import msgspec

from sigil.console.new_file import replace_file
from sigil.device.errors import MAX_WRONG_CODES, MatchCodeWrong, ServerRefused

_MAX_CHALLENGES = 64
_MAX_FILE = 1 << 16


class WrongCodes(Protocol):
    def add(self, challenge_id: str) -> int:
        """Counts one more, and returns how many there were."""
        ...


class MemoryWrongCodes:
    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, challenge_id: str) -> int:
        return _counted(self._counts, challenge_id)


class FileWrongCodes:
    """Shared by the commands of one device, of which each runs in a process of its own. No secret."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, challenge_id: str) -> int:
        counts: dict[str, int] = {}
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            counts = msgspec.json.decode(self._path.read_bytes()[:_MAX_FILE], type=dict[str, int])
        count = _counted(counts, challenge_id)
        # Without the file the server counts all the same.
        with contextlib.suppress(OSError):
            replace_file(self._path, msgspec.json.encode(counts))
        return count


def wrong_code(
    error: ServerRefused, challenge_id: str, match_code: str | None, wrong: WrongCodes
) -> MatchCodeWrong | None:
    """The error of an approval, if it means the code: the device signed the approval, so this one means nothing else.

    A proxy's own 401 has another code.
    """
    if error.code != "INVALID_SIGNATURE" or match_code is None:
        return None
    return MatchCodeWrong(max(0, MAX_WRONG_CODES - wrong.add(challenge_id)))


def _counted(counts: dict[str, int], challenge_id: str) -> int:
    count = counts.pop(challenge_id, 0) + 1
    counts[challenge_id] = count
    while len(counts) > _MAX_CHALLENGES:
        del counts[next(iter(counts))]
    return count
