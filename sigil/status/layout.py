"""The figures as lines of text, for a terminal of any size. Level marks are characters, so that no colour is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from sigil.protocol.encoding.display_text import printable
from sigil.status.figures import Figure, Table
from sigil.status.history import History, Level, Reading
from sigil.status.units import short_text_of, text_of

_MARKS: dict[Level, str] = {"": "  ", "warn": "! ", "bad": "!!"}
_STYLES: dict[Level, str] = {"": "", "warn": "yellow", "bad": "red"}
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
_LABEL = 17
_VALUE = 23
# At least; with 18 cells for a value, two columns fit the usual 80.
_COLUMN = 2 + _LABEL + 1 + 18
_GAP = 3
_MAX_COLUMNS = 3
_MAX_BARS = 30
_MAX_NOTE_LINES = 3
_MAX_ADVICE = 4


class Connection(NamedTuple):
    """`fault` is why the last scrape failed; `since` is the age of the figures in seconds, None for none."""

    address: str
    state: str
    fault: str = ""
    since: float | None = None


def screen(
    table: Table, history: History, connection: Connection, *, width: int, height: int, utf8: bool
) -> list[Text]:
    """At most `height` lines of at most `width` cells."""
    lines = [*_top(table, history, connection, width), *_advice(table, history, width, height), Text()]
    blocks = [_block(title, figures, history) for title, figures in table.groups]
    stale = connection.since is not None and bool(connection.fault)
    body = _columns(blocks, width, max(0, height - len(lines)), utf8=utf8, stale=stale)
    lines += body
    if len(lines) > height:
        hidden = len(lines) - height + 1
        lines = [*lines[: height - 1], Text(_cut(f"{hidden} more lines: enlarge the window", width), "dim")]
    for line in lines:
        line.truncate(width, overflow="crop")
    return lines[: max(1, height)]


def listing(table: Table, history: History, connection: Connection, width: int) -> list[Text]:
    """The same for a pipe or a file: one column, without sparklines."""
    lines = [*_top(table, history, connection, width), *_advice(table, history, width, 100)]
    for title, figures in table.groups:
        lines += [Text(), *(_line(row, min(width, 80), 0, utf8=False) for row in _block(title, figures, history))]
    return lines


class _Row(NamedTuple):
    label: str
    value: str = ""
    short: str = ""
    level: Level = ""
    past: Sequence[float] = ()
    top: float = 0.0


def _block(title: str, figures: Iterable[Figure], history: History) -> list[_Row]:
    rows = [_Row(title)]
    for figure in figures:
        reading = history.readings[figure.id]
        past = history.past[figure.id]
        top = 100.0 if figure.unit == "percent" else 0.0
        rows.append(
            _Row(
                figure.label,
                printable(text_of(figure, reading)),
                printable(short_text_of(figure, reading)),
                reading.level,
                tuple(past),
                top,
            )
        )
    return rows


def _top(table: Table, history: History, connection: Connection, width: int) -> list[Text]:
    said: Mapping[str, str] = {
        figure.id: printable(text_of(figure, history.readings[figure.id])) for figure in table.header
    }
    facts = [f"Sigil {said['version']}", said["mode"], f"up {said['uptime']}", connection.address]
    head = Text(_cut(", ".join(fact for fact in facts if not fact.endswith("-")), width), "bold")
    if not connection.fault:
        return [head] if not connection.state else [head, Text(_cut(connection.state, width), "dim")]
    old = "" if connection.since is None else f" The figures are {connection.since:.0f} s old."
    return [head, *_wrapped(f"!! {printable(connection.fault)}.{old}", width, _MAX_NOTE_LINES, "red")]


def attention(table: Table, history: History) -> list[tuple[Figure, Reading]]:
    """The figures beyond their limits, the worst first."""
    found = [(figure, history.readings[figure.id]) for figure in table.figures() if history.readings[figure.id].level]
    return sorted(found, key=lambda pair: pair[1].level != "bad")


def _advice(table: Table, history: History, width: int, height: int) -> list[Text]:
    lines = []
    for figure, reading in attention(table, history)[: max(1, min(_MAX_ADVICE, height // 6))]:
        alert = f" ({figure.alert} in docs/runbook.md)" if figure.alert else ""
        text = f"{_MARKS[reading.level]} {figure.label} {printable(text_of(figure, reading))}: {figure.advice}{alert}"
        lines += _wrapped(text, width, _MAX_NOTE_LINES if height > 30 else 1, _STYLES[reading.level])
    return lines


def _columns(blocks: list[list[_Row]], width: int, height: int, *, utf8: bool, stale: bool) -> list[Text]:
    most = max(1, min(_MAX_COLUMNS, (width + _GAP) // (_COLUMN + _GAP)))
    # The fewest columns that fit: wide ones have sparklines.
    fitting = (count for count in range(1, most) if max(map(len, _stacked(blocks, count))) <= height)
    count = next(fitting, most)
    each = (width - _GAP * (count - 1)) // count
    bars = each - (2 + _LABEL + 1 + _VALUE) - 2
    bars = min(_MAX_BARS, bars) if bars >= 6 else 0
    each = min(each, 2 + _LABEL + 1 + _VALUE + (bars + 2 if bars else 0))
    stacks = _stacked(blocks, count)
    lines = []
    for at in range(max(map(len, stacks))):
        line = Text(style="dim" if stale else "")
        for stack in stacks:
            if stack is not stacks[0]:
                line.append(" " * _GAP)
            line.append_text(_line(stack[at], each, bars, utf8=utf8) if at < len(stack) else Text(" " * each))
        line.rstrip()
        lines.append(line)
    return lines


def _stacked(blocks: list[list[_Row]], count: int) -> list[list[_Row]]:
    """The blocks in `count` columns, in rows of blocks, so that the first ones are at the top."""
    stacks: list[list[_Row]] = [[] for _ in range(count)]
    for block in blocks:
        shortest = min(stacks, key=len)
        shortest += [*([_Row("")] if shortest else []), *block]
    return stacks


def _line(row: _Row, width: int, bars: int, *, utf8: bool) -> Text:
    if not row.value:
        return Text(set_cell_size(row.label, width), "bold")
    label = min(_LABEL, max(6, width - 2 - 1 - 12))
    left = f"{_MARKS[row.level]}{set_cell_size(row.label, label)} "
    space = width - cell_len(left) - (bars + 2 if bars else 0)
    value = row.value if cell_len(row.value) <= space else row.short
    line = Text(left, _STYLES[row.level])
    if bars:
        line.append(f"{sparkline(row.past, bars, row.top, utf8=utf8)}  ", "dim")
    line.append(_padded(value, space), _STYLES[row.level] or ("dim" if value == "-" else ""))
    return line


def sparkline(past: Sequence[float], width: int, top: float, *, utf8: bool) -> str:
    """The last `width` values, from 0 to the highest of them or `top`; low where nothing changes."""
    shown = [max(0.0, value) for value in past[-width:]]
    bars = _BARS if utf8 else _ASCII_BARS
    highest = max([top, *shown])
    if highest <= 0 or (not top and min(shown) == highest):
        return (bars[int(highest > 0)] * len(shown)).rjust(width)
    steps = (min(len(bars) - 1, math.floor(value / highest * len(bars))) for value in shown)
    return "".join(bars[step] for step in steps).rjust(width)


def _padded(text: str, width: int) -> str:
    return _cut(text, width).rjust(width)


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else f"{set_cell_size(text, max(0, width - 1))}~"


def _wrapped(text: str, width: int, most: int, style: str) -> list[Text]:
    lines, line = [], ""
    for word in text.split():
        if line and cell_len(f"{line} {word}") > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    lines.append(line)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [Text(_cut(line, width), style) for line in lines]
