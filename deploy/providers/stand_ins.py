"""All stand-ins of one process: APNs, FCM, and Google's token endpoint."""

from __future__ import annotations

from typing import Any

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


class Ports(msgspec.Struct, frozen=True):
    """0 is a free port."""

    apns: int = 0
    fcm: int = 0
    token: int = 0
    control: int = 0


class StandIns:
    """The ports are bound at once and refuse connections until `open`."""

    def __init__(self, credentials: Credentials, ports: Ports) -> None:
        self.rules, self.record, self.access_tokens = Rules(), Record(), AccessTokens()
        self.apns = Apns(credentials.team_key(), TOPIC)
        self.fcm = Fcm(PROJECT, self.access_tokens)
        self.providers: dict[Name, Provider] = {
            "apns": Provider(self.apns, self.rules, self.record),
            "fcm": Provider(self.fcm, self.rules, self.record),
        }
        # The audience of an assertion is the URL of the endpoint, whose port is known once it is bound.
        token_port = bind(ports.token)
        self.token_url = f"https://{HOST}:{token_port.getsockname()[1]}{PATH}"
        account = credentials.service_account(self.token_url)
        self.token_endpoint = TokenEndpoint(GoogleTokens(account, self.access_tokens), self.rules, self.record)
        h2, h1 = credentials.contexts("h2"), credentials.contexts("http/1.1")
        self.listeners: dict[Name, Listener] = {"token": Listener(token_port, self.token_endpoint.connection, h1)}
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
        }

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
        for name, listener in self.listeners.items():
            figures[name]["listener"] = listener.mode
        return figures

    def settings(self) -> dict[str, Any]:
        return {
            "apns": self.apns.settings,
            "fcm": self.fcm.settings,
            "token": self.access_tokens.settings,
        }

    def change_settings(self, changes: dict[Name, dict[str, Any]]) -> None:
        """ValidationError for an unknown setting. Settings that are not named keep their value."""
        current = msgspec.to_builtins(self.settings())
        merged = {name: {**current[name], **changes.get(name, {})} for name in current}
        apns = msgspec.convert(merged["apns"], ApnsSettings)
        fcm = msgspec.convert(merged["fcm"], FcmSettings)
        token = msgspec.convert(merged["token"], TokenSettings)
        self.apns.settings, self.fcm.settings, self.access_tokens.settings = apns, fcm, token

    async def reset(self, seed: int) -> None:
        """Back to the initial state, except for connections, access tokens and the numbers of pushes."""
        self.rules.reset(seed)
        self.record.reset()
        self.apns.settings, self.fcm.settings, self.access_tokens.settings = (
            ApnsSettings(), FcmSettings(), TokenSettings(),
        )  # fmt: skip
        for provider in self.providers.values():
            provider.reset()
        for listener in self.listeners.values():
            if listener.mode != "serving":
                await listener.set_mode("serving")


def loopback_url(port: int) -> str:
    return f"http://{HOST}:{port}"
