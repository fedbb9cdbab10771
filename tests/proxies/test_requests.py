"""Requests through each proxy: what is served, what is hidden, and in which form errors come."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sigil.device import Device
from tests.flows.backend import ACTION
from tests.proxies.conftest import Stack
from tests.proxies.running import RELAY, SIGIL, Proxy, raw, read_all, status_of
from tests.relay.devices_of_relay import acknowledge, authenticate, frame, register
from tests.support.live import wait_until

LIMIT = 64 * 1024


def error_code(answer: httpx.Response) -> str:
    assert answer.headers["content-type"].startswith("application/json"), answer
    code: str = answer.json()["error"]["code"]
    return code


@pytest.mark.parametrize("http2", [False, True])
def test_a_challenge_is_created_over_http_1_and_2(front: Proxy, stack: Stack, http2: bool) -> None:
    key = {"Authorization": f"Bearer {stack.server.api_key}"}
    with front.client(http2=http2, headers=key) as client:
        body = {"device_public_key": Device.generate().wire_key, "action": ACTION}
        created = client.post("/challenge", json=body)
        assert created.status_code == 201, created.text
        assert created.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        status = client.get(f"/v1/auth/challenge/{created.json()['challenge_id']}/status")
        assert status.json()["status"] == "pending"


async def test_a_device_gets_a_push_over_its_websocket(front: Proxy, stack: Stack) -> None:
    """Registration, the socket and the push, all at the relay's public name."""
    device = Device.generate()
    with front.client(RELAY) as client:
        register(device, client, f"https://{RELAY}")
    async with connect(
        f"wss://{RELAY}:{front.port}/ws", host="127.0.0.1", port=front.port, ssl=front.tls(), proxy=None
    ) as opened:
        assert (await authenticate(device, opened, f"https://{RELAY}"))["type"] == "auth_success"
        key = {"Authorization": f"Bearer {stack.server.api_key}"}
        with front.client(headers=key) as client:
            body = {"device_public_key": device.wire_key, "action": ACTION}
            created = await asyncio.to_thread(client.post, "/challenge", json=body)
        push = await frame(opened)
        assert created.json()["challenge_id"] in json.dumps(push)
        await acknowledge(opened, push)


async def test_the_socket_has_no_other_path(front: Proxy) -> None:
    for path in ("/ws/", "/wss", "/"):
        with pytest.raises(InvalidStatus) as rejected:
            async with connect(
                f"wss://{RELAY}:{front.port}{path}", host="127.0.0.1", port=front.port, ssl=front.tls(), proxy=None
            ):
                pass
        assert rejected.value.response.status_code == 404


UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)


@pytest.mark.parametrize(("host", "path"), [(RELAY, "/devices/register/challenge"), (RELAY, "/health"), (SIGIL, "/")])
def test_an_upgrade_on_another_path_is_a_plain_request(front: Proxy, host: str, path: str) -> None:
    """The relay would accept the upgrade first, and what follows on the connection would pass the proxy unseen."""
    with front.connect(host) as connection:
        following = raw("GET", "/health", host=host)
        connection.sendall(raw("GET", path, *UPGRADE, host=host) + following)
        response = read_all(connection)
    assert b" 101 " not in response
    assert response.count(b"HTTP/1.1 ") == 2, "the proxy reads the next request itself"


def test_a_page_of_another_origin_reaches_the_routes_of_devices_and_no_other(front: Proxy) -> None:
    asks = {"Origin": "https://sigil.example.com", "Access-Control-Request-Method": "POST"}
    with front.client(RELAY) as client:
        preflight = client.options("/devices/register", headers=asks)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-methods"] == "GET, POST"
        answers = [
            preflight,
            client.get("/devices/register/challenge", headers=asks),
            client.post("/devices/unregister", json={}, headers=asks),
        ]
        assert [answer.status_code for answer in answers] == [204, 200, 400]
        for answer in answers:
            # One value: a proxy that adds its own makes a browser reject both.
            assert answer.headers.get_list("access-control-allow-origin") == ["*"]
        for path in ("/health", "/push"):
            assert "access-control-allow-origin" not in client.get(path, headers=asks).headers


def test_a_post_to_the_socket_is_not_allowed(front: Proxy) -> None:
    with front.connect(RELAY) as connection:
        connection.sendall(raw("POST", "/ws", host=RELAY, body="{}"))
        response = read_all(connection)
    assert status_of(response) == 405
    assert b"METHOD_NOT_ALLOWED" in response


