"""A real Chromium with a profile on disk, since only such a one subscribes to pushes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from playwright.sync_api import BrowserContext, CDPSession, Page, Playwright, sync_playwright

from tests.browser.chromium import FLAGS, PATIENCE, executable
from tests.support.desktop import Desktop
from tests.support.live import wait_until

Result = TypeVar("Result")
# Push needs the network in the background, which Playwright turns off; no other name is resolved.
_OFF_IN_PLAYWRIGHT = ["--disable-background-networking"]
_LOOPBACK_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1"
_AUTHENTICATOR = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


class PushChromium:
    """`with PushChromium(providers.chromium_options) as chromium:`; its methods are those of Firefox.

    Playwright lives in a thread of its own: its event loop does not meet those of the tests.
    """

    name = "chromium"

    def __init__(self, options: list[str]) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="chromium-"))
        self._desktop = Desktop(self._home)
        self._options = [*(flag for flag in FLAGS if flag not in _OFF_IN_PLAYWRIGHT), _LOOPBACK_ONLY, *options]
        self._thread = ThreadPoolExecutor(1)
        self._playwright: Playwright | None = None
        self._context: BrowserContext | None = None
        self._current: Page | None = None
        self._authenticators: dict[Page, tuple[CDPSession, str]] = {}

    def __enter__(self) -> PushChromium:
        try:
            self._desktop.__enter__()
            self._do(self._launch)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _launch(self) -> None:
        self._playwright = sync_playwright().start()
        self._context = self._playwright.chromium.launch_persistent_context(
            str(self._home / "profile"),
            executable_path=executable(),
            args=self._options,
            ignore_default_args=_OFF_IN_PLAYWRIGHT,
            env={**os.environ, "HOME": str(self._home), **self._desktop.environment},
            timeout=PATIENCE,
        )
        self._context.set_default_timeout(PATIENCE)
        self._current = self._context.pages[0]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end)
        self._thread.shutdown()
        self._desktop.__exit__(None, None, None)
        shutil.rmtree(self._home, ignore_errors=True)

    def _end(self) -> None:
        if self._context is not None:
            self._context.close()
        if self._playwright is not None:
            self._playwright.stop()

    def _do(self, act: Callable[[], Result]) -> Result:
        return self._thread.submit(act).result()

    @property
    def _page(self) -> Page:
        assert self._current is not None
        return self._current

    @property
    def _browser(self) -> BrowserContext:
        assert self._context is not None
        return self._context

    # Pages

    def navigate(self, url: str) -> None:
        self._do(lambda: self._page.goto(url))

    @property
    def url(self) -> str:
        return self._do(lambda: self._page.url)

    def evaluate(self, body: str, *arguments: Any) -> Any:
        """The value of a function's body, which may use `await` and `arguments`."""
        script = f"(given) => (async function () {{ {body} }}).apply(null, given)"
        return self._do(lambda: self._page.evaluate(script, list(arguments)))

    def wait_for(self, selector: str) -> None:
        self._do(self._page.locator(selector).first.wait_for)

    def click(self, selector: str) -> None:
        self._do(self._page.locator(selector).first.click)

    def type(self, selector: str, text: str) -> None:
        self._do(lambda: self._page.locator(selector).first.press_sequentially(text))

    def text(self, selector: str) -> str:
        return self._do(self._page.locator(selector).first.inner_text)

    def pages(self) -> list[str]:
        """The addresses of all open pages."""
        return self._do(lambda: [page.url for page in self._browser.pages])

    def switch_to(self, part: str) -> None:
        """Wait for a page whose address contains `part`, and use it from now on, with the same authenticator."""
        wait_until(lambda: self._do(lambda: self._switch_to(part)), f"a page at {part}")

    def close_page(self) -> None:
        """Close the page, and use the first of the other pages."""
        self._do(self._close_page)

    def new_page(self) -> None:
        self._do(self._new_page)

    def _new_page(self) -> None:
        self._use(self._browser.new_page())

    def _close_page(self) -> None:
        closed = self._page
        self._use(next(page for page in self._browser.pages if page is not closed))
        self._authenticators.pop(closed, None)
        closed.close()

    def _switch_to(self, part: str) -> bool:
        # Playwright learns of new pages only while one of its calls runs.
        self._page.evaluate("1")
        page = next((page for page in self._browser.pages if part in page.url), None)
        if page is not None:
            self._use(page)
        return page is not None

    def _use(self, page: Page) -> None:
        """Chromium's virtual authenticators belong to a page: the next page gets one with the same credentials."""
        before, self._current = self._authenticators.get(self._page), page
        page.bring_to_front()
        if before is not None and page not in self._authenticators:
            session, number = before
            credentials = session.send("WebAuthn.getCredentials", {"authenticatorId": number})["credentials"]
            self._add_authenticator()
            session, number = self._authenticators[page]
            for credential in credentials:
                session.send("WebAuthn.addCredential", {"authenticatorId": number, "credential": credential})

    # Notifications

    def allow_notifications(self, origin: str) -> None:
        self._do(lambda: self._browser.grant_permissions(["notifications"], origin=origin))

    def notifications(self) -> list[str]:
        """Title and body of each notification on the screen."""
        return [f"{one.title}\n{one.body}" for one in self._desktop.shown()]

    def click_notification(self, part: str) -> None:
        """Click on the notification that contains `part`, as soon as it is shown."""
        self._desktop.click(self._desktop.wait_for(part))

    # WebAuthn

    def add_authenticator(self) -> None:
        """A virtual authenticator of the platform that verifies its user."""
        self._do(self._add_authenticator)

    def _add_authenticator(self) -> None:
        session = self._browser.new_cdp_session(self._page)
        session.send("WebAuthn.enable")
        number = session.send("WebAuthn.addVirtualAuthenticator", {"options": _AUTHENTICATOR})["authenticatorId"]
        self._authenticators[self._page] = session, number
