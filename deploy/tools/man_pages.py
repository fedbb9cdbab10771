"""Writes the man pages of both programs, which the wheel installs: python -m deploy.tools.man_pages"""

from __future__ import annotations

from pathlib import Path

import relay.cli.commands
import sigil.cli.commands
from sigil.console.man_page import man_page

FOLDER = Path(__file__).resolve().parents[2] / "sigil" / "man"


def pages() -> dict[Path, str]:
    return {
        FOLDER / "sigil.1": man_page(sigil.cli.commands.sigil, "sigil", "sigil-relay"),
        FOLDER / "sigil-relay.1": man_page(relay.cli.commands.relay, "sigil-relay", "sigil"),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="ascii")
