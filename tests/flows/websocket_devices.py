"""Many devices in one process: each listens at the relay, acknowledges its pushes, and responds at the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64, encode_base64
from tests.relay.devices_of_relay import register, sign
from tests.support.live_relay import LiveRelay

_REGISTRATIONS_PER_ADDRESS = 10


class WebSocketDevices:
    """`seen` counts pushes by (challenge_id, push_id); `answers` are the HTTP statuses of `POST /respond`."""

    def __init__(self, relay: LiveRelay, devices: int, server: httpx.AsyncClient) -> None:
        self.devices = [Device.generate("Ed25519") for _ in range(devices)]
        self.seen: Counter[tuple[str, str]] = Counter()
        self.cleared: set[str] = set()
        self.answers: dict[str, int] = {}
        self.connected = 0
        self._relay = relay
        self._server = server
        self._tasks: list[asyncio.Task[None]] = []
        self._answering: set[asyncio.Task[None]] = set()

    def register(self) -> None:
        """Uses several addresses of this host, since the relay limits registrations per address."""
        for start in range(0, len(self.devices), _REGISTRATIONS_PER_ADDRESS):
            transport = httpx.HTTPTransport(local_address=f"127.0.77.{1 + start // _REGISTRATIONS_PER_ADDRESS}")
            with self._relay.client(transport=transport) as client:
                for device in self.devices[start : start + _REGISTRATIONS_PER_ADDRESS]:
                    register(device, client, self._relay.url)

    async def __aenter__(self) -> WebSocketDevices:
        await asyncio.to_thread(self.register)
        self._tasks = [asyncio.create_task(self._listen(device)) for device in self.devices]
        while self.connected < len(self.devices):
            await asyncio.sleep(0.02)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in [*self._tasks, *self._answering]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._answering, return_exceptions=True)

    async def _listen(self, device: Device) -> None:
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                await self._run_session(device)
            await asyncio.sleep(0.2)

    async def _run_session(self, device: Device) -> None:
        async with connect(
            self._relay.ws_url, ping_interval=None, proxy=None, compression=None, open_timeout=60
        ) as socket:
            challenge = decode_base64(json.loads(await socket.recv())["challenge"], "")
            signature = sign(device, signed_bytes.relay_ws_auth(self._relay.url, challenge))
            answer = {"type": "auth_response", "device_public_key": device.wire_key, "signature": signature}
            await socket.send(json.dumps(answer))
            assert json.loads(await socket.recv())["type"] == "auth_success"
            self.connected += 1
            try:
                async for text in socket:
                    await socket.send(json.dumps(self._reply(device, json.loads(text))))
            finally:
                self.connected -= 1

    def _reply(self, device: Device, frame: dict[str, Any]) -> dict[str, str]:
        if frame["type"] == "ping":
            return {"type": "pong"}
        if frame["type"] == "clear":
            self.cleared.add(frame["challenge_id"])
        else:
            self._handle_push(device, frame)
        return {"type": "ack", "push_id": frame["push_id"]}

    def _handle_push(self, device: Device, push: dict[str, Any]) -> None:
        name = (push["challenge_id"], push["push_id"])
        self.seen[name] += 1
        if self.seen[name] == 1:
            task = asyncio.create_task(self._answer(device, push))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, device: Device, push: dict[str, Any]) -> None:
        bound = decode_base64(push["challenge_bytes"], "")
        signature = device.sign_approval(bound, canonical(push["action"]))
        body = device.response_body(push["challenge_id"], "approved", signature)
        assert encode_base64(bound) == push["challenge_bytes"]
        answer = await self._server.post("/respond", json=body)
        self.answers[push["challenge_id"]] = answer.status_code
