"""The shell sessions of the README's first screen: `make dev`, and the two sessions to paste while it runs."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.checkout import DEV, ROOT, WIZARD, Checkout, sessions, shown
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def curl_session() -> str:
    (session,) = re.findall(r"^## With curl\n.*?^```sh\n(.*?)^```", _ask_page(), re.DOTALL | re.MULTILINE)
    return str(session)


def _ask_page() -> str:
    return (ROOT / "docs" / "ask.md").read_text()


def device_program() -> str:
    (program,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "device.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return str(program)


def test_the_program_of_the_page_about_devices_answers_a_challenge(checkout: Checkout) -> None:
    with checkout.running(*DEV) as dev:
        wait_until(lambda: "Sigil answers on" in checkout.output or dev.poll() is not None, "make dev")
        program = device_program().replace("localhost:8080", f"localhost:{checkout.relay_port}")
        (checkout.folder / "device.py").write_text(program)
        with checkout.running("sh", "-ec", ". .dev/env; exec python3 -u device.py") as device:
            key = wait_until(
                lambda: re.findall(r"^[A-Za-z0-9+/]{44}$", checkout.output, re.MULTILINE) or device.poll() is not None,
                "the device's key",
            )
            assert isinstance(key, list), checkout.output
            approved = checkout.run("sh", "-ec", f". .dev/env; sigil ask --device {key[0]} Text")
            assert (approved.returncode, approved.stdout) == (0, "Approved\n"), approved.stderr + checkout.output


def test_the_shell_sessions_of_the_readme_approve_a_challenge(checkout: Checkout) -> None:
    commands, browser, enrolment, by_link, backend = sessions()
    assert "browser_key" in browser
    assert "make dev" in commands
    with checkout.running(*DEV) as dev:
        wait_until(lambda: "README.md has the next steps" in checkout.output or dev.poll() is not None, "make dev")
        assert ". .dev/env && sigil enrol alice" in checkout.output
        early = checkout.run("sh", "-ec", backend)
        assert (early.returncode, "whoami --key" in early.stderr) == (2, True), early.stderr
        with checkout.running("sh", "-ec", enrolment, stdin=subprocess.PIPE) as page:
            link = shown(checkout, page, r"sigil:enrol\?\S+")
            # Without a terminal it cannot prompt.
            device = by_link.replace("sigil:enrol?…", link).replace("device enrol", "device enrol --yes")
            with checkout.running("sh", "-ec", device) as enrolling:
                code = shown(checkout, enrolling, r"(?m)^Code +([0-9]{6})$")
                assert page.stdin is not None
                page.stdin.write(f"{code}\n".encode())
                page.stdin.close()
                assert page.wait(DEADLINE) == 0, checkout.output
                wait_until(
                    lambda: "Listening at" in checkout.output or enrolling.poll() is not None, "the enrolled device"
                )
        # Pasted again: the link is done, and the device listens.
        listening = checkout.output.count("Listening at")
        assert listening == 1, checkout.output
        with checkout.running("sh", "-ec", device) as first:
            wait_until(lambda: checkout.output.count("Listening at") == 2 or first.poll() is not None, "the device")
            for _ in range(2):
                approved = checkout.run("sh", "-ec", backend)
                assert approved.returncode == 0, approved.stderr + checkout.output
                assert approved.stdout == "Approved\n"
            # The same session in another terminal ends the first, which reports what to do.
            with checkout.running("sh", "-ec", device) as second:
                assert first.wait(DEADLINE) == 1
                assert "Use that one, or end it and start again." in checkout.output
                wait_until(
                    lambda: checkout.output.count("Listening at") == 3 or second.poll() is not None, "the second device"
                )
                by_hand = checkout.run("sh", "-ec", curl_session())
                assert by_hand.returncode == 0, by_hand.stderr + checkout.output
                assert json.loads(by_hand.stdout.strip().splitlines()[-1])["status"] == "verified", checkout.output
        again = checkout.run(*DEV)
        assert (again.returncode, again.stdout) == (1, "")
        assert [line for line in again.stderr.splitlines() if f"port {checkout.port} is in use" in line]
        assert "Sigil answers on" not in again.stderr
        # A second one on other ports would replace the settings of the shells that use the first.
        home = checkout.folder / ".dev"
        settings = [(home / name).read_text() for name in ("env", "curl")]
        elsewhere = checkout.run("env", f"SIGIL_HTTP_PORT={free_port()}", f"RELAY_PORT={free_port()}", *DEV)
        assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
        assert elsewhere.stderr == f"make dev: another `make dev` uses {home}; stop it first\n"
        assert [(home / name).read_text() for name in ("env", "curl")] == settings
        dev.send_signal(signal.SIGTERM)
        assert dev.wait(DEADLINE) == 0


def attestation_sessions() -> list[str]:
    page = (ROOT / "docs" / "attestation.md").read_text()
    section = page.split("\n## Without a phone\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_the_sessions_of_the_page_about_attestation_attest_and_explain(checkout: Checkout) -> None:
    server, device = attestation_sessions()
    assert "make dev" in server
    with checkout.running("sh", "-ec", server.replace("make dev", f"exec {' '.join(DEV)}")) as dev:
        wait_until(lambda: "README.md has the next steps" in checkout.output or dev.poll() is not None, "make dev")
        init = "sigil device init --server $SIGIL_SERVICE_URL --pin $SIGIL_SERVER_ID"
        made = checkout.run("sh", "-ec", f". .dev/env; {init}")
        assert made.returncode == 0, made.stderr + checkout.output
        # Without -e: two of the commands reject.
        ran = checkout.run("sh", "-c", device)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.count("Attested     android-key, hardware") == 2, ran.stderr
        rejected = re.findall(r"^Rejected: (\w+)", ran.stdout, re.MULTILINE)
        assert rejected == ["environment", "emulator"], ran.stdout + ran.stderr
        assert "apple-other-app" in ran.stdout


SDK_PAGE = """
from sigil.device import Device
from sigil.sdk import Action, SigilAuth

