"""The last step: its tabs, the checklist, the wait for the first challenge, and a reload."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from .init_server import NAME, InitServer
from .people import ADDRESS, CLOSED, DONE, KEYS, WELCOME, commit, confirm, make_key, see_words
from .window import Window, holds_words


def at_keys(window: Window) -> list[str]:
    """The words of the identity that this sets up."""
    window.open(ADDRESS).at(WELCOME)
    words = see_words(window)
    confirm(window, words)
    commit(window)
    return words


def at_done(window: Window) -> str:
    """The API key that this issues."""
    at_keys(window)
    key = make_key(window)
    window.click("I have stored the key")
    window.at(DONE)
    return key


@pytest.fixture(scope="module")
def set_up(browser: Browser) -> Iterator[tuple[InitServer, Window]]:
    """A window on the last step, for tests that change nothing on the server."""
    with InitServer() as server:
        window = Window(browser, server.url)
        at_done(window)
        yield server, window
        window.close()


def shown_tabs(window: Window) -> list[str]:
    """The selected tabs, by their lists; each must be the one tab stop of its list, and its panel the shown one."""
    lists = window.page.get_by_role("tablist").all()
    chosen = []
    for tab_list in lists:
        tabs = tab_list.get_by_role("tab").all()
        [selected] = [tab for tab in tabs if tab.get_attribute("aria-selected") == "true"]
        assert [tab for tab in tabs if tab.get_attribute("tabindex") == "0"] == [selected]
        for tab in tabs:
            panel = window.page.locator(f"#{tab.get_attribute('aria-controls')}")
            assert panel.get_attribute("role") == "tabpanel"
            assert panel.get_attribute("aria-labelledby") == tab.get_attribute("id")
            assert panel.is_visible() == (tab.get_attribute("aria-selected") == "true")
        chosen.append(selected.text_content() or "")
    return chosen


def test_tabs_work_with_the_keyboard_and_change_together(set_up: tuple[InitServer, Window]) -> None:
    _, window = set_up
    keyboard = window.page.keyboard
    first = window.page.get_by_role("tablist").first
    first.get_by_role("tab", name="Shell").click()
    assert shown_tabs(window)[:2] == ["Shell", "Shell"]
    for key, chosen in [
        ("ArrowRight", "systemd"),
        ("End", "Compose"),
        ("ArrowRight", "Shell"),
        ("ArrowLeft", "Compose"),
    ]:
        keyboard.press(key)
        expect(first.get_by_role("tab", name=chosen)).to_be_focused()
        assert shown_tabs(window) == [chosen, chosen, "sigil ask"]
    keyboard.press("Home")
    assert shown_tabs(window)[:2] == ["Shell", "Shell"]
    keyboard.press("Tab")
    expect(window.page.get_by_role("button", name="Copy the line that makes the file", exact=True)).to_be_focused()


def test_the_server_id_of_the_command_is_on_one_line_with_its_option(set_up: tuple[InitServer, Window]) -> None:
    _, window = set_up
    window.page.set_viewport_size({"width": 1280, "height": 800})
    lines = window.page.locator("#done-device").evaluate(
        """(node) => {
          const range = document.createRange();
          range.selectNodeContents(node);
          return new Set([...range.getClientRects()].map(({ top }) => top)).size;
        }"""
    )
    assert lines == len(window.text("done-device").splitlines())


def test_the_page_names_all_that_a_certificate_of_an_authority_does_not_need(set_up: tuple[InitServer, Window]) -> None:
    _, window = set_up
    commands = "\n".join(window.text(name) for name in ("done-device", "done-ask", "done-curl"))
    named = window.page.locator("#done-certificate > p code").all_text_contents()
    assert sorted(named) == sorted(re.findall(r"(\S+?)[ =]sigil\.pem", commands))


def test_nothing_moves_for_a_person_who_wants_less_motion(set_up: tuple[InitServer, Window]) -> None:
    _, window = set_up
    running = "document.getAnimations().length"
    window.page.emulate_media(reduced_motion="no-preference")
    assert window.page.evaluate(running) > 0
    window.page.emulate_media(reduced_motion="reduce")
    assert window.page.evaluate(running) == 0


def test_a_reload_of_the_last_step_keeps_it_without_a_secret(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server()
    window = new_window(server)
    words = at_keys(window)
    key = make_key(window)
    window.click("I have stored the key")
    window.at(DONE).page.get_by_role("tab", name="systemd").first.click()
    window.page.get_by_label("Survive a restart").check()
    window.sees("2 of 3 things are left to do.")
    lines = {name: window.text(name) for name in ("done-cert", "done-device", "done-curl", "restart-systemd")}
    for _ in range(2):
        window.page.reload()
        window.at(DONE).sees("The page was reloaded", "2 of 3 things are left to do.", NAME)
        assert {name: window.text(name) for name in lines} == lines
        assert shown_tabs(window) == ["systemd", "systemd", "sigil ask"]
        assert window.page.get_by_label("Survive a restart").is_checked()
        assert not window.page.get_by_role("button", name="Back to the keys").is_visible()
        assert not window.page.get_by_text("Waiting for your first challenge").is_visible()
        traces = window.traces() + window.document()
        assert not holds_words(traces, words)
        assert key not in traces
    assert window.dialogs == []
    # Another window has nothing to show.
    other = new_window(server).open("/init").sees(CLOSED)
    assert "done-cert" not in other.traces()
    assert server.get("/info").json()["server_id"] not in other.document()


def test_a_reload_of_the_key_step_leads_to_the_last_step(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server())
    at_keys(window)
    session = window.page.evaluate("JSON.stringify(history.state)")
    window.page.reload()
    assert window.dialogs == ["beforeunload"]
    window.at(DONE).sees("Keys now come from")
    assert "session" not in session
    assert "token" not in session


def test_the_commands_enrol_a_device_whose_first_challenge_the_page_sees(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window], tmp_path: Path
) -> None:
    server = new_server()
    window = new_window(server)
    key = at_done(window)
    window.sees("Waiting for your first challenge…", "3 of 3 things are left to do.")
    commands = [window.text(name) for name in ("done-cert", "done-device", "done-curl")]
    commands.append(f"{window.text('done-watch')} --auto-approve --count 2 >answers &")
    commands += [window.text("done-ask"), "wait", "cat answers"]
    settings = {"SIGIL_API_KEY": key, "SIGIL_DEVICE_HOME": str(tmp_path), "NO_PROXY": "*"}
    output = server.in_a_shell("\n".join(commands), **settings)
    assert "First call" in output
    assert "Approved" in output
    window.sees("Your first challenge was received.", "2 of 3 things are left to do.")
    assert window.page.get_by_label("Send it a first challenge").is_checked()
    for box in ("Survive a restart", "Enrol a first device"):
        window.page.get_by_label(box).check()
    window.sees("Everything is done.")


def test_the_wait_for_the_first_challenge_is_slow_and_ends(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    window = new_window(new_server())
    at_keys(window)
    polls: list[Route] = []

    def count(route: Route) -> None:
        polls.append(route)
        route.fulfill(json={"received": False})

    window.page.route("**/init/first-challenge", count)
    window.page.clock.install()
    make_key(window)
    window.click("I have stored the key")
    window.at(DONE).sees("Waiting for your first challenge…")
    for _ in range(600):
        window.page.clock.run_for(1000)
    # 20 in the first minute, then six a minute.
    assert 50 <= len(polls) <= 80
    window.click("Back to the keys")
    window.at(KEYS)
    before = len(polls)
    window.page.clock.run_for(60_000)
    assert len(polls) == before

    window.page.unroute("**/init/first-challenge")
    window.page.route("**/init/first-challenge", _with_an_ended_session)
    window.click("I have stored the key")
    window.at(DONE)
    window.page.clock.run_for(1000)
    window.sees("This page no longer waits for your first challenge.")
    before = len(window.requests)
    window.page.clock.run_for(60_000)
    assert len(window.requests) == before


def _with_an_ended_session(route: Route) -> None:
    route.continue_(headers={**route.request.headers, "authorization": "Bearer ended"})
