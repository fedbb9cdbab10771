"""A small server over real HTTP on loopback, which can send any wrong response that a test needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import msgspec

from sigil.protocol import signed_bytes
from sigil.protocol.action import Action, action_jcs
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.pictogram import pictogram, speakable
from sigil.protocol.encoding.text import decode_base64, encode_base64, format_time
from sigil.protocol.identity import DerivedSecrets, ServerIdentity
from sigil.protocol.keys import PublicKey

NOW = 1_800_000_000.5
ACTION = {"type": "payment", "description": "Pay the invoice", "params": {"amount": 12, "to": ["alice", None, True]}}


def identity(seed: int = 1) -> ServerIdentity:
    return ServerIdentity.from_secrets(DerivedSecrets(*(bytes([seed + i]) * 32 for i in range(6))))


def jcs(action: dict[str, Any]) -> bytes:
    return action_jcs(msgspec.json.decode(msgspec.json.encode(action), type=Action))


def make_payload(
    server: ServerIdentity,
    device: PublicKey,
    *,
    number: int = 1,
    action: bytes | None = None,
    hashed_action: bytes | None = None,
    expires_at: int = int(NOW) + 300,
    number_matching: bool = False,
    respond_to: str | None = None,
    server_id: str | None = None,
    fingerprint: str | None = None,
) -> dict[str, Any]:
    """An honest payload, bound and signed over the given members."""
    action = jcs(ACTION) if action is None else action
    bound = {
        "challenge_id": str(UUID(int=number, version=4)),
        "fingerprint": fingerprint or device.fingerprint,
        "number_matching": number_matching,
        "server_id": server_id or server.server_id,
    }
    nonce = bytes([number % 256]) * 32
    challenge = signed_bytes.challenge_bytes(expires_at=expires_at, nonce=nonce, respond_to=respond_to, **bound)
    signature = server.sign_for(device, signed_bytes.approval(challenge, hashed_action or action))
    payload = bound | {
        "type": "challenge",
        "challenge_bytes": encode_base64(challenge),
        "nonce": encode_base64(nonce),
        "expires_at": format_time(expires_at),
        "server_signature": encode_base64(signature),
        "action": msgspec.Raw(action),
    }
    return payload | ({"respond_to": respond_to} if respond_to else {})


def make_mpa_payload(
    server: ServerIdentity, device: PublicKey, *, number: int = 1, signed: dict[str, Any] | None = None, **context: Any
) -> dict[str, Any]:
    """An honest payload of an approval request with the given context; the signature covers `signed` if it is given."""
    members = {
        **ACTION,
        "mpa_id": str(UUID(int=number, version=4)),
        "request_id": "order-7",
        "nonce": encode_base64(bytes([number % 256]) * 32),
        "server_id": server.server_id,
        "expires_at": format_time(int(NOW) + 300),
        "respond_to": "",
        "required": 2,
        "reject_policy": "continue",
        "groups_sha256": signed_bytes.groups_sha256([[device.fingerprint], ["f" * 64]]),
        **context,
    }
    signature = server.sign_for(device, signed_bytes.mpa_approval(signed or members))
    payload = {
        "type": "mpa",
        "mpa_id": members["mpa_id"],
        "server_id": members["server_id"],
        "action_context": msgspec.Raw(canonical(members)),
        "server_signature": encode_base64(signature),
        "expires_at": members["expires_at"],
    }
    return payload | ({"respond_to": members["respond_to"]} if members["respond_to"] else {})


def as_json(payload: dict[str, Any]) -> bytes:
    return msgspec.json.encode(payload)


def honest_info(own: ServerIdentity) -> dict[str, Any]:
    return {
        "server_id": own.server_id,
        "server_name": "Fake",
        "server_public_key": own.server_public_keys["ES256"],
        "server_public_keys": own.server_public_keys,
        "keys_signature": own.keys_signature,
        "server_pictogram": own.pictogram,
        "server_pictogram_speakable": own.pictogram_speakable,
        "version": "1.0.0",
        "mode": "operational",
        "features": {"mpa": False, "webhooks": False, "secure_decrypt": False, "mnemonic_generation": False},
        "later": "members of later versions are tolerated",
    }


class _Http(ThreadingHTTPServer):
    # Many devices connect at once; the default of 5 would reject some of them.
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Silent: a device that ends does not read its last response."""


