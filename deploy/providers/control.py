"""The control port: rules, failures of ports and connections, and what was seen, as JSON over HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Meta, Struct, convert

from deploy.providers import token_desk
from deploy.providers.http1 import Http1, Request
from deploy.providers.listener import Mode
from deploy.providers.provider import Goaway
from deploy.providers.rules import EARLY, RULES_AT_MOST, Name, Rule, TooManyRules
from deploy.providers.stand_ins import StandIns
from deploy.providers.stream import Answer

_WAIT_AT_MOST = 25.0
_HOSTS = {"127.0.0.1", "localhost"}


class _Listener(Struct, forbid_unknown_fields=True):
    provider: Name
    mode: Mode
    drop: bool = False


class _Connections(Struct, forbid_unknown_fields=True):
    provider: Literal["apns", "fcm"]
    max_concurrent_streams: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    goaway: Goaway | None = None
    close: bool = False


class _Reset(Struct, forbid_unknown_fields=True):
    seed: int = 0


class _Seen(Struct, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0)] = 0
    provider: Name | None = None
    token: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    wait: Annotated[float, Meta(ge=0, le=_WAIT_AT_MOST)] = 0


class Refused(Exception):
    """400: the message says what to mend."""


class Control:
    def __init__(self, stand_ins: StandIns) -> None:
        self.connections: set[Http1] = set()
        self._all = stand_ins
        self._routes: dict[tuple[str, str], Callable[[Request], Awaitable[Any]]] = {
            ("GET", "/counters"): self._counters,
            ("GET", "/seen"): self._seen,
            ("GET", "/rules"): self._rules,
            ("POST", "/rules"): self._add_rules,
            ("DELETE", "/rules"): self._clear_rules,
            ("GET", "/settings"): self._settings,
            ("POST", "/settings"): self._change_settings,
            ("POST", "/listener"): self._listener,
            ("POST", "/connections"): self._connection,
            ("POST", "/revoke"): self._revoke,
            ("POST", "/reset"): self._reset,
        }

    def connection(self) -> Http1:
        return Http1(self._handle, self.connections)

    async def _handle(self, request: Request) -> Answer:
        # A page in somebody's browser may send requests to loopback, also under a name of its own.
        if request.headers.get("host", "").partition(":")[0] not in _HOSTS or "origin" in request.headers:
            return _problem(403, "only for programs on this machine")
        path = request.target.partition("?")[0]
        handle = self._routes.get((request.method, path))
        if handle is None:
            known = any(path == route for _, route in self._routes)
            return _problem(405 if known else 404, "README.md of deploy/providers lists the routes")
        try:
            return Answer(200, "", body=msgspec.json.encode(await handle(request)))
        except (Refused, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return _problem(400, str(error))

    async def _counters(self, request: Request) -> Any:
        return self._all.figures()

    async def _seen(self, request: Request) -> Any:
        query = dict(parse_qsl(urlsplit(request.target).query))
        asked = convert(query, _Seen, strict=False)
        record, after = self._all.record, asked.after
        pushes = record.seen(after, asked.provider, asked.token, asked.limit)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(asked.wait):
                while not pushes and asked.wait:
                    # What did not fit is not looked at again.
                    after = record.last
                    await record.more()
                    pushes = record.seen(after, asked.provider, asked.token, asked.limit)
        return {"last": record.last, "pushes": pushes}

    async def _rules(self, request: Request) -> Any:
        return self._all.rules.all

    async def _add_rules(self, request: Request) -> Any:
        given = msgspec.json.decode(request.body, type=Rule | list[Rule])
        rules = [given] if isinstance(given, Rule) else given
        for rule in rules:
            self._check(rule)
        try:
            return {"ids": self._all.rules.add(rules)}
        except TooManyRules as error:
            raise Refused(f"at most {RULES_AT_MOST} rules") from error

    def _check(self, rule: Rule) -> None:
        if rule.outcome is not None and not self._all.knows(rule.provider, rule.outcome):
            raise Refused(f"outcome: {rule.provider} never says {rule.outcome}")
        if rule.outcome is not None and rule.status is not None:
            raise Refused("outcome and status: one of them")
        if rule.status is not None and not 200 < rule.status < 600:
            raise Refused("status: 201 to 599")
        if rule.provider == "token" and rule.fault not in {None, *token_desk.FAULTS}:
            raise Refused(f"fault: the token endpoint has no frames, so only {', '.join(token_desk.FAULTS)}")
        if rule.fault in EARLY and rule.outcome is None and rule.status is None:
            raise Refused("fault: an early answer says no: outcome or status")
        if not 0 <= rule.probability <= 1 or min(rule.delay_ms, rule.spread_ms) < 0:
            raise Refused("probability: 0 to 1; delay_ms and spread_ms: not under 0")

    async def _clear_rules(self, request: Request) -> Any:
        self._all.rules.clear()
        return {}

    async def _settings(self, request: Request) -> Any:
        return self._all.settings()

    async def _change_settings(self, request: Request) -> Any:
        self._all.change(msgspec.json.decode(request.body, type=dict[Name, dict[str, Any]]))
        return self._all.settings()

    async def _listener(self, request: Request) -> Any:
        asked = msgspec.json.decode(request.body, type=_Listener)
        await self._all.listeners[asked.provider].become(asked.mode, drop=asked.drop)
        return {"mode": asked.mode}

    async def _connection(self, request: Request) -> Any:
        asked = msgspec.json.decode(request.body, type=_Connections)
        connections = list(self._all.providers[asked.provider].connections)
        for connection in connections:
            if asked.max_concurrent_streams is not None:
                connection.announce(asked.max_concurrent_streams)
            if asked.goaway is not None:
                asked.goaway.send(connection)
            if asked.close:
                connection.abort()
        return {"connections": len(connections)}

    async def _revoke(self, request: Request) -> Any:
        self._all.access_tokens.revoke()
        return {}

    async def _reset(self, request: Request) -> Any:
        asked = msgspec.json.decode(request.body or b"{}", type=_Reset)
        await self._all.reset(asked.seed)
        return {}


def _problem(status: int, told: str) -> Answer:
    return Answer(status, "", body=msgspec.json.encode({"error": told}))
