"""`sigil ask` as a script calls it: a real server, a software device that answers, and each exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sigil.cli.devices.ask import Exit, _Question
from sigil.device import Device
from sigil.device.client import DeviceClient
from sigil.device.http.connection import ServerConnection
from sigil.device.http.tls import TlsTrust
from sigil.device.server_pin import verify_info
from sigil.protocol.encoding.pictogram import speakable
from sigil.protocol.messages.base import Reason
from sigil.sdk import Action, AsyncSigilAuth
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port

TEXT = "Deploy 1.4 to production"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="off", SIGIL_DEVICE_RATE="off") as running:
        yield running


_started: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    """Ends the commands of a test that failed."""
    yield
    while _started:
        with _started.pop() as process:
            if process.poll() is None:
                process.kill()


class Person:
    """A device, and its user's decisions."""

    def __init__(self, server: LiveServer) -> None:
        self.device, self._server = Device.generate(), server

    @contextmanager
    def _client(self) -> Iterator[DeviceClient]:
        trust = TlsTrust(ca_pem=self._server.certificate.read_text())
        with ServerConnection(self._server.url, trust) as connection:
            pin = verify_info(connection.info(), self._server.url, pin=self._server.identity.server_id, tls=trust)
            yield DeviceClient(self.device, pin, connection)

    def pending(self) -> list[Any]:
        with self._client() as client:
            return list(client.inbox().challenges)

    def await_prompt(self, asking: subprocess.Popen[str]) -> Any:
        def shown() -> Any:
            assert asking.poll() is None, asking.communicate()
            return self.pending()

        return wait_until(shown, "the challenge")[0]

    def approve(self, challenge: Any, number: str | None = None) -> None:
        with self._client() as client:
            client.approve(client.inbox().find(challenge.challenge_id), number)

    def reject(self, challenge: Any, reason: Reason | None = None) -> None:
        with self._client() as client:
            client.reject(client.inbox().find(challenge.challenge_id), reason)


@pytest.fixture
def person(server: LiveServer) -> Person:
    return Person(server)


def environ(server: LiveServer, **changed: str) -> dict[str, str]:
    given = {"SIGIL_SERVICE_URL": server.url, "SIGIL_API_KEY": server.api_key, "SIGIL_CA_FILE": str(server.certificate)}
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **given, **changed}


