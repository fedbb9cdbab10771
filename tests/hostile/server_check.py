"""The health of a server after hostile input."""

from __future__ import annotations

import http.client
import json
import ssl

from tests.hostile.raw_client import RawClient
from tests.support.live import LiveServer, wait_until

# Without rate limits, so that each request is rejected for its content.
UNLIMITED = {
    "SIGIL_RATE_LIMIT": "off",
    "SIGIL_DEVICE_RATE": "off",
    "SIGIL_MAX_PENDING_PER_DEVICE": "100",
    "SIGIL_MAX_ENROLMENTS": "100000",
    # Without a kind the endpoints of attestation are absent.
    "SIGIL_ATTESTATION_KINDS": "yubikey-piv",
}
HEALTH = b"GET /health HTTP/1.1\r\nHost: sigil\r\n\r\n"
BODY = b"POST /respond HTTP/1.1\r\nHost: sigil\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class ServerCheck:
    """Starts when all workers are ready. `check` can be called many times."""

    def __init__(self, server: LiveServer, raw_client: RawClient) -> None:
        self._server = server
        self._client = raw_client
        self._workers: list[int] = wait_until(lambda: len(found := server.workers()) == 2 and found, "two workers")
        self._connections: dict[int, ssl.SSLSocket] = {}
        self._log_offset = 0

    def check(self) -> None:
        assert self._server.workers() == self._workers, "a worker died"
        for pid in self._workers:
            # Repeated: body slots of broken connections are freed later, and the server may close an idle connection.
            wait_until(lambda pid=pid: self._is_healthy(pid), f"worker {pid} to answer")
        with self._client.connect_tls() as connection:
            assert self._request(connection, HEALTH) == 200
        self._check_log()

    def _is_healthy(self, pid: int) -> bool:
        if pid not in self._connections:
            self._connect()
        connection = self._connections.get(pid)
        if connection is None:
            return False
        if self._request(connection, HEALTH) == 200:
            return self._request(connection, BODY) == 400
        self._connections.pop(pid).close()
        return False

    def _connect(self) -> None:
        """Connects to a worker that the kernel chooses."""
        connection = self._client.connect_tls()
        if self._request(connection, HEALTH) == 200:
            pid = self._server.worker_of(connection.getsockname()[1])
            if pid not in self._connections:
                self._connections[pid] = connection
                return
        connection.close()

    def _request(self, connection: ssl.SSLSocket, raw: bytes) -> int | None:
        """The status of the response, or None if the server closed the connection."""
        try:
            connection.sendall(raw)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            answer.read()
        except (OSError, http.client.HTTPException):
            return None
        return answer.status

    def _check_log(self) -> None:
        with self._server.log_path.open("rb") as log:
            log.seek(self._log_offset)
            lines = log.read().rpartition(b"\n")[0]
        self._log_offset += len(lines)
        for line in filter(None, lines.split(b"\n")):
            entry = json.loads(line)
            assert entry["event"] != "internal_error", entry
            assert entry["level"] != "error", entry
            assert b"Traceback" not in line, entry

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
