"""The lines of a terminal of any size."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from sigil.status import figures, layout
from sigil.status.history import History
from sigil.status.layout import Connection

from . import picture

TABLE = figures.load()
GOOD = Connection("https://127.0.0.1:8443", "14:02:11, every 2 s, q quits", "", 0.0)
OLD = Connection("https://127.0.0.1:8443", "", "Connection refused (127.0.0.1 port 8443); check that it runs", 12.4)


def history(version: str = "1.2.3", relay: int = 1) -> History:
    made = History(TABLE)
    for at in range(20):
        lines = [
            f'sigil_build_info{{version="{version}"}} 1',
            f"sigil_relay_up {relay}",
            f"sigil_challenges_pending {at}",
            f'sigil_challenges_total{{status="created"}} {at * at}',
            "sigil_store_bytes 80\nsigil_store_size_bytes 100\nsigil_store_free_bytes 5",
            *(f'sigil_push_duration_seconds_bucket{{le="{bound}"}} {at}' for bound in ("0.1", "1", "+Inf")),
        ]
        made.add("\n".join(lines), at, 1000)
    return made


def test_the_picture_of_the_documentation_is_up_to_date() -> None:
    """`python -m tests.status.picture` writes it."""
    assert picture.PICTURE.read_text(encoding="utf-8") == picture.picture()


@pytest.mark.parametrize("connection", [GOOD, OLD], ids=["good", "old"])
@pytest.mark.parametrize("utf8", [True, False])
def test_the_lines_fit_every_size(connection: Connection, utf8: bool) -> None:
    made = history(relay=0)
    for width in (1, 5, 20, 39, 40, 41, 60, 80, 100, 132, 160, 250):
        for height in (1, 2, 5, 12, 24, 50, 200):
            lines = layout.screen(TABLE, made, connection, width=width, height=height, utf8=utf8)
            assert 1 <= len(lines) <= height
            assert max(cell_len(line.plain) for line in lines) <= width, (width, height)
            assert utf8 or all(line.plain.isascii() for line in lines)


def test_figures_beyond_their_limits_come_first_with_a_mark_and_what_to_do() -> None:
    lines = [line.plain for line in layout.screen(TABLE, history(relay=0), GOOD, width=160, height=50, utf8=True)]
    assert lines[2].startswith("!! Relay down: The relay is unreachable: check RELAY_URL")
    assert any("! Free for more 5 %: " in line and "SigilStoreFilling" in line for line in lines)
    assert any("!!Relay" in line for line in lines)
    healthy = [line.plain for line in layout.screen(TABLE, History(TABLE), GOOD, width=160, height=50, utf8=True)]
    assert not any("!" in line for line in healthy)


def test_old_figures_stay_and_their_age_is_shown() -> None:
    lines = [line.plain for line in layout.screen(TABLE, history(), OLD, width=160, height=50, utf8=True)]
    assert "Connection refused" in lines[1]
    assert "The figures are 12 s old." in lines[1]
    assert any("Pending" in line and " 19" in line for line in lines)


def test_two_columns_fit_80_cells_and_a_short_window_counts_what_it_hides() -> None:
    lines = [line.plain for line in layout.screen(TABLE, history(), GOOD, width=80, height=24, utf8=True)]
    assert any("Challenges" in line and "Approval requests" in line for line in lines)
    assert lines[-1].endswith("more lines: enlarge the window")


def test_a_label_with_terminal_sequences_is_harmless() -> None:
    made = history(version="\x1b[2J\x1b]0;x\x07\u202e" + "9" * 500)
    shown = layout.screen(TABLE, made, GOOD, width=160, height=50, utf8=True)
    shown += layout.listing(TABLE, made, GOOD, 160)
    assert not any(character in line.plain for line in shown for character in "\x1b\x07\u202e")


def test_a_sparkline_goes_from_zero_to_the_highest_value() -> None:
    assert layout.sparkline([0, 1, 2, 4], 6, 0, utf8=True) == "  ▁▃▅█"
    assert layout.sparkline([0, 0], 4, 0, utf8=True) == "  ▁▁"
    assert layout.sparkline([7, 7], 4, 0, utf8=True) == "  ▂▂"
    assert layout.sparkline([50], 1, 100, utf8=True) == "▅"
    assert layout.sparkline([], 3, 0, utf8=True) == "   "
