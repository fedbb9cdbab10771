"""`sigil enrol` as a person and a script use it: a real server, a software device that scans, and each exit code."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import pytest
import segno
from click.testing import CliRunner

import sigil.cli.devices.enrol as command
from sigil.cli.devices.enrol import Exit, enrol
from sigil.device import Device
from sigil.protocol.keys import PrivateKey
from sigil.sdk import Enrolment, SigilAuth
from tests.cli.test_ask import _default_signals, environ
from tests.support.live import DEADLINE, LiveServer
from tests.support.phone import Phone
from tests.support.ports import free_port
from tests.support.web_key import WebKey

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="off", SIGIL_ENROL_WITHOUT_CODE="true") as running:
        yield running


@pytest.fixture
def sdk(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SigilAuth]:
    """A backend; the command in this process has the same environment."""
    for name, value in environ(server).items():
        monkeypatch.setenv(name, value)
    with SigilAuth() as client:
        yield client


class Command:
    """The command in a process of its own, ended with the test."""

    def __init__(self, server: LiveServer, *arguments: str, **options: Any) -> None:
        env = environ(server) | {"TERM": "xterm-256color", "COLUMNS": "100", **options.pop("env", {})}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sigil", "enrol", *arguments],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
            env=env,
            cwd=ROOT,
            text=True,
        )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process as process:
            if process.poll() is None:
                process.kill()

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        members: dict[str, Any] = json.loads(self.process.stdout.readline())
        return members

    def type(self, text: str) -> None:
        stdin: IO[str] | None = self.process.stdin
        assert stdin is not None
        stdin.write(text)
        stdin.flush()

    def ended(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, output or "", errors or ""


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**6:06}"


@pytest.fixture
def web_server() -> Iterator[LiveServer]:
    with LiveServer(workers=1, SIGIL_RATE_LIMIT="off", SIGIL_PUBLIC_URL="https://sigil.example.com") as running:
        yield running


def test_the_web_link_comes_first_and_the_code_draws_it(web_server: LiveServer, screen: Screen) -> None:
    with Command(web_server, "Zoë", "--json") as enrolling:
        begun = enrolling.line()
        assert set(begun) == {"enrolment_id", "status", "web_uri", "uri", "token", "expires_at"}
        assert begun["web_uri"].startswith("https://sigil.example.com/device/#s=")
        assert begun["web_uri"].endswith(f"&t={begun['token']}")
    with Command(web_server, "alice", stdin=screen.command, stderr=screen.command):
        screen.await_text(r"Or type (\S{4}-\S{4}-\S{4})")
        web = screen.await_text(
            r"Scan it with the phone, or open (https://\S+)\s+For an authenticator app: sigil:enrol\?"
        )[1]
        lines = re.findall(r"\x1b\[38;5;16;48;5;231m([ ▀▄█]+)\x1b\[0m", screen.text)
        modules = [[letter in pair for letter in line] for line in lines for pair in ("▀█", "▄█")]
        expected = [
            [dark == 1 for dark in row] for row in segno.make(web, error="l", micro=False).matrix_iter(border=2)
        ]
        assert modules[: len(expected)] == expected


def test_the_result_reports_what_a_web_device_proved() -> None:
    server = LiveServer(workers=1, SIGIL_RATE_LIMIT="off")
    server.environ["SIGIL_PUBLIC_URL"] = f"https://localhost:{server.port}"
    with server:
        phone = Phone(server)
        phone.device = Device(cast(PrivateKey, WebKey(server.environ["SIGIL_PUBLIC_URL"])))
        with Command(server, "Zoë", "--json") as enrolling:
            enrolling.type(f"{phone.scan(enrolling.line()['uri']).code}\n")
            assert enrolling.line()["status"] == "confirming"
            enrolled = enrolling.line()
            assert enrolled["device_public_key"] == phone.device.wire_key
            assert (enrolled["user_verification"], enrolled["synced"]) == (True, False)


def test_a_script_reads_lines_and_writes_the_code(server: LiveServer) -> None:
    phone = Phone(server)
    with Command(server, "Zoë", "--json", env={"LC_ALL": "C"}) as enrolling:
        begun = enrolling.line()
        assert set(begun) == {"enrolment_id", "status", "uri", "token", "expires_at"}
        session = phone.scan(begun["uri"])
        assert phone.offer is not None
        assert (phone.offer.account, phone.offer.members.confirm) == ("Zoë", "code")
        confirming = enrolling.line()
        assert confirming["status"] == "confirming"
        assert confirming["fingerprint"] == phone.device.fingerprint
        assert confirming["session_pictogram"] == session.pictogram
        assert confirming["session_pictogram_speakable"] == session.speakable
        enrolling.type(f"{wrong(session.code)}\n")
        assert enrolling.line()["attempts_left"] == 2
        enrolling.type("no code\n")
        assert enrolling.line()["error"] == "INVALID_REQUEST"
        # Without a newline, and with what people type.
        enrolling.type(f"{session.code[:3]} {session.code[3:]}")
        code, output, errors = enrolling.ended()
    assert (code, errors) == (Exit.ENROLLED, "")
    enrolled = json.loads(output)
    assert enrolled["device_public_key"] == phone.device.wire_key
    assert not {"user_verification", "synced"} & set(enrolled)
    assert {name: enrolled[name] for name in ("status", "account", "confirm", "fingerprint", "enrolment_id")} == {
        "status": "enrolled",
        "account": "Zoë",
        "confirm": "code",
        "fingerprint": phone.device.fingerprint,
        "enrolment_id": begun["enrolment_id"],
    }


class Screen:
    """What a terminal shows, and the keys of the person."""

    def __init__(self) -> None:
        self.person, self.command = pty.openpty()
        attributes = termios.tcgetattr(self.command)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self.command, termios.TCSANOW, attributes)
        termios.tcsetwinsize(self.command, (24, 100))
        self.text, self._bytes = "", b""

    def await_text(self, pattern: str) -> re.Match[str]:
        while not (found := re.search(pattern, self.text)):
            assert select.select([self.person], [], [], DEADLINE)[0], self.text
            self._bytes += os.read(self.person, 65536)
            self.text = self._bytes.decode(errors="ignore")
        return found

    def type(self, text: str) -> None:
        os.write(self.person, text.encode())

    def close(self) -> None:
        for descriptor in (self.person, self.command):
            with suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def screen() -> Iterator[Screen]:
    opened = Screen()
    yield opened
    opened.close()


def test_a_person_scans_the_code_in_the_terminal_and_types_the_phones(server: LiveServer, screen: Screen) -> None:
    phone = Phone(server)
    with Command(server, "alice", stdin=screen.command, stderr=screen.command) as enrolling:
        token = screen.await_text(r"Or type (\S{4}-\S{4}-\S{4})")[1]
        uri = screen.await_text(r"sigil:enrol\?\S+")[0]
        assert uri.endswith(token.replace("-", ""))
        lines = re.findall(r"\x1b\[38;5;16;48;5;231m([ ▀▄█]+)\x1b\[0m", screen.text)
        modules = [[letter in pair for letter in line] for line in lines for pair in ("▀█", "▄█")]
        expected = [
            [dark == 1 for dark in row] for row in segno.make(uri, error="l", micro=False).matrix_iter(border=2)
        ]
        assert modules[: len(expected)] == expected
        session = phone.scan(uri)
        screen.await_text("Type its six digits only if it does.*\n.*The code on your phone: ")
        assert f"{' '.join(session.pictogram)}  {session.speakable}" in screen.text
        screen.type(f"{wrong(session.code)}\n")
        screen.await_text(r"Wrong code, 2 attempts left\s+.*The code on your phone: ")
        screen.type(f"{session.code}\n")
        exit_code, output, _ = enrolling.ended()
    assert exit_code == Exit.ENROLLED, screen.text
    assert json.loads(output)["device_public_key"] == phone.device.wire_key, "standard output has one line of JSON"
    assert session.code not in output


def test_three_wrong_codes_are_exit_1(server: LiveServer) -> None:
    phone = Phone(server)
    with Command(server, "alice", "--json") as enrolling:
        session = phone.scan(enrolling.line()["uri"])
        enrolling.type(f"{wrong(session.code)}\n" * 3)
        code, output, _ = enrolling.ended()
    last = json.loads(output.splitlines()[-1])
    assert (code, last["status"], last["reason"]) == (Exit.NOT_ENROLLED, "failed", "wrong_code")


def test_the_end_of_standard_input_cancels(server: LiveServer, sdk: SigilAuth) -> None:
    phone = Phone(server)
    with Command(server, "alice", "--json") as enrolling:
        begun = enrolling.line()
        phone.scan(begun["uri"])
        code, _, errors = enrolling.ended()
    assert (code, errors.count("\n")) == (Exit.NOT_ENROLLED, 1)
    assert "standard input ended" in errors
    assert sdk.enrolment.get_status(begun["enrolment_id"]).status == "cancelled"


def test_a_cancellation_by_another_program_ends_the_prompt(server: LiveServer, sdk: SigilAuth, screen: Screen) -> None:
    with Command(server, "alice", "--json", stdin=screen.command, stderr=screen.command) as enrolling:
        begun = enrolling.line()
        Phone(server).scan(begun["uri"])
        screen.await_text("The code on your phone: ")
        sdk.enrolment.cancel(begun["enrolment_id"])
        code, output, _ = enrolling.ended()
    assert code == Exit.NOT_ENROLLED
    assert json.loads(output.splitlines()[-1])["status"] == "cancelled"


@pytest.mark.parametrize("at", ["pending", "confirming"])
def test_ctrl_c_cancels_the_enrolment(server: LiveServer, sdk: SigilAuth, at: str) -> None:
    with Command(server, "alice", "--json", preexec_fn=_default_signals) as enrolling:
        begun = enrolling.line()
        if at == "confirming":
            Phone(server).scan(begun["uri"])
            assert enrolling.line()["status"] == "confirming"
        enrolling.process.send_signal(signal.SIGINT)
        assert enrolling.ended() == (130, "", "")
    assert sdk.enrolment.get_status(begun["enrolment_id"]).status == "cancelled"


def test_a_signal_after_the_device_was_enrolled_does_not_lose_its_key(server: LiveServer, sdk: SigilAuth) -> None:
    phone = Phone(server)
    with Command(server, "alice", "--json", preexec_fn=_default_signals) as enrolling:
        begun = enrolling.line()
        session = phone.scan(begun["uri"])
        assert enrolling.line()["status"] == "confirming"
        # Stopped, it sees the signal and the end of the enrolment at the same time.
        enrolling.process.send_signal(signal.SIGSTOP)
        sdk.enrolment.confirm(begun["enrolment_id"], session.code)
        enrolling.process.send_signal(signal.SIGINT)
        enrolling.process.send_signal(signal.SIGCONT)
        code, output, errors = enrolling.ended()
    assert (code, errors) == (Exit.ENROLLED, "")
    assert json.loads(output)["device_public_key"] == phone.device.wire_key


def test_without_a_code_the_phones_answer_is_enough(server: LiveServer) -> None:
    phone = Phone(server)
    with Command(server, "alice", "--json", "--no-code", stdin=subprocess.DEVNULL) as enrolling:
        phone.scan(enrolling.line()["uri"])
        code, output, errors = enrolling.ended()
    assert (code, errors) == (Exit.ENROLLED, "")
    assert (json.loads(output)["confirm"], json.loads(output)["fingerprint"]) == ("none", phone.device.fingerprint)


def test_silence_is_exit_3_and_cancels(sdk: SigilAuth, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Enrolment] = []

    async def no_time(end: float, poll: object) -> None:
        return None

    monkeypatch.setattr(command, "poll_until", no_time)
    monkeypatch.setattr(command._Enrolling, "_show", lambda self, enrolment: begun.append(enrolment))
    ran = CliRunner().invoke(enrol, ["alice", "--timeout", "60"])
    assert (ran.exit_code, ran.stdout) == (Exit.NO_DEVICE, "")
    assert "no device was enrolled within 60 s" in ran.stderr
    assert sdk.enrolment.get_status(begun[0].enrolment_id).status == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "Missing argument 'ACCOUNT'"),
        (["alice", "--timeout", "59"], "60<=x<=900"),
        (["alice", "--timeout", "901"], "60<=x<=900"),
        (["alice", "--no-code", "--timeout", "121"], "at most 120 s"),
        (["alice", "--min-level", "high"], "secure_element"),
        (["alice", "--replaces", " "], "--replaces is empty"),
        (["\udcff"], "neither UTF-8"),
    ],
)
def test_wrong_usage_is_exit_2(sdk: SigilAuth, arguments: list[str], hint: str) -> None:
    ran = CliRunner().invoke(enrol, arguments)
    assert (ran.exit_code, ran.stdout) == (Exit.USAGE, "")
    assert hint in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "changed", "hint"),
    [
        (["two\nlines"], {}, "ACCOUNT: "),
        (["x" * 129], {}, "ACCOUNT: "),
        (["alice", "--replaces", "AAAA"], {}, "--replaces: "),
        (["alice", "--min-level", "hardware"], {}, "attestation"),
        (["alice"], {"SIGIL_API_KEY": ""}, "SIGIL_API_KEY is not set"),
        (["alice"], {"SIGIL_API_KEY": "sgk_test_" + "0" * 64}, "does not accept this API key"),
        (["alice"], {"SIGIL_CA_FILE": ""}, "certificate"),
        (["alice"], {"SIGIL_SERVICE_URL": f"https://127.0.0.1:{free_port()}"}, "No response from"),
    ],
)
def test_what_cannot_be_begun_is_exit_4(
    sdk: SigilAuth, monkeypatch: pytest.MonkeyPatch, arguments: list[str], changed: dict[str, str], hint: str
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    ran = CliRunner().invoke(enrol, arguments)
    assert (ran.exit_code, ran.stdout) == (Exit.CANNOT_ENROL, ""), ran.output
    assert hint in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_without_segno_or_a_wide_terminal_the_link_and_the_token_are_enough(
    sdk: SigilAuth, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolment = sdk.enrolment.begin("alice")
    assert command._qr(enrolment) is None, "standard error is no terminal"
    monkeypatch.setattr(command, "is_terminal", lambda stream: True)
    monkeypatch.setattr(command, "draws_blocks", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "100")
    assert "▀" in (command._qr(enrolment) or "")
    monkeypatch.setenv("COLUMNS", "40")
    assert command._qr(enrolment) is None, "a line that wraps is no code"
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setitem(sys.modules, "segno", None)
    assert command._qr(enrolment) is None
    assert "pip install '.[qr]'" in capsys.readouterr().err
    sdk.enrolment.cancel(enrolment.enrolment_id)


def test_a_device_that_changes_its_key_names_the_old_one(server: LiveServer) -> None:
    old, phone = Device.generate(), Phone(server)
    with Command(server, "alice", "--json", "--no-code", "--replaces", f"{old.wire_key}\r") as enrolling:
        phone.scan(enrolling.line()["uri"], replaced=old)
        code, output, _ = enrolling.ended()
    assert (code, json.loads(output)["replaced"]) == (Exit.ENROLLED, old.fingerprint)
