from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import PATIENCE
from tests.device_app.person import DeviceServer

from .client_page import ClientPage
from .modules import Judge, StaticFiles, judge_of


@pytest.fixture(scope="package")
def files() -> Iterator[StaticFiles]:
    with StaticFiles() as running:
        yield running


@pytest.fixture(scope="package")
def page(browser: Browser, files: StaticFiles) -> Iterator[Page]:
    """One page of Chromium for all tests of the core; it keeps no state between cases."""
    opened = browser.new_page()
    opened.set_default_timeout(PATIENCE)
    opened.goto(files.url)
    yield opened
    opened.close()


@pytest.fixture(scope="package")
def judge(page: Page) -> Judge:
    return judge_of(page)


@pytest.fixture(scope="package")
def device(browser: Browser, server: DeviceServer) -> Iterator[ClientPage]:
    """One page for all tests of the client, since each loads about forty modules. A test leaves it as it was."""
    made = ClientPage(browser, server)
    made.open()
    yield made.enrolled()
    made.close()


@pytest.fixture(scope="package")
def undecided(device: ClientPage) -> str:
    """The id of an approval request that no test decides."""
    return str(device.approval_request(expires_in_seconds=900)["mpa_id"])
