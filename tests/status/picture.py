"""Writes docs/images/sigil-top.svg: python -m tests.status.picture"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI

from sigil.status import figures, layout
from sigil.status.history import History
from sigil.status.layout import Connection

from .sample import SECONDS, expositions

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "sigil-top.svg"
_STEPS, _WIDTH, _HEIGHT = 90, 140, 42
# The fonts of that format come from another host.
_FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)


def picture() -> str:
    table = figures.load()
    history = History(table)
    for step, text in enumerate(expositions(_STEPS, now=1_800_000_000)):
        history.add(text, step * SECONDS, 1_800_000_000)
    connection = Connection("https://127.0.0.1:8443", "14:02:11, every 2 s, q quits", "", 0.0)
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), color_system="standard", force_terminal=True)
    for line in layout.screen(table, history, connection, width=_WIDTH, height=_HEIGHT, utf8=True):
        console.print(line, no_wrap=True, overflow="crop")
    svg = console.export_svg(title="sigil top", theme=MONOKAI, code_format=_FONTS.sub("", CONSOLE_SVG_FORMAT))
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
