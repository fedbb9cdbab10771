"""The pages of an operational server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.live import LiveServer

from .window import Window


@pytest.fixture(scope="module")
def working_server(browser: Browser) -> Iterator[LiveServer]:
    with LiveServer(workers=1, SIGIL_SERVER_NAME="<Ünïcode> & Söhne") as server:
        yield server


@pytest.mark.parametrize("with_javascript", [True, False])
def test_the_home_page_shows_the_identity(
    working_server: LiveServer, new_window: Callable[..., Window], with_javascript: bool
) -> None:
    window = new_window(working_server, java_script_enabled=with_javascript).open("/")
    window.sees("<Ünïcode> & Söhne", "Healthy" if with_javascript else "Show its health", "How to compare them")
    assert window.pictogram() == working_server.identity.pictogram_speakable
    assert window.text("server-id") == working_server.identity.server_id


def test_an_unknown_address_links_to_the_home_page(
    working_server: LiveServer, new_window: Callable[..., Window]
) -> None:
    window = new_window(working_server).open("/init").sees("There is nothing here", "that is done")
    window.page.get_by_role("link").click()
    window.sees("How to compare them")
