"""The status list as a worker uses it. It reads a changed file again, without a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sigil.android_status import list_file
from sigil.android_status.list_file import Mark, mark_of
from sigil.attestation.certificates.status_list import StatusList, UnusableStatusList
from sigil.serving import logs
from sigil.serving.bounded.calls import Call

CHECK_SECONDS = 1.0
_POLL_SECONDS = 0.05


class AndroidStatus:
    """`sigil.attestation.service.StatusList`. Without a path, or a usable file, it is the list of the release."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._mark: Mark | None = None
        self._unusable: tuple[Mark | None, str] | None = None
        self._list = list_file.of_release()
        if path is not None:
            self._take(self._changed(path, self._mark))

    @property
    def entries(self) -> int:
        return self._list.entries

    def revoked(self, serial: str) -> bool:
        return self._list.revoked(serial)

    def is_old(self, now: float) -> bool:
        return self._list.is_old(now)

    def age(self, now: float) -> float:
        return self._list.age(now)

    async def run_once(self) -> None:
        """The job of a background loop."""
        await asyncio.sleep(CHECK_SECONDS)
        path, mark = self._path, self._mark
        if path is None:
            return
        # In a thread: the file may be on a mount that hangs. There is one call at a time.
        call = Call(lambda: self._changed(path, mark))
        # Not an event: a thread that never ends sets none, and this job has to end with the worker.
        while not call.ended:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        self._take(call.result())

    def _changed(self, path: Path, mark: Mark | None) -> tuple[Mark | None, StatusList | UnusableStatusList | None]:
        """The mark of the file now, and its list if the mark is another one."""
        found = mark_of(path)
        if found == mark:
            return mark, None
        try:
            return found, list_file.read(path)
        except UnusableStatusList as error:
            return found, error

    def _take(self, found: tuple[Mark | None, StatusList | UnusableStatusList | None]) -> None:
        mark, new = found
        if not isinstance(new, UnusableStatusList):
            self._mark, self._unusable = mark, None
            self._list = new or self._list
            return
        # A file that could not be read, on a mount that hung, is tried again though it has not changed.
        if not isinstance(new.__cause__, OSError):
            self._mark = mark
        if self._unusable != (mark, str(new)):
            logs.warn("android_status_unusable", path=self._path, reason=str(new), message="the list in use stays")
        self._unusable = mark, str(new)
