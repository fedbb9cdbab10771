"""A web device's local key registers, unregisters and opens a WebSocket alone: no person is prompted for these."""

from __future__ import annotations

import httpx
import pytest

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64, encode_base64
from sigil.protocol.messages.relay import RegisterServer
from tests.relay.devices_of_relay import authenticate, open_socket, register, registration
from tests.support.live_relay import LiveRelay, Server
from tests.support.web_key import Halves, WebKey


@pytest.fixture
def web() -> WebKey:
    return WebKey("https://sigil.example.com")


def signed_by(web: WebKey, halves: Halves, relay: LiveRelay, http: httpx.Client) -> httpx.Response:
    challenge = http.get("/devices/register/challenge").json()
    message = signed_bytes.relay_register(relay.url, "websocket", decode_base64(challenge["nonce"], ""), "")
    body = {
        "device_public_key": web.wire_key,
        "push_platform": "websocket",
        "push_token": "",
        "challenge_id": challenge["challenge_id"],
        "signature": encode_base64(web.sign(message, halves=halves)),
    }
    return http.post("/devices/register", json=body)


def test_a_web_device_registers_and_unregisters_with_its_local_key(relay: LiveRelay, web: WebKey) -> None:
    with relay.client() as http:
        answer = http.post("/devices/register", json=registration(web, http, relay.url))
        assert (answer.status_code, answer.json()["fingerprint"]) == (201, web.fingerprint)
        challenge = http.get("/devices/register/challenge").json()
        message = signed_bytes.relay_unregister(relay.url, decode_base64(challenge["nonce"], ""))
        body = {"device_public_key": web.wire_key, "challenge_id": challenge["challenge_id"]}
        answer = http.post("/devices/unregister", json=body | {"signature": web.sign_base64(message)})
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("halves", ["both", "assertion"])
def test_no_other_form_of_a_signature_registers(relay: LiveRelay, web: WebKey, halves: Halves) -> None:
    with relay.client() as http:
        answer = signed_by(web, halves, relay, http)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "INVALID_SIGNATURE")
        assert signed_by(web, "local", relay, http).status_code == 201


async def test_a_web_device_opens_a_websocket_with_its_local_key(relay: LiveRelay, web: WebKey) -> None:
    with relay.client() as http:
        register(web, http, relay.url)
    async with open_socket(relay) as socket:
        assert await authenticate(web, socket, relay.url) == {"type": "auth_success", "fingerprint": web.fingerprint}


def test_a_web_key_is_no_key_of_a_server(relay: LiveRelay, web: WebKey) -> None:
    with relay.client() as http:
        server = Server(http)
        answer = server.post("/servers/register", RegisterServer(server.identity.server_id, web.wire_key, "x"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_PUBLIC_KEY")
