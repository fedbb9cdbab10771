"""All stand-ins of one process: APNs, FCM, and the token endpoint that FCM needs."""

from __future__ import annotations

from typing import Any

import msgspec

from deploy.providers.apns import Apns, ApnsSettings
from deploy.providers.credentials import PROJECT, TOPIC, Credentials
from deploy.providers.fcm import Fcm, FcmSettings
from deploy.providers.google_tokens import AccessTokens, GoogleTokens, TokenSettings
from deploy.providers.listener import HOST, Listener, bound
from deploy.providers.provider import Provider
from deploy.providers.record import Record
from deploy.providers.rules import Name, Rules
from deploy.providers.token_desk import PATH, TokenDesk


class Ports(msgspec.Struct, frozen=True):
    """0 is a free one."""

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
        # Assertions are for the address of the endpoint, and its port is known once it is bound.
        token_port = bound(ports.token)
        self.token_url = f"https://{HOST}:{token_port.getsockname()[1]}{PATH}"
        account = credentials.service_account(self.token_url)
        self.desk = TokenDesk(GoogleTokens(account, self.access_tokens), self.rules, self.record)
        h2, h1 = credentials.contexts("h2"), credentials.contexts("http/1.1")
        self.listeners: dict[Name, Listener] = {"token": Listener(token_port, self.desk.connection, h1)}
        for name, provider in self.providers.items():
            self.listeners[name] = Listener(bound(getattr(ports, name)), provider.connection, h2)

    async def open(self) -> None:
        for listener in self.listeners.values():
            await listener.become("serving")

    def close(self) -> None:
        for listener in self.listeners.values():
            listener.close()

    def urls(self) -> dict[str, str]:
        return {
            "apns_url": f"https://{HOST}:{self.listeners['apns'].port}",
            "fcm_url": f"https://{HOST}:{self.listeners['fcm'].port}",
            "fcm_token_url": self.token_url,
        }

    def knows(self, provider: Name, outcome: str) -> bool:
        return (self.desk if provider == "token" else self.providers[provider]).judge.knows(outcome)

    def figures(self) -> dict[str, Any]:
        token: dict[str, Any] = {
            "outcomes": self.record.outcomes.get("token", {}),
            "connections": len(self.desk.connections),
            "access_tokens": self.access_tokens.given,
        }
        figures = {name: provider.figures() for name, provider in self.providers.items()} | {"token": token}
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

    def change(self, given: dict[Name, dict[str, Any]]) -> None:
        """ValidationError for what there is not; what is not named stays."""
        now = msgspec.to_builtins(self.settings())
        both = {name: {**now[name], **given.get(name, {})} for name in now}
        apns = msgspec.convert(both["apns"], ApnsSettings)
        fcm = msgspec.convert(both["fcm"], FcmSettings)
        token = msgspec.convert(both["token"], TokenSettings)
        self.apns.settings, self.fcm.settings, self.access_tokens.settings = apns, fcm, token

    async def reset(self, seed: int) -> None:
        """As at the start, but for what lasts: connections, access tokens, and the numbers of pushes."""
        self.rules.reset(seed)
        self.record.reset()
        self.apns.settings, self.fcm.settings, self.access_tokens.settings = (
            ApnsSettings(), FcmSettings(), TokenSettings(),
        )  # fmt: skip
        for provider in self.providers.values():
            provider.reset()
        for listener in self.listeners.values():
            if listener.mode != "serving":
                await listener.become("serving")


def loopback(port: int) -> str:
    return f"http://{HOST}:{port}"
