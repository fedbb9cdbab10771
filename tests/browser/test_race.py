"""Two windows, a lost answer, and an expired session."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from playwright.sync_api import Route, expect

from tests.first_boot.init_mode_server import UNKNOWN_CHALLENGE
from tests.first_boot.init_mode_server import WORDS as OTHER_WORDS

from .init_server import InitServer
from .people import (
    ADDRESS,
    CONFIRM,
    DONE,
    GONE,
    IDENTITY,
    KEYS,
    WELCOME,
    WORDS,
    commit,
    confirm,
    make_key,
    restore,
    see_words,
)
from .window import Window, holds_words


def at_identity(window: Window) -> Window:
    window.open(ADDRESS).at(WELCOME)
    confirm(window, see_words(window))
    return window.at(IDENTITY)


def lose_the_answer(window: Window) -> None:
    """The commit succeeds, but its answer does not reach the window."""

    def lose(route: Route) -> None:
        route.fetch()
        route.abort()

    window.page.route("**/init/commit", lose)
    window.click("Set up this server")
    window.sees("The server did not answer").page.unroute("**/init/commit")
    window.offences.clear()


def test_one_of_two_windows_wins_and_the_other_shows_it(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server(workers=2)
    winner, loser, late = (new_window(server) for _ in range(3))
    at_identity(winner)
    at_identity(loser)
    late.open(ADDRESS).at(WELCOME)
    commit(winner)
    for window, button in ((loser, "Set up this server"), (late, "Create a new identity")):
        window.click(button)
        window.at(GONE).sees("Another window was faster")
        assert window.dialogs == []
    loser.page.go_back()
    loser.at(GONE)

    winner.page.go_back()
    winner.at(KEYS)
    make_key(winner)
    # The server's answer to an unknown session is also its answer to an expired one.
    winner.page.route("**/init/api-keys", _with_another_session)
    winner.click("Generate another key")
    winner.sees("This window can make no more keys", "I have stored the key")
    winner.click("I have stored the key")
    winner.at(DONE).click("Back to the keys")
    winner.at(KEYS).sees("This window can make no more keys")


def test_a_window_that_can_make_no_key_does_not_claim_one(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server())
    at_identity(window)
    commit(window)
    window.page.route("**/init/api-keys", _with_another_session)
    window.click("Generate API key")
    window.sees("This window can make no more keys: half an hour has passed, or the server was restarted.")
    expect(window.page.get_by_text("You can make more keys here")).to_be_hidden()
    expect(window.page.get_by_role("button", name="I have stored the key")).to_have_count(0)
    window.click("Continue without a key")
    window.at(DONE)


def _with_another_session(route: Route) -> None:
    route.continue_(headers={**route.request.headers, "authorization": "Bearer expired"})


def test_a_window_whose_answer_was_lost_shows_that_its_words_were_committed(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server()
    window = new_window(server).open(ADDRESS).at(WELCOME)
    words = see_words(window)
    confirm(window, words)
    lose_the_answer(window)
    server_id = window.text("identity-id")
    # While the identity of the server is unknown, the page shows nothing about the words.
    window.page.route("**/info", lambda route: route.abort())
    window.click("Set up this server")
    window.sees(IDENTITY, "The server did not answer").page.unroute("**/info")
    window.offences.clear()
    window.click("Set up this server")
    window.at(GONE).sees("It has the identity of the words that you entered here", "Survive a restart")
    info = server.get("/info").json()
    assert (info["server_id"], info["server_pictogram_speakable"]) == (server_id, window.pictogram())
    lines = [window.text(part) for part in ("restart-file", "restart-shell", "gone-keygen")]
    # A reload keeps the lines.
    window.page.reload()
    window.at(GONE).sees("It has the identity of the words that you entered here")
    assert [window.text(part) for part in ("restart-file", "restart-shell", "gone-keygen")] == lines
    assert not holds_words(window.traces() + window.document(), words)
    key = server.in_a_shell("\n".join(lines), typed=f"{' '.join(words)}\n").strip()
    assert server.get(UNKNOWN_CHALLENGE, Authorization=f"Bearer {key}").status_code == 404


def test_committed_words_are_recognised_after_a_change_to_restoring(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = at_identity(new_window(new_server()))
    lose_the_answer(window)
    for step in (CONFIRM, WORDS, WELCOME):
        window.page.go_back()
        window.at(step)
    restore(window, OTHER_WORDS)
    window.click("Check the words")
    window.at(GONE).sees("It has the identity of the words that you entered here")


def test_a_restart_of_the_server_during_the_setup_loses_nothing(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server()
    window = at_identity(new_window(server))
    server.stop()
    window.click("Set up this server")
    window.sees("The server did not answer. Nothing is lost while this window stays open")
    window.offences.clear()
    server.start()
    commit(window)


def test_a_server_that_lost_its_state_directory_says_so(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    """Not that it is busy: trying again would not help."""
    server = new_server()
    window = at_identity(new_window(server))
    shutil.rmtree(server.state)
    window.click("Set up this server")
    window.sees("The server cannot use its state directory: its log has the cause. Nothing was set up.")


def test_a_step_cannot_be_left_while_its_request_is_in_flight(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = at_identity(new_window(new_server()))
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    window.page.route("**/init/commit", hold)
    with window.page.expect_request("**/init/commit"):
        window.click("Set up this server")
    # Playwright's own click would wait for a button that is disabled.
    window.page.get_by_role("button", name="Set up this server").dispatch_event("click")
    window.page.go_back()
    window.page.wait_for_function("() => history.state.step === 'identity'")
    window.sees(IDENTITY)
    assert len(held) == 1
    held[0].continue_()
    window.at(KEYS)
