"""Mozilla's push service as Firefox sees it: JSON messages over a WebSocket (Mozilla's autopush, "Bridge and WebSocket
protocol")."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from deploy.providers.http.peer import Peer
from deploy.providers.webpush import base64url
from deploy.providers.webpush.endpoint import MOZILLA
from deploy.providers.webpush.subscriptions import Message, Subscriptions

HOST = "updates.push.services.mozilla.com"
_UAID = re.compile(r"[0-9a-f]{32}")
_SUBPROTOCOL = Subprotocol("push-notification")
_Handler = Callable[[dict[str, Any]], None]


class Mozilla(Peer):
    """One Firefox."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        super().__init__()
        self._subscriptions = subscriptions
        self._websocket = ServerProtocol(subprotocols=[_SUBPROTOCOL], select_subprotocol=_choose)
        self._uaid = ""
        self._handlers: dict[str, _Handler] = {
            "hello": self._hello,
            "register": self._register,
            "unregister": self._unregister,
        }

    def connection_lost(self, error: Exception | None) -> None:
        self._subscriptions.disconnect(self._uaid, self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._websocket.receive_data(data)
        for event in self._websocket.events_received():
            if isinstance(event, Request):
                self._websocket.send_response(self._websocket.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._handle(event.data)
        self._flush()

    def eof_received(self) -> bool:
        return False

    def deliver(self, message: Message) -> None:
        content: dict[str, Any] = {
            "messageType": "notification",
            "channelID": message.subscription.app,
            "version": f"{message.number}",
        }
        if message.body:
            content |= {"data": base64url.encode(message.body), "headers": {"encoding": "aes128gcm"}}
        self._send(content)
        self._flush()

    def _handle(self, text: bytes) -> None:
        try:
            message = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.MsgspecError:
            self._websocket.fail(1003)
            return
        if not message:
            # Firefox's ping.
            self._send({})
            return
        handle = self._handlers.get(message.get("messageType", ""))
        # An acknowledgement needs no response.
        if handle is not None:
            handle(message)

    def _hello(self, message: dict[str, Any]) -> None:
        known = message.get("uaid")
        self._uaid = known if isinstance(known, str) and _UAID.fullmatch(known) else secrets.token_hex(16)
        welcome = {"messageType": "hello", "uaid": self._uaid, "status": 200, "use_webpush": True, "broadcasts": {}}
        self._send(welcome)
        # The browser reads its uaid first.
        asyncio.get_running_loop().call_soon(self._subscriptions.connect, self._uaid, self)

    def _register(self, message: dict[str, Any]) -> None:
        channel, key = str(message.get("channelID", "")), message.get("key")
        point = base64url.decode(key) if isinstance(key, str) else None
        answer: dict[str, Any] = {"messageType": "register", "channelID": channel}
        if not self._uaid or (key is not None and (point is None or len(point) != 65)):
            self._send({**answer, "status": 400})
            return
        subscription = self._subscriptions.add(self._uaid, channel, point)
        self._send({**answer, "status": 200, "pushEndpoint": f"https://{HOST}{MOZILLA}{subscription.token}"})

    def _unregister(self, message: dict[str, Any]) -> None:
        channel = str(message.get("channelID", ""))
        self._subscriptions.end(self._uaid, channel)
        self._send({"messageType": "unregister", "channelID": channel, "status": 200})

    def _send(self, message: dict[str, Any]) -> None:
        self._websocket.send_text(msgspec.json.encode(message))

    def _flush(self) -> None:
        for data in self._websocket.data_to_send():
            if self.transport is not None and data:
                self.transport.write(data)
        if self._websocket.close_expected() and self.transport is not None:
            self.transport.close()


def _choose(protocol: ServerProtocol, offered: Any) -> Subprotocol | None:
    return _SUBPROTOCOL if _SUBPROTOCOL in offered else None
