"""Web Pushes per second, to a push service in another process.

    python -m loadtest.web_pushes                a relay on SQLite with one worker, then the transport alone

As loadtest.providers; with `--slow`, a fifth of the devices are at a second host, which does not answer. Exits with 1
when the relay delivers fewer than --at-least pushes/s per core of its CPU time, and no other processes disturbed it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import uvloop

from loadtest.providers import ENCRYPTION_KEY, SENDERS, batches, enrol, worker_of
from loadtest.usage import OtherProcesses, ProcessUsage
from loadtest.verdict import judge
from relay.transports import OutgoingPush
from relay.transports.webpush.transport import WebPushTransport
from relay.web_push_settings import Settings, hosts, new_key, vapid_key
from tests.support.live import wait_until
from tests.support.live_relay import LiveRelay, Server
from tests.support.push_service import FCM, MOZILLA, PushService
from tests.support.web_push import Subscription

_IN_FLIGHT = 200
_PAYLOAD = b'{"type":"challenge","challenge_id":"' + b"c" * 36 + b'"}'


async def serve(directory: Path) -> None:
    """The push service, until a signal ends the process; its port is in the file `port`."""
    service = PushService(directory, record=False)
    service.create_certificates()
    (directory / "draft").write_text(str(await service.listen()))
    (directory / "draft").rename(directory / "port")
    await asyncio.Event().wait()


@contextmanager
def push_service() -> Iterator[tuple[int, str]]:
    """Its port, and the file of its CA."""
    with tempfile.TemporaryDirectory(prefix="push-service-") as directory:
        process = subprocess.Popen([sys.executable, "-m", "loadtest.web_pushes", "--serve", directory])  # noqa: S603 - itself
        try:
            port = Path(directory) / "port"
            wait_until(port.exists, "the push service")
            yield int(port.read_text()), str(Path(directory) / "push-ca.pem")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def endpoint(path: str, host: str = FCM) -> str:
    """Of the length of those of FCM."""
    return f"https://{host}/fcm/send/{secrets.token_urlsafe(120)}/{path}"


def through_the_relay(pushes: int, slow: bool) -> float:
    """Pushes per second and core of CPU time of the relay's worker."""
    key = new_key()
    public = vapid_key(key).public_text
    with push_service() as (port, ca):
        relay = LiveRelay(
            RELAY_PUSH_RATE="off",
            TOKEN_ENCRYPTION_KEY=ENCRYPTION_KEY,
            RELAY_WEBPUSH_KEY=key,
            RELAY_WEBPUSH_HOSTS=f"{FCM}=127.0.0.1:{port} {MOZILLA}=127.0.0.1:{port}",
            SSL_CERT_FILE=ca,
        )
        path = Path(relay.environ["RELAY_DATA_DIR"]) / "relay.db"
        quick = uvloop.run(enrol(path, "webpush", lambda: Subscription(public, endpoint("ok")).token()))
        stuck = uvloop.run(enrol(path, "webpush", lambda: Subscription(public, endpoint("slow", MOZILLA)).token()))
        with relay, relay.client() as client, ThreadPoolExecutor(SENDERS) as pool:
            server = Server(client)
            server.register()
            server.push(*batches(quick, 1)[0])
            usage = ProcessUsage({"relay": worker_of(relay)})
            made = batches(quick, pushes)
            if slow:
                # Of each batch, as many again to devices at the host that does not answer, up to a fifth of all.
                for number, batch in enumerate(made):
                    more = batches(stuck, len(batch) // 4)[0]
                    batch += [{**one, "push_key": f"{number}:{one['push_key']}"} for one in more]
            usage.sample()
            began = time.monotonic()
            answered = list(pool.map(lambda batch: server.push(*batch), made))
            keys = [
                one["push_key"]
                for batch, results in zip(made, answered, strict=True)
                for one, result in zip(batch, results, strict=True)
                if result["status"] != "delivered" and str(one["push_key"]).count(":") == 1
            ]
            print(f"{len(keys)} of {pushes} were queued for longer than 2 s")
            wait_until(lambda: not waiting(server, keys), "the last push", seconds=300)
            seconds = time.monotonic() - began
            usage.sample()
    return print_rate("relay", pushes / seconds, usage.between().processes["relay"].cores)


def waiting(server: Server, keys: list[object]) -> bool:
    for start in range(0, len(keys), 500):
        answer = server.post("/push/outcomes", {"push_keys": keys[start : start + 500]}).json()["results"]
        if failed := [one for one in answer if one["status"] not in {"delivered", "queued"}]:
            raise SystemExit(f"a push failed: {failed[0]}")
        if any(one["status"] == "queued" for one in answer):
            return True
    return False


async def transport_alone(pushes: int, port: int) -> float:
    """The transport in this process, without registry, sealing and HTTP."""
    key = vapid_key(new_key())
    transport = WebPushTransport(Settings((key,), None, hosts(f"{FCM}=127.0.0.1:{port}")), time.time)
    transport.open()
    tokens = [Subscription(key.public_text, endpoint("ok")).token() for _ in range(2000)]
    left = iter(range(pushes))

    async def send_some() -> None:
        for number in left:
            name = secrets.token_hex(8)
            token = tokens[number % len(tokens)]
            push = OutgoingPush(name, "f" * 64, token, _PAYLOAD, int(time.time()) + 300, name, "high")
            if (outcome := await transport.send(push)).kind != "delivered":
                raise SystemExit(str(outcome))

    began, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(send_some() for _ in range(_IN_FLIGHT)))
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    await transport.close()
    return print_rate("transport", pushes / seconds, cpu / seconds)


def print_rate(subject: str, rate: float, cores: float) -> float:
    per_core = rate / cores
    each = f"{1e6 / per_core:.0f} µs of CPU a push"
    print(f"{subject:<10} {rate:7.0f} pushes/s, {per_core:7.0f} per core of CPU time, {each}")
    return per_core


@click.command()
@click.option("--pushes", default=10_000, show_default=True)
@click.option("--slow", is_flag=True, help="As many again as a quarter of them go to a host that does not answer.")
@click.option("--at-least", default=1000, show_default=True, help="Pushes/s per core of the relay.")
@click.option("--serve", "directory", type=click.Path(path_type=Path), hidden=True)
def main(pushes: int, slow: bool, at_least: int, directory: Path | None) -> None:
    if directory is not None:
        uvloop.run(serve(directory))
        return
    others = OtherProcesses()
    rate = through_the_relay(pushes, slow)
    with push_service() as (port, ca):
        os.environ["SSL_CERT_FILE"] = ca
        uvloop.run(transport_alone(pushes, port))
    verdict = judge(rate, at_least, "pushes/s per core", 0, others.cores())
    print(verdict.line)
    raise SystemExit(verdict.failed)


if __name__ == "__main__":
    main()
