"""The control port: rules, faults of ports and connections, accepted pushes and counters, as JSON over HTTP/1.1."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Meta, Struct, convert

from deploy.providers import token_endpoint
from deploy.providers.http.http1 import Http1, Request
from deploy.providers.http.listener import Mode
from deploy.providers.http.stream import Response
from deploy.providers.provider import Goaway
from deploy.providers.rules import EARLY, MAX_RULES, Name, Rule, TooManyRules
from deploy.providers.stand_ins import PortName, StandIns

_MAX_WAIT_SECONDS = 25.0
_MAX_SCRIPTED_BODY = 64 * 1_048_576
_HOSTS = {"127.0.0.1", "localhost"}


class _Listener(Struct, forbid_unknown_fields=True):
    provider: PortName
    mode: Mode
    drop: bool = False


class _Connections(Struct, forbid_unknown_fields=True):
    provider: Literal["apns", "fcm", "webpush"]
    max_concurrent_streams: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    goaway: Goaway | None = None
    close: bool = False


class _Expire(Struct, forbid_unknown_fields=True):
    token: str


class _Reset(Struct, forbid_unknown_fields=True):
    seed: int = 0


class _Seen(Struct, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0)] = 0
    provider: Name | None = None
    token: str = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000
    wait: Annotated[float, Meta(ge=0, le=_MAX_WAIT_SECONDS)] = 0


class InvalidCommand(Exception):
    """400; the message says what to correct."""


class Control:
    def __init__(self, stand_ins: StandIns) -> None:
        self.connections: set[Http1] = set()
        self._stand_ins = stand_ins
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
            ("GET", "/subscriptions"): self._subscriptions,
            ("POST", "/expire"): self._expire,
        }

    def connection(self) -> Http1:
        return Http1(self._handle, self.connections)

    async def _handle(self, request: Request) -> Response:
        # A web page can send requests to loopback, also by a host name of its own.
        if request.headers.get("host", "").partition(":")[0] not in _HOSTS or "origin" in request.headers:
            return _error(403, "only programs on this machine may use the control port")
        path = request.target.partition("?")[0]
        handle = self._routes.get((request.method, path))
        if handle is None:
            known = any(path == route for _, route in self._routes)
            return _error(405 if known else 404, "unknown route; deploy/providers/README.md lists the routes")
        try:
            return Response(200, "", body=msgspec.json.encode(await handle(request)))
        except (InvalidCommand, msgspec.MsgspecError, UnicodeDecodeError) as error:
            return _error(400, str(error))

    async def _counters(self, request: Request) -> Any:
        return self._stand_ins.counters()

    async def _seen(self, request: Request) -> Any:
        query = dict(parse_qsl(urlsplit(request.target).query))
        command = convert(query, _Seen, strict=False)
        record, after = self._stand_ins.record, command.after
        pushes = record.seen(after, command.provider, command.token, command.limit)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(command.wait):
                while not pushes and command.wait:
                    # Pushes that did not match need no second check.
                    after = record.last
                    await record.next_push()
                    pushes = record.seen(after, command.provider, command.token, command.limit)
        return {"last": record.last, "pushes": pushes}

    async def _rules(self, request: Request) -> Any:
        return self._stand_ins.rules.all

    async def _add_rules(self, request: Request) -> Any:
        decoded = msgspec.json.decode(request.body, type=Rule | list[Rule])
        rules = [decoded] if isinstance(decoded, Rule) else decoded
        for rule in rules:
            self._check(rule)
        try:
            return {"ids": self._stand_ins.rules.add(rules)}
        except TooManyRules as error:
            raise InvalidCommand(f"at most {MAX_RULES} rules") from error

    def _check(self, rule: Rule) -> None:
        if rule.outcome is not None and not self._stand_ins.supports(rule.provider, rule.outcome):
            raise InvalidCommand(f"outcome: {rule.provider} has no outcome {rule.outcome}")
        if rule.outcome is not None and rule.status is not None:
            raise InvalidCommand("outcome and status: give one of them")
        if rule.status is not None and not 200 < rule.status < 600:
            raise InvalidCommand("status: must be 201 to 599")
        if rule.provider == "token" and rule.fault not in {None, *token_endpoint.FAULTS}:
            raise InvalidCommand(
                f"fault: the token endpoint has no frames; it supports only {', '.join(token_endpoint.FAULTS)}"
            )
        if rule.fault in EARLY and rule.outcome is None and rule.status is None:
            raise InvalidCommand("fault: an early response needs outcome or status")
        if not 0 <= rule.body_size <= _MAX_SCRIPTED_BODY:
            raise InvalidCommand(f"body_size: must be 0 to {_MAX_SCRIPTED_BODY}")
        if not 0 <= rule.probability <= 1 or min(rule.delay_ms, rule.spread_ms) < 0:
            raise InvalidCommand("probability must be 0 to 1; delay_ms and spread_ms must not be negative")

    async def _clear_rules(self, request: Request) -> Any:
        self._stand_ins.rules.clear()
        return {}

    async def _settings(self, request: Request) -> Any:
        return self._stand_ins.settings()

    async def _change_settings(self, request: Request) -> Any:
        self._stand_ins.change_settings(msgspec.json.decode(request.body, type=dict[Name, dict[str, Any]]))
        return self._stand_ins.settings()

    async def _listener(self, request: Request) -> Any:
        command = msgspec.json.decode(request.body, type=_Listener)
        await self._stand_ins.listeners[command.provider].set_mode(command.mode, drop=command.drop)
        return {"mode": command.mode}

    async def _connection(self, request: Request) -> Any:
        command = msgspec.json.decode(request.body, type=_Connections)
        connections = list(self._stand_ins.providers[command.provider].connections)
        for connection in connections:
            if command.max_concurrent_streams is not None:
                connection.announce(command.max_concurrent_streams)
            if command.goaway is not None:
                command.goaway.send(connection)
            if command.close:
                connection.abort()
        return {"connections": len(connections)}

    async def _revoke(self, request: Request) -> Any:
        self._stand_ins.access_tokens.revoke()
        return {}

    async def _subscriptions(self, request: Request) -> Any:
        return self._stand_ins.subscriptions.all()

    async def _expire(self, request: Request) -> Any:
        self._stand_ins.subscriptions.expire(msgspec.json.decode(request.body, type=_Expire).token)
        return {}

    async def _reset(self, request: Request) -> Any:
        command = msgspec.json.decode(request.body or b"{}", type=_Reset)
        await self._stand_ins.reset(command.seed)
        return {}


def _error(status: int, message: str) -> Response:
    return Response(status, "", body=msgspec.json.encode({"error": message}))
