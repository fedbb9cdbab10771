"""The pages of an operational server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.live import LiveServer

from .people import CLOSED
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
    window.sees("<Ünïcode> & Söhne", "Healthy" if with_javascript else "Show its health", "How to compare the pictures")
    assert window.pictogram() == working_server.identity.pictogram_speakable
    assert window.text("server-id") == working_server.identity.server_id


def test_an_unknown_address_links_to_the_home_page(
    working_server: LiveServer, new_window: Callable[..., Window]
) -> None:
    window = new_window(working_server).open("/nowhere").sees("There is nothing here")
    assert "set up" not in window.document()
    window.page.get_by_role("link").click()
    window.sees("How to compare the pictures")


@pytest.mark.parametrize("with_javascript", [True, False])
@pytest.mark.parametrize(("path", "of_setup"), [("/init", True), ("/init/x", True), ("/initial", False)])
def test_the_setup_is_mentioned_under_its_own_address_alone(
    working_server: LiveServer, new_window: Callable[..., Window], path: str, of_setup: bool, with_javascript: bool
) -> None:
    window = new_window(working_server, java_script_enabled=with_javascript)
    answer = window.page.goto(f"{working_server.url}{path}")
    assert answer
    assert answer.status == 404
    window.sees(CLOSED if of_setup else "There is nothing here")
    assert not window.page.get_by_text("If nothing happens here").is_visible()
    window.page.get_by_role("link").filter(visible=True).click()
    window.sees("How to compare the pictures")


def test_the_home_page_has_the_state_of_the_server_in_words(
    working_server: LiveServer, new_window: Callable[..., Window]
) -> None:
    window = new_window(working_server).open("/")
    window.sees("Not used: devices fetch what is pending themselves", "Not used: backends fetch results themselves")
    window.sees("Self-signed: devices and backends need a copy of it; valid until")
