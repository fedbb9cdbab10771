"""A desktop's notification service for browsers under test, with a session bus of its own (D-Bus specification;
Desktop Notifications specification 1.2). A test reads what a browser shows, and clicks on it as a person does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.live import DEADLINE, wait_until

_CALL, _RETURN, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SENDER, _SIGNATURE = range(1, 9)
_SERVICE, _SERVICE_PATH = "org.freedesktop.Notifications", "/org/freedesktop/Notifications"
_BUS = "org.freedesktop.DBus"
_SIZES = {"y": 1, "b": 4, "u": 4}


@dataclass
class Shown:
    """A notification on the screen; `actions` are pairs of a name and its label."""

    id: int
    title: str
    body: str
    actions: dict[str, str]
    owner: _Client


class Desktop:
    """`with Desktop(directory) as desktop:`; `environment` leads a browser to it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "bus"
        self.environment = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={self._path}"}
        self._socket = socket.socket(socket.AF_UNIX)
        self._clients: list[_Client] = []
        self._lock = threading.Lock()
        self._shown: dict[int, Shown] = {}
        self._last = 0

    def __enter__(self) -> Desktop:
        self._socket.bind(str(self._path))
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for client in self._clients:
            client.close()

    def shown(self) -> list[Shown]:
        with self._lock:
            return list(self._shown.values())

    def wait_for(self, text: str) -> Shown:
        """The first notification whose title or body contains `text`."""
        found: Shown = wait_until(
            lambda: next((one for one in self.shown() if text in one.title or text in one.body), None),
            f"a notification with {text!r}",
        )
        return found

    def click(self, shown: Shown) -> None:
        """As a person clicks on the notification itself: the desktop then removes it."""
        shown.owner.signal("ActionInvoked", "us", shown.id, "default")
        self._close(shown.id, 2)

    def show(self, owner: _Client, replaces: int, title: str, body: str, actions: list[str]) -> int:
        with self._lock:
            if replaces not in self._shown:
                self._last = replaces = self._last + 1
            pairs = dict(zip(actions[::2], actions[1::2], strict=True))
            self._shown[replaces] = Shown(replaces, title, body, pairs, owner)
            return replaces

    def _close(self, number: int, reason: int) -> None:
        with self._lock:
            closed = self._shown.pop(number, None)
        if closed is not None:
            closed.owner.signal("NotificationClosed", "uu", number, reason)

    def close(self, number: int) -> None:
        """The browser closes its notification."""
        self._close(number, 3)

    def forget(self, owner: _Client) -> None:
        """What a browser showed ends with its connection."""
        with self._lock:
            self._shown = {number: one for number, one in self._shown.items() if one.owner is not owner}

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(_Client(self, connection, f":1.{len(self._clients) + 1}"))