AMBIGUOUS = {
    "two forms of the length": ["Content-Length: 4", "Transfer-Encoding: chunked"],
    "two lengths": ["Content-Length: 4", "Content-Length: 5"],
    "a length with a sign": ["Content-Length: +4"],
    "a coding that is not chunked": ["Transfer-Encoding: xchunked"],
    "chunked is not the last coding": ["Transfer-Encoding: chunked, identity"],
    "a space before the colon": ["Transfer-Encoding : chunked"],
    "two hosts": ["Host: relay.test"],
}


@pytest.mark.parametrize("form", AMBIGUOUS)
def test_a_request_whose_end_is_ambiguous_does_not_hide_another(front: Proxy, form: str) -> None:
    head = "\r\n".join([f"POST /challenge HTTP/1.1\r\nHost: {SIGIL}", *AMBIGUOUS[form], "", ""])
    with front.connect() as connection:
        connection.sendall(head.encode() + b"0\r\n\r\n" + raw("GET", "/health"))
        response = read_all(connection)
    # Caddy drops the length where both forms are there, as RFC 9112 permits, and reads the next request itself.
    assert status_of(response) in ({400, 501} if form != "two forms of the length" or front.name == "nginx" else {401})
    assert b'"healthy"' not in response or status_of(response) == 401
    if front.name == "nginx":
        assert b"INVALID_REQUEST" in response


# Caddy answers these by itself, or passes them on.
@pytest.mark.parametrize("front", ["nginx"], indirect=True)
@pytest.mark.parametrize(
    ("request_line", "status", "code"),
    [
        ("TRACE /health", 405, b"METHOD_NOT_ALLOWED"),
        ("CONNECT 127.0.0.1:22", 400, b"INVALID_REQUEST"),
        (f"GET /{'a' * 20000}", 414, b"INVALID_REQUEST"),
        ("GET /%00", 400, b"INVALID_REQUEST"),
    ],
)
def test_errors_of_nginx_have_the_documented_form(front: Proxy, request_line: str, status: int, code: bytes) -> None:
    method, _, path = request_line.partition(" ")
    with front.connect() as connection:
        connection.sendall(raw(method, path))
        response = read_all(connection)
    assert (status_of(response), code in response) == (status, True), response


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1"])
def test_another_host_on_a_connection_of_ours_gets_no_service(front: Proxy, name: str) -> None:
    with front.connect() as connection:
        connection.sendall(raw("GET", "/health", host=name))
        response = read_all(connection)
    assert response == b"" if front.name == "nginx" else b"Content-Length: 0" in response


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "//metrics", "/%6detrics", "/%2fmetrics", "/metrics/", "/metrics?x", "/./metrics"),
        *("/status", "//status", "/%73tatus", "/%2fstatus", "/status/", "/status?x", "/./status"),
    ],
)
def test_metrics_and_their_page_are_hidden(front: Proxy, path: str) -> None:
    for host in (SIGIL, RELAY):
        with front.connect(host) as connection:
            connection.sendall(raw("GET", path, host=host))
            response = read_all(connection)
        assert status_of(response) == 404
        assert b"NOT_FOUND" in response
        assert b"_total" not in response
        assert b"Status" not in response


def test_a_path_that_begins_like_a_hidden_one_reaches_the_server(front: Proxy) -> None:
    """`/statuses` has no route there: the page for browsers shows that the server answered."""
    with front.connect() as connection:
        connection.sendall(raw("GET", "/statuses", "Accept: text/html", host=SIGIL))
        response = read_all(connection)
    assert status_of(response) == 404
    assert b"There is nothing here" in response


def test_the_web_app_of_devices_passes_with_its_headers(front: Proxy, stack: Stack) -> None:
    with front.client(SIGIL) as client:
        redirect = client.get("/device", follow_redirects=False)
        assert (redirect.status_code, redirect.headers["location"]) == (308, "/device/")
        page = client.get("/device/")
        assert page.status_code == 200
        assert f"connect-src 'self' https://{RELAY};" in page.headers["content-security-policy"]
        assert "camera=(self)" in page.headers["permissions-policy"]
        assert client.get("/assets/device/index.html").status_code == 404
        assert client.post("/device/pending", json={}).json()["error"]["code"] == "INVALID_REQUEST"


