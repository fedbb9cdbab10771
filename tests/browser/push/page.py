"""A page and a service worker of these tests, on a port of localhost, and what they can do."""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import http_ece
import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.live import wait_until
from tests.support.providers import Providers
from tests.support.push_browsers import PushBrowser

_PAGE = "<!doctype html><title>page</title><h1>page</h1>"
_WORKER = """
self.addEventListener("push", (event) => {
  const text = event.data ? event.data.text() : "without a body";
  event.waitUntil(self.registration.showNotification("Push", { body: text }));
});
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(self.clients.openWindow("/clicked#" + event.notification.body));
});
"""
_SUBSCRIBE = """
  await navigator.serviceWorker.register("/worker.js");
  const registration = await navigator.serviceWorker.ready;
  const applicationServerKey = Uint8Array.from(arguments[0]);
  const subscription = await registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
  return subscription.toJSON();
"""
_UNSUBSCRIBE = """
  const registration = await navigator.serviceWorker.ready;
  const subscription = await registration.pushManager.getSubscription();
  return await subscription.unsubscribe();
"""


class Site:
    """Serves the page and the worker; `url` is its origin, which browsers take as secure."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.url = f"http://localhost:{self._server.server_port}"

    def __enter__(self) -> Site:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, text = ("text/javascript", _WORKER) if self.path == "/worker.js" else ("text/html", _PAGE)
        body = text.encode()
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is logged."""


class Sender:
    """An application server with a VAPID key of its own."""

    def __init__(self, providers: Providers) -> None:
        self._providers = providers
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = _point(self._key.public_key())
        self.public_text = _encode(self.public)

    def authorization(self, origin: str, key: ec.EllipticCurvePrivateKey | None = None, **changed: Any) -> str:
        """`key` signs instead of the own one; None removes a claim."""
        claims = {"aud": origin, "exp": int(time.time()) + 3600, "sub": "mailto:admin@sigil.test", **changed}
        claims = {name: value for name, value in claims.items() if value is not None}
        return f"vapid t={jwt.encode(claims, key or self._key, 'ES256')}, k={self.public_text}"

    def post(self, endpoint: str, body: bytes, **headers: str | None) -> httpx.Response:
        """To the stand-in, under the name of the service in the endpoint's URL. None leaves a header out."""
        url = httpx.URL(endpoint)
        given = {
            "host": url.host,
            "authorization": self.authorization(f"https://{url.host}"),
            "ttl": "60",
            "urgency": "high",
            **({"content-encoding": "aes128gcm"} if body else {}),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        present = {name: value for name, value in given.items() if value is not None}
        with self._providers.client() as client:
            target = self._providers.webpush_url + url.raw_path.decode()
            return client.post(target, content=body, headers=present, extensions={"sni_hostname": url.host})


@dataclass(frozen=True)
class Subscribed:
    """A subscription, as a page hands it to its server."""

    endpoint: str
    p256dh: bytes
    auth: bytes

    @classmethod
    def parse(cls, json: dict[str, Any]) -> Subscribed:
        return cls(json["endpoint"], _decode(json["keys"]["p256dh"]), _decode(json["keys"]["auth"]))

    def encrypt(self, text: str) -> bytes:
        own = ec.generate_private_key(ec.SECP256R1())
        encrypted: bytes = http_ece.encrypt(
            text.encode(), private_key=own, dh=self.p256dh, auth_secret=self.auth, version="aes128gcm"
        )
        return encrypted


def subscribe(browser: PushBrowser, site: Site, sender: Sender) -> Subscribed:
    browser.allow_notifications(site.url)
    browser.navigate(f"{site.url}/")
    return Subscribed.parse(browser.evaluate(_SUBSCRIBE, list(sender.public)))


def unsubscribe(browser: PushBrowser) -> bool:
    return bool(browser.evaluate(_UNSUBSCRIBE))


def send_until_shown(browser: PushBrowser, sender: Sender, subscribed: Subscribed, text: str) -> None:
    """Chromium loses what arrives in the first moments of a subscription: sent until it is shown."""

    def shown() -> bool:
        answer = sender.post(subscribed.endpoint, subscribed.encrypt(text))
        assert answer.status_code == 201, answer.text
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if any(text in one for one in browser.notifications()):
                return True
            time.sleep(0.02)
        return False

    wait_until(shown, f"the notification {text!r}")


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
