from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import PATIENCE

from .modules import Judge, StaticFiles, judge_of


@pytest.fixture(scope="package")
def files() -> Iterator[StaticFiles]:
    with StaticFiles() as running:
        yield running


@pytest.fixture(scope="package")
def judge(browser: Browser, files: StaticFiles) -> Iterator[Judge]:
    """One page of Chromium for all tests of the core; it keeps no state between cases."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(files.url)
    yield judge_of(page)
    page.close()
