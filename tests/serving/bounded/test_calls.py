"""Calls that may never return."""

from __future__ import annotations

import threading

import pytest

from sigil.serving.bounded.calls import Call


def test_a_call_returns_or_raises_what_its_function_does() -> None:
    call = Call(lambda: 7)
    assert call.wait(60)
    assert (call.ended, call.result()) == (True, 7)
    failing = Call(lambda: 1 / 0)
    assert failing.wait(60)
    with pytest.raises(ZeroDivisionError):
        failing.result()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_result_of_an_abandoned_call_is_dropped(moment: str) -> None:
    go, dropped = threading.Event(), threading.Event()
    call = Call(lambda: go.wait(60))
    assert not call.wait(0)
    if moment == "after":
        go.set()
        assert call.wait(60)
    call.abandon(lambda result: dropped.set())
    go.set()
    assert dropped.wait(60)
