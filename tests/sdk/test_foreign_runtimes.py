"""Clients under gevent, in several event loops, in threads and in forked processes; arguments of another type.

Every method works, or raises SigilError.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sigil.sdk import (
    Action,
    AsyncSigilAuth,
    ConfigurationError,
    ConnectionFailed,
    InvalidRequest,
    NotFound,
    ResultTimeout,
    SigilAuth,
    SigilError,
)
from tests.sdk.conftest import Calls, Connect, MovingClock
from tests.sdk.faults import FaultServer, answer, trickling
from tests.sdk.test_faults import ACTION, ID, VERIFIED, status_body
from tests.support.live import DEADLINE, LiveServer

# The client calls a real server, concurrently, with each kind of trust; a wrong pin sends nothing.
GEVENT = """
import sys
{before}
from gevent import monkey
monkey.patch_all()
import asyncio, hashlib, ssl
import gevent
from sigil.device import Device
from sigil.sdk import Action, AsyncSigilAuth, CertificateRefused, ResultTimeout, SigilAuth

url, ca = sys.argv[1:]
pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(open(ca).read().partition("-----END")[0] + "-----END CERTIFICATE-----"))
ACTION = Action("login", "Sign in")

def waited(auth):
    challenge = auth.create_challenge(Device.generate().wire_key, ACTION)
    try:
        auth.await_result(challenge.challenge_id, timeout=1.5)
    except ResultTimeout:
        return auth.cancel(challenge.challenge_id).status

for options in ({{"ca_file": ca}}, {{"tls_pin": pin.hexdigest()}}):
    with SigilAuth(url, **options) as client:
        jobs = [gevent.spawn(waited, client.auth) for _ in range(8)]
        print([job.get() for job in jobs].count("cancelled"))
for options in ({{}}, {{"tls_pin": "00" * 32}}):
    try:
        SigilAuth(url, **options).auth.get_status("0a1b2c3d-0000-4000-8000-000000000001")
    except CertificateRefused:
        print("refused")

async def main():
    async with AsyncSigilAuth(url, ca_file=ca) as client:
        challenge = await client.auth.create_challenge(Device.generate().wire_key, ACTION)
        print((await client.auth.cancel(challenge.challenge_id)).status)

asyncio.run(main())
{after}
"""


def _run(program: str, server: LiveServer) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", program, server.url, str(server.certificate)],
        env={"SIGIL_API_KEY": server.api_key, "PATH": os.environ["PATH"]},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


MADE_BEFORE = "from sigil.sdk import SigilAuth\nmade = SigilAuth(sys.argv[1], ca_file=sys.argv[2], tries=1)"
# gevent replaces the classes that a TLS context made before refers to.
USED_AFTER = """
from sigil.sdk import ConnectionFailed
try:
    made.auth.get_status("0a1b2c3d-0000-4000-8000-000000000001")
except ConnectionFailed:
    print("failed")
"""


@pytest.mark.parametrize(
    ("before", "after", "last"),
    [("", "", ""), ("import sigil.sdk", "", ""), (MADE_BEFORE, USED_AFTER, "failed\n")],
    ids=["before the import", "after the import", "after a client was made"],
)
def test_a_client_works_under_gevent(server: LiveServer, before: str, after: str, last: str) -> None:
    pytest.importorskip("gevent")
    printed = _run(GEVENT.format(before=before, after=after), server)
    assert printed == "8\n8\nrefused\nrefused\ncancelled\n" + last


FOREIGN_CONTEXT = """
import ssl, sys

class Context(ssl.SSLContext):
    def wrap_socket(self, sock, **options):
        return plain.wrap_socket(sock, **options)

plain = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
ssl.SSLContext = Context
from sigil.sdk import AsyncSigilAuth, ConfigurationError, SigilAuth

for client in (SigilAuth, AsyncSigilAuth):
    for options in ({"ca_file": sys.argv[2]}, {"tls_pin": "00" * 32}):
        try:
            client(sys.argv[1], **options)
        except ConfigurationError as error:
            print("__main__ has replaced ssl.SSLContext" in str(error))
"""


def test_a_trust_that_another_library_would_ignore_is_refused(server: LiveServer) -> None:
    assert _run(FOREIGN_CONTEXT, server) == "True\n" * 4


LOOPS = """
import asyncio, sys, threading
from sigil.device import Device
from sigil.sdk import Action, AsyncSigilAuth, ConfigurationError

client = AsyncSigilAuth(sys.argv[1], ca_file=sys.argv[2])

async def create():
    return (await client.auth.create_challenge(Device.generate().wire_key, Action("login", "Sign in"))).challenge_id

print(len({asyncio.run(create()) for _ in range(3)}))

async def beside_another_loop():
    return await asyncio.gather(create(), asyncio.to_thread(asyncio.run, create()), create())

print(len(set(asyncio.run(beside_another_loop()))))
asyncio.run(client.aclose())
try:
    asyncio.run(create())
except ConfigurationError as error:
    print(error.message)
