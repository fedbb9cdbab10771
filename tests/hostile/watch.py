"""What must be true of a server whatever it was sent."""

from __future__ import annotations

import http.client
import json
import ssl

from tests.hostile.stranger import Stranger
from tests.support.live import LiveServer, wait_until

# No rates, so that whatever is refused is refused for what it is.
UNLIMITED = {"SIGIL_RATE_LIMIT": "off", "SIGIL_DEVICE_RATE": "off", "SIGIL_MAX_PENDING_PER_DEVICE": "100"}
HEALTH = b"GET /health HTTP/1.1\r\nHost: sigil\r\n\r\n"
BODY = b"POST /respond HTTP/1.1\r\nHost: sigil\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Watch:
    """Begins when all workers are ready; what `check` asserts may be asked again and again."""

    def __init__(self, server: LiveServer, stranger: Stranger) -> None:
        self._server = server
        self._stranger = stranger
        self._workers: list[int] = wait_until(lambda: len(found := server.workers()) == 2 and found, "two workers")
        self._connections: dict[int, ssl.SSLSocket] = {}
        self._read = 0

    def check(self) -> None:
        assert self._server.workers() == self._workers, "a worker died"
        for pid in self._workers:
            # Not at once while the places of bodies that broke off come back, or a connection was idle for too long.
            wait_until(lambda pid=pid: self._answers(pid), f"worker {pid} to answer")
        with self._stranger.secured() as connection:
            assert self._ask(connection, HEALTH) == 200
        self._read_the_log()

    def _answers(self, pid: int) -> bool:
        if pid not in self._connections:
            self._connect()
        connection = self._connections.get(pid)
        if connection is None:
            return False
        if self._ask(connection, HEALTH) == 200:
            return self._ask(connection, BODY) == 400
        self._connections.pop(pid).close()
        return False

    def _connect(self) -> None:
        """To a worker that the kernel chooses."""
        connection = self._stranger.secured()
        if self._ask(connection, HEALTH) == 200:
            pid = self._server.worker_of(connection.getsockname()[1])
            if pid not in self._connections:
                self._connections[pid] = connection
                return
        connection.close()

    def _ask(self, connection: ssl.SSLSocket, raw: bytes) -> int | None:
        """The status of the answer, or None when the connection was closed."""
        try:
            connection.sendall(raw)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
        except (OSError, http.client.HTTPException):
            return None
        return answer.status

    def _read_the_log(self) -> None:
        with self._server.log_path.open("rb") as log:
            log.seek(self._read)
            lines = log.read().rpartition(b"\n")[0]
        self._read += len(lines)
        for line in filter(None, lines.split(b"\n")):
            told = json.loads(line)
            assert told["event"] != "internal_error", told
            assert told["level"] != "error", told
            assert b"Traceback" not in line, told

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
