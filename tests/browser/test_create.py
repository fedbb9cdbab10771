"""Creating an identity in one window."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.first_boot.init_mode_server import UNKNOWN_CHALLENGE

from .init_server import NAME, InitServer
from .people import ADDRESS, DONE, WELCOME, commit, confirm, make_key, see_words
from .window import Window, holds_words


def test_a_person_creates_an_identity_and_the_server_works_with_it(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server()
    window = new_window(server).open(ADDRESS).at(WELCOME)
    words = see_words(window)
    assert len(words) == 24
    confirm(window, words)
    shown = (window.pictogram(), window.text("identity-id"), window.text("identity-key"))
    commit(window)
    first, second = make_key(window), make_key(window)
    window.sees(re.compile(f"not shown again: {first[9:17]}"))
    assert first not in window.document()
    assert f"SIGIL_API_KEY={second}" in window.text("key-env")
    window.click("I have stored the key")
    window.at(DONE)
    assert second not in window.document()

    info = server.get("/info").json()
    assert shown == (info["server_pictogram_speakable"], info["server_id"], info["server_public_key"])
    for key in (first, second):
        assert server.get(UNKNOWN_CHALLENGE, Authorization=f"Bearer {key}").status_code == 404
    assert window.text("done-cert-compose").startswith("docker compose exec -T sigil cat ")
    assert str(server.certificate) in window.text("done-cert-compose")
    assert window.text("restart-owner") == "sudo chown 10001 mnemonic.txt"
    # Lines pasted after one that reads standard input would be read by it.
    assert [window.text(f"restart-file{of}").count("\n") for of in ("", "-systemd", "-compose")] == [0, 0, 0]
    assert f"--pin {info['server_id']}" in window.text("done-device")
    assert not holds_words(window.traces(), words)
    assert second not in window.traces()
    assert window.open("/").pictogram() == shown[0]
    window.sees(NAME, info["server_id"][:8], "Healthy")
    window.open("/init").sees("The setup is closed")


def test_behind_a_proxy_the_last_step_mentions_no_certificate(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server()).open(ADDRESS).at(WELCOME)
    confirm(window, see_words(window))
    window.page.route("**/init/commit", as_over_plain_http)
    commit(window)
    make_key(window)
    window.click("I have stored the key")
    window.at(DONE)
    assert not window.page.get_by_text("Copy the certificate of the server").is_visible()
    assert "sigil.pem" not in window.text("done-curl") + window.text("done-device") + window.text("done-ask")


def as_over_plain_http(route: Route) -> None:
    answer = route.fetch()
    body = answer.json()
    del body["tls_cert_path"]
    route.fulfill(response=answer, json=body)


@pytest.mark.parametrize("path", ["/var/lib/sigil/tls/cert.pem", "/a b/it's $HOME/`x`.pem", "/ü/*", '/\\n"/c'])
def test_a_path_is_quoted_as_one_word_for_the_shell(init_server: InitServer, window: Window, path: str) -> None:
    window.open(ADDRESS).at(WELCOME)
    word = window.page.evaluate("async (path) => (await import('/assets/page.js')).shellQuote(path)", path)
    assert init_server.in_a_shell(f"printf %s {word}") == path


def test_a_small_rate_that_many_workers_share_is_enough_for_the_wizard(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    """Over HTTP/2 one worker serves all requests of a window: 20 a minute is its share of 600 on 30 cores."""
    server = new_server(workers=2, SIGIL_RATE_LIMIT="40/min")
    for _ in range(2):
        window = new_window(server).open(ADDRESS).at(WELCOME)
    confirm(window, see_words(window))
    commit(window)
    assert make_key(window)
    for _ in range(4):
        window.open("/").sees(NAME, "Healthy")


def test_the_words_are_in_the_page_only_while_they_are_shown(window: Window) -> None:
    window.open(ADDRESS).at(WELCOME)
    words = see_words(window)
    assert holds_words(window.document(), words)
    window.click("Hide")
    assert not holds_words(window.document(), words)
    window.click("Show the words")
    window.click("I have written them down")
    window.sees("Take your paper")
    assert not holds_words(window.document(), words)
    assert not holds_words(window.traces(), words)


def test_the_next_step_requires_that_the_words_were_shown(window: Window) -> None:
    window.open(ADDRESS).at(WELCOME).click("Create a new identity")
    window.at("Your 24 words").click("I have written them down")
    window.sees("You have not seen the words yet", "Your 24 words")


def test_wrong_words_are_named_by_their_positions(window: Window) -> None:
    window.open(ADDRESS).at(WELCOME)
    words = see_words(window)
    window.click("I have written them down")
    window.sees("Take your paper")
    fields = window.page.locator(".three input")
    positions = [int((field.get_attribute("id") or "").removeprefix("word-")) for field in fields.all()]
    assert positions == sorted(set(positions))
    for position in positions:
        window.field(f"Word {position}").fill(f"  {words[position - 1].upper()} ")
    window.field(f"Word {positions[1]}").fill("zoo" if words[positions[1] - 1] != "zoo" else "able")
    window.click("Confirm")
    window.sees(f"Word {positions[1]} is not right yet", "Not the word that was shown")
    assert window.field(f"Word {positions[1]}").get_attribute("aria-invalid") == "true"
    window.field(f"Word {positions[1]}").fill(words[positions[1] - 1])
    window.click("Confirm")
    window.at("This will be your server")


def test_copied_words_come_with_a_warning_about_the_clipboard(window: Window) -> None:
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    window.open(ADDRESS).at(WELCOME)
    words = see_words(window)
    window.click("Copy")
    window.sees("Other programs can read the clipboard")
    assert window.page.evaluate("navigator.clipboard.readText()") == " ".join(words)


def test_a_key_is_in_sight_once_in_each_form(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server()).open(ADDRESS).at(WELCOME)
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    confirm(window, see_words(window))
    commit(window)
    key = make_key(window)
    for form, button, times in (
        ("Key", "Copy the key", 1),
        ("Shell", "Copy the lines for a shell", 1),
        (".env", "Copy the lines for .env", 1),
        ("Compose", "Copy the lines for Compose", 0),
    ):
        window.page.get_by_role("tab", name=form, exact=True).click()
        assert window.page.locator("main").inner_text().count(key) == times, form
        window.click(button)
        expect(window.page.get_by_role("button", name="Copied")).to_be_visible()
        assert window.page.evaluate("navigator.clipboard.readText()").count(key) == times, form


def test_where_the_browser_forbids_copying_the_text_is_selected(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server()).open(ADDRESS).at(WELCOME)
    # As in a page that is not in a secure context.
    window.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    confirm(window, see_words(window))
    commit(window)
    key = make_key(window)
    window.click("Copy the key")
    expect(window.page.get_by_role("button", name="Selected: copy it")).to_be_visible()
    assert window.page.evaluate("getSelection().toString()") == key


def test_copied_is_not_said_of_the_next_key(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server()).open(ADDRESS).at(WELCOME)
    window.context.grant_permissions(["clipboard-read", "clipboard-write"])
    confirm(window, see_words(window))
    commit(window)
    make_key(window)
    # Time stands still, so that nothing but the next key can end the label.
    window.page.clock.install()
    window.page.clock.pause_at("2030-01-01")
    window.click("Copy the key")
    expect(window.page.get_by_role("button", name="Copied")).to_be_visible()
    make_key(window)
    expect(window.page.get_by_role("button", name="Copied")).to_have_count(0)
    expect(window.page.get_by_role("button", name="Copy the key")).to_be_visible()


def test_the_positions_to_confirm_are_drawn_from_all_24(window: Window) -> None:
    window.open(ADDRESS).at(WELCOME)
    drawn = window.page.evaluate(
        """async () => {
          const { randomPositions } = await import("/assets/wizard/mnemonic.js");
          return Array.from({ length: 1000 }, () => randomPositions(3));
        }"""
    )
    assert {position for draw in drawn for position in draw} == set(range(1, 25))
    assert all(draw == sorted(set(draw)) and len(draw) == 3 for draw in drawn)