with SigilAuth() as sigil:
    challenge = sigil.auth.create_challenge(Device.generate().wire_key, Action("payment", "Pay 12 € to Zoë"))
    print(sigil.auth.cancel(challenge.challenge_id).status)
"""


def test_a_shell_with_the_settings_of_make_dev_reaches_the_server(tmp_path: Path) -> None:
    """In a path that no shell reads as it stands, in each shell, and with a key of its own."""
    folder = tmp_path / """a "b" $HOME `c` 'd' \\e"""
    folder.mkdir()
    checkout = Checkout(folder)
    commands = [
        "export SIGIL_API_KEY=another",
        "export SIGIL_CA_FILE=of-another-server SIGIL_PORT=8443; unset SIGIL_HTTP_PORT",
        ". .dev/env",
        "cd /",
        'sigil webhook failures && sigil-relay --help >"$OLDPWD/help" && sigil --version >"$OLDPWD/version"',
        f"python3 -c '{SDK_PAGE}'",
        'sigil health >"$OLDPWD/healthy"',
        'sigil check-config 2>&1 | grep warning || echo "no warning"',
        'curl -K "$OLDPWD/.dev/curl" "$SIGIL_SERVICE_URL/health" -o "$OLDPWD/health" >"$OLDPWD/written"',
        'printf "%s\\n" "${SIGIL_CA_FILE-unset}"',
    ]
    with checkout.running(*DEV) as dev:
        wait_until(lambda: "Sigil answers on" in checkout.output or dev.poll() is not None, "make dev")
        assert "Sigil answers on" in checkout.output
        expected = ["no event was given up", "cancelled", "no warning", "unset"]
        for shell in ("sh", "bash", "dash", "zsh"):
            if shutil.which(shell):
                ran = checkout.run(shell, "-ec", "\n".join(commands))
                assert (ran.stderr, ran.stdout.splitlines()) == ("", expected), shell


def test_make_dev_creates_its_files_once_and_for_their_owner_alone(checkout: Checkout) -> None:
    files_of_runs: list[str] = []
    for _ in range(2):
        with checkout.running("env", "PYTHONIOENCODING=iso-8859-1", *DEV) as dev:
            wait_until(
                lambda: checkout.output.count("Sigil answers on") > len(files_of_runs) or dev.poll() is not None,
                "make dev",
            )
            files_of_runs.append(
                checkout.run("sh", "-ec", ". .dev/env && echo $SIGIL_SERVER_ID && cat .dev/curl").stdout
            )
            dev.send_signal(signal.SIGTERM)
            assert dev.wait(DEADLINE) == 0
    assert files_of_runs[0] == files_of_runs[1]
    # A picture that the locale does not have is a question mark beside its name.
    assert "\\U0001f" not in checkout.output
    home = checkout.folder / ".dev"
    assert home.stat().st_mode & 0o077 == 0
    secrets = [home / name for name in ("mnemonic", "api_key", "curl", "webpush_key")]
    assert [path for path in secrets if path.stat().st_mode & 0o077] == []
    assert secrets[1].read_text().strip() not in checkout.output


def test_the_doctor_beside_make_dev_has_the_settings_of_its_services(checkout: Checkout) -> None:
    """Also those that the shell of make dev had, in another shell; with each option of `sigil doctor`."""
    webhook = f"http://127.0.0.1:{free_port()}/"
    given = ("env", f"WEBHOOK_URL={webhook}", "WEBHOOK_SECRET=a-secret-of-this-test-of-32-chars-or-more")
    with checkout.running(*given, *DEV) as dev:
        wait_until(lambda: "README.md has the next steps" in checkout.output or dev.poll() is not None, "make dev")
        key = checkout.run(
            "sh",
            "-ec",
            ". .dev/env; sigil device init --server $SIGIL_SERVICE_URL --pin $SIGIL_SERVER_ID"
            " >/dev/null; sigil device register >/dev/null;"
            ' sigil device whoami | sed -n "s/^Fingerprint *//p"',
        )
        fingerprint = key.stdout.split()[0]
        for arguments in ([], ["--send-test"]):
            run = checkout.run(".dev/doctor", "--json", *arguments)
            assert (run.returncode, run.stderr) == (1, ""), run.stdout
            of_server, of_relay = (json.loads(line) for line in run.stdout.splitlines())
            failed = {
                finding["name"]: finding["text"] for finding in of_server["findings"] if finding["state"] == "failed"
            }
            assert list(failed) == ["webhook"]
            assert webhook.rstrip("/") in failed["webhook"]
            assert of_relay["program"] == "sigil-relay"
            # The browsers' push services are those of their vendors, and this machine may have no network.
            relay_failed = {finding["name"] for finding in of_relay["findings"] if finding["state"] == "failed"}
            assert relay_failed <= {"provider_webpush"}
        for command in (".dev/doctor", ". .dev/env; sigil doctor"):
            followed = checkout.run("sh", "-ec", f"{command} push {fingerprint}")
            assert (followed.returncode, followed.stderr) == (0, "")
            assert "registered for WebSocket" in followed.stdout
        in_shell = checkout.run("sh", "-ec", ". .dev/env; sigil doctor --json; sigil-relay devices count")
        assert (in_shell.returncode, webhook.rstrip("/") in in_shell.stdout) == (1, True), in_shell.stderr
        assert checkout.run(".dev/doctor", "--no-such").stdout == ""
        assert checkout.run("sh", "-ec", ". .dev/env; sigil-relay devices count").returncode == 0


@pytest.mark.parametrize(("program", "setting"), [(DEV, "SIGIL_HTTP_PORT"), (WIZARD, "SIGIL_PORT")])
@pytest.mark.parametrize("value", ["abc", "0", "70000", "8443 9443"])
def test_a_port_that_is_none_is_one_line(
    checkout: Checkout, program: tuple[str, ...], setting: str, value: str
) -> None:
    refused = checkout.run("env", f"{setting}={value}", *program)
    name = f"make {program[-1].rpartition('.')[2]}"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"{name}: {setting}: must be a whole number from 1 to 65535\n"


def test_make_dev_names_its_setting_for_another_port(checkout: Checkout) -> None:
    refused = checkout.run("env", "SIGIL_PORT=9443", *DEV)
    assert (refused.returncode, refused.stdout) == (1, "")
    [line] = refused.stderr.splitlines()
    assert line.startswith("make dev: SIGIL_PORT is the port of a server with TLS")
    assert "SIGIL_HTTP_PORT" in line


@pytest.mark.parametrize("program", [DEV, WIZARD])
def test_a_file_in_place_of_the_directory_is_one_line(checkout: Checkout, program: tuple[str, ...]) -> None:
    (checkout.folder / ".dev").touch()
    refused = checkout.run(*program)
    assert (refused.returncode, refused.stdout) == (1, "")
    [line] = refused.stderr.splitlines()
    assert line.startswith(f"make {program[-1].rpartition('.')[2]}: it needs the directory {checkout.folder / '.dev'}")


def test_make_dev_with_a_damaged_mnemonic_is_one_line(checkout: Checkout) -> None:
    mnemonic = checkout.folder / ".dev" / "mnemonic"
    mnemonic.parent.mkdir()
    mnemonic.write_text("zoo zoo\n")
    refused = checkout.run(*DEV)
    assert refused.returncode == 1
    expected = f"make dev: {mnemonic}: a mnemonic has 24 words, this one has 2; remove the file for a new identity"
    assert refused.stderr.splitlines() == [expected]
    assert mnemonic.read_text() == "zoo zoo\n"


def test_make_dev_that_cannot_start_its_server_stops_the_others(checkout: Checkout) -> None:
    """With a wrong setting that the health check reads too."""
    refused = checkout.run("env", "SIGIL_HOST=not/a/host", *DEV)
    assert refused.returncode == 1
    assert "sigil: SIGIL_HOST: " in refused.stderr
    assert "Traceback" not in refused.stderr
    with socket.socket() as relay:
        assert relay.connect_ex(("127.0.0.1", int(checkout.relay_port))) != 0


def test_make_wizard_leaves_another_program_and_another_wizard_alone(checkout: Checkout) -> None:
    folder = checkout.folder / ".dev" / "wizard"
    state = folder / "state"
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(checkout.port)))
        other.listen()
        refused = checkout.run(*WIZARD)
    assert (refused.returncode, refused.stdout) == (1, "")
    reason = f"make wizard: port {checkout.port} is in use; stop that program, or set SIGIL_PORT to another port\n"
    assert refused.stderr == reason

    address = f"Open https://localhost:{checkout.port}/init"
    with checkout.running(*WIZARD) as wizard:
        wait_until(lambda: address in checkout.output or wizard.poll() is not None, "make wizard")
        assert address in checkout.output
        files = sorted(state.iterdir())
        assert files
        on_its_port = checkout.run(*WIZARD)
        assert (on_its_port.returncode, on_its_port.stderr) == (1, reason)
        elsewhere = checkout.run("env", f"SIGIL_PORT={free_port()}", *WIZARD)
        assert elsewhere.returncode == 1
        assert "another `make wizard` uses" in elsewhere.stderr
        assert "Open https" not in elsewhere.stderr
        assert sorted(state.iterdir()) == files
        assert "SIGIL_INIT_TOKEN" not in checkout.output
        wizard.send_signal(signal.SIGTERM)
        assert wizard.wait(DEADLINE) == 0
    assert not folder.exists()


def test_the_server_of_a_killed_make_wizard_keeps_its_state(checkout: Checkout) -> None:
    folder = checkout.folder / ".dev" / "wizard"
    with checkout.running(*WIZARD) as wizard:
        wait_until(lambda: "Open https" in checkout.output or wizard.poll() is not None, "make wizard")
        wizard.kill()
        wizard.wait(DEADLINE)
        files = sorted((folder / "state").iterdir())
        assert files
        elsewhere = checkout.run("env", f"SIGIL_PORT={free_port()}", *WIZARD)
        assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
        assert "another `make wizard` uses" in elsewhere.stderr
        assert sorted((folder / "state").iterdir()) == files


def test_make_wizard_leaves_the_state_of_make_dev_alone(checkout: Checkout) -> None:
    """In a shell that has the settings of .dev/env."""
    of_dev = checkout.folder / ".dev" / "state"
    own = ("env", f"SIGIL_STATE_DIR={of_dev}", f"TLS_CERT_PATH={of_dev}/cert.pem", "SIGIL_MODE=operational", *WIZARD)
    with checkout.running(*own) as wizard:
        wait_until(lambda: "Open https" in checkout.output or wizard.poll() is not None, "make wizard")
        assert "Open https" in checkout.output
        assert not of_dev.exists()
        wizard.send_signal(signal.SIGINT)
        assert wizard.wait(DEADLINE) == 0
    assert not (checkout.folder / ".dev" / "wizard").exists()