"""


def test_several_event_loops_may_use_one_client(server: LiveServer) -> None:
    assert _run(LOOPS, server) == "3\n3\nThis client has been closed.\n"


def test_without_an_event_loop_of_asyncio_the_error_names_the_other_client(faulty: FaultServer) -> None:
    client = AsyncSigilAuth(faulty.url, ca_file=faulty.certificate)
    for call in (client.auth.get_status(ID), client.mpa.cancel("r1"), client.aclose()):
        with pytest.raises(ConfigurationError, match="use SigilAuth"):
            call.send(None)


def test_a_forked_process_has_connections_of_its_own(server: LiveServer) -> None:
    """Two processes on one TLS connection break it, or read each other's responses."""
    program = (
        "import os, sys\nfrom sigil.device import Device\nfrom sigil.sdk import Action, SigilAuth\n"
        "client = SigilAuth(sys.argv[1], ca_file=sys.argv[2], tries=1)\n"
        "def ids():\n"
        "    create = client.auth.create_challenge\n"
        "    made = [create(Device.generate().wire_key, Action('login', 'Sign in')) for _ in range(20)]\n"
        "    return [client.auth.cancel(one.challenge_id).status for one in made].count('cancelled')\n"
        "ids()\n"
        "children = []\n"
        "for _ in range(3):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os._exit(ids())\n"
        "    children.append(child)\n"
        "print(ids(), [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], ids())\n"
    )
    assert _run(program, server) == "20 [20, 20, 20] 20\n"


def test_closing_while_threads_wait_ends_each_with_an_error(faulty: FaultServer) -> None:
    faulty.script = [trickling(b"", b"")] * 4
    client = SigilAuth(faulty.url, ca_file=faulty.certificate, timeout=2.0)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            client.auth.get_status(ID)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(faulty.seen) < 4:
        threading.Event().wait(0.01)
    client.close()
    for thread in threads:
        thread.join(DEADLINE)
    assert [error for error in errors if not isinstance(error, SigilError)] == []
    assert len(errors) == 4


def test_closing_may_be_repeated_and_ends_every_method(faulty: FaultServer) -> None:
    client = SigilAuth(faulty.url, ca_file=faulty.certificate)
    faulty.script = [VERIFIED]
    client.auth.get_status(ID)
    for _ in range(2):
        client.close()
    calls: list[Callable[[], Any]] = [
        lambda: client.auth.create_challenge("AAAA", ACTION),
        lambda: client.auth.get_status(ID),
        lambda: client.auth.await_result(ID),
        lambda: client.auth.cancel(ID),
        lambda: client.mpa.request(ACTION, [["AAAA"]], 1),
        lambda: client.mpa.get_status("r1"),
        lambda: client.mpa.await_result("r1"),
        lambda: client.mpa.cancel("r1"),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="closed"):
            call()


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_a_host_name_that_cannot_exist_is_a_failed_connection(connect: Connect, clock: MovingClock, host: str) -> None:
    with pytest.raises(SigilError) as failed:
        connect(f"https://{host}", clock=clock.as_clock()).get_status(ID)
    assert isinstance(failed.value, ConnectionFailed | ConfigurationError)


NOT_IDS: list[Any] = [None, 5, b"x", [ID]]


@pytest.mark.parametrize("value", NOT_IDS)
def test_an_id_of_another_type_is_not_found(faulty: FaultServer, connect: Connect, value: Any) -> None:
    for part in ("auth", "mpa"):
        calls: Any = connect(faulty.url, part, ca_file=faulty.certificate)
        for call in (calls.get_status, calls.await_result, calls.cancel):
            with pytest.raises(NotFound):
                call(value)
    assert faulty.seen == []


@pytest.mark.parametrize("value", ["60", float("nan"), float("inf"), True, [1]])
def test_a_timeout_that_is_no_number_is_an_error(faulty: FaultServer, scripted: Calls, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        scripted.await_result(ID, timeout=value)
    assert faulty.seen == []


@pytest.mark.parametrize("action", [None, 5, "login", ["login"], object(), {1: 2}, Action("login", None)])  # type: ignore[arg-type]
def test_an_action_of_another_type_is_an_invalid_request(faulty: FaultServer, connect: Connect, action: Any) -> None:
    auth: Any = connect(faulty.url, ca_file=faulty.certificate)
    mpa: Any = connect(faulty.url, "mpa", ca_file=faulty.certificate)
    for call in (lambda: auth.create_challenge("AAAA", action), lambda: mpa.request(action, [["AAAA"]], 1)):
        with pytest.raises(InvalidRequest):
            call()
    assert faulty.seen == []


@pytest.mark.parametrize("groups", [None, 5, "AAAA", [None], [5], ["AAAA"], b"AAAA", [b"AAAA"]])
def test_groups_of_another_type_are_an_invalid_request(faulty: FaultServer, connect: Connect, groups: Any) -> None:
    mpa: Any = connect(faulty.url, "mpa", ca_file=faulty.certificate)
    with pytest.raises(InvalidRequest, match="groups"):
        mpa.request(ACTION, groups, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"idempotency_key": 5},
        {"fingerprint": object()},
        {"number_matching": object()},
        {"expires_in_seconds": object()},
    ],
)
def test_an_option_of_another_type_is_an_invalid_request(
    faulty: FaultServer, scripted: Calls, options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        scripted.create_challenge("AAAA", ACTION, **options)
    assert faulty.seen == []


def test_a_wait_that_a_closed_client_cuts_short_does_not_go_on(faulty: FaultServer, clock: MovingClock) -> None:
    """`close` between two polls ends `await_result`."""
    pending = answer(200, status_body())
    client = SigilAuth(faulty.url, ca_file=faulty.certificate, clock=clock.as_clock())

    def close(handler: Any) -> None:
        pending(handler)
        client.close()

    faulty.script = [pending, close, pending]
    with pytest.raises((ConfigurationError, ConnectionFailed, ResultTimeout)):
        client.auth.await_result(ID, timeout=60)
    assert len(faulty.seen) == 2
