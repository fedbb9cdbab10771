"""The recovery kit: what the wizard prints, as Chromium makes a PDF of it and poppler reads it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sigil.protocol.identity import DerivedSecrets, ServerIdentity

from .init_server import NAME, InitServer
from .people import ADDRESS, WELCOME, see_words
from .window import Window, holds_words

pytestmark = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="there is no pdftotext: `make test-deps` installs it"
)

PUBLIC_URL = "https://auth.example.com"
# The longest that the settings accept: the name and the address then take most lines.
LONG_NAME = "Authentifizierungsdienstverwaltungsgesellschaft der Stadtwerke X"
LONG_URL = f"https://{'.'.join(['a' * 60] * 4)[:240]}.de:8443"


class Printed:
    """A PDF of the page, in A4 or Letter, with the header that a browser prints by default."""

    def __init__(self, window: Window, path: Path, paper: str = "A4") -> None:
        self._path = path
        margins = dict.fromkeys(("top", "bottom", "left", "right"), "10mm")
        window.page.pdf(path=path, format=paper, margin=margins, display_header_footer=True)
        self.properties = self._run("pdfinfo", str(path))
        self.text = self._run("pdftotext", "-layout", str(path), "-")
        self.pages = int(re.findall(r"Pages:\s+(\d+)", self.properties)[0])

    @staticmethod
    def _run(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def numbered_words(self) -> list[str]:
        found = dict(re.findall(r"(?<!\S)(\d{1,2}) +([a-z]{3,8})(?!\S)", self.text))
        return [found.get(str(number), "") for number in range(1, 25)]

    def is_black_and_white(self) -> bool:
        drawn = subprocess.run(
            ["pdftoppm", "-r", "40", str(self._path)], capture_output=True, check=True, timeout=60
        ).stdout
        header = re.match(rb"P6\s+\d+\s+\d+\s+255\s", drawn)
        assert header
        pixels = drawn[header.end() :]
        assert len(set(pixels)) > 2
        return pixels[::3] == pixels[1::3] == pixels[2::3]


@pytest.fixture(scope="module")
def kit_server(browser: Browser) -> Iterator[InitServer]:
    with InitServer(SIGIL_PUBLIC_URL=PUBLIC_URL) as server:
        yield server


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_the_kit_is_one_page_with_all_that_restores_the_server(
    kit_server: InitServer, new_window: Callable[..., Window], tmp_path: Path, paper: str, look: str
) -> None:
    window = new_window(kit_server, color_scheme=look).open(ADDRESS).at(WELCOME)
    words = see_words(window)
    kit = Printed(window, tmp_path / "kit.pdf", paper)
    identity = ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(" ".join(words)))
    assert kit.pages == 1
    assert kit.numbered_words() == words
    assert identity.server_id in re.sub(r"\s", "", kit.text)
    assert re.search(r"\s+".join(identity.pictogram_speakable.split()), kit.text)
    for text in (NAME, PUBLIC_URL, str(window.page.evaluate("new Date().getFullYear()")), "Kept at"):
        assert text in kit.text
    assert [line[0] for line in re.findall(r"^\d\. .+", kit.text.partition("To restore")[2], re.M)] == ["1", "2", "3"]
    assert kit.is_black_and_white()
    # Neither the page around the kit, nor a header with the address of the page.
    assert "written them down" not in kit.text
    assert f"localhost:{kit_server.port}" not in kit.text
    assert window.text("print-sheet") == ""


def test_what_a_pdf_says_about_itself_holds_no_words(window: Window, tmp_path: Path) -> None:
    window.open(ADDRESS).at(WELCOME)
    words = see_words(window)
    kit = Printed(window, tmp_path / "kit.pdf")
    title = re.findall(r"Title:\s+(.*)", kit.properties)[0]
    assert set(re.findall(r"[a-z]+", title.lower())) == {"step", "of", "your", "words", "sigil"}
    assert not holds_words(kit.properties + window.traces(), words)


def test_the_longest_name_and_address_fit_on_the_page(
    browser: Browser, new_window: Callable[..., Window], tmp_path: Path
) -> None:
    with InitServer(SIGIL_SERVER_NAME=LONG_NAME, SIGIL_PUBLIC_URL=LONG_URL) as server:
        window = new_window(server).open(ADDRESS).at(WELCOME)
        words = see_words(window)
        for paper in ("A4", "Letter"):
            kit = Printed(window, tmp_path / f"{paper}.pdf", paper)
            assert kit.pages == 1
            assert kit.numbered_words() == words
            assert LONG_URL in re.sub(r"\s", "", kit.text)


def test_while_the_words_are_hidden_a_print_holds_none(init_server: InitServer, window: Window, tmp_path: Path) -> None:
    window.open(ADDRESS).at(WELCOME)
    words = see_words(window)
    window.click("Hide")
    printed = Printed(window, tmp_path / "page.pdf")
    assert "Your 24 words" in printed.text
    assert f"{init_server.url}/init" in re.sub(r"\s", "", printed.text)  # the header, which the kit suppresses
    assert not holds_words(printed.text, words)


def test_the_identity_of_a_kit_is_that_of_the_words_that_were_made_last(window: Window, tmp_path: Path) -> None:
    window.open(ADDRESS).at(WELCOME)
    first = see_words(window)
    window.click("Back")
    window.at(WELCOME).click("Restore from 24 words")
    window.at("Enter your 24 words").click("Back")
    window.at(WELCOME)
    words = see_words(window)
    assert words != first
    kit = Printed(window, tmp_path / "kit.pdf")
    identity = ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(" ".join(words)))
    assert kit.numbered_words() == words
    assert identity.server_id in re.sub(r"\s", "", kit.text)
