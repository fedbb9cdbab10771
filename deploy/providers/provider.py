"""A provider on its port: checks each request, and applies the first rule that matches it."""

from __future__ import annotations

import time
from typing import Any, Protocol

import msgspec

from deploy.providers.http.frames import Code
from deploy.providers.http.http2 import Connection
from deploy.providers.http.stream import Response, Stream
from deploy.providers.record import Record
from deploy.providers.rules import Name, Rule, Rules


class Responder(Protocol):
    """APNs, FCM or Web Push: its response to a request, and to a request whose outcome is scripted by a rule."""

    name: Name
    settings: Any

    @property
    def first_streams(self) -> int: ...
    def session(self) -> Any: ...
    def device(self, request: Stream) -> str: ...
    def respond(self, request: Stream, now: float) -> tuple[Response, str | None]: ...
    def scripted(self, request: Stream, rule: Rule) -> Response: ...
    def supports(self, outcome: str) -> bool: ...
    def accept(self, request: Stream) -> bytes:
        """Called for an accepted push: its body as JSON, for the record."""
        ...


class Provider:
    """Creates the connections of a listener, and counts in `counters`."""

    def __init__(self, responder: Responder, rules: Rules, record: Record) -> None:
        self.responder, self.name = responder, responder.name
        self.connections: set[Connection] = set()
        self.reset()
        self._rules, self._record = rules, record
        # How each fault sends the response. The other faults send none.
        self._responses = {
            None: Stream.respond,
            "goaway": self._go_away,
            "no_body": Stream.respond_without_body,
            "split_data": Stream.respond_in_chunks,
            "empty_data": Stream.respond_between_empty_frames,
        }

    def reset(self) -> None:
        self._accepted = self._pings = self._resets = 0
        for connection in self.connections:
            connection.pings = connection.resets = 0

    def connection(self) -> Connection:
        return Connection(
            self._handle, self._opened, self._closed, self.responder.session(), self.responder.first_streams,
            on_headers=self._respond_early, window=self.responder.settings.window,
        )  # fmt: skip

    def counters(self) -> dict[str, Any]:
        open_now = self.connections
        return {
            "outcomes": self._record.outcomes.get(self.name, {}),
            "connections": len(open_now),
            "connections_accepted": self._accepted,
            "streams": sum(len(one.streams) for one in open_now),
            "streams_by_connection": sorted(len(one.streams) for one in open_now),
            "streams_reset_by_client": self._resets + sum(one.resets for one in open_now),
            "settings_unacknowledged": sum(one.unacknowledged_settings for one in open_now),
            "pings": self._pings + sum(one.pings for one in open_now),
        }

    def _opened(self, connection: Connection) -> None:
        self._accepted += 1
        self.connections.add(connection)

    def _closed(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._pings += connection.pings
        self._resets += connection.resets

    def _respond_early(self, stream: Stream) -> None:
        """An early response. A WINDOW_UPDATE precedes one that ends the stream: a client may still try to send the
        body."""
        rule = self._rules.pick(self.name, self.responder.device(stream), early=True)
        if rule is None:
            return
        stream.handled, stream.left_open = True, rule.fault == "early_open"
        response = scripted_status(rule) if rule.outcome is None else self.responder.scripted(stream, rule)
        self._record.count(self.name, response.outcome)
        if not stream.left_open:
            stream.connection.open_window(stream)
        stream.respond(response)

    def _handle(self, stream: Stream) -> None:
        device = self.responder.device(stream)
        rule = self._rules.pick(self.name, device)
        if rule is not None and (seconds := self._rules.delay(rule)):
            stream.later(seconds, self._process, stream, device, rule)
        else:
            self._process(stream, device, rule)

    def _process(self, stream: Stream, device: str, rule: Rule | None) -> None:
        now = time.time()
        response, sigil = self.responder.respond(stream, now)
        if response.accepted and rule is not None:
            response = self._scripted(stream, rule, response)
        respond = self._responses.get(rule.fault if rule else None)
        if response.outcome == "Success" and (respond is not None or (rule and rule.accepted)):
            body = self.responder.accept(stream)
            self._record.accept(self.name, device, now, stream.headers, body, sigil=sigil)
        if respond is not None:
            self._record.count(self.name, response.outcome)
            respond(stream, response)
        elif rule is not None and rule.fault is not None:
            self._record.count(self.name, rule.fault)
            self._fail(stream, response, rule)

    def _scripted(self, stream: Stream, rule: Rule, response: Response) -> Response:
        if rule.outcome is not None:
            return self.responder.scripted(stream, rule)
        return scripted_status(rule) if rule.status is not None else response

    def _fail(self, stream: Stream, response: Response, rule: Rule) -> None:
        """The faults that send no complete response."""
        connection = stream.connection
        match rule.fault:
            case "reset":
                connection.send_reset(stream, Code.INTERNAL_ERROR if rule.code is None else rule.code)
            case "refused_stream":
                connection.send_reset(stream, Code.REFUSED_STREAM)
            case "goaway_before":
                connection.go_away(max(0, stream.id - 2), rule.code or Code.NO_ERROR)
            case "stall":
                stream.stall(response)
            case "close":
                connection.abort()
            # Silence: the stream stays open until the client resets it.

    def _go_away(self, stream: Stream, response: Response) -> None:
        stream.connection.go_away(stream.id)
        stream.respond(response)


def scripted_status(rule: Rule) -> Response:
    """Any status and body, as from an intermediate proxy. Google's own front end sends 502 with an HTML page."""
    status = rule.status or 0
    headers = [("content-type", "text/html; charset=UTF-8")]
    if rule.retry_after is not None:
        headers.append(("retry-after", rule.retry_after))
    if rule.location is not None:
        headers.append(("location", rule.location))
    return Response(status, str(status), tuple(headers), (rule.body or "").encode().ljust(rule.body_size))


class Goaway(msgspec.Struct, forbid_unknown_fields=True):
    """Sent on all open connections. Without `last_stream`, all streams that have begun get a response. `reason` is that
    of Apple's JSON."""

    last_stream: int | None = None
    code: int = 0
    reason: str | None = None

    def send(self, connection: Connection) -> None:
        debug = b"" if self.reason is None else msgspec.json.encode({"reason": self.reason})
        connection.go_away(self.last_stream, self.code, debug)
