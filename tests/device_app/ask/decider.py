"""A person with an enrolled web device who decides what a backend requests; what a person sees, by its words."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Route, expect

from sigil.device import Device
from tests.device_app.person import DeviceServer, Person

ASK = "Do you approve this?"
REASON = "Why do you reject this?"
NOT_MINE = "I did not ask for this"


_GO = """async () => {
  const { app } = await import("/assets/device/app.js");
  const item = window.heldItem ?? app.state.item;
  await app.go(STATE);
}"""
# Timers that a test runs; the browser's clock, which would outlive the page, stays as it is.
_STOP_TIMERS = """() => {
  const { clearTimeout: clear } = window;
  const pending = new Map();
  let [now, next] = [0, 1e9];
  window.setTimeout = (work, wait = 0) => {
    pending.set(++next, { at: now + wait, work });
    return next;
  };
  window.clearTimeout = (id) => pending.delete(id) || clear(id);
  window.runTimers = (milliseconds) => {
    const end = now + milliseconds;
    const due = () => [...pending].filter(([, { at }]) => at <= end).sort(([, one], [, other]) => one.at - other.at)[0];
    for (let first = due(); first; first = due()) {
      pending.delete(first[0]);
      now = first[1].at;
      first[1].work();
    }
    now = end;
  };
}"""
_KEPT = "async () => (await import('/assets/device/app.js')).app.store.decisions()"


class Decider:
    """`key` is the device's public key. Each test has requests of its own; `begin` ends those before."""

    def __init__(self, person: Person, server: DeviceServer) -> None:
        self.person, self.server, self.page = person, server, person.page
        self.key = person.enrol_by_api("alice@example.com")
        # Chromium advises a second algorithm when the key is made.
        person.offences.clear()
        self._created: list[str] = []

    def begin(self) -> None:
        """An empty list in a page that has just been loaded."""
        self.person.offences.clear()
        self.page.unroute_all()
        self.page.emulate_media(color_scheme="light", reduced_motion="no-preference")
        self.page.set_viewport_size({"width": 390, "height": 844})
        with self.server.authorised() as client:
            for path in self._created:
                client.delete(path)
        self._created.clear()
        self.verify_user(True)
        self.page.goto("about:blank")
        self.person.open()

    def verify_user(self, verified: bool) -> None:
        """Whether the fingerprint of the person at the prompt is the right one."""
        self.person.cdp.send(
            "WebAuthn.setUserVerified", {"authenticatorId": self.person.authenticator, "isUserVerified": verified}
        )

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(base64.b64decode(self.key)).hexdigest()

    # What a backend does

    def challenge(self, **more: Any) -> dict[str, Any]:
        created = self.server.challenge(self.key, **more)
        self._created.append(f"/v1/auth/challenge/{created['challenge_id']}")
        return created

    def approval(
        self, *others: Device, required: int, own_group: tuple[Device, ...] = (), **more: Any
    ) -> dict[str, Any]:
        """The 201 of a request for this device and one group for each other."""
        action = {"type": "deploy", "description": "Deploy 7.1 to production", "params": {"version": "7.1"}}
        groups = [[self.key, *(one.wire_key for one in own_group)], *([other.wire_key] for other in others)]
        members = [{"members": [{"device_public_key": key} for key in group]} for group in groups]
        body = {"action": action, "required": required, "groups": members, **more}
        created = self.server.post("/mpa/request", body)
        self._created.append(f"/mpa/request/{created['request_id']}")
        return created

    def vote(self, voter: Device, created: dict[str, Any], decision: Any = "approved") -> dict[str, Any]:
        """The vote of another device."""
        context = self.approval_status(created)["action_context"]
        body = voter.vote_body(created["mpa_id"], decision, voter.sign_vote(context, decision))
        return self.server.post("/mpa/respond", body)

    def status(self, created: dict[str, Any]) -> dict[str, Any]:
        return self.server.get(f"/v1/auth/challenge/{created['challenge_id']}/status")

    def approval_status(self, created: dict[str, Any]) -> dict[str, Any]:
        return self.server.get(f"/mpa/status/{created['request_id']}")

    def withdraw(self, created: dict[str, Any]) -> None:
        with self.server.authorised() as client:
            assert client.delete(f"/v1/auth/challenge/{created['challenge_id']}").status_code == 200

    # What a server in between does

    def answer(self, path: str, http: int, code: str, headers: dict[str, str] | None = None, /, **details: Any) -> None:
        """Requests to the path get this error, and never reach the server."""
        body = {"error": {"code": code, "message": "…", "details": details}}
        self.intercept(path, lambda route: route.fulfill(status=http, headers=headers or {}, json=body))

    def intercept(self, path: str, handler: Callable[[Route], None]) -> None:
        self.page.unroute_all()
        self.page.route(f"**{path}", handler)

    # What the person does and sees

    @property
    def approve_button(self) -> Locator:
        return self.page.get_by_role("button", name="Approve", exact=True)

    def at(self, heading: str) -> Decider:
        self.person.at(heading)
        return self

    def at_request(self, description: str = "Pay 1,250.00 EUR to Northwind") -> Decider:
        """Waits until this request is open."""
        self.person.at(ASK)
        expect(self.page.locator(".description")).to_have_text(description)
        return self

    def opened(self) -> Decider:
        """Waits until Approve is open, having read to the end."""
        self.page.locator(".request-end").scroll_into_view_if_needed()
        self.page.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
        expect(self.approve_button).to_have_attribute("aria-disabled", "false")
        return self

    def approve(self) -> None:
        self.opened()
        self.approve_button.click()

    def reject(self, reason: str) -> None:
        self.person.click("Reject")
        self.person.at(REASON)
        self.page.get_by_role("button", name=reason).click()

    def go(self, state: str) -> None:
        """Opens a state: JavaScript, in which `item` is the request of the open screen."""
        self.page.evaluate(_GO.replace("STATE", state))

    def hold_item(self) -> None:
        """`item` of `go` is from now on the request that is open now."""
        self.page.evaluate("async () => { window.heldItem = (await import('/assets/device/app.js')).app.state.item; }")

    def stop_timers(self) -> None:
        """From now on the timers of this page run only in `run_timers`."""
        self.page.evaluate(_STOP_TIMERS)

    def run_timers(self, milliseconds: int) -> None:
        self.page.evaluate("(time) => window.runTimers(time)", milliseconds)

    def kept(self) -> list[dict[str, Any]]:
        """The decisions that this browser keeps, the newest first."""
        found: list[dict[str, Any]] = self.page.evaluate(_KEPT)
        return found


def close_when_clean(decider: Decider) -> None:
    """Fails if the page did what no page may do."""
    offences, decider.person.offences = decider.person.offences, []
    assert offences == []
