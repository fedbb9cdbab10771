"""The master fetches Android's status list at its start and each hour, and warns once a day of a list that is old.

What blocks runs elsewhere: the fetch is a process without secrets (`sigil.serving.fetches`), and files are read and
written in a thread. Workers see the new file by themselves, so the settings never change.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sigil.android_status import list_file
from sigil.android_status.list_file import Mark
from sigil.attestation.certificates.status_list import MAX_BYTES, StatusList, UnusableStatusList
from sigil.serving import logs
from sigil.serving.bounded.calls import Call
from sigil.serving.fetches.process import Fetched, FetchFailed, FetchProcess
from sigil.serving.files.errors import file_error


@dataclass(frozen=True)
class Times:
    """In seconds. After a failure the next attempt comes after `retry`, then twice as long, up to `interval`."""

    interval: float = 3600
    retry: float = 300
    fetch: int = 30
    warn: float = 86_400


class AndroidStatusFeed:
    """`sigil.serving.process.supervisor.SettingsFeed`. Without `url` it only watches the age of the list.

    `clock` gives Unix seconds; `step` gets those of a monotonic clock.
    """

    def __init__(
        self, path: Path | None, url: str | None, times: Times = Times(), clock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._url = url
        self._times = times
        self._clock = clock
        self._fetch: FetchProcess | None = None
        self._work: Call[_Outcome] | None = None
        self._etag = ""
        self._mark: Mark | None = None
        """Of the file as it was after the last fetch: the ETag is that of its content."""
        self._due: float = 0
        self._warn_at: float = 0
        self._failures = 0

    def applied(self, settings: Any) -> Any:
        return settings

    def step(self, now: float) -> bool:
        if self._work is not None:
            if self._work.ended:
                self._finish(self._work, now)
        elif self._fetch is not None:
            if self._fetch.ended(now):
                self._store(self._fetch, now)
        elif now >= self._due:
            self._begin(now)
        return False

    def refresh(self) -> None:
        self._due = 0
        # The operator who sends SIGHUP waits for a line.
        self._failures = 0
        self._warn_at = 0

    def stop(self) -> None:
        if self._fetch is not None:
            self._fetch.close()
            self._fetch = None

    def _begin(self, now: float) -> None:
        self._due = now + self._times.interval
        try:
            if self._url is None:
                self._start(partial(_watched, self._path))
            else:
                self._fetch = FetchProcess(
                    [self._url], max_bytes=MAX_BYTES, seconds=self._times.fetch, now=now, etag=self._etag
                )
        except OSError as error:
            self._fail(f"no process for the fetch: {error.strerror}", now)

    def _store(self, fetch: FetchProcess, now: float) -> None:
        try:
            fetched = fetch.result()
        except FetchFailed as error:
            self._fail(str(error), now)
        else:
            if self._path is not None:
                self._start(partial(_stored, self._path, fetched, self._clock(), self._mark))
        finally:
            self.stop()

    def _start(self, work: Callable[[], _Outcome]) -> None:
        # Without a thread, the next attempt comes when it is due.
        with contextlib.suppress(OSError):
            self._work = Call(work)

    def _finish(self, work: Call[_Outcome], now: float) -> None:
        self._work = None
        outcome = work.result()
        if outcome.changed:
            # By another program: what is there may be older than what the answer is about.
            self._etag, self._due = "", now
            return
        if outcome.fault:
            # The whole list, even if it is the same: the file may be gone.
            self._etag = ""
            self._fail(outcome.fault, now)
            return
        if outcome.fetched is not None:
            self._failures = 0
            self._report(outcome.fetched, outcome)
        self._warn_if_old(outcome.status, now)

    def _report(self, fetched: Fetched, outcome: _Outcome) -> None:
        self._mark = outcome.mark
        if fetched.unchanged:
            return
        self._etag = fetched.etag
        logs.info("android_status_fetched", entries=outcome.status.entries, before=outcome.before)
        if outcome.before is not None and outcome.status.entries < outcome.before:
            logs.warn(
                "android_status_shrank",
                entries=outcome.status.entries,
                before=outcome.before,
                message="certificates that were revoked count as good again: check the source of the list",
            )

    def _fail(self, reason: str, now: float) -> None:
        wait = min(self._times.retry * 2 ** min(self._failures, 20), self._times.interval)
        self._due = now + wait
        self._failures += 1
        if self._failures == 1:
            logs.warn(
                "android_status_not_fetched",
                url=self._url,
                reason=reason,
                message=(
                    "the list in use stays; further failures are not logged. Allow https to this address, or set "
                    "SIGIL_ANDROID_STATUS_FETCH to a mirror, or to off and use `sigil attest update-status`"
                ),
            )
        if now >= self._warn_at:
            self._start(partial(_watched, self._path))

    def _warn_if_old(self, status: StatusList, now: float) -> None:
        if now < self._warn_at or not status.is_old(self._clock()):
            return
        self._warn_at = now + self._times.warn
        days = round(status.age(self._clock()) / 86_400) if status.known_at else None
        logs.warn(
            "android_status_old",
            days=days,
            entries=status.entries,
            message=(
                "Android's status list is older than 30 days: keys that leaked since then count as good. Set "
                "SIGIL_ANDROID_STATUS_FETCH=on, or run `sigil attest update-status` each day"
            ),
        )


@dataclass(frozen=True)
class _Outcome:
    """What the thread found. `before`: how many entries the file had. `changed`: the file is not that of the last
    fetch, so the answer "unchanged" is not about it.
    """

    status: StatusList
    fetched: Fetched | None = None
    before: int | None = None
    fault: str = ""
    mark: Mark | None = None
    changed: bool = False


def _watched(path: Path | None) -> _Outcome:
    found = list_file.usable(path) if path is not None else None
    return _Outcome(found or list_file.of_release())


def _stored(path: Path, fetched: Fetched, now: float, mark: Mark | None) -> _Outcome:
    present = list_file.usable(path)
    status, before = present or list_file.of_release(), present.entries if present else None
    try:
        if fetched.unchanged:
            if present is None or list_file.mark_of(path) != mark:
                return _Outcome(status, changed=True)
            os.utime(path, (now, now))
        else:
            status = list_file.write(path, fetched.bodies[0], now)
        return _Outcome(status, fetched, before, mark=list_file.mark_of(path))
    except UnusableStatusList as error:
        return _Outcome(status, fault=str(error))
    except OSError as error:
        return _Outcome(status, fault=file_error("write", path, error))
