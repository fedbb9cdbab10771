"""Draws the icons of the web app of devices from `sigil/pages/favicon.svg`, with the Chromium of the system.

    python -m deploy.tools.device_icons

Needs Chromium and pngquant. The icons are committed; draw them again when the drawing changes.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PAGES = Path(__file__).resolve().parents[2] / "sigil" / "pages"
ICONS = PAGES / "device" / "icons"
SIZES = {"icon-180.png": 180, "icon-192.png": 192, "icon-512.png": 512, "icon-maskable-512.png": 512}
FULL = ("icon-180.png", "icon-maskable-512.png")
"""These fill their square, since the system cuts them to its own shape: iOS to round corners, Android to any."""
SAFE = 0.8
"""Part of the width that no shape cuts off (the W3C's maskable icons: a circle of 80 %)."""


def drawing(name: str) -> str:
    """The SVG of an icon."""
    svg = (PAGES / "favicon.svg").read_text(encoding="utf-8")
    if name not in FULL:
        return svg
    square = re.sub(r' rx="\d+"', "", svg)
    side = 32 / (SAFE if "maskable" in name else 1)
    margin = (side - 32) / 2
    box = f"{-margin:g} {-margin:g} {side:g} {side:g}"
    back = f'<rect x="{-margin:g}" y="{-margin:g}" width="{side:g}" height="{side:g}" fill="#0f5c52"/>'
    return square.replace('viewBox="0 0 32 32">', f'viewBox="{box}">{back}')


def draw(name: str, size: int, programs: dict[str, str], folder: Path) -> None:
    page, picture = folder / "icon.html", ICONS / name
    style = "margin:0;overflow:hidden;background:transparent"
    shown = drawing(name).replace("<svg ", f'<svg width="{size}" height="{size}" style="display:block" ')
    page.write_text(f'<!doctype html><body style="{style}">{shown}', encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 "
        f"--default-background-color=00000000 --window-size={size},{size}"
    )
    places = [f"--user-data-dir={folder / 'profile'}", f"--screenshot={picture}", page.as_uri()]
    command = [programs["chromium"], *flags.split(), *places]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    subprocess.run([programs["pngquant"], "--force", "--strip", "--output", picture, picture], check=True)


def main() -> int:
    """0, or 1 with one line that names what is missing."""
    found = {name: shutil.which(name) for name in ("chromium", "pngquant")}
    programs = {name: path for name, path in found.items() if path is not None}
    if len(programs) < len(found):
        sys.stderr.write("device_icons: install chromium and pngquant (make test-deps)\n")
        return 1
    ICONS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            draw(name, size, programs, Path(folder))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
