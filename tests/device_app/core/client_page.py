"""The page of an enrolled device that has imported the client's modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.device_app.person import Person

_IMPORTS = """
  const at = (name) => import(`/assets/device/${name}.js`);
  const [{ Server }, enrolment, inbox, decisions, authenticator] = await Promise.all(
    ["client/server", "client/enrolment", "client/inbox", "client/decisions", "client/authenticator"].map(at),
  );
  const server = (window.server ??= new Server(location.origin));
  const { record, item, meeting, key } = window;
  const meet = (text) => enrolment.meet(server, enrolment.parseCode(text, { baseUrl: location.origin }));
  const failed = (error) => ({ error: error.name, code: error.code, reason: error.reason, details: error.details });
"""
_ENROL = """
  window.meeting = await meet(given);
  window.key = await enrolment.makeKey(window.meeting);
  const { record: made, ...shown } = await enrolment.complete(server, window.meeting, window.key);
  window.record = structuredClone(made);
  return { ...shown, wire: btoa(String.fromCharCode(...made.wire)) };
"""
_FETCH = """
  const { items, rejected } = await inbox.fetchPending(server, record);
  window.item = items.find(({ id }) => id === given);
  return { item: window.item, rejected };
"""


class ClientPage(Person):
    """After `enrolled()` its page has `record`, `meeting` and `key`, after `fetch` an `item`."""

    wire: str

    def run(self, body: str, given: Any = None) -> Any:
        """The value of an async function's body in the page, which has the modules by name."""
        return self.page.evaluate(f"async (given) => {{ {_IMPORTS} {body} }}", given)

    def enrolled(self) -> ClientPage:
        begun = self.server.begin_enrolment()
        shown = self.run(_ENROL, begun.get("web_uri", begun["token"]))
        status = self.server.post(f"/enrolment/{begun['enrolment_id']}/confirm", {"code": shown["code"]})
        assert status["session_pictogram_speakable"].split() == shown["pictogram"]
        assert status["device_public_key"] == shown["wire"]
        assert self.run("return enrolment.untilEnrolled(server, record)") == "enrolled"
        self.wire = shown["wire"]
        return self

    def challenge(self, **more: Any) -> dict[str, Any]:
        """The 201 of a challenge for this device."""
        return self.server.challenge(self.wire, **more)

    def approval_request(self, **more: Any) -> dict[str, Any]:
        """The 201 of a request that this device alone decides."""
        groups = [{"members": [{"device_public_key": self.wire}]}]
        action = {"type": "deploy", "description": "Deploy"}
        return self.server.post("/mpa/request", {"action": action, "required": 1, "groups": groups, **more})

    def fetch(self, pending_id: str) -> dict[str, Any]:
        """The item with this id."""
        found: dict[str, Any] = self.run(_FETCH, pending_id)
        assert found["rejected"] == []
        item: dict[str, Any] = found["item"]
        return item

    def approve(self, **options: Any) -> Any:
        return self.run("return decisions.approve(server, record, item, given).catch(failed)", options)

    def reject(self, reason: str | None = None) -> Any:
        return self.run("return decisions.reject(server, record, item, given ?? undefined).catch(failed)", reason)

    @contextlib.contextmanager
    def unverified_user(self) -> Iterator[None]:
        which = {"authenticatorId": self.authenticator}
        self.cdp.send("WebAuthn.setUserVerified", {**which, "isUserVerified": False})
        yield
        self.cdp.send("WebAuthn.setUserVerified", {**which, "isUserVerified": True})

    @contextlib.contextmanager
    def absent_user(self) -> Iterator[None]:
        """Every prompt stays open."""
        which = {"authenticatorId": self.authenticator}
        self.cdp.send("WebAuthn.setAutomaticPresenceSimulation", {**which, "enabled": False})
        yield
        self.cdp.send("WebAuthn.setAutomaticPresenceSimulation", {**which, "enabled": True})

    @contextlib.contextmanager
    def removed_credentials(self) -> Iterator[None]:
        which = {"authenticatorId": self.authenticator}
        found = self.cdp.send("WebAuthn.getCredentials", which)["credentials"]
        self.cdp.send("WebAuthn.clearCredentials", which)
        yield
        for credential in found:
            self.cdp.send("WebAuthn.addCredential", {**which, "credential": credential})

    @contextlib.contextmanager
    def answered(self, path: str, answer: Any) -> Iterator[None]:
        """Each request to the path gets these fields of an answer, or its route goes to a function."""
        self.page.route(f"**{path}", answer if callable(answer) else lambda route: route.fulfill(**answer))
        yield
        self.page.unroute(f"**{path}")
        # The browser reports each failed load.
        self.offences = [text for text in self.offences if "Failed to load resource" not in text]
