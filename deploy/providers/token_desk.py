"""Google's token endpoint behind its port, with the rules of provider `token`; a rule's `token` means nothing here."""

from __future__ import annotations

import asyncio
import time

from deploy.providers.google_tokens import GoogleTokens
from deploy.providers.http1 import Http1, Request
from deploy.providers.provider import of_status
from deploy.providers.record import Record
from deploy.providers.rules import Rule, Rules
from deploy.providers.stream import Answer

PATH = "/token"
# The faults that mean something without frames.
FAULTS = ("close", "no_body", "silence")


class TokenDesk:
    def __init__(self, judge: GoogleTokens, rules: Rules, record: Record) -> None:
        self.judge = judge
        self.connections: set[Http1] = set()
        self._rules, self._record = rules, record

    def connection(self) -> Http1:
        return Http1(self._handle, self.connections)

    async def _handle(self, request: Request) -> Answer | None:
        rule = self._rules.pick("token", "")
        if rule is not None:
            await asyncio.sleep(self._rules.delay(rule))
        answer = self._answer(request, rule)
        fault = rule.fault if rule else None
        self._record.count("token", fault if fault in {"close", "silence"} else answer.outcome)
        if fault == "silence":
            # Ended with the connection.
            await asyncio.Event().wait()
        if fault == "no_body":
            return Answer(answer.status, answer.outcome, answer.headers)
        return None if fault == "close" else answer

    def _answer(self, request: Request, rule: Rule | None) -> Answer:
        if request.target.partition("?")[0] != PATH:
            return Answer(404, "NOT_FOUND")
        if request.method != "POST":
            return Answer(405, "MethodNotAllowed", (("allow", "POST"),))
        if rule is not None and rule.outcome is not None:
            return self.judge.scripted(rule)
        if rule is not None and rule.status is not None:
            return of_status(rule)
        return self.judge.judge(request.body, time.time())
