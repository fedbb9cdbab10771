"""The subscriptions of browsers, and the connections over which their pushes go."""

from __future__ import annotations

import secrets
from collections import deque
from typing import Protocol

import msgspec

KEPT = 100
"""Pushes that are kept for a browser that is not connected."""


class Subscription(msgspec.Struct, frozen=True):
    """`browser` is Firefox's UAID or Chromium's Android id, `app` the channel or the app id there; `key` is the VAPID
    key (65 bytes) that alone may send."""

    token: str
    browser: str
    app: str
    key: bytes | None


class Message(msgspec.Struct, frozen=True):
    number: int
    subscription: Subscription
    body: bytes
    ttl: int


class Connection(Protocol):
    def deliver(self, message: Message) -> None: ...


class Subscriptions:
    def __init__(self) -> None:
        self._by_token: dict[str, Subscription] = {}
        self._ended: set[str] = set()
        self._connected: dict[str, Connection] = {}
        self._waiting: dict[str, deque[Message]] = {}
        self._last = 0

    def add(self, browser: str, app: str, key: bytes | None, prefix: str = "") -> Subscription:
        """An earlier subscription of the same app with the same key stays as it is."""
        for known in self._by_token.values():
            if (known.browser, known.app, known.key) == (browser, app, key):
                return known
        added = Subscription(prefix + secrets.token_urlsafe(48), browser, app, key)
        self._by_token[added.token] = added
        return added

    def find(self, token: str) -> Subscription | None:
        return self._by_token.get(token)

    def ended(self, token: str) -> bool:
        return token in self._ended

    def end(self, browser: str, app: str) -> None:
        """The browser unsubscribes: later pushes get 410."""
        ended = [one.token for one in self._by_token.values() if (one.browser, one.app) == (browser, app)]
        for token in ended:
            self.expire(token)

    def expire(self, token: str) -> None:
        if self._by_token.pop(token, None) is not None:
            self._ended.add(token)

    def connect(self, browser: str, connection: Connection) -> None:
        self._connected[browser] = connection
        for message in self._waiting.pop(browser, ()):
            connection.deliver(message)

    def disconnect(self, browser: str, connection: Connection) -> None:
        if self._connected.get(browser) is connection:
            del self._connected[browser]

    @property
    def next_number(self) -> int:
        return self._last + 1

    def send(self, subscription: Subscription, body: bytes, ttl: int) -> None:
        self._last += 1
        message = Message(self._last, subscription, body, ttl)
        connection = self._connected.get(subscription.browser)
        if connection is not None:
            connection.deliver(message)
        elif ttl:
            self._waiting.setdefault(subscription.browser, deque(maxlen=KEPT)).append(message)

    def all(self) -> list[dict[str, str]]:
        return [{"token": one.token, "browser": one.browser, "app": one.app} for one in self._by_token.values()]

    def counters(self) -> dict[str, int]:
        return {
            "subscriptions": len(self._by_token),
            "browsers": len(self._connected),
            "kept": sum(len(one) for one in self._waiting.values()),
        }
