"""One window of the browser, as a person uses it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Dialog, Locator, Page, Request, expect

from .chromium import PATIENCE

expect.set_options(timeout=PATIENCE)

_TRACES = """async () => JSON.stringify({
  address: location.href, title: document.title, history: history.state, storage: {...localStorage, ...sessionStorage},
  cookies: document.cookie, databases: await indexedDB.databases(), caches: await caches.keys(), name: window.name,
})"""
_SHOWN = """() => [
  document.documentElement.textContent, ...[...document.querySelectorAll('input')].map((input) => input.value),
].join(' ')"""


class Window:
    """Finds everything by what a person sees or hears. `offences` collects what no page may do."""

    def __init__(self, browser: Browser, origin: str, **looks: Any) -> None:
        # The certificate is self-signed. That the browser rejects a foreign one is not tested here.
        self.context = browser.new_context(ignore_https_errors=True, **looks)
        self.context.set_default_timeout(PATIENCE)
        self.origin = origin
        self.offences: list[str] = []
        self.requests: list[Request] = []
        self.dialogs: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.offences.append(f"an error: {error}"))
        self.page.on("request", self._request)
        self.page.on("dialog", self._dialog)

    def close(self) -> None:
        self.context.close()
        assert self.offences == [], self.offences

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium reports every answer from status 400 on. These tests expect such answers.
        expected = message.text.startswith("Failed to load resource") and "the server responded" in message.text
        if message.type in {"error", "warning"} and not expected:
            self.offences.append(f"on the console: {message.text}")

    def _request(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith(f"{self.origin}/"):
            self.offences.append(f"a request to {request.url}")

    def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.type)
        dialog.accept()

    # What a person does

    def open(self, path: str = "/init") -> Window:
        self.page.goto(f"{self.origin}{path}")
        return self

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name).click()

    def field(self, label: str) -> Locator:
        return self.page.get_by_label(label, exact=True)

    def paste(self, label: str, text: str) -> None:
        self.field(label).evaluate(
            """(field, text) => {
              const data = new DataTransfer();
              data.setData("text", text);
              const paste = { clipboardData: data, bubbles: true, cancelable: true };
              field.focus();
              field.dispatchEvent(new ClipboardEvent("paste", paste));
            }""",
            text,
        )

    def tab_to(self, name: str) -> None:
        """Focus the element with this accessible name, with the Tab key only."""
        wanted = self.page.get_by_role("button", name=name).or_(self.field(name))
        for _ in range(40):
            if wanted.evaluate("(node) => node === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"40 times Tab do not lead to {name!r}")

    # What a person sees

    def sees(self, *texts: str | re.Pattern[str]) -> Window:
        """Waits until each text is visible in the page."""
        for text in texts:
            expect(self.page.locator("main").get_by_text(text).filter(visible=True).first).to_be_visible()
        return self

    def at(self, heading: str) -> Window:
        """Waits for the step with this heading. By then its first field has the focus, without fields the heading."""
        title = self.page.get_by_role("heading", level=1)
        expect(title).to_have_text(heading)
        first_field = self.page.locator("form input").filter(visible=True).first
        expect(first_field if first_field.count() else title).to_be_focused()
        return self

    def shown_words(self) -> list[str]:
        return [word for word in self.page.locator("#words li").all_text_contents() if word]

    def pictogram(self) -> str:
        """The names, after each picture is drawn and belongs to the name beside it."""
        items = self.page.locator(".pictogram li").filter(visible=True)
        names = items.locator(".name").all_text_contents()
        pictures = items.locator("img")
        expect(pictures).to_have_count(len(names))
        for at, name in enumerate(names):
            expect(pictures.nth(at)).to_have_attribute("src", f"/assets/pictograms/{name}.svg")
            self.page.wait_for_function("(image) => image.complete", arg=pictures.nth(at).element_handle())
            assert pictures.nth(at).evaluate("(image) => image.naturalWidth") > 0, name
        return " ".join(names)

    def text(self, id_: str) -> str:
        return self.page.locator(f"#{id_}").text_content() or ""

    def width_beyond_window(self) -> int:
        """CSS pixels by which the page is wider than its window."""
        root = "document.documentElement"
        beyond: int = self.page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")
        return beyond

    # What a person does not see

    def traces(self) -> str:
        """Everything that outlives the page or can be read outside of it: address, history, storage, cookies."""
        return str(self.page.evaluate(_TRACES)) + " ".join(request.url for request in self.requests)

    def document(self) -> str:
        """All text of the document, shown or not, with what was typed into its fields."""
        return str(self.page.evaluate(_SHOWN))


def holds_words(text: str, words: list[str]) -> bool:
    """Whether the text contains three consecutive words. Fewer may be ordinary English."""
    return any(re.search(r"\W*".join(words[at : at + 3]), text) for at in range(len(words) - 2))
