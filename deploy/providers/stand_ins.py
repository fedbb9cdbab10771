"""All stand-ins of one process: APNs, FCM, Google's token endpoint, and the push services of browsers."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from deploy.providers.apns import Apns, ApnsSettings
from deploy.providers.credentials import PROJECT, TOPIC, Credentials
from deploy.providers.fcm import Fcm, FcmSettings
from deploy.providers.google_tokens import AccessTokens, GoogleTokens, TokenSettings
from deploy.providers.http.listener import HOST, Listener, bind
from deploy.providers.provider import Provider
from deploy.providers.record import Record
from deploy.providers.rules import Name, Rules
from deploy.providers.token_endpoint import PATH, TokenEndpoint
from deploy.providers.webpush import google
from deploy.providers.webpush.endpoint import WebPush, WebPushSettings
from deploy.providers.webpush.google import Google
from deploy.providers.webpush.mcs import Mcs
from deploy.providers.webpush.mozilla import Mozilla
from deploy.providers.webpush.subscriptions import Subscriptions

PortName = Name | Literal["google", "mcs", "mozilla"]
"""A provider, or a port that browsers connect to: Google's registration, its connections, Mozilla's connections."""


class Ports(msgspec.Struct, frozen=True):
    """0 is a free port."""

    apns: int = 0
    fcm: int = 0
    token: int = 0
    webpush: int = 0
    google: int = 0
    mcs: int = 0
    mozilla: int = 0
    control: int = 0


class StandIns:
    """The ports are bound at once and refuse connections until `open`."""

    def __init__(self, credentials: Credentials, ports: Ports) -> None:
        self.rules, self.record, self.access_tokens = Rules(), Record(), AccessTokens()
        self.apns = Apns(credentials.team_key(), TOPIC)
        self.fcm = Fcm(PROJECT, self.access_tokens)
        self.subscriptions = Subscriptions()
        self.webpush = WebPush(self.subscriptions)
        self.providers: dict[Name, Provider] = {
            "apns": Provider(self.apns, self.rules, self.record),
            "fcm": Provider(self.fcm, self.rules, self.record),
            "webpush": Provider(self.webpush, self.rules, self.record),
        }
        # The audience of an assertion is the URL of the endpoint, whose port is known once it is bound.
        token_port = bind(ports.token)
        self.token_url = f"https://{HOST}:{token_port.getsockname()[1]}{PATH}"
        account = credentials.service_account(self.token_url)
        self.token_endpoint = TokenEndpoint(GoogleTokens(account, self.access_tokens), self.rules, self.record)
        h2, h1 = credentials.contexts("h2"), credentials.contexts("http/1.1")
        self.google = Google(self.subscriptions)
        self.listeners: dict[PortName, Listener] = {
            "token": Listener(token_port, self.token_endpoint.connection, h1),
            "google": Listener(bind(ports.google), self.google.connection),
            "mcs": Listener(bind(ports.mcs), lambda: Mcs(self.subscriptions), h1),
            "mozilla": Listener(bind(ports.mozilla), lambda: Mozilla(self.subscriptions)),
        }
        for name, provider in self.providers.items():
            self.listeners[name] = Listener(bind(getattr(ports, name)), provider.connection, h2)

    async def open(self) -> None:
        for listener in self.listeners.values():
            await listener.set_mode("serving")

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()

    def urls(self) -> dict[str, str]:
        return {
            "apns_url": f"https://{HOST}:{self.listeners['apns'].port}",
            "fcm_url": f"https://{HOST}:{self.listeners['fcm'].port}",
            "fcm_token_url": self.token_url,
            "webpush_url": f"https://{HOST}:{self.listeners['webpush'].port}",
        }

    def browsers(self, spki: str) -> dict[str, Any]:
        """What leads a browser here: command-line options of Chromium, preferences of Firefox. `spki` is the hash of
        the certificate's key, which Chromium then trusts."""
        registration = f"http://{HOST}:{self.listeners['google'].port}"
        chromium = [
            f"--gcm-checkin-url={registration}{google.CHECK_IN}",
            f"--gcm-registration-url={registration}{google.REGISTER}",
            f"--gcm-mcs-endpoint=https://{HOST}:{self.listeners['mcs'].port}",
            f"--ignore-certificate-errors-spki-list={spki}",
        ]
        firefox = {
            "dom.push.serverURL": f"ws://{HOST}:{self.listeners['mozilla'].port}/",
            "dom.push.connection.enabled": True,
            "dom.push.testing.allowInsecureServerURL": True,
        }
        return {"chromium": chromium, "firefox": firefox}

    def supports(self, provider: Name, outcome: str) -> bool:
        return (self.token_endpoint if provider == "token" else self.providers[provider]).responder.supports(outcome)

    def counters(self) -> dict[str, Any]:
        token: dict[str, Any] = {
            "outcomes": self.record.outcomes.get("token", {}),
            "connections": len(self.token_endpoint.connections),
            "access_tokens": self.access_tokens.issued,
        }
        figures = {name: provider.counters() for name, provider in self.providers.items()} | {"token": token}
        figures["apns"]["provider_tokens"] = self.apns.tokens.distinct
        figures["webpush"] |= {"vapid_tokens": self.webpush.vapid.distinct, **self.subscriptions.counters()}
        for name, listener in self.listeners.items():
            figures.setdefault(name, {})["listener"] = listener.mode
        return figures

    def settings(self) -> dict[str, Any]:
        return {
            "apns": self.apns.settings,
            "fcm": self.fcm.settings,
            "token": self.access_tokens.settings,
            "webpush": self.webpush.settings,
        }

    def change_settings(self, changes: dict[Name, dict[str, Any]]) -> None:
        """ValidationError for an unknown setting. Settings that are not named keep their value."""
        current = msgspec.to_builtins(self.settings())
        merged = {name: {**current[name], **changes.get(name, {})} for name in current}
        apns = msgspec.convert(merged["apns"], ApnsSettings)
        fcm = msgspec.convert(merged["fcm"], FcmSettings)
        token = msgspec.convert(merged["token"], TokenSettings)
        webpush = msgspec.convert(merged["webpush"], WebPushSettings)
        self.apns.settings, self.fcm.settings, self.access_tokens.settings = apns, fcm, token
        self.webpush.settings = webpush

    async def reset(self, seed: int) -> None:
        """Back to the initial state, except for connections, access tokens and the numbers of pushes."""
        self.rules.reset(seed)
        self.record.reset()
        self.apns.settings, self.fcm.settings, self.access_tokens.settings = (
            ApnsSettings(), FcmSettings(), TokenSettings(),
        )  # fmt: skip
        self.webpush.settings = WebPushSettings()
        for provider in self.providers.values():
            provider.reset()
        for listener in self.listeners.values():
            if listener.mode != "serving":
                await listener.set_mode("serving")


def loopback_url(port: int) -> str:
    return f"http://{HOST}:{port}"
