"""Reloading, going back, and leaving the page during the setup."""

from __future__ import annotations

import pytest

from .people import ADDRESS, CONFIRM, IDENTITY, WELCOME, WORDS, confirm, see_words
from .window import Window, holds_words


@pytest.fixture
def words(window: Window) -> list[str]:
    """24 words, shown in the window."""
    window.open(ADDRESS).at(WELCOME)
    return see_words(window)


def test_a_reload_warns_and_then_starts_over(window: Window, words: list[str]) -> None:
    confirm(window, words)
    window.page.reload()
    assert window.dialogs == ["beforeunload"]
    window.open(ADDRESS).at(WELCOME).sees("The page was reloaded, so the setup starts from the beginning")
    assert not holds_words(window.traces() + window.document(), words)
    assert see_words(window) != words


def test_the_first_page_is_left_without_a_warning(window: Window) -> None:
    window.open(ADDRESS).at(WELCOME).page.get_by_role("heading").click()
    window.page.reload()
    window.open(ADDRESS).at(WELCOME)
    assert window.dialogs == []
    assert not window.page.get_by_text("The page was reloaded, so the setup").is_visible()


def test_back_goes_one_step_back_and_shows_no_words_by_itself(window: Window, words: list[str]) -> None:
    confirm(window, words)
    window.page.go_back()
    window.at(CONFIRM)
    assert [field.input_value() for field in window.page.locator(".three input").all()] == [""] * 3
    window.page.go_back()
    window.at(WORDS).sees("Show the words")
    assert not holds_words(window.document(), words)
    window.page.go_back()
    window.at(WELCOME)
    window.page.go_forward()
    window.at(WORDS).sees("Show the words")
    assert not holds_words(window.document(), words)
    assert not holds_words(window.traces(), words)


def test_going_back_and_forward_keeps_the_same_words(window: Window, words: list[str]) -> None:
    window.click("Back")
    window.at(WELCOME)
    assert see_words(window) == words


def test_a_change_to_restoring_discards_the_new_words(window: Window, words: list[str]) -> None:
    confirm(window, words)
    for step in (CONFIRM, WORDS, WELCOME):
        window.page.go_back()
        window.at(step)
    window.click("Restore from 24 words")
    window.at("Enter your 24 words").page.go_back()
    window.at(WELCOME)
    window.page.go_forward()
    window.at("Enter your 24 words")
    window.click("Back")
    window.at(WELCOME)
    assert see_words(window) != words
    window.click("I have written them down")
    window.at(CONFIRM).page.go_forward()
    window.at(CONFIRM)
    assert not window.page.get_by_role("heading", name=IDENTITY).is_visible()


def test_a_page_that_was_left_comes_back_empty(window: Window, words: list[str]) -> None:
    """As in a browser with a back/forward cache: the page is hidden, and shown again without loading."""
    window.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    assert not holds_words(window.document(), words)
    with window.page.expect_navigation():
        window.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    window.sees("Enter the setup token")