@pytest.mark.parametrize(
    "path", ["/push", "/push/outcomes", "/servers/register", "/", "/info", "//push", "/devices/../push", "/devices"]
)
def test_the_relay_has_no_other_public_path(front: Proxy, path: str) -> None:
    with front.connect(RELAY) as connection:
        connection.sendall(raw("POST", path, host=RELAY, body="{}"))
        response = read_all(connection)
    assert status_of(response) in {400, 404}, response
    with front.client(RELAY) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/devices/register/challenge").status_code == 200


@pytest.mark.parametrize(
    ("host", "path", "limit"),
    [
        (SIGIL, "/respond", LIMIT),
        (SIGIL, "/challenge", LIMIT),
        (SIGIL, "/mpa/request", 4 * LIMIT),
        (RELAY, "/devices/register", LIMIT // 2),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_in_the_documented_form(
    front: Proxy, host: str, path: str, limit: int, chunked: bool
) -> None:
    def content(size: int) -> bytes:
        return b'"' + b"x" * (size - 2) + b'"'

    for http2 in (False, True):
        # Of a much larger body Caddy closes the connection, at which a client that still sends may lose the response.
        for size in (limit + 1, 20 * LIMIT)[: 2 if front.name == "nginx" else 1]:
            over = curl(front, host, path, content(size), http2=http2, chunked=chunked)
            assert (over.status_code, error_code(over)) == (413, "PAYLOAD_TOO_LARGE"), over.text
        within = curl(front, host, path, content(limit), http2=http2, chunked=chunked)
        assert within.status_code in {400, 401, 429}, within.text


def curl(front: Proxy, host: str, path: str, body: bytes, *, http2: bool, chunked: bool) -> httpx.Response:
    """A POST. httpx cannot read a response that comes before the body was sent in full, over HTTP/2."""
    command = ["curl", "-s", "-i", "--cacert", str(front.certificates / "cert.pem"), "--data-binary", "@-"]
    command += ["--resolve", f"{host}:{front.port}:127.0.0.1", "-H", "Content-Type: application/json", "-H", "Expect:"]
    command += ["--http2" if http2 else "--http1.1", *(["-H", "Transfer-Encoding: chunked"] if chunked else [])]
    ended = subprocess.run(  # noqa: PLW1510
        [*command, f"https://{host}:{front.port}{path}"], input=body, capture_output=True, timeout=120
    )
    head, _, content = ended.stdout.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
    return httpx.Response(
        int(head.split(b" ", 2)[1]), headers=[(name, value.strip()) for name, _, value in fields], content=content
    )


def test_responses_have_hsts_once(front: Proxy) -> None:
    for host in (SIGIL, RELAY):
        with front.client(host) as client:
            for path in ("/health", "/metrics"):
                assert client.get(path).headers.get_list("strict-transport-security") == ["max-age=31536000"]


def test_another_name_gets_no_certificate(front: Proxy) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name in ("other.test", None):
        with (
            pytest.raises(ssl.SSLError),
            socket.create_connection(("127.0.0.1", front.port)) as plain,
            context.wrap_socket(plain, server_hostname=name),
        ):
            pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_is_1_2_or_1_3(front: Proxy, version: ssl.TLSVersion) -> None:
    context = front.tls()
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", front.port)) as plain,
        context.wrap_socket(plain, server_hostname=SIGIL) as connection,
    ):
        assert connection.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


def test_plain_http_is_redirected_for_pages_alone(front: Proxy) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{front.http_port}", headers={"Host": SIGIL}) as client:
        page = client.get("/init?a=b")
        assert (page.status_code, page.headers["location"]) == (301, f"https://{SIGIL}/init?a=b")
        # A redirected POST would carry the API key over plain HTTP again and again, unnoticed.
        assert client.post("/challenge", json={}).status_code == 403


def test_the_log_has_a_line_per_request_without_query_and_headers(front: Proxy) -> None:
    secret = {"Authorization": "Bearer top-secret-key", "X-Sigil-Token": "top-secret-token"}
    with front.client(source="127.0.3.3", headers=secret) as client:
        client.get("/v1/auth/challenge/abc/status?wait=0&token=top-secret-query")
    wait_until(lambda: "127.0.3.3" in front.log(), "the line of the request")
    (line,) = [json.loads(line) for line in front.log().splitlines() if "127.0.3.3" in line]
    assert line["status"] == 401
    assert "/v1/auth/challenge/abc/status" in json.dumps(line)
    assert "top-secret" not in front.log()
