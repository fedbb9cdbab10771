"""The webhook sender against receivers that behave, and against hostile ones."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from hypothesis import given, settings
from hypothesis import strategies as st

from sigil.core.webhooks.delivery import AttemptResult
from sigil.protocol.webhook import standard_secret
from sigil.sdk import webhooks
from sigil.serving.addresses.private_networks import is_private
from sigil.serving.settings import Secret
from sigil.webhooks import sender as implementation
from sigil.webhooks.sender import MAX_READ, HttpWebhookSender, _retry_after
from sigil.webhooks.service import ATTEMPT_SECONDS
from tests.conformance.certificates import write_pair
from tests.webhooks.hostile_receiver import OK, Connection, Handler, HostileReceiver, responding

NEW, OLD = "a new secret for this receiver: " + "n" * 8, "an old secret for this receiver: " + "o" * 8
EVENT = "evt_2407b2e9-fe16-4c40-a72c-3e70112b4abb"
BODY = json.dumps(
    {
        "id": EVENT,
        "type": "challenge.expired",
        "status": "expired",
        "timestamp": "2026-04-24T10:32:15Z",
        "key_id": "0523fec9",
        "action_type": "login",
    }
).encode()


@pytest.fixture
async def sender() -> AsyncIterator[Callable[..., HttpWebhookSender]]:
    """Creates senders and closes them afterwards."""
    made: list[HttpWebhookSender] = []

    def make(url: str, *secrets: str, **options: Any) -> HttpWebhookSender:
        known = [Secret(secret) for secret in secrets or (NEW,)]
        made.append(HttpWebhookSender(url, known, clock=time.time, user_agent="sigil/test", **options))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds instead of ten: these responses never come."""
    assert ATTEMPT_SECONDS == 10
    monkeypatch.setattr(implementation, "ATTEMPT_SECONDS", 2.0)
    monkeypatch.setattr(implementation, "DRAIN_SECONDS", 0.3)


async def post(sender: Any, handler: Handler, **options: Any) -> tuple[AttemptResult, HostileReceiver]:
    async with HostileReceiver(handler) as receiver:
        return await sender(receiver.url(), **options).post(EVENT, BODY), receiver


class TestGoodReceivers:
    async def test_an_attempt_is_one_post_with_both_families_of_signatures(self, sender: Any) -> None:
        async with HostileReceiver() as receiver:
            assert (await sender(receiver.url()).post(EVENT, BODY)) == AttemptResult(200)
        (request,) = receiver.requests
        assert request.head.startswith("POST /hook?token=t%2Ft HTTP/1.1\r\n")
        assert request.body == BODY
        headers = dict(request.headers)
        assert headers["Content-Type"] == "application/json"
        assert headers["User-Agent"] == "sigil/test"
        assert webhooks.verify(headers, request.body, NEW).id == EVENT
        for family in ("webhook-", "X-Sigil-"):
            some = {name: value for name, value in headers.items() if name.startswith(family)}
            assert webhooks.verify(some, request.body, NEW).id == EVENT
        lower = {name.lower(): value for name, value in headers.items()}
        assert standardwebhooks.Webhook(standard_secret(NEW)).verify(request.body, lower)["id"] == EVENT

    async def test_each_attempt_is_signed_with_its_own_time(self, sender: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        async with HostileReceiver() as receiver:
            one = sender(receiver.url())
            times = iter([1000, 1000, 2000, 2000])
            monkeypatch.setattr(one, "_clock", lambda: next(times))
            await one.post(EVENT, BODY)
            await one.post(EVENT, BODY)
        first, second = (dict(request.headers) for request in receiver.requests)
        assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1000", "2000")
        assert first["webhook-id"] == second["webhook-id"] == EVENT
        assert first["webhook-signature"] != second["webhook-signature"]

    async def test_during_a_rotation_receivers_with_either_secret_verify_the_event(self, sender: Any) -> None:
        async with HostileReceiver() as receiver:
            await sender(receiver.url(), NEW, OLD).post(EVENT, BODY)
        (request,) = receiver.requests
        lower = {name.lower(): value for name, value in request.headers}
        assert len(lower["webhook-signature"].split(" ")) == 2
        for secret in (NEW, OLD):
            assert standardwebhooks.Webhook(standard_secret(secret)).verify(request.body, lower)
        sigil = {name: value for name, value in lower.items() if name.startswith("x-sigil-")}
        assert webhooks.verify(sigil, request.body, NEW).id == EVENT

    async def test_connections_are_kept_alive(self, sender: Any) -> None:
        async with HostileReceiver() as receiver:
            one = sender(receiver.url())
            assert [(await one.post(EVENT, BODY)).status for _ in range(5)] == [200] * 5
            assert len(receiver.connections) == 1

    async def test_a_connection_that_the_receiver_closed_is_replaced(self, sender: Any) -> None:
        async def closes_after_each_response(connection: Connection) -> None:
            await connection.request()
            await connection.write(OK)
            connection.close()

        async with HostileReceiver(closes_after_each_response) as receiver:
            one = sender(receiver.url())
            statuses = []
            for number in range(3):
                statuses.append((await one.post(EVENT, BODY)).status)
                while len(receiver.connections) == number:
                    await asyncio.sleep(0)
                await asyncio.wait_for(_closed(one), 60)
            assert statuses == [200] * 3

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [("7", 7), ("", 0), ("soon", 0), ("-3", 0), ("9" * 30, 999_999_999), ("Thu, 01 Jan 1970 00:00:00 GMT", 0)],
    )
    async def test_retry_after_is_read(self, sender: Any, header: str, seconds: int) -> None:
        response = f"HTTP/1.1 429 No\r\nRetry-After: {header}\r\nContent-Length: 0\r\n\r\n".encode()
        got, _ = await post(sender, responding(response))
        assert (got.status, got.retry_after) == (429, seconds)

    async def test_retry_after_may_be_a_date(self, sender: Any) -> None:
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
        date = at.strftime("%a, %d %b %Y %H:%M:%S GMT")
        response = f"HTTP/1.1 503 No\r\nRetry-After: {date}\r\nContent-Length: 0\r\n\r\n".encode()
        got, _ = await post(sender, responding(response))
        assert 60 < got.retry_after <= 90


