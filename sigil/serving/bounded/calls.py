"""A call that may never return, such as a read from a network file system that hangs, in a thread of its own.

No signal and no flag ends such a call. The thread stays behind, and does not keep the process from ending.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Call(Generic[T]):
    """Runs `function` from now on; OSError when no thread can be started."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._result: T | None = None
        self._error: BaseException | None = None
        self._drop: Callable[[T], object] | None = None
        try:
            threading.Thread(target=self._run, name="bounded call", daemon=True).start()
        except RuntimeError as error:
            raise OSError(str(error)) from error

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended."""
        return self._ended.wait(seconds)

    def result(self) -> T:
        """After the end: what the function returned, or raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    def abandon(self, drop: Callable[[T], object]) -> None:
        """The result is not needed any more: `drop` gets it once the function returns."""
        with self._lock:
            self._drop = drop
            if self.ended and self._error is None:
                drop(self.result())

    def _run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error
        with self._lock:
            self._ended.set()
            if self._drop is not None and self._error is None:
                with contextlib.suppress(Exception):
                    self._drop(self.result())
