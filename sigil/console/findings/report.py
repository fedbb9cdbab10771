"""Findings for people, one line each or wrapped on a terminal, and as one JSON object."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sigil.console.findings.result import Result
from sigil.console.json_lines import json_line
from sigil.console.style import Style, is_terminal, styled

SCHEMA = 1
"""Of the JSON object. A new member or a new name of a finding keeps it; every other change raises it."""
_STYLES: dict[str, Style] = {"ok": "good", "open": "notice", "failed": "bad"}
_NAME_WIDTH, _MIN_WIDTH = 13, 30


@dataclass(frozen=True)
class Report:
    """`groups`: titles and the names of their findings, in the order in which people read them."""

    program: str
    version: str
    checked_at: str
    groups: Mapping[str, Sequence[str]]
    results: Sequence[Result]
    subject: Mapping[str, object] = field(default_factory=dict)
    """More members of the JSON object: what the findings are about."""

    @property
    def exit_code(self) -> int:
        return 1 if self._count("failed") else 0

    def as_json(self) -> str:
        counts = {state: self._count(state) for state in ("failed", "open", "ok")}
        head = {"schema": SCHEMA, "program": self.program, "version": self.version, "checked_at": self.checked_at}
        return json_line(
            head | counts | dict(self.subject) | {"findings": [asdict(result) for result in self._in_order()]}
        )

    def as_text(self) -> str:
        lines: list[str] = []
        for title, names in self.groups.items():
            found = [result for result in self._in_order() if result.name in names]
            if found:
                lines += [styled(title, "label", sys.stdout), *(line for result in found for line in _lines(result))]
        return "\n".join([*lines, *self._summary()])

    def _in_order(self) -> list[Result]:
        order = [name for names in self.groups.values() for name in names]
        return sorted(self.results, key=lambda result: order.index(result.name))

    def _count(self, state: str) -> int:
        return sum(result.state == state for result in self.results)

    def _summary(self) -> list[str]:
        counts = f"{self._count('failed')} failed, {self._count('open')} open, {self._count('ok')} ok"
        first = next((result for result in self._in_order() if result.state == "failed"), None)
        if first is None:
            return [styled(counts, "notice" if self._count("open") else "good", sys.stdout)]
        step = f": {first.next_step}" if first.next_step else f": {first.text}"
        return [*_wrapped(f"{counts}; first {first.name}{step}", "")]


def _lines(result: Result) -> list[str]:
    step = f"; {result.next_step}" if result.next_step else ""
    state = styled(f"{result.state:<6}", _STYLES[result.state], sys.stdout)
    text = f"{result.name:<{_NAME_WIDTH}}  {result.text}{step}"
    first, *more = _wrapped(text, " " * 10, used=10)
    return [f"  {state}  {first}", *more]


def _wrapped(text: str, indent: str, used: int = 0) -> list[str]:
    """Wrapped on a terminal alone: `grep` finds a whole finding on one line."""
    if not is_terminal(sys.stdout):
        return [text]
    width = max(_MIN_WIDTH, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(text, width - used, break_on_hyphens=False, drop_whitespace=True) or [""]
    return [lines[0], *(indent + line for line in lines[1:])]
