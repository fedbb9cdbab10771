"""A provider behind its port: each request meets its rule, is judged, and fares as both say."""

from __future__ import annotations

import time
from typing import Any, Protocol

import msgspec

from deploy.providers.frames import Code
from deploy.providers.http2 import Connection
from deploy.providers.record import Record
from deploy.providers.rules import Name, Rule, Rules
from deploy.providers.stream import Answer, Stream


class Judge(Protocol):
    """APNs or FCM: what it says to a request, and to one that a rule has an outcome for."""

    name: Name
    settings: Any

    @property
    def first_streams(self) -> int: ...
    def session(self) -> Any: ...
    def device(self, request: Stream) -> str: ...
    def judge(self, request: Stream, now: float) -> tuple[Answer, str | None]: ...
    def scripted(self, request: Stream, rule: Rule) -> Answer: ...
    def knows(self, outcome: str) -> bool: ...


class Provider:
    """Makes the connections of a listener. What it counts is in `figures`."""

    def __init__(self, judge: Judge, rules: Rules, record: Record) -> None:
        self.judge, self.name = judge, judge.name
        self.connections: set[Connection] = set()
        self.reset()
        self._rules, self._record = rules, record
        # What is done with an answer; the rest of the faults leave none.
        self._shapes = {
            None: Stream.answer,
            "goaway": self._go_away,
            "no_body": Stream.answer_without_body,
            "split_data": Stream.answer_in_pieces,
            "empty_data": Stream.answer_between_empty_frames,
        }

    def reset(self) -> None:
        self._accepted = self._pings = self._resets = 0
        for connection in self.connections:
            connection.pings = connection.resets = 0

    def connection(self) -> Connection:
        return Connection(
            self._serve, self._made, self._lost, self.judge.session(), self.judge.first_streams,
            begun=self._begun, window=self.judge.settings.window,
        )  # fmt: skip

    def figures(self) -> dict[str, Any]:
        open_now = self.connections
        return {
            "outcomes": self._record.outcomes.get(self.name, {}),
            "connections": len(open_now),
            "connections_accepted": self._accepted,
            "streams": sum(len(one.streams) for one in open_now),
            "streams_by_connection": sorted(len(one.streams) for one in open_now),
            "streams_reset_by_client": self._resets + sum(one.resets for one in open_now),
            "settings_unacknowledged": sum(one.unacknowledged for one in open_now),
            "pings": self._pings + sum(one.pings for one in open_now),
        }

    def _made(self, connection: Connection) -> None:
        self._accepted += 1
        self.connections.add(connection)

    def _lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._pings += connection.pings
        self._resets += connection.resets

    def _begun(self, stream: Stream) -> None:
        """An early answer; one that ends the stream follows room for its body, which a client may then try to send."""
        rule = self._rules.pick(self.name, self.judge.device(stream), early=True)
        if rule is None:
            return
        stream.judged, stream.left_open = True, rule.fault == "early_open"
        answer = of_status(rule) if rule.outcome is None else self.judge.scripted(stream, rule)
        self._record.count(self.name, answer.outcome)
        if not stream.left_open:
            stream.connection.make_room(stream)
        stream.answer(answer)

    def _serve(self, stream: Stream) -> None:
        device = self.judge.device(stream)
        rule = self._rules.pick(self.name, device)
        if rule is not None and (seconds := self._rules.delay(rule)):
            stream.later(seconds, self._fare, stream, device, rule)
        else:
            self._fare(stream, device, rule)

    def _fare(self, stream: Stream, device: str, rule: Rule | None) -> None:
        now = time.time()
        answer, text = self.judge.judge(stream, now)
        if answer.accepted and rule is not None:
            answer = self._ruled(stream, rule, answer)
        shape = self._shapes.get(rule.fault if rule else None)
        if answer.outcome == "Success" and (shape is not None or (rule and rule.accepted)):
            body = bytes(stream.body)
            self._record.accept(self.name, device, now, stream.headers, body, sigil=text)
        if shape is not None:
            self._record.count(self.name, answer.outcome)
            shape(stream, answer)
        elif rule is not None and rule.fault is not None:
            self._record.count(self.name, rule.fault)
            self._break(stream, answer, rule)

    def _ruled(self, stream: Stream, rule: Rule, answer: Answer) -> Answer:
        if rule.outcome is not None:
            return self.judge.scripted(stream, rule)
        return of_status(rule) if rule.status is not None else answer

    def _break(self, stream: Stream, answer: Answer, rule: Rule) -> None:
        """The faults after which no answer comes."""
        connection = stream.connection
        match rule.fault:
            case "reset":
                connection.send_reset(stream, Code.INTERNAL_ERROR if rule.code is None else rule.code)
            case "refused_stream":
                connection.send_reset(stream, Code.REFUSED_STREAM)
            case "goaway_before":
                connection.go_away(max(0, stream.id - 2), rule.code or Code.NO_ERROR)
            case "stall":
                stream.stall(answer)
            case "close":
                connection.abort()
            # Silence: the stream stays open until the client resets it.

    def _go_away(self, stream: Stream, answer: Answer) -> None:
        stream.connection.go_away(stream.id)
        stream.answer(answer)


def of_status(rule: Rule) -> Answer:
    """Any status and body, as a proxy on the way may give: by itself Google's front answers 502 with a page of HTML."""
    status = rule.status or 0
    headers = [("content-type", "text/html; charset=UTF-8")]
    if rule.retry_after is not None:
        headers.append(("retry-after", rule.retry_after))
    return Answer(status, str(status), tuple(headers), (rule.body or "").encode())


class Goaway(msgspec.Struct, forbid_unknown_fields=True):
    """For all connections now; without `last_stream` what has begun is still answered. `reason` is Apple's."""

    last_stream: int | None = None
    code: int = 0
    reason: str | None = None

    def send(self, connection: Connection) -> None:
        debug = b"" if self.reason is None else msgspec.json.encode({"reason": self.reason})
        connection.go_away(self.last_stream, self.code, debug)
