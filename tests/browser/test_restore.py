"""Restoring an identity from its words, and the errors of wrong words."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from .init_server import TOKEN, InitServer
from .people import ADDRESS, IDENTITY, KEYS, RESTORE, WELCOME, commit, make_key, restore
from .window import Window

# BIP-39's own test vector.
VECTOR = "legal winner thank year wave sausage worth useful " * 2 + "legal winner thank year wave sausage worth title"


@pytest.fixture
def fields(window: Window) -> Window:
    """A window with 24 empty fields."""
    window.open(ADDRESS).at(WELCOME).click("Restore from 24 words")
    return window.at(RESTORE)


def filled(window: Window) -> list[str]:
    return [field.input_value() for field in window.page.locator(".word-fields input").all()]


def test_the_words_restore_the_same_identity(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server()
    window = new_window(server).open(ADDRESS).at(WELCOME)
    numbered = "\n".join(f"{at}. {word.upper()}  " for at, word in enumerate(server.mnemonic.split(), 1))
    restore(window, numbered)
    window.sees("24 of 24 words").click("Check the words")
    window.at(IDENTITY).sees("Are these the pictures your devices know?")
    assert window.text("identity-id") == server.identity.server_id
    assert window.pictogram() == server.identity.pictogram_speakable
    commit(window)
    assert make_key(window).startswith("sgk_test_")
    assert server.get("/info").json()["server_id"] == server.identity.server_id


def test_a_server_that_was_set_up_before_accepts_only_its_own_words(
    new_server: Callable[..., InitServer], new_window: Callable[..., Window]
) -> None:
    server = new_server()
    server.commit(server.mnemonic, TOKEN)
    server.recreate_container()
    server.start()
    window = new_window(server).open(ADDRESS).at(WELCOME).sees("It can only be restored as the same one")
    assert window.pictogram() == server.identity.pictogram_speakable
    assert not window.page.get_by_role("button", name="Create a new identity").is_visible()
    restore(window, VECTOR)
    window.click("Check the words")
    window.sees(re.compile(f"words of another server.*{server.identity.server_id}"))
    window.paste("Word 5", server.mnemonic)
    window.click("Check the words")
    window.at(IDENTITY).click("Set up this server")
    window.at(KEYS)


def test_four_letters_and_a_blank_are_enough_to_type_a_word(fields: Window) -> None:
    fields.field("Word 1").focus()
    typed = " ".join(word[:4] for word in VECTOR.split())
    fields.page.keyboard.type(typed)
    fields.sees("24 of 24 words")
    expect(fields.field("Word 1")).to_have_value("legal")
    assert filled(fields) == [*VECTOR.split()[:23], "titl"]
    fields.page.keyboard.press("Enter")
    fields.at(IDENTITY)


def test_suggestions_are_chosen_with_the_keyboard(fields: Window) -> None:
    field = fields.field("Word 1")
    field.press_sequentially("le")
    fields.page.get_by_role("option", name="leader").wait_for()
    assert field.get_attribute("aria-expanded") == "true"
    for _ in range(2):
        field.press("ArrowDown")
    chosen = fields.page.get_by_role("option", selected=True)
    assert chosen.text_content() == "leaf"
    assert field.get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    field.press("Enter")
    assert filled(fields)[0] == "leaf"
    assert fields.field("Word 2").evaluate("(node) => node === document.activeElement")
    fields.field("Word 2").press_sequentially("le")
    fields.page.get_by_role("option", name="leader").wait_for()
    fields.page.keyboard.press("Escape")
    assert fields.field("Word 2").get_attribute("aria-expanded") == "false"
    fields.page.keyboard.press("Backspace")
    fields.page.get_by_role("option", name="label").click()
    assert filled(fields)[1] == "label"


def test_words_typed_before_the_list_arrived_are_validated_when_it_arrives(window: Window) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    window.page.route("**/assets/words.txt", hold)
    with window.page.expect_request("**/assets/words.txt"):
        window.open(ADDRESS).at(WELCOME).click("Restore from 24 words")
    window.at(RESTORE).field("Word 1").focus()
    window.page.keyboard.type("lega wznner le")
    assert filled(window)[:3] == ["lega", "wznner", "le"]
    held[0].continue_()
    window.page.get_by_role("option", name="leader").wait_for()
    assert filled(window)[:3] == ["legal", "wznner", "le"]
    assert [window.field(f"Word {at}").get_attribute("aria-invalid") for at in (1, 2, 3)] == [None, "true", None]
    assert window.field("Word 3").evaluate("(node) => node === document.activeElement")


def test_a_word_that_is_not_in_the_list_is_an_error_at_once(fields: Window) -> None:
    field = fields.field("Word 3")
    field.press_sequentially("zèbre")
    fields.sees("Not in the list")
    assert field.get_attribute("aria-invalid") == "true"
    field.fill("")
    field.press_sequentially("zebra")
    assert field.get_attribute("aria-invalid") is None


@pytest.mark.parametrize(
    ("position", "word"),
    # With `assume` in place 24, a misspelling of word 4 fits the checksum by chance; with `army`, of word 3.
    [(13, "save"), (24, "assume"), (24, "army")],
)
def test_no_word_is_accused_of_a_wrong_checksum(fields: Window, position: int, word: str) -> None:
    words = VECTOR.split()
    fields.paste("Word 1", " ".join([*words[: position - 1], word, *words[position:]]))
    fields.click("Check the words")
    fields.sees("at least one is wrong, or not in its place")
    assert fields.page.locator('.word-fields [aria-invalid="true"]').count() == 0
    assert not re.search(r"[Ww]ords? \d", fields.text("restore-form > .error"))
    fields.field(f"Word {position}").fill(words[position - 1])
    fields.click("Check the words")
    fields.at(IDENTITY)


def test_missing_words_are_counted(fields: Window) -> None:
    fields.click("Check the words")
    fields.sees("all 24 are missing")
    fields.paste("Word 1", " ".join(VECTOR.split()[:3]))
    fields.click("Check the words")
    fields.sees("21 words are missing.")
    assert fields.field("Word 4").evaluate("(node) => node === document.activeElement")
    assert fields.page.locator('.word-fields [aria-invalid="true"]').count() == 21
    fields.paste("Word 4", " ".join(VECTOR.split()[3:22]))
    fields.click("Check the words")
    fields.sees("Words 23 and 24 are missing.")
    assert fields.page.locator('.word-fields [aria-invalid="true"]').count() == 2


def test_swapped_words_are_a_checksum_error(fields: Window) -> None:
    words = VECTOR.split()
    words[0], words[23] = words[23], words[0]
    fields.paste("Word 1", " ".join(words))
    fields.click("Check the words")
    fields.sees("at least one is wrong, or not in its place")


def test_too_few_and_too_many_words_are_errors(fields: Window) -> None:
    fields.paste("Word 1", VECTOR + " zoo")
    fields.sees("That is 25 words")
    assert not any(filled(fields))
    fields.paste("Word 1", " ".join(VECTOR.split()[:23]))
    fields.sees("23 of 24 words")
    fields.click("Check the words")
    fields.sees("Word 24 is missing.")
    assert fields.field("Word 24").evaluate("(node) => node === document.activeElement")


def test_words_of_another_language_are_named_by_their_positions(fields: Window) -> None:
    fields.paste("Word 1", "ábaco " * 2 + " ".join(VECTOR.split()[2:]))
    fields.click("Check the words")
    fields.sees("Words 1 and 2 are not in the word list")


def test_without_the_word_list_only_the_server_validates(window: Window) -> None:
    window.page.route("**/assets/words.txt", lambda route: route.fulfill(status=404))
    window.open(ADDRESS).at(WELCOME)
    restore(window, VECTOR.replace("title", "titel"))
    window.click("Check the words")
    window.sees("Word 24 is not in the word list")
    window.field("Word 24").fill("title")
    window.click("Check the words")
    window.at(IDENTITY)
