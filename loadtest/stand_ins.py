"""`python -m loadtest.stand_ins`: the CPU that a push costs the stand-ins of APNs and FCM.

The load tests of the relay send to them, so they must not be the bottleneck. The requests are encoded before the clock
starts, by HPACK with Huffman and a dynamic table as any client does, and are sent with 90 in flight.
"""

from __future__ import annotations

import json
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import click
import hpack

from deploy.providers.http import frames
from deploy.providers.http.frames import Kind
from loadtest.usage import ProcessUsage
from tests.support.providers import GRANT, Providers, apns_token, assertion, fcm_token, provider_token

_IN_FLIGHT = 90
_SIGIL = "y" * 700

Fields = list[tuple[str, str]]


def _apns(providers: Providers) -> Iterator[tuple[str, Fields, Any]]:
    """Path, headers and body of pushes as the relay sends them."""
    fixed = [
        ("authorization", f"bearer {provider_token(providers.env)}"), ("apns-topic", providers.env["APNS_TOPIC"]),
        ("apns-push-type", "alert"), ("apns-priority", "10"), ("apns-expiration", str(int(time.time()) + 300)),
    ]  # fmt: skip
    body = {"aps": {"alert": {"title": "Sign in", "body": "x" * 40}, "mutable-content": 1}, "sigil": _SIGIL}
    while True:
        own = [("apns-id", str(uuid.uuid4())), ("apns-collapse-id", str(uuid.uuid4()))]
        yield f"/3/device/{apns_token()}", fixed + own, body


def _fcm(providers: Providers) -> Iterator[tuple[str, Fields, Any]]:
    form = {"grant_type": GRANT, "assertion": assertion(providers.env)}
    with providers.client() as client:
        token = client.post(providers.fcm_token_url, data=form).json()["access_token"]
    fixed = [("authorization", f"Bearer {token}"), ("content-type", "application/json")]
    notification = {"title": "Sign in", "body": "x" * 40}
    while True:
        android = {"priority": "high", "ttl": "120s", "collapse_key": str(uuid.uuid4())}
        message = {"token": fcm_token(), "data": {"sigil": _SIGIL}, "notification": notification, "android": android}
        yield "/v1/projects/sigil-stand-in/messages:send", fixed, {"message": message}


def _requests(pushes: Iterator[tuple[str, Fields, Any]], count: int) -> list[bytes]:
    encoder, made = hpack.Encoder(), []
    for stream in range(1, 2 * count, 2):
        path, headers, body = next(pushes)
        pseudo = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "127.0.0.1")]
        block = encoder.encode(pseudo + headers)
        made.append(
            frames.frame(Kind.HEADERS, stream, block, frames.END_HEADERS)
            + frames.frame(Kind.DATA, stream, json.dumps(body).encode(), frames.END_STREAM)
        )
    return made


def _send(providers: Providers, url: str, requests: list[bytes]) -> None:
    """Sends all requests; the first one alone, as APNs requires."""
    at = urlsplit(url)
    plain = socket.create_connection((str(at.hostname), at.port or 443), 60)
    reader, sent, done = frames.FrameReader(preface=b""), 0, 0
    with providers.tls("h2").wrap_socket(plain, server_hostname=at.hostname) as wire:
        wire.sendall(frames.PREFACE + frames.settings({}) + frames.window_update(0, 2**30))
        while done < len(requests):
            more = min(_IN_FLIGHT if done else 1, len(requests)) - (sent - done)
            wire.sendall(b"".join(requests[sent : sent + more]))
            sent = min(sent + more, len(requests))
            for kind, flags, _, payload in reader.feed(wire.recv(65_536)):
                done += kind in {Kind.HEADERS, Kind.DATA} and flags & frames.END_STREAM
                if kind == Kind.SETTINGS and not flags & frames.ACK:
                    wire.sendall(frames.frame(Kind.SETTINGS, 0, flags=frames.ACK))
                elif kind in {Kind.RST_STREAM, Kind.GOAWAY}:
                    raise SystemExit(
                        f"the stand-in ended a stream or the connection: {struct.unpack('>I', payload[-4:])}"
                    )


@click.command()
@click.option("--pushes", default=10_000, show_default=True, help="To each provider.")
def main(pushes: int) -> None:
    with Providers() as providers:
        for name, url, made in (("apns", providers.apns_url, _apns), ("fcm", providers.fcm_url, _fcm)):
            requests = _requests(made(providers), pushes)
            usage = ProcessUsage({name: providers.pid})
            usage.sample()
            began = time.monotonic()
            _send(providers, url, requests)
            seconds = time.monotonic() - began
            usage.sample()
            if (accepted := providers.counters(name)["outcomes"].get("Success")) != pushes:
                raise SystemExit(f"{name} accepted {accepted} of {pushes}")
            cores = usage.between().processes[name].cores
            rate = pushes / seconds
            print(f"{name:<5} {rate:7.0f} pushes/s, {rate / cores:7.0f} per core of CPU time")


if __name__ == "__main__":
    main()
