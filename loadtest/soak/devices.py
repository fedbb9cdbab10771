"""Devices of the load. Each learns of a challenge from a push over WebSocket, APNs or FCM, or by polling the server.

It does what the backend wrote into the action: approves, rejects, both at once, or nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import httpx
import msgspec

from loadtest.soak.api import Api
from loadtest.soak.ledger import Ledger, Violation
from loadtest.soak.stack import Stack
from sigil.device import Device, PayloadRefused, ServerPin
from sigil.device.approval_checks import Shown, ShownApproval, verify_mpa_payload
from sigil.device.async_client import AsyncDeviceClient
from sigil.device.challenge_checks import verify_payload
from sigil.device.client import Inbox
from sigil.device.errors import DeviceError, is_temporary
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.relay import Event, Listener, PendingFailed, Received, Refused, RelayClient
from sigil.protocol.messages.base import Decision
from tests.support.providers import apns_token, fcm_token

Channel = Literal["websocket", "poll", "apns", "fcm"]
CHANNELS: tuple[Channel, ...] = ("websocket", "poll", "websocket", "apns", "websocket", "poll", "fcm", "websocket")
_POLL_SECONDS = 2.0
# A phone also fetches when it wakes: pushes to a provider that fails are not its only source.
_WAKE_SECONDS = 15.0
_RESTART_SECONDS = 1.0
_THINK_SECONDS = 2.0
_TOKEN = {"apns": apns_token, "fcm": fcm_token}


class SoakDevice:
    """One device with an address, a connection and a channel of its own."""

    def __init__(self, number: int, api: Api, ledger: Ledger, report: Callable[[Violation], None]) -> None:
        self.number, self.channel = number, CHANNELS[number % len(CHANNELS)]
        self.device = Device.generate(("ES256", "Ed25519", "ES256K")[number % 3])
        self.api, self._ledger, self._report = api, ledger, report
        self._handled: set[str] = set()
        self.answering: set[asyncio.Task[None]] = set()
        self.received: Counter[str] = Counter()

    def show(self, shown: Shown, source: str) -> None:
        """Answers each challenge or request once, from the first source that brings it."""
        self.received[source] += 1
        if shown.id in self._handled:
            return
        self._handled.add(shown.id)
        task = asyncio.create_task(self._answer(shown))
        self.answering.add(task)
        task.add_done_callback(self.answering.discard)

    async def _answer(self, shown: Shown) -> None:
        wish = (shown.params or {}).get("wish", "")
        wish = wish.get(self.device.fingerprint[:8], "ignore") if isinstance(wish, dict) else wish
        decisions: dict[str, list[Decision]] = {
            "approve": ["approved"], "reject": ["rejected"], "race": ["approved", "rejected"],
        }  # fmt: skip
        await asyncio.sleep(random.uniform(0, _THINK_SECONDS))  # noqa: S311
        await asyncio.gather(*(self._send(shown, decision) for decision in decisions.get(wish, [])))

    async def _send(self, shown: Shown, decision: Decision) -> None:
        is_vote = isinstance(shown, ShownApproval)
        body = self.device.vote(shown, decision) if is_vote else self.device.response(shown, decision)
        self._ledger.signed(shown.id, self.device.fingerprint, decision)
        answer = await self.api.call(
            "vote" if is_vote else "answer",
            "POST",
            "/mpa/respond" if is_vote else "/respond",
            body=msgspec.json.encode(body),
            expect=frozenset({200, 409, 410}),
        )
        if answer is None:
            return
        if answer.status == 200:
            self._ledger.accepted(shown.id, self.device.fingerprint, decision)
        # 409 names the final state, unless it is about this device's own vote.
        state = answer.json["status"] if answer.status == 200 else error_state(answer.json)
        if state not in {"recorded", "already_satisfied", ""}:
            self._ledger.observed(shown.id, "device", state, answer.began, answer.at)

    def refused(self, error: DeviceError, source: str) -> None:
        self._report(Violation("refused payload", self.device.fingerprint[:6], f"{source}: {error.code}"))


def error_state(body: Any) -> str:
    """`details.status` of an error; empty for errors without it."""
    return str((body["error"].get("details") or {}).get("status", ""))


class Fleet:
    """All devices and what they listen at."""

    def __init__(self, stack: Stack, pin: ServerPin, devices: list[SoakDevice], report: Callable[[Violation], None]):
        self.devices = devices
        self._stack, self._pin, self._report = stack, pin, report
        self._tokens: dict[str, SoakDevice] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._listeners: list[Listener] = []
        self.relay_losses = 0

    async def start(self) -> None:
        for one in self.devices:
            async with self._relay(one) as relay:
                if one.channel == "websocket":
                    await relay.register(one.device)
                elif one.channel != "poll":
                    token = _TOKEN[one.channel]()
                    self._tokens[token] = one
                    await relay.register(one.device, one.channel, token)
            loop = self._listen if one.channel == "websocket" else self._poll
            self._tasks.append(asyncio.create_task(loop(one)))
        self._tasks.append(asyncio.create_task(self._watch_providers()))

    async def stop(self) -> None:
        """After all answers were sent."""
        while answering := [task for one in self.devices for task in one.answering]:
            await asyncio.gather(*answering)
        self._stopping.set()
        for listener in self._listeners:
            listener.stop()
        for task, result in zip(self._tasks, await asyncio.gather(*self._tasks, return_exceptions=True), strict=True):
            if isinstance(result, Exception):
                self._report(Violation("device loop failed", task.get_name(), repr(result)))

    def _relay(self, one: SoakDevice) -> RelayClient:
        ws = self._stack.relay.ws_url.removesuffix("/ws").replace("ws:", "http:", 1)
        return RelayClient(self._stack.relay.url, local_address=f"127.2.1.{one.number + 1}", socket_url=ws)

    async def _listen(self, one: SoakDevice) -> None:
        """The product's listener, started again when it ends: another connection of the device may be newer."""

        async def on_event(event: Event) -> None:
            match event:
                case Received(shown, push_id):
                    one.show(shown, "websocket" if push_id else "inbox")
                case Refused(_, error, _):
                    one.refused(error, "push")
                case PendingFailed(error) if not is_temporary(error):
                    one.refused(error, "inbox")
                case _:
                    self.relay_losses += type(event).__name__ == "Disconnected"

        async with self._connection(one) as connection, self._relay(one) as relay:
            inbox = AsyncDeviceClient(one.device, self._pin, connection).inbox
            while not self._stopping.is_set():
                listener = Listener(one.device, relay, self._pin, on_event, inbox=inbox, reregister=True)
                self._listeners.append(listener)
                with contextlib.suppress(DeviceError):
                    await listener.run()
                await self._pause(_RESTART_SECONDS)

    async def _poll(self, one: SoakDevice) -> None:
        async with self._connection(one) as connection:
            client = AsyncDeviceClient(one.device, self._pin, connection)
            while not self._stopping.is_set():
                await self._pause(_POLL_SECONDS if one.channel == "poll" else _WAKE_SECONDS)
                try:
                    inbox = await client.inbox()
                except DeviceError as error:
                    if not is_temporary(error):
                        one.refused(error, "poll")
                    continue
                self._show_inbox(one, inbox)

    def _show_inbox(self, one: SoakDevice, inbox: Inbox) -> None:
        for shown in inbox.shown:
            one.show(shown, "poll")
        for refused in inbox.refused:
            one.refused(refused.error, "poll")

    def _connection(self, one: SoakDevice) -> AsyncServerConnection:
        return AsyncServerConnection(self._pin.base_url, self._pin.tls, local_address=f"127.2.2.{one.number + 1}")

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds * random.uniform(0.7, 1.0))  # noqa: S311

    async def _watch_providers(self) -> None:
        """What phones do: they read the pushes that a provider accepted for their token."""
        after = 0
        async with httpx.AsyncClient(
            base_url=self._stack.providers.control_url, trust_env=False, timeout=60
        ) as control:
            while not self._stopping.is_set():
                page = (await control.get("/seen", params={"after": after, "wait": 1, "limit": 200})).json()
                for push in page["pushes"]:
                    after = push["number"]
                    if (one := self._tokens.get(push["token"])) is not None:
                        self._read_push(one, push["sigil"])

    def _read_push(self, one: SoakDevice, text: str) -> None:
        payload = json.loads(text)
        if "server_signature" not in payload:
            return
        verify: Callable[..., Shown] = verify_payload if payload["type"] == "challenge" else verify_mpa_payload
        try:
            one.show(verify(text.encode(), self._pin, one.device.public, time.time()), one.channel)
        except PayloadRefused as error:
            # A provider may deliver late: a push of a challenge that has expired is refused, as on a phone.
            if error.code != "CHALLENGE_EXPIRED":
                one.refused(error, one.channel)
