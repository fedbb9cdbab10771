"""A reading as text. The page has the same function in `units.js`."""

from __future__ import annotations

import math
from collections.abc import Callable

from sigil.status.figures import Figure
from sigil.status.history import Reading

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")
ABSENT = "-"


def text_of(figure: Figure, reading: Reading) -> str:
    value, also = reading.value, reading.also
    if value is None:
        return ABSENT
    if isinstance(value, str):
        return value
    shown = _UNITS[figure.unit](value)
    if figure.kind == "quantile":
        return f"p50 {ABSENT if also is None else _UNITS[figure.unit](also)}, p99 {shown}"
    if figure.kind == "count" and also:
        return f"{shown}, +{_number(also)} in 5 min"
    return shown


def _number(value: float) -> str:
    """Two decimals below 1, one below 10, then none."""
    size = abs(value)
    if size == math.floor(size):
        return f"{value + 0.0:.0f}"
    if size < 0.01:
        return "<0.01"
    digits = 2 if size < 1 else 1 if size < 10 else 0
    # Half is rounded up, as the page does it.
    rounded = math.floor(size * 10**digits + 0.5) / 10**digits
    return f"{'-' if value < 0 else ''}{rounded:.{digits}f}"


def _seconds(value: float) -> str:
    size = abs(value)
    if 0 < size < 1:
        return f"{_number(value * 1000)} ms"
    if size < 60:
        return f"{_number(value)} s"
    sign, whole = "-" if value < 0 else "", math.floor(size)
    if whole < 3600:
        return f"{sign}{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{sign}{whole // 3600} h {whole % 3600 // 60} min"
    return f"{sign}{whole // 86400} d {whole % 86400 // 3600} h"


def _bytes(value: float) -> str:
    at = 0
    while abs(value) >= 1024 and at < len(_BYTES) - 1:
        value /= 1024
        at += 1
    return f"{_number(value)} {_BYTES[at]}"


def _days(value: float) -> str:
    if value < 0:
        return "expired"
    days = math.floor(value)
    return f"{days} day{'' if days == 1 else 's'} left"


_UNITS: dict[str, Callable[[float], str]] = {
    "count": _number,
    "per_second": lambda value: f"{_number(value)}/s",
    "seconds": _seconds,
    "bytes": _bytes,
    "percent": lambda value: f"{_number(value)} %",
    "cores": lambda value: f"{_number(value)} cores",
    "days": _days,
    "up": lambda value: "up" if value >= 1 else "down",
    "done": lambda value: "successful" if value >= 1 else "failed",
}


def short_text_of(figure: Figure, reading: Reading) -> str:
    """For a narrow terminal: without p50, and without the increase."""
    return text_of(figure, reading._replace(also=None)).removeprefix(f"p50 {ABSENT}, ")