def ask(device: str, *arguments: str, env: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sigil", "ask", "--device", device, *arguments],
        env=env,
        cwd=Path(__file__).parents[2],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    _started.append(process)
    return process


def ended(asking: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = asking.communicate(timeout=DEADLINE)
    return asking.returncode, output, errors


def test_an_approval_is_exit_0(server: LiveServer, person: Person) -> None:
    asking = ask(f"{person.device.wire_key}\r", TEXT, env=environ(server))
    challenge = person.await_prompt(asking)
    assert (challenge.action_type, challenge.description) == ("ask", TEXT)
    person.approve(challenge)
    code, output, errors = ended(asking)
    assert (code, output) == (Exit.APPROVED, "Approved\n"), errors
    assert errors.endswith(": 60 s to answer\n")
    assert errors.count("\n") == 1


def test_an_argument_is_utf_8_in_every_locale(server: LiveServer, person: Person) -> None:
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    asking = ask(person.device.wire_key, "Pay 12 € to Zoë", env=environ(server, **locale))
    challenge = person.await_prompt(asking)
    person.approve(challenge)
    assert (challenge.description, ended(asking)[0]) == ("Pay 12 € to Zoë", Exit.APPROVED)


def test_the_key_may_come_from_a_file_and_the_text_from_standard_input(
    server: LiveServer, person: Person, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(server.api_key)
    env = environ(server, SIGIL_API_KEY="", SIGIL_API_KEY_FILE=str(tmp_path / "key"))
    asking = ask(person.device.wire_key, "-", env=env, stdin=subprocess.PIPE)
    assert asking.stdin is not None
    asking.stdin.write(f"{TEXT}\n")
    asking.stdin.close()
    asking.stdin = None
    challenge = person.await_prompt(asking)
    assert challenge.description == TEXT
    person.approve(challenge)
    assert ended(asking)[0] == Exit.APPROVED


def test_an_approval_is_exit_0_also_where_its_line_has_no_reader(server: LiveServer, person: Person) -> None:
    asking = ask(person.device.wire_key, TEXT, env=environ(server))
    challenge = person.await_prompt(asking)
    assert asking.stdout is not None
    asking.stdout.close()
    person.approve(challenge)
    assert asking.wait(DEADLINE) == Exit.APPROVED


def test_match_shows_the_number_that_the_device_needs(server: LiveServer, person: Person) -> None:
    asking = ask(person.device.wire_key, "--match", TEXT, env=environ(server))
    challenge = person.await_prompt(asking)
    assert asking.stderr is not None
    shown = [asking.stderr.readline(), asking.stderr.readline()]
    number = re.fullmatch(r"Number ([0-9]{2}): type it on the device\n", shown[1])
    assert number is not None, shown
    person.approve(challenge, number[1])
    assert ended(asking)[0] == Exit.APPROVED


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (None, "Rejected\n"),
        ("cancelled", "Rejected\n"),
        ("unknown_trigger", "Rejected: the person does not know what it is for\n"),
    ],
)
def test_a_rejection_is_exit_1(server: LiveServer, person: Person, reason: Reason | None, line: str) -> None:
    asking = ask(person.device.wire_key, TEXT, env=environ(server))
    person.reject(person.await_prompt(asking), reason)
    code, output, errors = ended(asking)
    assert (code, output) == (Exit.NOT_APPROVED, line), errors


def test_a_challenge_that_another_program_cancels_is_exit_1(server: LiveServer, person: Person) -> None:
    asking = ask(person.device.wire_key, TEXT, env=environ(server))
    challenge = person.await_prompt(asking)
    with server.authorised() as http:
        assert http.delete(f"/v1/auth/challenge/{challenge.challenge_id}").status_code == 200
    assert ended(asking)[:2] == (Exit.NOT_APPROVED, "Cancelled\n")


def test_silence_is_exit_3_and_leaves_nothing_pending(server: LiveServer, person: Person) -> None:
    asking = ask(person.device.wire_key, "--timeout", "30", TEXT, env=environ(server))
    challenge = person.await_prompt(asking)
    assert ended(asking)[:2] == (Exit.NO_ANSWER, "No answer within 30 s\n")
    with server.authorised() as http:
        status = http.get(f"/v1/auth/challenge/{challenge.challenge_id}/status").json()["status"]
    assert status in {"expired", "cancelled"}


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--timeout", "29", TEXT], "30<=x<=300"),
        (["--timeout", "301", TEXT], "30<=x<=300"),
        ([""], "TEXT:"),
        (["x" * 257], "TEXT:"),
        (["two\nlines"], "TEXT:"),
        (["\udcff"], "neither UTF-8"),
        ([], "Missing argument 'TEXT'"),
        (["--groups", "file", TEXT], "No such option"),
    ],
)
def test_wrong_usage_is_exit_2_and_sends_nothing(
    server: LiveServer, person: Person, arguments: list[str], hint: str
) -> None:
    code, output, errors = ended(ask(person.device.wire_key, *arguments, env=environ(server)))
    assert (code, output) == (Exit.USAGE, "")
    assert hint in errors
    assert "Traceback" not in errors
    assert person.pending() == []


def test_an_empty_device_is_exit_2(server: LiveServer) -> None:
    """As of a script whose `sigil device whoami` failed."""
    code, _, errors = ended(ask("", TEXT, env=environ(server)))
    assert (code, "whoami" in errors) == (Exit.USAGE, True), errors


def test_standard_input_without_text_is_exit_2(server: LiveServer, person: Person, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("/dev/null", str(tmp_path / "binary")):
        with Path(name).open("rb") as file:
            code, _, errors = ended(ask(person.device.wire_key, "-", env=environ(server), stdin=file))
        assert (code, "Traceback" in errors) == (Exit.USAGE, False), errors


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ({"SIGIL_API_KEY": ""}, "SIGIL_API_KEY is not set"),
        ({"SIGIL_API_KEY": "sgk_test_" + "0" * 64}, "does not accept this API key"),
        ({"SIGIL_API_KEY": "", "SIGIL_API_KEY_FILE": "/nonexistent"}, "cannot be read"),
        ({"SIGIL_SERVICE_URL": ""}, "SIGIL_SERVICE_URL"),
        ({"SIGIL_CA_FILE": ""}, "certificate"),
        ({"SIGIL_SERVICE_URL": f"https://127.0.0.1:{free_port()}"}, "No response from"),
    ],
    ids=["no key", "foreign key", "no key file", "no address", "untrusted certificate", "no server"],
)
def test_what_cannot_be_requested_is_exit_4(
    server: LiveServer, person: Person, changed: dict[str, str], hint: str
) -> None:
    code, output, errors = ended(ask(person.device.wire_key, TEXT, env=environ(server, **changed)))
    assert (code, output) == (Exit.CANNOT_ASK, "")
    assert hint in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(("key", "error"), [("AAAA", "INVALID_PUBLIC_KEY"), ("no key", "INVALID_REQUEST")])
def test_a_key_that_is_no_device_key_is_exit_4(server: LiveServer, key: str, error: str) -> None:
    code, _, errors = ended(ask(key, TEXT, env=environ(server)))
    assert (code, errors.count("\n")) == (Exit.CANNOT_ASK, 1)
    assert error in errors
    assert "--device: " in errors
    assert "whoami" in errors


