"""A person with the authenticator in a real browser, and the backend that wants a decision."""

from __future__ import annotations

import re
import time
from typing import Any

from tests.device_app.person import DeviceServer
from tests.support.live import wait_until
from tests.support.push_browsers import PushBrowser

ACTION = {"type": "deploy", "description": "Release 4.2 to production", "params": {"version": "4.2"}}
# Pages that are left do not ask the server, and are no window of the app: a click on a notification opens one.
_ELSEWHERE = "about:blank"
_KEY = """
  const { Store } = await import("/assets/device/storage/store.js");
  const { wire } = await (await Store.open()).device();
  return btoa(String.fromCharCode(...wire));
"""
_REGISTRATION = """
  const { Store } = await import("/assets/device/storage/store.js");
  return (await (await Store.open()).device()).registration?.endpoint ?? "";
"""
_UNSUBSCRIBE = """
  const registration = await navigator.serviceWorker.ready;
  return await (await registration.pushManager.getSubscription()).unsubscribe();
"""


class Person:
    """Finds everything by what a person sees."""

    def __init__(self, browser: PushBrowser, server: DeviceServer) -> None:
        self.browser, self.server = browser, server
        self.key = ""
        self._begun: list[str] = []

    def sees(self, heading: str) -> None:
        self.browser.wait_for(f"//h1[normalize-space()='{heading}']")

    def presses(self, name: str) -> None:
        """Presses the button as soon as it can be pressed."""
        enabled = "not(@disabled) and not(@aria-disabled='true')"
        self.browser.click(f"//button[normalize-space()='{name}' and {enabled}]")

    def types(self, field: str, text: str) -> None:
        self.browser.type(f"{field}:not(:read-only)", text)

    def chooses(self, name: str) -> None:
        """One of several large buttons that also hold an explanation."""
        self.browser.click(f"//button[strong[normalize-space()='{name}']]")

    def approves(self) -> None:
        """Reads to the end, as the page demands, then approves."""
        self.browser.evaluate("window.scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })")
        self.presses("Approve")

    def opens(self, path: str = "/device/") -> None:
        self.leaves()
        self.browser.navigate(f"{self.server.url}{path}")

    def leaves(self) -> None:
        """Leaves the app: one page that shows something else."""
        while len(self.browser.pages()) > 1:
            self.browser.close_page()
        self.browser.navigate(_ELSEWHERE)

    def enrols(self) -> None:
        """As the screens lead, with notifications on; then until the first push arrives."""
        begun = self.server.begin_enrolment()
        self.opens("/device/#" + begun["uri"].partition("&")[2])
        self.sees("Is this what you expect?")
        self.presses("Continue")
        self.sees("Make a key on this device")
        self.presses("Create the key")
        self.sees("Approve once, to try it")
        self.presses("Approve")
        self.sees("Compare, then type the code")
        # The six digits, and once more for screen readers.
        code = re.sub(r"\D", "", self.browser.text(".big-code"))[:6]
        self.server.post(f"/enrolment/{begun['enrolment_id']}/confirm", {"code": code})
        self.sees("Get a notification for each request")
        self.presses("Turn on notifications")
        self.sees("Nothing to decide")
        self.key = self.browser.evaluate(_KEY)

    def warms_up(self) -> None:
        """Chromium loses pushes of the first moments of a subscription: challenges until one is shown."""
        self.leaves()

        def notified() -> bool:
            self.challenged()
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline and not self.browser.notifications():
                time.sleep(0.05)
            self.withdraws()
            return bool(self.browser.notifications())

        wait_until(notified, "the first push")
        self.closes_notifications()

    def closes_notifications(self) -> None:
        """The app closes those of requests that have ended."""
        self.opens()
        self.sees("Nothing to decide")
        wait_until(lambda: not self.browser.notifications(), "the notifications to be closed")
        self.leaves()

    def opens_the_notification(self) -> None:
        """Waits for it, clicks on it, and looks at the page that it opens."""
        self.browser.click_notification("Sigil")
        self.browser.switch_to("/device/")

    def registered_endpoint(self) -> str:
        return str(self.browser.evaluate(_REGISTRATION))

    def unsubscribes(self) -> None:
        """As a browser that drops a subscription without the app's knowledge."""
        assert self.browser.evaluate(_UNSUBSCRIBE)
        self.leaves()

    # The backend

    def challenged(self, **members: Any) -> dict[str, Any]:
        """The 201 of a new challenge for the person."""
        created = self.server.challenge(self.key, **members)
        self._begun.append(f"/v1/auth/challenge/{created['challenge_id']}")
        return created

    def requests_with(self, other_key: str) -> dict[str, Any]:
        """The 201 of an approval request that needs the person and the holder of another key."""
        groups = [{"members": [{"device_public_key": key}]} for key in (self.key, other_key)]
        created = self.server.post("/mpa/request", {"action": ACTION, "required": 2, "groups": groups})
        self._begun.append(f"/mpa/request/{created['request_id']}")
        return created

    def withdraws(self) -> None:
        """All that is still pending ends."""
        with self.server.authorised() as backend:
            while self._begun:
                backend.delete(self._begun.pop())

    def status(self, created: dict[str, Any], wait: int = 25) -> dict[str, Any]:
        """What the backend learns of its challenge."""
        return self.server.get(f"/v1/auth/challenge/{created['challenge_id']}/status?wait={wait}")