class FakeServer:
    """Lists the payloads in `listed` and `mpa`, and records the answers of devices."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.identity, self.clock = identity(), clock
        self.lists = True
        self.listed: list[Any] = []
        self.mpa: list[Any] = []
        self.codes: dict[str, str] = {}
        self.answers: list[dict[str, Any]] = []
        self.used_seconds: set[tuple[str, str]] = set()
        self.failures: list[tuple[int, bytes]] = []
        self.info_changes: dict[str, Any] = {}
        self.peers: list[str] = []
        self._http = _Http(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> FakeServer:
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def add_challenge(self, device_public_key: str, **changes: Any) -> dict[str, Any]:
        """Make a challenge pending; returns its payload."""
        device = PublicKey.parse(decode_base64(device_public_key, "$"))
        code = changes.pop("match_code", None)
        payload = make_payload(
            self.identity, device, number=len(self.listed) + 1, number_matching=code is not None, **changes
        )
        self.listed.append(payload)
        if code is not None:
            self.codes[payload["challenge_id"]] = code
        return payload

    def add_mpa(self, device_public_key: str, **changes: Any) -> dict[str, Any]:
        """Make an approval request pending; returns its payload."""
        device = PublicKey.parse(decode_base64(device_public_key, "$"))
        payload = make_mpa_payload(self.identity, device, number=1000 + len(self.mpa), **changes)
        self.mpa.append(payload)
        return payload

    def info(self) -> dict[str, Any]:
        return honest_info(self.identity) | self.info_changes

    def handle(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self.failures:
            return self.failures.pop(0)
        if (method, path) == ("GET", "/info"):
            return 200, as_json(self.info())
        if (method, path) == ("POST", "/device/pending"):
            if not self.lists:
                return problem(503, "OVERLOADED")
            return self._pending(json.loads(body))
        if (method, path) == ("POST", "/respond"):
            return self._respond(json.loads(body))
        if (method, path) == ("POST", "/mpa/respond"):
            return self._vote(json.loads(body))
        return problem(404, "NOT_FOUND")

    def _vote(self, given: dict[str, str]) -> tuple[int, bytes]:
        """Verifies nothing."""
        self.answers.append(given)
        return 200, as_json(
            {
                "status": "recorded",
                "fingerprint": given["fingerprint"],
                "pictogram": pictogram(given["fingerprint"]),
                "pictogram_speakable": speakable(given["fingerprint"]),
                "group_satisfied": True,
                "groups_satisfied": 1,
                "groups_required": 2,
                "quorum_reached": False,
            }
        )

    def _pending(self, given: dict[str, str]) -> tuple[int, bytes]:
        device = PublicKey.parse(decode_base64(given["device_public_key"], "$"))
        message = signed_bytes.pending(self.identity.server_id, given["timestamp"])
        signed = device.verify(message, decode_base64(given["signature"], "$"))
        use = (device.fingerprint, given["timestamp"])
        if not signed or use in self.used_seconds:
            return problem(401, "INVALID_SIGNATURE")
        self.used_seconds.add(use)
        answered = {answer.get("challenge_id") or answer["mpa_id"] for answer in self.answers}
        listed = [item for item in self.listed if item["challenge_id"] not in answered]
        mpa = [item for item in self.mpa if item["mpa_id"] not in answered]
        return 200, as_json({"challenges": listed, "mpa": mpa, "later": 1})

    def _respond(self, given: dict[str, str]) -> tuple[int, bytes]:
        """Verifies nothing: tests verify the recorded answers."""
        self.answers.append(given)
        approved = given["decision"] == "approved"
        if approved and self.codes.get(given["challenge_id"]) != given.get("match_code"):
            return problem(401, "INVALID_SIGNATURE")
        return 200, as_json(
            {
                "status": "verified" if approved else "rejected",
                "verified": approved,
                "fingerprint": given["fingerprint"],
                "pictogram": pictogram(given["fingerprint"]),
                "pictogram_speakable": speakable(given["fingerprint"]),
                "action": ACTION,
            }
        )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.peers.append(self.client_address[0])
                status, answer = server.handle(self.command, self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                if 300 <= status < 400:
                    self.send_header("Location", f"{server.url}/info")
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Silent."""

        return Handler


def problem(status: int, code: str, message: str = "No.") -> tuple[int, bytes]:
    return status, as_json({"error": {"code": code, "message": message}})
