"""Clients whose requests are valid unless a test changes them: plain httpx, and h2 for single frames."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.settings
import httpx

from deploy.providers.http.frames import Frame, FrameReader
from tests.support.live import DEADLINE
from tests.support.providers import GRANT, Providers, apns_token, assertion, fcm_token, provider_token

ALERT = {"aps": {"alert": {"title": "Sign in"}}, "sigil": '{"type":"challenge"}'}


def apns_headers(providers: Providers, **changed: str | None) -> dict[str, str]:
    """Headers of a valid request; `apns_topic=None` leaves one out."""
    given = {
        "authorization": f"bearer {provider_token(providers.env)}",
        "apns-topic": providers.env["APNS_TOPIC"],
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-expiration": str(int(time.time()) + 300),
        "apns-id": str(uuid.uuid4()),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    return {name: value for name, value in given.items() if value is not None}


class ApnsClient:
    """One provider token for all requests, as Apple requires."""

    def __init__(self, providers: Providers, client: httpx.Client) -> None:
        self.providers, self.client = providers, client
        self._authorization = f"bearer {provider_token(providers.env)}"

    def push(
        self, token: str | None = None, body: Any = ALERT, *, path: str | None = None, method: str = "POST",
        **headers: str | None,
    ) -> httpx.Response:  # fmt: skip
        given = apns_headers(self.providers, **{"authorization": self._authorization, **headers})
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.request(method, path or f"/3/device/{token or apns_token()}", content=content, headers=given)


class FcmClient:
    """`token` is the access token, requested when it is first needed."""

    def __init__(self, providers: Providers, client: httpx.Client) -> None:
        self.providers, self.client = providers, client
        self.account: dict[str, str] = json.loads(Path(providers.env["FCM_SERVICE_ACCOUNT"]).read_text())
        self.project = self.account["project_id"]
        self._token: str | None = None

    def assertion(self, **changed: Any) -> str:
        return assertion(self.providers.env, **changed)

    def request_token(self, assertion: str | None = None, **form: str) -> httpx.Response:
        given = {"grant_type": GRANT, "assertion": assertion or self.assertion(), **form}
        return self.client.post(self.account["token_uri"], data=given)

    @property
    def token(self) -> str:
        if self._token is None:
            self._token = str(self.request_token().json()["access_token"])
        return self._token

    def push(
        self, token: str | None = None, *, authorization: str | None = None, path: str | None = None,
        message: Any = None, content: bytes | None = None, **members: Any,
    ) -> httpx.Response:  # fmt: skip
        given = {"token": token or fcm_token(), "data": {"sigil": "{}"}, **members}
        content = content or json.dumps(message or {"message": given}).encode()
        headers = {"content-type": "application/json", "authorization": authorization or f"Bearer {self.token}"}
        return self.client.post(path or f"/v1/projects/{self.project}/messages:send", content=content, headers=headers)


class H2Client:
    """A connection of h2 to APNs. A test sends single requests, and reads single events."""

    def __init__(self, providers: Providers, *, acknowledge: bool = True, window: int | None = None) -> None:
        self.providers, self._acknowledge = providers, acknowledge
        at = urlsplit(providers.apns_url)
        assert at.hostname is not None
        plain = socket.create_connection((at.hostname, at.port or 443), timeout=DEADLINE)
        self.socket = providers.tls("h2").wrap_socket(plain, server_hostname=at.hostname)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[h2.events.Event] = []
        self.raw: list[Frame] = []
        self.ended = False
        self._reader = FrameReader(preface=b"")
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.flush()
        self.authorization = f"bearer {provider_token(providers.env)}"

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def push(self, token: str | None = None, *, flush: bool = True, **headers: str | None) -> int:
        """The stream's number. Without `flush`, the frames are sent together with the next ones, as one TLS record."""
        stream = self.begin(token, flush=False, **headers)
        self.h2.send_data(stream, json.dumps(ALERT).encode(), end_stream=True)
        if flush:
            self.flush()
        return stream

    def begin(self, token: str | None = None, *, flush: bool = True, **headers: str | None) -> int:
        """A push whose body is still to come."""
        stream = self.h2.get_next_available_stream_id()
        given = apns_headers(self.providers, **{"authorization": self.authorization, **headers})
        path = f"/3/device/{token or apns_token()}"
        pseudo = {":method": "POST", ":scheme": "https", ":path": path, ":authority": "apns"}
        self.h2.send_headers(stream, [*pseudo.items(), *given.items()])
        if flush:
            self.flush()
        return stream

    def until(self, met: Callable[[], Any]) -> Any:
        """Read until `met` returns a true value, and return it."""
        deadline = time.monotonic() + DEADLINE
        while not (value := met()):
            assert time.monotonic() < deadline, self.events
            assert not self.ended, self.events
            self.read()
        return value

    def until_frame(self, kind: int, stream: int) -> Frame:
        """The same without h2, which accepts only streams of its own and treats GOAWAY as the end."""
        found: list[Frame] = []
        while not (found := [frame for frame in self.raw if (frame[0], frame[2]) == (kind, stream)]):
            data = self.socket.recv(65_536)
            assert data, self.raw
            self.raw += self._reader.feed(data)
        return found[-1]

    def read(self) -> None:
        data = self.socket.recv(65_536)
        self.ended = not data
        self.raw += self._reader.feed(data)
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived) and self._acknowledge:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()

    def of(self, kind: type[Any], stream: int | None = None) -> list[Any]:
        found = [event for event in self.events if isinstance(event, kind)]
        return found if stream is None else [event for event in found if event.stream_id == stream]

    def wait_for(self, kind: type[Any], stream: int | None = None, count: int = 1) -> Any:
        """The last of `count` events of a kind."""
        return self.until(lambda: self.of(kind, stream)[count - 1 :])[0]

    def status(self, stream: int) -> int:
        headers = dict(self.wait_for(h2.events.ResponseReceived, stream).headers)
        return int(headers[":status"])

    def response(self, stream: int) -> tuple[int, Any]:
        """Status and body, after the end of the stream."""
        self.wait_for(h2.events.StreamEnded, stream)
        body = b"".join(event.data for event in self.of(h2.events.DataReceived, stream))
        return self.status(stream), json.loads(body) if body else None

    def until_closed(self) -> None:
        """Read until the server has closed the connection."""
        while not self.ended:
            try:
                self.read()
            except OSError:
                # An aborted connection, or one without a close_notify of TLS.
                self.ended = True
