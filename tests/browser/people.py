"""The actions of a person in the wizard."""

from __future__ import annotations

from collections.abc import Iterator

from .init_server import TOKEN
from .window import Window

WELCOME = "Set up this server"
RESTORE = "Enter your 24 words"
WORDS = "Your 24 words"
CONFIRM = "Three of your words"
IDENTITY = "This will be your server"
KEYS = "A key for your backend"
DONE = "Your server is set up"
GONE = "This server has just been set up"
CLOSED = "The setup is closed"
ADDRESS = f"/init#token={TOKEN}"


def see_words(window: Window) -> list[str]:
    """From the welcome step to the shown words."""
    window.click("Create a new identity")
    window.at(WORDS).click("Show the words")
    return window.shown_words()


def confirm_positions(window: Window) -> list[int]:
    labels = window.page.locator(".three label").all_text_contents()
    return [int(label.removeprefix("Word ")) for label in labels]


def confirm(window: Window, words: list[str]) -> None:
    """From the words step to the identity step."""
    window.click("I have written them down")
    window.at(CONFIRM)
    for position in confirm_positions(window):
        window.field(f"Word {position}").fill(words[position - 1])
    window.click("Confirm")
    window.at(IDENTITY)


def commit(window: Window) -> None:
    window.click("Set up this server")
    window.at(KEYS)


def make_key(window: Window) -> str:
    before = window.text("key-text")
    window.page.get_by_role("button", name="Generate").click()
    window.page.wait_for_function(
        "(before) => ![before, ''].includes(document.getElementById('key-text').textContent)", arg=before
    )
    return window.text("key-text")


def restore(window: Window, words: str) -> None:
    """From the welcome step to the fields, with all words pasted and not yet checked."""
    window.click("Restore from 24 words")
    window.at(RESTORE).paste("Word 1", words)


def creation(window: Window) -> Iterator[str]:
    """The whole setup; yields the name of each view."""
    window.open("/init").at("Enter the setup token")
    yield "token"
    window.open(ADDRESS).at(WELCOME)
    yield "welcome"
    window.click("Restore from 24 words")
    window.at(RESTORE).field("Word 1").press_sequentially("abandn ")
    window.field("Word 2").press_sequentially("le")
    window.page.get_by_role("option", name="leader").wait_for()
    window.page.keyboard.press("ArrowDown")
    yield "restore"
    window.click("Back")
    window.at(WELCOME).click("Create a new identity")
    window.at(WORDS)
    yield "words-hidden"
    window.click("Show the words")
    words = window.shown_words()
    yield "words"
    window.click("I have written them down")
    window.at(CONFIRM).field(f"Word {confirm_positions(window)[0]}").fill("wrongly")
    window.click("Confirm")
    window.sees("Not the word that was shown")
    yield "confirm"
    window.click("Back to the words")
    window.at(WORDS).click("Show the words")
    confirm(window, words)
    yield "identity"
    commit(window)
    make_key(window)
    yield "key"
    window.page.get_by_role("tab", name=".env").click()
    yield "key-tabs"
    window.click("I have stored the key")
    window.at(DONE)
    yield "done"
    window.page.reload()
    window.at(DONE).page.get_by_role("tab", name="Compose").first.click()
    yield "done-reloaded"
    window.page.evaluate("history.replaceState(null, '')")
    window.open("/init").sees(CLOSED)
    yield "closed"
    window.open("/").sees("Healthy")
    yield "home"
    window.open("/nowhere").sees("There is nothing here")
    yield "not-found"