def test_a_device_with_too_many_challenges_is_exit_4(server: LiveServer, person: Person) -> None:
    with server.authorised() as http:
        for _ in range(5):
            body = {"device_public_key": person.device.wire_key, "action": {"type": "login", "description": "Sign in"}}
            assert http.post("/challenge", json=body).status_code == 201
    code, _, errors = ended(ask(person.device.wire_key, TEXT, env=environ(server)))
    assert (code, "TOO_MANY_PENDING" in errors) == (Exit.CANNOT_ASK, True), errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_challenge(server: LiveServer, person: Person, number: signal.Signals) -> None:
    asking = ask(person.device.wire_key, TEXT, env=environ(server), preexec_fn=_default_signals)
    challenge = person.await_prompt(asking)
    asking.send_signal(number)
    assert ended(asking) == (128 + number, "", asking_line(person))
    assert person.pending() == []
    with server.authorised() as http:
        status = http.get(f"/v1/auth/challenge/{challenge.challenge_id}/status").json()["status"]
    assert status == "cancelled"


def asking_line(person: Person) -> str:
    return f"Device {speakable(person.device.fingerprint)}: 60 s to answer\n"


def _default_signals() -> None:
    """A test run in the background ignores SIGINT, and what it starts would too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def test_a_signal_that_was_ignored_stays_ignored(server: LiveServer, person: Person) -> None:
    asking = ask(
        person.device.wire_key,
        TEXT,
        env=environ(server),
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    challenge = person.await_prompt(asking)
    asking.send_signal(signal.SIGHUP)
    person.approve(challenge)
    assert ended(asking)[0] == Exit.APPROVED


def test_a_signal_before_the_response_cancels_the_challenge_too(server: LiveServer, person: Person) -> None:
    """The creation's response is held back: the command does not know the challenge yet."""
    with Holding(server) as proxy:
        env = environ(server, SIGIL_SERVICE_URL=proxy.url)
        asking = ask(person.device.wire_key, TEXT, env=env, preexec_fn=_default_signals)
        person.await_prompt(asking)
        asking.send_signal(signal.SIGTERM)
        code, _, errors = ended(asking)
    assert (code, errors) == (143, "")
    assert person.pending() == []


class Holding:
    """A TCP proxy that holds back the responses on its first connection."""

    def __init__(self, server: LiveServer) -> None:
        self._target = server.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []

    def __enter__(self) -> Holding:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        holds = True
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open += [client, server]
            # Before its second flight, the client needs the server's handshake; after it, nothing.
            flights = [0]
            for pump in ((client, server, flights, False), (server, client, flights, holds)):
                threading.Thread(target=self._pump, args=pump, daemon=True).start()
            holds = False

    def _pump(self, source: socket.socket, target: socket.socket, flights: list[int], holds: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if holds and flights[0] >= 2:
                    continue
                if not holds:
                    flights[0] += 1
                target.sendall(data)


def test_a_server_that_restarts_meanwhile_is_polled_again(person: Person) -> None:
    with LiveServer(workers=1) as server:
        person = Person(server)
        asking = ask(person.device.wire_key, TEXT, env=environ(server))
        challenge = person.await_prompt(asking)
        server.kill()
        # Longer than the SDK's own retries.
        time.sleep(8)
        server.start()
        assert asking.poll() is None
        person.approve(challenge)
        assert ended(asking)[:2] == (Exit.APPROVED, "Approved\n")


def test_an_answer_of_the_last_moment_counts(
    server: LiveServer, person: Person, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time ended by the command's own clock; the failed cancellation shows that the answer was there."""
    for name, value in environ(server).items():
        monkeypatch.setenv(name, value)
    question = _Question(Action("ask", TEXT), person.device.wire_key, None, 60)

    async def put() -> int:
        async with AsyncSigilAuth() as client:
            question._challenge_id = (await question._create(client)).challenge_id
            (challenge,) = await asyncio.to_thread(person.pending)
            await asyncio.to_thread(person.approve, challenge)
            return question._report(await question._withdraw(client))

    assert asyncio.run(put()) == Exit.APPROVED
    assert capsys.readouterr().out == "Approved\n"


def test_a_failed_push_is_shown_while_the_command_waits() -> None:
    with LiveRelay() as relay, LiveServer(workers=1, RELAY_URL=relay.url) as server:
        person = Person(server)
        asking = ask(person.device.wire_key, TEXT, env=environ(server))
        challenge = person.await_prompt(asking)
        assert asking.stderr is not None
        shown = [asking.stderr.readline(), asking.stderr.readline()]
        assert shown[1] == "warning: the push failed (not_registered): open the device's app\n"
        person.approve(challenge)
        assert ended(asking)[0] == Exit.APPROVED
