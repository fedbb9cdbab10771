"""`make screenshots`: takes the pictures of docs/images of a real server.

Needs Chromium, pngquant, and the fonts Inter and JetBrains Mono, so that the pictures are the same on every machine.
The words in them are published: never use them for a server.
"""

from __future__ import annotations

import datetime
import email.utils
import json
import shutil
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Route, expect

from tests.first_boot.init_mode_server import WORDS
from tests.status.sample import SECONDS, expositions
from tests.support.live import LiveServer

from . import chromium
from .init_server import NAME, InitServer
from .people import creation
from .window import Window

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
FONTS = {"system-ui": "Inter", "sans-serif": "Inter", "monospace": "JetBrains Mono"}
LARGEST = 100_000
"""Maximal bytes of a picture: pictures are part of the repository."""

LOOKS: dict[str, dict[str, Any]] = {
    "": {"viewport": {"width": 1280, "height": 640}},
    "-dark": {"viewport": {"width": 1280, "height": 640}, "color_scheme": "dark"},
    "-phone": {"viewport": {"width": 390, "height": 700}, "device_scale_factor": 2},
}
TAKEN = {
    "": ("welcome", "words", "identity", "done", "home"),
    "-dark": ("words", "key"),
    "-phone": ("welcome", "restore", "confirm", "identity"),
}


def main() -> int:
    """0, or 1 with one line that names missing programs or fonts."""
    if missing := _missing_programs() or _missing_fonts():
        sys.stderr.write(f"screenshots: missing {', '.join(missing)}\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, _browser(Path(folder)) as browser:
        for look in LOOKS:
            _take(browser, look)
        _take_status(browser)
        from tests.device_app import screenshots as of_devices

        of_devices.take(browser)
    return 0


def _browser(folder: Path) -> AbstractContextManager[Browser]:
    return chromium.running(FONTCONFIG_FILE=str(_font_settings(folder)))


def _missing_programs() -> list[str]:
    missing = [name for name in ("pngquant", "fc-list") if shutil.which(name) is None]
    return missing if chromium.executable() else [*missing, "chromium"]


def _missing_fonts() -> list[str]:
    there = subprocess.run(["fc-list", ":", "family"], capture_output=True, text=True, check=True).stdout
    return [font for font in FONTS.values() if font not in there]


def _take(browser: Browser, look: str) -> None:
    with InitServer(SIGIL_PUBLIC_URL="https://auth.example.com") as server:
        window = Window(browser, server.url, reduced_motion="reduce", **LOOKS[look])
        window.page.route("**/init/words", _published)
        window.page.route("**/init/commit", _installed)
        for step in creation(window):
            if step in TAKEN[look]:
                path = IMAGES / f"{step}{look}.png"
                window.page.mouse.move(0, 0)
                window.page.screenshot(path=path, full_page=True)
                compress(path)
        window.close()


def _take_status(browser: Browser) -> None:
    """The page of a real server with figures that are the same on each machine, three minutes of them in a moment."""
    shown_at = datetime.datetime(2026, 3, 2, 14, 2, 11, tzinfo=datetime.UTC)
    with LiveServer(workers=1, SIGIL_SERVER_NAME=NAME) as server:
        size = {"width": 1280, "height": 800}
        window = Window(browser, server.url, reduced_motion="reduce", viewport=size, timezone_id="UTC", locale="en-GB")
        window.page.clock.install(time=shown_at - datetime.timedelta(seconds=90 * SECONDS))
        answers = list(expositions(90, now=shown_at.timestamp()))
        served: list[str] = []

        def answer(route: Route) -> None:
            served.append(answers[min(len(served), len(answers) - 1)])
            date = email.utils.format_datetime(shown_at, usegmt=True)
            route.fulfill(content_type="text/plain", headers={"Date": date}, body=served[-1])

        window.page.route("**/metrics", answer)
        window.open("/status").sees("operational")
        window.page.clock.pause_at(shown_at - datetime.timedelta(seconds=80 * SECONDS))
        connection = window.page.locator("#connection")
        while len(served) < len(answers):
            before = connection.inner_text()
            window.page.clock.run_for(SECONDS * 1000)
            expect(connection).not_to_have_text(before)
        window.page.screenshot(path=IMAGES / "status.png", full_page=True)
        window.close()
    compress(IMAGES / "status.png")


def _published(route: Route) -> None:
    route.fulfill(content_type="application/json", body=json.dumps({"words": WORDS.split()}))


def _installed(route: Route) -> None:
    """With the path of an installed server, not that of a temporary directory."""
    answer = route.fetch()
    route.fulfill(response=answer, json={**answer.json(), "tls_cert_path": "/var/lib/sigil/tls/cert.pem"})


def compress(path: Path) -> None:
    subprocess.run(["pngquant", "--force", "--strip", "--quality", "60-95", "--output", path, path], check=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"screenshots: {path.name} has {path.stat().st_size} bytes")


def _font_settings(folder: Path) -> Path:
    """The fontconfig settings, with these fonts before those of the machine."""
    ours = "".join(
        f'<match target="pattern"><test name="family"><string>{family}</string></test>'
        f'<edit name="family" mode="prepend" binding="strong"><string>{font}</string></edit></match>'
        for family, font in FONTS.items()
    )
    path = folder / "fonts.conf"
    path.write_text(
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">'
        f"<fontconfig><include>/etc/fonts/fonts.conf</include>{ours}</fontconfig>"
    )
    return path


if __name__ == "__main__":
    raise SystemExit(main())
