"""The browser of these tests: the Chromium of the system. Nothing is downloaded."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, BrowserType, sync_playwright

PATIENCE = 60_000.0
"""Timeout in milliseconds, generous for a shared machine."""
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# --no-sandbox: these tests run as root in containers, and open nothing but our own pages. The rest keeps the browser
# from contacting other servers.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def executable() -> str | None:
    """The path of the system's Chromium, None without one."""
    found = (shutil.which(name) or shutil.which(name, path="/usr/bin") for name in _NAMES)
    return next((path for path in found if path and Path(path).exists()), None)


@contextlib.contextmanager
def running(**environment: str) -> Iterator[Browser]:
    """A headless browser with a profile of its own, until the end of the block."""
    with sync_playwright() as playwright, launched(playwright.chromium, **environment) as browser:
        yield browser


@contextlib.contextmanager
def launched(kind: BrowserType, *flags: str, **environment: str) -> Iterator[Browser]:
    """Another browser with flags of its own, under a Playwright that already runs: a thread may have only one."""
    browser = kind.launch(
        executable_path=executable(), args=[*FLAGS, *flags], env={**os.environ, **environment}, timeout=PATIENCE
    )
    try:
        yield browser
    finally:
        browser.close()