async def _closed(one: HttpWebhookSender) -> None:
    """Wait until no connection is kept alive."""
    while one._session is not None and one._session.connector is not None and one._session.connector._conns:
        held = [proto for pool in one._session.connector._conns.values() for proto, _ in pool]
        if not any(proto.is_connected() for proto in held):
            return
        await asyncio.sleep(0.01)


async def hangs(connection: Connection) -> None:
    await connection.request()
    await connection.until_closed()


async def sends_its_head_byte_by_byte(connection: Connection) -> None:
    await connection.request()
    for byte in b"HTTP/1.1 200 OK\r\nX-Padding: " + b"x" * 1000:
        await connection.write(bytes([byte]))
        await asyncio.sleep(0.02)


async def sends_its_body_byte_by_byte(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        await connection.write(b"x")
        await asyncio.sleep(0.02)


async def sends_ten_gigabytes(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    while True:
        await connection.write(b"x" * 65536)


async def sends_chunks_for_ever(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        await connection.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")


async def sends_headers_for_ever(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        await connection.write(b"X-Padding: " + b"x" * 4000 + b"\r\n")


async def sends_one_header_for_ever(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nX-Padding: ")
    while True:
        await connection.write(b"x" * 65536)


async def sends_100_continue_for_ever(connection: Connection) -> None:
    await connection.request()
    while True:
        await connection.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await asyncio.sleep(0.001)


async def closes_at_once(connection: Connection) -> None:
    connection.close()


async def resets(connection: Connection) -> None:
    await connection.request()
    connection.reset()


async def closes_in_its_head(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-")
    connection.close()


async def closes_in_its_body(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
    connection.close()


@pytest.mark.usefixtures("short_timeouts")
class TestBadReceivers:
    @pytest.mark.parametrize("handler", [hangs, sends_its_head_byte_by_byte, sends_100_continue_for_ever])
    async def test_a_response_that_is_not_in_time_is_a_failure(self, sender: Any, handler: Handler) -> None:
        async with HostileReceiver(handler) as receiver:
            one, attempts = sender(receiver.url()), 0
            # On a busy machine an attempt may end before its request arrives.
            while not receiver.requests and (attempts := attempts + 1) < 20:
                assert (await one.post(EVENT, BODY)) == AttemptResult(0, "no answer in time")
            assert len(receiver.requests) == 1

    @pytest.mark.parametrize("handler", [closes_at_once, resets, closes_in_its_head])
    async def test_a_broken_connection_is_retried_later_and_not_at_once(self, sender: Any, handler: Handler) -> None:
        got, receiver = await post(sender, handler)
        assert (got.status, got.outcome) == (0, "retry")
        assert len(receiver.connections) == 1

    @pytest.mark.parametrize("handler", [sends_its_body_byte_by_byte, closes_in_its_body])
    async def test_the_status_counts_even_if_the_body_is_slow_or_incomplete(
        self, sender: Any, handler: Handler
    ) -> None:
        began = time.monotonic()
        got, _ = await post(sender, handler)
        assert got == AttemptResult(200)
        assert time.monotonic() - began < 30

    @pytest.mark.parametrize("handler", [sends_ten_gigabytes, sends_chunks_for_ever])
    async def test_little_of_an_endless_body_is_read_and_its_connection_is_closed(
        self, sender: Any, handler: Handler
    ) -> None:
        async with HostileReceiver(handler) as receiver:
            got = await sender(receiver.url()).post(EVENT, BODY)
            assert got.status in {200, 500}
            (connection,) = receiver.connections
            # In addition to the buffers of the kernel on both ends.
            assert connection.written < MAX_READ + (8 << 20)
            await asyncio.wait_for(connection.until_closed(), 60)

    @pytest.mark.parametrize("handler", [sends_headers_for_ever, sends_one_header_for_ever])
    async def test_endless_headers_are_a_failure(self, sender: Any, handler: Handler) -> None:
        got, receiver = await post(sender, handler)
        assert (got.status, got.outcome) == (0, "retry")
        assert receiver.connections[0].written < 16 << 20

    @pytest.mark.parametrize(
        "response",
        [b"\x00\xff" * 100, b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n: x\r\n\r\n"],
    )
    async def test_a_response_that_is_not_http_is_a_failure(self, sender: Any, response: bytes) -> None:
        got, _ = await post(sender, responding(response))
        assert (got.status, got.outcome) == (0, "retry")

    async def test_a_redirect_is_not_followed(self, sender: Any) -> None:
        async with HostileReceiver() as elsewhere:
            for status in (301, 302, 303, 307, 308):
                location = f"HTTP/1.1 {status} Go\r\nLocation: {elsewhere.url()}\r\nContent-Length: 0\r\n\r\n"
                got, receiver = await post(sender, responding(location.encode()))
                assert (got.status, got.outcome) == (status, "rejected")
                assert len(receiver.requests) == 1
            assert elsewhere.connections == []

    async def test_a_compressed_response_is_not_decompressed(self, sender: Any) -> None:
        bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot a gzi"
        got, receiver = await post(sender, responding(bomb))
        assert got == AttemptResult(200)
        assert dict(receiver.requests[0].headers)["Accept-Encoding"] == "identity"

    async def test_cookies_are_not_stored(self, sender: Any) -> None:
        async with HostileReceiver(
            responding(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")
        ) as bad:
            one = sender(bad.url())
            await one.post(EVENT, BODY)
            await one.post(EVENT, BODY)
        assert not any(name.lower() == "cookie" for request in bad.requests for name, _ in request.headers)

    async def test_a_receiver_that_hangs_delays_no_other(self, sender: Any) -> None:
        async with HostileReceiver(hangs) as bad, HostileReceiver() as good:
            slow = asyncio.create_task(sender(bad.url()).post(EVENT, BODY))
            assert (await sender(good.url()).post(EVENT, BODY)).status == 200
            assert (await slow).status == 0

    async def test_a_refused_connection_is_a_failure(self, sender: Any) -> None:
        async with HostileReceiver() as receiver:
            url = receiver.url()
        assert str(await sender(url).post(EVENT, BODY)).startswith("no connection")

    async def test_proxies_of_the_environment_are_not_used(self, sender: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        async with HostileReceiver() as proxy, HostileReceiver() as receiver:
            for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            assert (await sender(receiver.url()).post(EVENT, BODY)).status == 200
            assert proxy.connections == []


class TestPrivateAddresses:
    """Plain http stays on this host and in private networks, even if a name resolves to another address."""

    async def test_a_public_address_is_not_connected_to(self, sender: Any) -> None:
        got = await sender("http://203.0.113.7:9/hook").post(EVENT, BODY)
        assert "private" in str(got)

    async def test_dns_rebinding_to_a_public_address_is_not_followed(
        self, sender: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def closes_after_each_response(connection: Connection) -> None:
            await connection.request()
            await connection.write(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"))

        addresses = ["127.0.0.1", "203.0.113.7"]
        resolved: list[str] = []
        system = socket.getaddrinfo

        def rebinding(host: Any, *more: Any, **options: Any) -> Any:
            if host != "rebinding.test":
                return system(host, *more, **options)
            resolved.append(addresses[min(len(resolved), 1)])
            return system(resolved[-1], *more, **options)

        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        monkeypatch.setattr(implementation, "_DNS_SECONDS", 0)
        async with HostileReceiver(closes_after_each_response) as receiver:
            one = sender(receiver.url("rebinding.test"))
            assert (await one.post(EVENT, BODY)).status == 200
            assert "private" in str(await one.post(EVENT, BODY))
        assert resolved == addresses

    async def test_a_name_without_an_address_is_a_failure(self, sender: Any) -> None:
        assert (await sender("http://nowhere.invalid/hook").post(EVENT, BODY)).status == 0


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(cert, key)
    return cert, key


def serving(pair: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*pair)
    return context


class TestTls:
    async def test_an_untrusted_certificate_is_rejected_before_anything_is_sent(
        self, sender: Any, pair: tuple[Path, Path]
    ) -> None:
        async with HostileReceiver(tls=serving(pair)) as receiver:
            got = await sender(receiver.url()).post(EVENT, BODY)
            assert (got.status, got.outcome) == (0, "retry")
            assert "certificate" in str(got)
            assert receiver.requests == []

    async def test_a_certificate_of_another_name_is_rejected(self, sender: Any, pair: tuple[Path, Path]) -> None:
        context = ssl.create_default_context(cafile=str(pair[0]))
        async with HostileReceiver(tls=serving(pair)) as right:
            assert (await sender(right.url("localhost"), tls=context).post(EVENT, BODY)).status == 200
        async with HostileReceiver(tls=serving(pair), host="127.0.0.2") as wrong:
            got = await sender(wrong.url("127.0.0.2"), tls=context).post(EVENT, BODY)
            assert "certificate" in str(got)
            assert wrong.requests == []

    async def test_the_certificate_store_of_the_system_is_used(
        self, sender: Any, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(pair[0]))
        async with HostileReceiver(tls=serving(pair)) as receiver:
            assert (await sender(receiver.url()).post(EVENT, BODY)).status == 200

    @pytest.mark.usefixtures("short_timeouts")
    async def test_plain_http_behind_https_is_a_failure(self, sender: Any) -> None:
        async with HostileReceiver() as receiver:
            got = await sender(receiver.url().replace("http:", "https:")).post(EVENT, BODY)
            assert got.status == 0
            assert receiver.requests == []


@settings(deadline=None)
@given(
    text=st.text(st.characters(max_codepoint=0x2FF), max_size=40)
    | st.from_regex(r"\A(Mon, )?\d{1,3} (Jan|Feb|Dec) \d{1,6} \d{1,3}:\d{1,3}:\d{1,3} (GMT|[+-]\d{1,9})\Z")
)
def test_every_retry_after_header_gives_seconds(text: str) -> None:
    assert _retry_after(text, 1_777_026_735.5) >= 0


async def test_no_result_and_no_repr_shows_the_url_or_the_secret(sender: Any) -> None:
    one = sender("http://203.0.113.7:9/hook?token=very-secret")
    text = f"{await one.post(EVENT, BODY)!r} {one!r}"
    for secret in (NEW, "very-secret", "/hook"):
        assert secret not in text


def test_the_list_of_private_addresses() -> None:
    for address in ("127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::1"):
        assert is_private(address)
        assert ipaddress.ip_address(address).is_private
    for address in ("fd00::1", "fc00::1%eth0", "::ffff:10.0.0.1"):
        assert is_private(address)
    for address in (
        "8.8.8.8", "172.32.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "255.255.255.255", "224.0.0.1",
        "192.0.2.1", "198.18.0.1", "2001:db8::1", "fe80::1%eth0", "::ffff:8.8.8.8", "64:ff9b::a00:1", "2002:a00:1::",
        "::", "ff02::1", "::ffff:169.254.169.254",
    ):  # fmt: skip
        assert not is_private(address), address
