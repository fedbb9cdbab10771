"""Google's Mobile Connection Server as Chromium sees it: messages of Protocol Buffers, each after its tag and length
(Chromium's `google_apis/gcm/protocol/mcs.proto`)."""

from __future__ import annotations

from deploy.providers.http.peer import Peer
from deploy.providers.webpush import base64url
from deploy.providers.webpush.protobuf import Malformed, decode, encode, read_varint, varint
from deploy.providers.webpush.subscriptions import Message, Subscriptions

_VERSION = 41
_PING, _PING_ANSWER, _LOGIN, _LOGIN_ANSWER, _CLOSE, _DATA = 0, 1, 2, 3, 4, 8
# Fields of LoginRequest and DataMessageStanza.
_USER = 3
_FROM, _CATEGORY, _APP_DATA, _PERSISTENT_ID, _TTL, _SENT, _RAW_DATA = 3, 5, 7, 9, 17, 18, 21
_CATEGORY_OF_CHROMIUM = "org.chromium.linux"


class Mcs(Peer):
    """One Chromium."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        super().__init__()
        self._subscriptions = subscriptions
        self._received = bytearray()
        self._greeted = False
        self._android_id = ""

    def connection_lost(self, error: Exception | None) -> None:
        self._subscriptions.disconnect(self._android_id, self)
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._greeted and self._received:
            del self._received[0]
            self._greeted = True
            self._write(bytes([_VERSION]))
        try:
            while (message := self._next_message()) is not None:
                self._handle(*message)
        except Malformed:
            self.abort()

    def eof_received(self) -> bool:
        return False

    def deliver(self, message: Message) -> None:
        subscription = message.subscription
        fields: list[tuple[int, int | bytes | str]] = [
            (_FROM, base64url.encode(subscription.key or b"")),
            (_CATEGORY, _CATEGORY_OF_CHROMIUM),
            (_APP_DATA, _pair("subtype", subscription.app)),
            (_PERSISTENT_ID, f"0:{message.number}"),
            (_TTL, message.ttl),
            (_SENT, 1),
        ]
        if message.body:
            fields += [(_APP_DATA, _pair("content-encoding", "aes128gcm")), (_RAW_DATA, message.body)]
        self._send(_DATA, encode(*fields))

    def _next_message(self) -> tuple[int, bytes] | None:
        if not self._received or (length := read_varint(self._received, 1)) is None:
            return None
        size, start = length
        if len(self._received) < start + size:
            return None
        tag, body = self._received[0], bytes(self._received[start : start + size])
        del self._received[: start + size]
        return tag, body

    def _handle(self, tag: int, body: bytes) -> None:
        if tag == _LOGIN:
            user = decode(body).get(_USER, [b""])[0]
            self._android_id = user.decode() if isinstance(user, bytes) else ""
            self._send(_LOGIN_ANSWER, encode((1, "stand-in")))
            self._subscriptions.connect(self._android_id, self)
        elif tag == _PING:
            self._send(_PING_ANSWER, b"")
        elif tag == _CLOSE and self.transport is not None:
            self.transport.close()

    def _send(self, tag: int, body: bytes) -> None:
        self._write(bytes([tag]) + varint(len(body)) + body)

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)


def _pair(name: str, value: str) -> bytes:
    return encode((1, name), (2, value))
