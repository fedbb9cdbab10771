"""A webhook receiver with little CPU in a separate process: it counts requests and answers 200.

python -m loadtest.receiver      prints its port; for each line on standard input it prints the number of events so far
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

import uvloop

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Counting(asyncio.Protocol):
    count = 0

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
            if not found or len(rest) < length:
                return
            self._buffer = rest[length:]
            _Counting.count += 1
            self._transport.write(_OK)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Counting, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(_Counting.count, flush=True)


class Receiver:
    """A running receiver; `count` is the number of events so far."""

    def __init__(self, output: IO[str], input_: IO[str]) -> None:
        self._output, self._input = output, input_
        self.url = f"http://127.0.0.1:{int(output.readline())}/"

    @property
    def count(self) -> int:
        self._input.write("\n")
        self._input.flush()
        return int(self._output.readline())


@contextmanager
def receiver() -> Iterator[Receiver]:
    command = [sys.executable, "-m", "loadtest.receiver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        yield Receiver(cast(IO[str], process.stdout), cast(IO[str], process.stdin))
        process.terminate()


if __name__ == "__main__":
    uvloop.run(_serve())
