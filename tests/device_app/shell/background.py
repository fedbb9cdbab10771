"""The worker of the app, as a browser drives it: pushes without a push service, notifications, clicks, its end."""

from __future__ import annotations

import json
from typing import Any

from tests.device_app.person import Person
from tests.support.live import wait_until

_READY = "async () => (await navigator.serviceWorker.ready).active.state"
_NOTIFICATIONS = """async () => {
  const registration = await navigator.serviceWorker.getRegistration("/device/");
  return (await registration.getNotifications()).map(({ title, body, tag }) => ({ title, body, tag }));
}"""
_CLOSE_ALL = """async () => {
  const registration = await navigator.serviceWorker.getRegistration("/device/");
  for (const notification of await registration.getNotifications()) notification.close();
}"""
# Events of scripts give no right to open or focus windows, so both only record here; the rest is the worker's own.
_CLICK = """async (tag) => {
  const seen = [];
  WindowClient.prototype.focus = async function () { seen.push("focus"); return this; };
  Clients.prototype.openWindow = async (url) => { seen.push(url); return null; };
  const [notification] = (await self.registration.getNotifications()).filter((found) => found.tag === tag);
  const event = new NotificationEvent("notificationclick", { notification });
  const work = [];
  event.waitUntil = (promise) => work.push(promise);
  self.dispatchEvent(event);
  await Promise.all(work);
  return seen;
}"""


def push_of(id_: str, until: float = 4e9, **more: Any) -> str:
    """What a relay sends: the declarative form with a reference alone."""
    data = {"type": "challenge", "id": id_, "until": until}
    notification = {"title": "Sigil", "body": "from the relay", "tag": id_, "navigate": "x", "data": data, **more}
    return json.dumps({"web_push": 8030, "notification": notification})


class Background:
    """Of a person whose page is open."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._registrations: dict[str, str] = {}
        person.context.grant_permissions(["notifications"], origin=person.origin)
        assert person.page.evaluate(_READY) in {"activating", "activated"}
        person.cdp.on("ServiceWorker.workerRegistrationUpdated", self._updated)
        person.cdp.send("ServiceWorker.enable")

    def _updated(self, event: dict[str, Any]) -> None:
        for found in event["registrations"]:
            self._registrations[found["scopeURL"]] = found["registrationId"]

    def push(self, data: str) -> None:
        scope = f"{self._person.origin}/device/"
        send = self._person.cdp.send
        wait_until(lambda: self._registrations.get(scope) or self._person.page.evaluate("0"), "the registration")
        message = {"origin": self._person.origin, "registrationId": self._registrations[scope], "data": data}
        send("ServiceWorker.deliverPushMessage", message)

    def notifications(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._person.page.evaluate(_NOTIFICATIONS)
        return found

    def shows(self, *tags: str) -> list[dict[str, str]]:
        """Waits until exactly these notifications are open."""
        wait_until(lambda: {found["tag"] for found in self.notifications()} == set(tags), f"notifications {tags}")
        return self.notifications()

    def close_all(self) -> None:
        """As a person swipes them away."""
        self._person.page.evaluate(_CLOSE_ALL)

    def click(self, tag: str) -> list[str]:
        """What the worker does with windows after a click on a notification: the addresses it opens, and focus."""
        workers = self._person.context.service_workers
        seen: list[str] = workers[-1].evaluate(_CLICK, tag)
        return seen

    def stop(self) -> None:
        """Ends the worker's process, as a browser does after seconds without an event."""
        self._person.cdp.send("ServiceWorker.stopAllWorkers")
