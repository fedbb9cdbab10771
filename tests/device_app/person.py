"""The web app of devices in Chromium, as a person uses it: the development server, and a browser with passkeys."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, ConsoleMessage, Request, expect

from tests.browser.window import Window
from tests.support.live import LiveServer

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "locale": "en-GB", "timezone_id": "UTC"}

# Enrols with the app's own modules, except that no person confirms anything in between.
_ENROL = """async ({ token, plain }) => {
  const { Server } = await import("/assets/device/client/server.js");
  const { complete, makeKey, meet, parseCode } = await import("/assets/device/client/enrolment.js");
  const server = new Server(location.origin);
  const meeting = await meet(server, parseCode(token, { baseUrl: location.origin }));
  const key = await makeKey(meeting, { plain });
  const { record, code, status } = await complete(server, meeting, key);
  window.enrolling = { server, record };
  return { code, status, enrolmentId: meeting.enrolmentId, fingerprint: record.fingerprint };
}"""
_FINISH = """async () => {
  const { untilEnrolled } = await import("/assets/device/client/enrolment.js");
  const { Store } = await import("/assets/device/storage/store.js");
  const { server, record } = window.enrolling;
  const status = await untilEnrolled(server, record);
  if (status === "enrolled") await (await Store.open()).saveDevice(record);
  return status;
}"""
_KEY = """async () => {
  const { Store } = await import("/assets/device/storage/store.js");
  const { wire } = await (await Store.open()).device();
  return btoa(String.fromCharCode(...wire));
}"""


class DeviceServer(LiveServer):
    """`with DeviceServer() as server`: one worker over plain HTTP at http://localhost, as `make dev` serves the app."""

    def __init__(self, **settings: str) -> None:
        super().__init__(workers=1, **{"SIGIL_RATE_LIMIT": "off", **settings})
        self.url = f"http://localhost:{self.port}"
        self.environ |= {"SIGIL_PORT": "0", "SIGIL_HTTP_PORT": str(self.port), "SIGIL_PUBLIC_URL": self.url, **settings}

    def _is_healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended: {self.log_path.read_text()}"
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> dict[str, Any]:
        """The answer to a request with the API key, which must be a 2xx."""
        with self.authorised() as client:
            answer = client.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def get(self, path: str) -> dict[str, Any]:
        with self.authorised() as client:
            found: dict[str, Any] = client.get(path).json()
        return found

    def begin_enrolment(self, account: str = "zoe@example.com", **more: Any) -> dict[str, Any]:
        """The 201: enrolment_id, token, uri, web_uri."""
        return self.post("/enrolment", {"account": account, **more})

    def challenge(self, device_public_key: str, **more: Any) -> dict[str, Any]:
        """The 201 of a challenge for the key."""
        action = {"type": "payment.approve", "description": "Pay 1,250.00 EUR to Northwind", **more.pop("action", {})}
        body = {"device_public_key": device_public_key, "action": action, "expires_in_seconds": 300, **more}
        return self.post("/challenge", body, **{"Idempotency-Key": os.urandom(8).hex()})


class Person(Window):
    """A window with a platform authenticator that verifies its user, in a browser profile of its own.

    `cdp` is the connection to its page; `authenticator` the id for the commands of the domain WebAuthn. The page may
    send requests to URLs that begin with one of `other_origins`, too.
    """

    def __init__(
        self,
        browser: Browser,
        server: DeviceServer,
        *,
        passkeys: bool = True,
        other_origins: tuple[str, ...] = (),
        **looks: Any,
    ) -> None:
        self._other_origins = other_origins
        super().__init__(browser, server.url, **{**PHONE, **looks})
        self.broken_connections = False
        """Whether the test breaks connections: Chromium reports each on the console."""
        self.server = server
        self.cdp = self.context.new_cdp_session(self.page)
        if passkeys:
            self.cdp.send("WebAuthn.enable")
            options = {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
            added = self.cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})
            self.authenticator: str = added["authenticatorId"]

    def _request(self, request: Request) -> None:
        if not request.url.startswith(self._other_origins):
            super()._request(request)

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium advises RS256, which is no suite of the protocol.
        advice = "pubKeyCredParams is missing" in message.text
        if not advice and not (self.broken_connections and "net::ERR_" in message.text):
            super()._console(message)

    def open(self, path: str = "/device/") -> Person:
        super().open(path)
        return self

    def at(self, heading: str) -> Person:
        """Waits for the screen with this heading, which has the focus by then."""
        title = self.page.get_by_role("heading", level=1)
        expect(title).to_have_text(heading)
        expect(title).to_be_focused()
        return self

    def opened(self) -> Person:
        """Waits until a screen is open; its heading has the focus by then."""
        expect(self.page.get_by_role("heading", level=1)).to_be_visible()
        return self

    def enrol_by_api(self, account: str = "zoe@example.com", *, plain: bool = False) -> str:
        """Enrols this browser without its screens, and opens the app. The device's public key, base64."""
        begun = self.server.begin_enrolment(account)
        if not self.page.url.startswith(self.origin):
            self.open().opened()
        done = self.page.evaluate(_ENROL, {"token": begun["token"], "plain": plain})
        if done["status"] == "confirming":
            self.server.post(f"/enrolment/{begun['enrolment_id']}/confirm", {"code": done["code"]})
        assert self.page.evaluate(_FINISH) == "enrolled"
        self.open().opened()
        return self.public_key()

    def public_key(self) -> str:
        """Of the stored device, base64."""
        return str(self.page.evaluate(_KEY))

    def picture(self, path: Path) -> None:
        self.page.screenshot(path=path, full_page=True)
