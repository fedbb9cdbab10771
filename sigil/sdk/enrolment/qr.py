"""A QR code as an SVG element and as text for a terminal. segno computes the modules; nothing else of it is used."""

from __future__ import annotations

from html import escape
from itertools import groupby
from typing import Literal

from sigil.sdk.errors import ConfigurationError

Modules = list[list[bool]]
_QUIET_ZONE = 4
"""ISO/IEC 18004: light modules around the symbol, which readers need to find it."""
_TERMINAL_ZONE = 2
"""A screen has no print at the edge, and 24 lines are few."""
# Black and white by their numbers in the 256 colours, which themes do not change: the first 16 are theirs.
_BLACK_ON_WHITE, _RESET = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
_HALF_BLOCKS = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def require(format: str) -> None:
    """ConfigurationError without segno, or for another format. Called before any frame holds the link."""
    if format not in ("svg", "terminal"):
        raise ConfigurationError('format must be "svg" or "terminal".')
    try:
        import segno  # noqa: F401 - an extra brings it
    except ImportError:
        fault = "segno is not installed: run pip install '.[qr]' in a checkout of this repository"
    else:
        return
    raise ConfigurationError(fault)


def svg(text: str, title: str) -> str:
    """An element without script, style or id: it is safe in a page with a strict policy, also more than once.

    The light ground is part of the drawing, since readers expect dark modules on it in a dark page too.
    """
    modules = _modules(text, "m", _QUIET_ZONE)
    size = len(modules)
    path = "".join(_row_path(y, row) for y, row in enumerate(modules))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {size} {size}" shape-rendering="crispEdges">'
        f'<title>{escape(title)}</title><path fill="#fff" d="M0 0h{size}v{size}H0z"/>'
        f'<path fill="#000" d="{path}"/></svg>'
    )


def terminal(text: str) -> str:
    """Two rows of modules a line. Correction level L at least: nothing wears on a screen, and the code stays small."""
    modules = _modules(text, "l", _TERMINAL_ZONE)
    if len(modules) % 2:
        modules.append([False] * len(modules[0]))
    pairs = zip(modules[::2], modules[1::2], strict=True)
    lines = ("".join(_HALF_BLOCKS[pair] for pair in zip(*rows, strict=True)) for rows in pairs)
    return "\n".join(f"{_BLACK_ON_WHITE}{line}{_RESET}" for line in lines)


def _modules(text: str, error: Literal["l", "m"], zone: int) -> Modules:
    """Row by row, True for a dark module."""
    import segno

    code = segno.make(text, error=error, micro=False)
    return [[module == 1 for module in row] for row in code.matrix_iter(border=zone)]


def _row_path(y: int, row: list[bool]) -> str:
    path, x = "", 0
    for dark, run in groupby(row):
        length = len(list(run))
        if dark:
            path += f"M{x} {y}h{length}v1H{x}z"
        x += length
    return path