class _Client:
    """One connection to the bus. The bus and the notification service are the same program here."""

    def __init__(self, desktop: Desktop, connection: socket.socket, name: str) -> None:
        self._desktop, self._socket, self._name = desktop, connection, name
        self._stream = connection.makefile("rb")
        self._lock = threading.Lock()
        self._serial = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        with self._socket, self._stream, contextlib.suppress(OSError, EOFError):
            self._authenticate()
            while True:
                self._handle(*self._read())
        self._desktop.forget(self)

    def signal(self, member: str, signature: str, *values: Any) -> None:
        fields = [(_PATH, "o", _SERVICE_PATH), (_INTERFACE, "s", _SERVICE), (_MEMBER, "s", member)]
        with contextlib.suppress(OSError):
            self._send(_SIGNAL, [*fields, (_SENDER, "s", _SERVICE)], signature, *values)

    def _authenticate(self) -> None:
        while line := self._stream.readline():
            command = line.strip(b"\0\r\n").split(b" ")
            if command[0] == b"BEGIN":
                return
            if command[0] == b"DATA" or (command[:2] == [b"AUTH", b"EXTERNAL"] and len(command) == 3):
                answer = b"OK " + b"5" * 32
            elif command == [b"AUTH", b"EXTERNAL"]:
                answer = b"DATA"
            elif command[0] == b"AUTH":
                answer = b"REJECTED EXTERNAL"
            else:
                answer = b"ERROR"
            self._socket.sendall(answer + b"\r\n")
        raise EOFError

    def _read(self) -> tuple[int, int, dict[int, Any], bytes, str]:
        """Type, serial, header fields, body and byte order of a message."""
        start = self._exactly(16)
        order = "<" if start[0:1] == b"l" else ">"
        length, serial, header = struct.unpack(order + "III", start[4:16])
        raw = self._exactly(header + -header % 8)
        fields: dict[int, Any] = {}
        reader = _Reader(raw[:header], order)
        while reader.at < header:
            reader.align(8)
            field = reader.take("y")
            fields[field] = reader.take(reader.take("g"))
        return start[1], serial, fields, self._exactly(length), order

    def _exactly(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) < length:
            raise EOFError
        return data

    def _handle(self, kind: int, serial: int, fields: dict[int, Any], body: bytes, order: str) -> None:
        if kind != _CALL:
            return
        answer = self._answer(fields.get(_INTERFACE), fields.get(_MEMBER), _Reader(body, order))
        owner = _SERVICE if fields.get(_DESTINATION) == _SERVICE else _BUS
        common = [(_REPLY_SERIAL, "u", serial), (_DESTINATION, "s", self._name), (_SENDER, "s", owner)]
        if answer is None:
            name = (_ERROR_NAME, "s", f"{_BUS}.Error.UnknownMethod")
            self._send(_ERROR, [name, *common], "s", "unknown method")
        else:
            self._send(_RETURN, common, *answer)

    def _answer(self, interface: str | None, member: str | None, reader: _Reader) -> tuple[Any, ...] | None:
        match interface, member:
            case "org.freedesktop.DBus", "Hello":
                return "s", self._name
            case "org.freedesktop.DBus", "AddMatch" | "RemoveMatch":
                return ("",)
            case "org.freedesktop.DBus", "NameHasOwner":
                return "b", int(reader.take("s") in {_SERVICE, _BUS})
            case "org.freedesktop.DBus", "GetNameOwner":
                name = reader.take("s")
                return ("s", name) if name in {_SERVICE, _BUS} else None
            case "org.freedesktop.DBus", "StartServiceByName":
                return ("u", 2) if reader.take("s") == _SERVICE else None
            case "org.freedesktop.DBus", "ListActivatableNames" | "ListNames":
                return "as", [_BUS, _SERVICE]
            case "org.freedesktop.Notifications", "GetCapabilities":
                return "as", ["actions", "body", "persistence"]
            case "org.freedesktop.Notifications", "GetServerInformation":
                return "ssss", "desktop of a test", "sigil", "1", "1.2"
            case "org.freedesktop.Notifications", "Notify":
                reader.take("s")
                replaces = reader.take("u")
                reader.take("s")
                title, text, actions = reader.take("s"), reader.take("s"), reader.take("as")
                return "u", self._desktop.show(self, replaces, title, text, actions)
            case "org.freedesktop.Notifications", "CloseNotification":
                self._desktop.close(reader.take("u"))
                return ("",)
        return None

    def _send(self, kind: int, fields: list[tuple[int, str, Any]], signature: str = "", *values: Any) -> None:
        body = _Writer()
        for type_, value in zip(_types(signature), values, strict=True):
            body.put(type_, value)
        header = _Writer()
        for field, type_, value in [*fields, *([(_SIGNATURE, "g", signature)] if signature else [])]:
            header.align(8)
            header.put("y", field)
            header.put("g", type_)
            header.put(type_, value)
        with self._lock:
            self._serial += 1
            start = struct.pack("<cBBBIII", b"l", kind, 1, 1, len(body.data), self._serial, len(header.data))
            padding = bytes(-len(header.data) % 8)
            self._socket.sendall(start + header.data + padding + body.data)


def _types(signature: str) -> list[str]:
    return [signature] if signature.startswith("a") else list(signature)


class _Reader:
    def __init__(self, data: bytes, order: str) -> None:
        self._data, self._order, self.at = data, order, 0

    def align(self, size: int) -> None:
        self.at += -self.at % size

    def take(self, type_: str) -> Any:
        if type_ in _SIZES:
            size = _SIZES[type_]
            self.align(size)
            form = "B" if type_ == "y" else "I"
            (value,) = struct.unpack_from(self._order + form, self._data, self.at)
            self.at += size
            return value
        if type_ in {"s", "o", "g"}:
            length = self.take("y" if type_ == "g" else "u")
            text = self._data[self.at : self.at + length].decode()
            self.at += length + 1
            return text
        assert type_ == "as", type_
        end = self.take("u") + self.at
        texts = []
        while self.at < end:
            texts.append(self.take("s"))
        return texts


class _Writer:
    """Little-endian."""

    def __init__(self) -> None:
        self.data = b""

    def align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)

    def put(self, type_: str, value: Any) -> None:
        if type_ in _SIZES:
            self.align(_SIZES[type_])
            self.data += int(value).to_bytes(_SIZES[type_], "little")
        elif type_ in {"s", "o", "g"}:
            raw = value.encode()
            self.put("y" if type_ == "g" else "u", len(raw))
            self.data += raw + b"\0"
        else:
            texts = _Writer()
            for text in value:
                texts.put("s", text)
            self.put("u", len(texts.data))
            self.data += texts.data
