"""Google's token endpoint on its port, with the rules of provider `token`. A rule's `token` prefix does not apply."""

from __future__ import annotations

import asyncio
import time

from deploy.providers.google_tokens import GoogleTokens
from deploy.providers.http.http1 import Http1, Request
from deploy.providers.http.stream import Response
from deploy.providers.provider import scripted_status
from deploy.providers.record import Record
from deploy.providers.rules import Rule, Rules

PATH = "/token"
# The faults that are possible over HTTP/1.1.
FAULTS = ("close", "no_body", "silence")


class TokenEndpoint:
    def __init__(self, responder: GoogleTokens, rules: Rules, record: Record) -> None:
        self.responder = responder
        self.connections: set[Http1] = set()
        self._rules, self._record = rules, record

    def connection(self) -> Http1:
        return Http1(self._handle, self.connections)

    async def _handle(self, request: Request) -> Response | None:
        rule = self._rules.pick("token", "")
        if rule is not None:
            await asyncio.sleep(self._rules.delay(rule))
        response = self._response(request, rule)
        fault = rule.fault if rule else None
        self._record.count("token", fault if fault in {"close", "silence"} else response.outcome)
        if fault == "silence":
            # Cancelled when the connection ends.
            await asyncio.Event().wait()
        if fault == "no_body":
            return Response(response.status, response.outcome, response.headers)
        return None if fault == "close" else response

    def _response(self, request: Request, rule: Rule | None) -> Response:
        if request.target.partition("?")[0] != PATH:
            return Response(404, "NOT_FOUND")
        if request.method != "POST":
            return Response(405, "MethodNotAllowed", (("allow", "POST"),))
        if rule is not None and rule.outcome is not None:
            return self.responder.scripted(rule)
        if rule is not None and rule.status is not None:
            return scripted_status(rule)
        return self.responder.respond(request.body, time.time())
