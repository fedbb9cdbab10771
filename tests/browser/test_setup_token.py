"""The setup token: in the address, entered by the person, or wrong."""

from __future__ import annotations

from collections.abc import Callable

from .init_server import TOKEN, InitServer
from .people import ADDRESS, WELCOME
from .window import Window

TOKEN_STEP = "Enter the setup token"


def test_the_address_of_the_log_opens_the_wizard_and_keeps_no_token(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server(SIGIL_HOST="0.0.0.0", SIGIL_INIT_TOKEN="")
    path, _, fragment = server.address().partition("#")
    token = fragment.removeprefix("token=")
    assert token
    window = new_window(server).open(f"/init#{fragment}").at(WELCOME)
    assert path.endswith("/init")
    assert window.page.url == f"{server.url}/init"
    assert token not in window.traces()
    window.click("Create a new identity")
    window.at("Your 24 words").page.go_back()
    window.at(WELCOME)
    assert token not in window.traces() + window.document()


def test_without_a_token_the_page_shows_the_token_step(window: Window) -> None:
    window.open("/init").at(TOKEN_STEP).click("Continue")
    window.sees("Enter the token first.")
    window.field("Setup token").fill(f"{window.origin}{ADDRESS}")
    window.click("Continue")
    window.at(WELCOME)
    assert window.page.url == f"{window.origin}/init"


def test_a_wrong_token_is_an_error_and_the_right_one_is_accepted_after_it(window: Window) -> None:
    window.open("/init#token=not-the-token").sees(TOKEN_STEP, "This is not the current token of the server")
    window.field("Setup token").fill("8fX…")
    window.click("Continue")
    window.sees("This is not the current token of the server")
    window.field("Setup token").fill(TOKEN)
    window.page.keyboard.press("Enter")
    window.at(WELCOME)


def test_an_open_page_takes_the_token_of_a_new_address(window: Window) -> None:
    window.open("/init").at(TOKEN_STEP).open(ADDRESS).at(WELCOME)
    assert window.page.url == f"{window.origin}/init"


def test_without_a_required_token_the_wizard_opens_at_once(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server(SIGIL_INIT_TOKEN="off")
    new_window(server).open("/").at(WELCOME)


def test_without_javascript_the_page_names_the_command_for_a_terminal(
    init_server: InitServer, new_window: Callable[..., Window]
) -> None:
    window = new_window(init_server, java_script_enabled=False).open("/init")
    window.sees("If nothing happens here", "sigil init")
