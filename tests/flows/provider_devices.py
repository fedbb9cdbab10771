"""Devices of APNs and FCM in one process: they read the pushes that the stand-ins accepted for them, and respond at the
server."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import httpx

from sigil.device import Device
from sigil.protocol.encoding.canonical import canonical
from sigil.protocol.encoding.text import decode_base64
from tests.relay.devices_of_relay import register
from tests.support.live import DEADLINE
from tests.support.live_relay import LiveRelay
from tests.support.providers import Providers, apns_token, fcm_token

_REGISTRATIONS_PER_ADDRESS = 10
_NEW_TOKEN = {"apns": apns_token, "fcm": fcm_token}


class ProviderDevices:
    """`seen` counts pushes by challenge_id; `arrived` is the monotonic time of the first one; `answers` are the HTTP
    statuses of `POST /respond`."""

    def __init__(self, relay: LiveRelay, providers: Providers, server: httpx.AsyncClient, each: int) -> None:
        self.devices = {platform: [Device.generate("Ed25519") for _ in range(each)] for platform in _NEW_TOKEN}
        self.seen: Counter[str] = Counter()
        self.arrived: dict[str, float] = {}
        self.answers: dict[str, int] = {}
        self._by_token: dict[str, Device] = {}
        self._relay, self._providers, self._server = relay, providers, server
        self._watcher: asyncio.Task[None] | None = None
        self._stopping = False
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ProviderDevices:
        await asyncio.to_thread(self._register)
        self._watcher = asyncio.create_task(self._watch(self._providers.last()))
        return self

    async def __aexit__(self, *_: object) -> None:
        # Not cancelled: a cancelled request of httpx may leave its socket open.
        self._stopping = True
        await asyncio.gather(*([self._watcher] if self._watcher else []), *self._answering)

    def _register(self) -> None:
        """Uses several addresses of this host, since the relay limits registrations per address."""
        all_devices = [(platform, device) for platform, devices in self.devices.items() for device in devices]
        for start in range(0, len(all_devices), _REGISTRATIONS_PER_ADDRESS):
            transport = httpx.HTTPTransport(local_address=f"127.0.78.{1 + start // _REGISTRATIONS_PER_ADDRESS}")
            with self._relay.client(transport=transport) as client:
                for platform, device in all_devices[start : start + _REGISTRATIONS_PER_ADDRESS]:
                    token = _NEW_TOKEN[platform]()
                    register(device, client, self._relay.url, platform, token)
                    self._by_token[token] = device

    async def _watch(self, after: int) -> None:
        async with httpx.AsyncClient(
            base_url=self._providers.control_url, trust_env=False, timeout=DEADLINE
        ) as control:
            while not self._stopping:
                query = {"after": after, "wait": 1, "limit": 200}
                page: dict[str, Any] = (await control.get("/seen", params=query)).json()
                for push in page["pushes"]:
                    after = push["number"]
                    # A late push may be for a device of an earlier test.
                    if (device := self._by_token.get(push["token"])) is not None:
                        self._handle_push(device, json.loads(push["sigil"]))

    def _handle_push(self, device: Device, payload: dict[str, Any]) -> None:
        if payload["type"] != "challenge":
            return
        challenge_id = payload["challenge_id"]
        self.seen[challenge_id] += 1
        if self.seen[challenge_id] == 1:
            self.arrived[challenge_id] = time.monotonic()
            task = asyncio.create_task(self._answer(device, payload))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, device: Device, payload: dict[str, Any]) -> None:
        bound = decode_base64(payload["challenge_bytes"], "")
        signature = device.sign_approval(bound, canonical(payload["action"]))
        body = device.response_body(payload["challenge_id"], "approved", signature)
        self.answers[payload["challenge_id"]] = (await self._server.post("/respond", json=body)).status_code
