"""The browsers that get real pushes, each led to the stand-in of its push service."""

from __future__ import annotations

import pytest

from tests.browser import chromium
from tests.support import firefox
from tests.support.firefox import Firefox
from tests.support.providers import Providers
from tests.support.push_chromium import PushChromium

NAMES = ("chromium", "firefox")
PushBrowser = PushChromium | Firefox


def push_browser(name: str, providers: Providers) -> PushBrowser:
    """Not started yet; the test is skipped where the system has no such browser."""
    if (chromium if name == "chromium" else firefox).executable() is None:
        pytest.skip(f"there is no {name.capitalize()}: `make test-deps` installs it")
    if name == "chromium":
        return PushChromium(providers.chromium_options)
    return Firefox(providers.firefox_preferences)
