"""`check-config` of both services finds what would stop the start, all of it at once, and changes nothing."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sigil.serving.files.writable import creation_error
from tests.conformance.server import run
from tests.serving.running import write_pair
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.other_user import as_user, needs_root, open_directory
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer

pytest_plugins = ["tests.support.postgres_fixtures"]
NOT_UTF8 = os.fsdecode(b"\xff" * 40)


@contextmanager
def foreign_listener() -> Iterator[int]:
    """A program that is no service of this project: it closes each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        subprocess_code = (
            "import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\nwhile True: s.accept()[0].close()"
        )
        command = [sys.executable, "-c", subprocess_code, str(server.fileno())]
        program = subprocess.Popen(command, pass_fds=[server.fileno()])
        try:
            yield server.getsockname()[1]
        finally:
            program.kill()
            program.wait()


def of_relay(verb: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "relay", verb]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=DEADLINE, check=False)


@contextmanager
def server(**settings: str) -> Iterator[LiveServer]:
    """Not started."""
    made = LiveServer(workers=1, **settings)
    try:
        yield made
    finally:
        made.__exit__(None, None, None)


@contextmanager
def relay(**settings: str) -> Iterator[LiveRelay]:
    """Not started."""
    made = LiveRelay(**settings)
    try:
        yield made
    finally:
        made.__exit__(None, None, None)


def errors_of(stderr: str, program: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith(f"{program}: ")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"SIGIL_HOST": "192.0.2.77"}, "cannot listen on 192.0.2.77 port {port}: Cannot assign requested"),
        ({"SIGIL_HOST": "no-such-host.invalid"}, "cannot listen on no-such-host.invalid port {port}: "),
        ({"SIGIL_HOST": "[::1"}, "SIGIL_HOST: must be an address of this host"),
        ({"TLS_CERT_PATH": "{file}/tls/cert.pem", "TLS_KEY_PATH": "{file}/tls/key.pem"}, "TLS: cannot read {file}/"),
        ({"SIGIL_STATE_DIR": "/nowhere/at/all"}, "SIGIL_STATE_DIR /nowhere/at/all cannot be used: its parent"),
        ({"SIGIL_STATE_DIR": "{file}"}, "SIGIL_STATE_DIR {file} is not a directory"),
        ({"SIGIL_STORE_SIZE": "1000GiB"}, "SIGIL_STORE_SIZE 1073741824000 is too large for"),
        ({"API_KEY": NOT_UTF8}, "API_KEY: is not UTF-8 text"),
        ({"SIGIL_MNEMONIC_PATH": "", "SIGIL_MNEMONIC": "a b c"}, "SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH: a"),
    ],
)  # fmt: skip
def test_what_stops_the_start_of_the_server_is_a_line_of_check_config(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    with server(**{name: value.replace("{file}", str(file)) for name, value in settings.items()}) as made:
        expected = expected.replace("{file}", str(file)).replace("{port}", str(made.port))
        checked = run("check-config", env=made.environ)
        assert not made.state.exists()
        served = run("serve", env=made.environ)
        assert (checked.returncode, served.returncode) == (1, 1), checked.stdout
        (line,) = errors_of(checked.stderr, "sigil")
        assert line.startswith(f"sigil: {expected}")
        (fault,) = errors_of(served.stderr, "sigil")
        assert fault.startswith(f"sigil: {expected}")
        assert "Traceback" not in checked.stderr + served.stderr


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"RELAY_HOST": "192.0.2.77"}, "cannot listen on 192.0.2.77 port {port}: Cannot assign requested"),
        ({"RELAY_DATA_DIR": "{file}/data"}, "{file}/data/relay.lock cannot be opened: "),
        ({"RELAY_WS_PORT": "{port}"}, "RELAY_WS_PORT: must differ from RELAY_PORT"),
        ({"TOKEN_ENCRYPTION_KEY": NOT_UTF8}, "TOKEN_ENCRYPTION_KEY: is not UTF-8 text"),
    ],
)  # fmt: skip
def test_what_stops_the_start_of_the_relay_is_a_line_of_check_config(
    tmp_path: Path, settings: dict[str, str], expected: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    with relay() as made:

        def filled(text: str) -> str:
            return text.replace("{file}", str(file)).replace("{port}", str(made.port))

        environ = made.environ | {name: filled(value) for name, value in settings.items()}
        checked, served = of_relay("check-config", environ), of_relay("serve", environ)
        assert (checked.returncode, served.returncode) == (1, 1), checked.stdout
        for ended in (checked, served):
            (line,) = errors_of(ended.stderr, "sigil-relay")
            assert line.startswith(f"sigil-relay: {filled(expected)}")
            assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"no database" * 1000, 0o600, "cannot be used: file is not a database"),
        (None, 0o644, "is open to other users (0644)"),
        (None, 0o600, "belongs to another program"),
    ],
)
def test_a_file_that_the_relay_cannot_use_as_its_database_is_found_before_the_start(
    content: bytes | None, mode: int, expected: str
) -> None:
    with relay() as made:
        file = Path(made.environ["RELAY_DATA_DIR"]) / "relay.db"
        file.parent.mkdir(0o700)
        if content is None:
            with contextlib.closing(sqlite3.connect(file)) as db:
                db.execute("PRAGMA application_id = 7")
                db.execute("CREATE TABLE other (id)")
                db.commit()
        else:
            file.write_bytes(content)
        file.chmod(mode)
        before = file.read_bytes()
        for verb in ("check-config", "serve"):
            ended = of_relay(verb, made.environ)
            (line,) = errors_of(ended.stderr, "sigil-relay")
            assert ended.returncode == 1
            assert line.startswith(f"sigil-relay: {file} {expected}")
            if verb == "check-config":
                assert [path.name for path in file.parent.iterdir()] == ["relay.db"]
        assert file.read_bytes() == before


def test_a_port_of_another_program_is_an_error_of_both_services() -> None:
    with foreign_listener() as port:
        with server(SIGIL_PORT=str(port)) as made:
            for verb in ("check-config", "serve"):
                (line,) = errors_of(run(verb, env=made.environ).stderr, "sigil")
                assert line.startswith(
                    f"sigil: cannot listen on 127.0.0.1 port {port}: Address already in use; stop that"
                )
        for setting in ("RELAY_PORT", "RELAY_WS_PORT"):
            with relay(**{setting: str(port)}) as made_relay:
                for verb in ("check-config", "serve"):
                    (line,) = errors_of(of_relay(verb, made_relay.environ).stderr, "sigil-relay")
                    assert line.endswith(
                        f"port {port}: Address already in use; stop that program, or set {setting} to another port"
                    )


def test_both_commands_are_content_beside_the_running_service() -> None:
    with LiveServer(workers=1) as running:
        checked = run("check-config", env=running.environ)
        assert (checked.returncode, checked.stderr) == (0, "")
        # On its directory, but another port; and on its port, but with another directory.
        port, state = str(free_port()), str(running.state.with_name(f"{running.state.name}-other"))
        for settings, expected in (
            ({"SIGIL_PORT": port}, f"another server is using SIGIL_STATE_DIR {running.state}; stop it"),
            ({"SIGIL_STATE_DIR": state}, f"cannot listen on 127.0.0.1 port {running.port}: Address already in use"),
        ):
            (line,) = errors_of(run("check-config", env=running.environ | settings).stderr, "sigil")
            assert line.startswith(f"sigil: {expected}")
    with LiveRelay(RELAY_WS_PORT=str(free_port())) as running_relay:
        checked = of_relay("check-config", running_relay.environ)
        assert (checked.returncode, checked.stderr) == (0, "")
        data, ports = running_relay.environ["RELAY_DATA_DIR"], {"RELAY_PORT": port, "RELAY_WS_PORT": ""}
        other = {"RELAY_DATA_DIR": str(running_relay.directory / "other")}
        for settings, expected in (
            (ports, f"another relay runs on {data}: stop it"),
            (other, f"cannot listen on 127.0.0.1 port {running_relay.port}: Address already in use"),
        ):
            (line,) = errors_of(of_relay("check-config", running_relay.environ | settings).stderr, "sigil-relay")
            assert line.startswith(f"sigil-relay: {expected}")


def test_all_reasons_are_reported_at_once(tmp_path: Path) -> None:
    settings = {
        "SIGIL_HOST": "192.0.2.77",
        "SIGIL_STATE_DIR": "/nowhere/at/all",
        "TLS_CERT_PATH": str(tmp_path / "cert.pem"),
        "SIGIL_MNEMONIC_PATH": "",
        "SIGIL_MNEMONIC": "a b c",
    }
    (tmp_path / "cert.pem").write_text("no certificate")
    with server(**settings) as made:
        lines = errors_of(run("check-config", env=made.environ).stderr, "sigil")
        subjects = ("mnemonic", "TLS", "STATE_DIR", "listen")
        assert [next(name for name in subjects if name in line) for line in lines] == [*subjects]
        lines = errors_of(run("check-config", env=made.environ | {"SIGIL_PORT": "x"}).stderr, "sigil")
        assert [line.partition(":")[2].split()[0] for line in lines] == ["SIGIL_PORT:", "SIGIL_MNEMONIC"]


def test_check_config_shows_addresses_and_paths_and_no_secret(tmp_path: Path) -> None:
    with server(RELAY_URL="http://relay.internal:8080", SIGIL_PUBLIC_URL="https://localhost:8443") as made:
        made.environ["API_KEY"] = "k" * 40
        shown = run("check-config", env=made.environ)
        assert shown.returncode == 0, shown.stderr
        tls = f"tls        {made.environ['TLS_CERT_PATH']}, {made.environ['TLS_KEY_PATH']}\n"
        for line in (tls, "relay      http://relay.internal:8080\n", "public     https://localhost:8443\n",
                     f"state      {made.state}, 128 MiB\n"):  # fmt: skip
            assert line in shown.stdout
        assert "kkkk" not in shown.stdout + shown.stderr
        assert " ".join(made.mnemonic.split()[:3]) not in shown.stdout + shown.stderr


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"SIGIL_PUBLIC_URL": "https://Auth.Example.com:443"}, "web app    https://auth.example.com/device/\n"),
        ({"SIGIL_PUBLIC_URL": "https://192.0.2.1"}, "web app    not served: SIGIL_PUBLIC_URL is no https address "),
        ({}, "web app    not served: SIGIL_PUBLIC_URL is no https address with a host name\n"),
        ({"SIGIL_PUBLIC_URL": "https://auth.example.com", "SIGIL_DEVICE_APP": "off"}, "web app    off\n"),
    ],
)
def test_check_config_reports_whether_the_web_app_is_served(settings: dict[str, str], line: str) -> None:
    with server(**settings) as made:
        shown = run("check-config", env=made.environ)
    assert line in shown.stdout, shown.stdout + shown.stderr


@needs_root
def test_a_directory_that_the_server_may_not_write_to_is_an_error() -> None:
    """As the start would report it, as a user that may not."""
    check = "from sigil.app.checks import check; check(dict(os.environ))"
    with open_directory() as folder, server() as made:
        environ = {name: value for name, value in made.environ.items() if name.startswith(("SIGIL_", "RELAY_"))}
        environ |= {
            "SIGIL_MNEMONIC_PATH": "",
            "SIGIL_MNEMONIC": made.mnemonic,
            "SIGIL_STATE_DIR": str(folder / "state"),
        }
        environ |= {"SIGIL_STATE_DIR_INSECURE": "true", "TLS_CERT_PATH": str(folder / "tls" / "cert.pem")}
        environ |= {"TLS_KEY_PATH": str(folder / "tls" / "key.pem")}
        tls, state = as_user(check, environ).splitlines()
        assert tls.startswith(f"TLS: cannot write {folder}/tls/cert.pem: permission denied for uid 10001 (directory")
        assert state.startswith(f"SIGIL_STATE_DIR {folder}/state cannot be used: ")
        assert "permission denied for uid 10001" in state
        check = "from relay.app.checks import check; check(dict(os.environ))"
        data = as_user(check, {"RELAY_DATA_DIR": str(folder / "data"), "RELAY_PORT": str(free_port())})
        assert data.startswith(f"{folder}/data/relay.lock cannot be opened: permission denied for uid 10001 (directory")


def test_a_file_can_be_created_or_the_reason_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert creation_error(tmp_path / "new") is None
    assert creation_error(tmp_path / "a" / "b" / "new") is None
    for path, reason in (
        (tmp_path / "file" / "new", "Not a directory"),
        (tmp_path / "dangling" / "new", "No such file"),
    ):
        error = creation_error(path)
        assert error is not None
        assert (error.strerror or "").startswith(reason)
        assert error.filename == str(path.parent)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["dangling", "file"]


@needs_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="a mount namespace needs unshare")
@pytest.mark.parametrize(
    ("options", "reason"), [("ro", "Read-only file system"), ("size=4k,nr_inodes=2", "No space left")]
)
def test_a_full_or_read_only_file_system_is_found(tmp_path: Path, options: str, reason: str) -> None:
    code = "import sys; from pathlib import Path; from sigil.serving.files.writable import creation_error; "
    code += "print(creation_error(Path(sys.argv[1]) / 'new'))"
    fill = "true" if options == "ro" else f"touch {tmp_path}/first"
    script = f'mount -t tmpfs -o {options} tmpfs {tmp_path} && {fill} && exec "$@"'
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh"]
    command += [sys.executable, "-c", code, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert reason in shown.stdout, shown.stderr


def test_a_database_that_rejects_the_relay_is_an_error_and_one_that_does_not_answer_a_warning(
    postgres: PostgresServer,
) -> None:
    good = postgres.new_database()
    missing = re.sub(r"/relay_\d+\?", "/missing?", good)
    key = "k" * 40
    with relay(TOKEN_ENCRYPTION_KEY=key) as made:
        assert of_relay("check-config", made.environ | {"DATABASE_URL": good}).returncode == 0
        environ = made.environ | {"DATABASE_URL": missing}
        checked, served = of_relay("check-config", environ), of_relay("serve", environ)
        assert errors_of(checked.stderr, "sigil-relay") == errors_of(served.stderr, "sigil-relay")
        assert "DATABASE_URL cannot be used: " in checked.stderr
        silent = of_relay(
            "check-config", made.environ | {"DATABASE_URL": f"postgresql://u:p@127.0.0.1:{free_port()}/x"}
        )
        assert silent.returncode == 0
        assert silent.stderr.startswith("warning: PostgreSQL did not answer within")


@pytest.mark.parametrize(
    ("begins", "ends", "host", "warning"),
    [
        (-9, 1, None, "expires on {ends}, in less than 14 days: renew it, then send SIGHUP"),
        (-9, -1, None, "expired on {ends}: renew it"),
        (1, 90, None, "is not valid yet, but from "),
        (-9, 90, "sigil.example.com", "is not for sigil.example.com, the host of SIGIL_PUBLIC_URL"),
    ],
)
def test_a_certificate_that_clients_reject_is_a_warning_of_check_config(
    tmp_path: Path, begins: int, ends: int, host: str | None, warning: str
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    valid = (now + datetime.timedelta(days=begins), now + datetime.timedelta(days=ends))
    pair = write_pair(tmp_path / "pair", "test", valid=valid)
    paths = {"TLS_CERT_PATH": str(pair / "cert.pem"), "TLS_KEY_PATH": str(pair / "key.pem")}
    public = {"SIGIL_PUBLIC_URL": f"https://{host}"} if host else {}
    text = f"TLS: {pair}/cert.pem {warning.replace('{ends}', f'{valid[1]:%Y-%m-%d}')}"
    with server(**paths, **public) as made:
        checked = run("check-config", env=made.environ)
        assert checked.returncode == 0, checked.stderr
        (line,) = checked.stderr.splitlines()
        assert line.startswith(f"warning: {text}")
        # A proxy shows clients another certificate.
        behind = run("check-config", env=made.environ | {"TRUSTED_PROXY_IP": "198.51.100.7"})
        assert (behind.stderr == "") == (host is not None)


def test_the_start_and_each_reload_warn_of_an_expired_certificate(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    pair = write_pair(tmp_path / "pair", "test", valid=(now - datetime.timedelta(9), now - datetime.timedelta(1)))
    with server(TLS_CERT_PATH=str(pair / "cert.pem"), TLS_KEY_PATH=str(pair / "key.pem")) as made:
        with made.open_log() as log:
            command = [sys.executable, "-m", "sigil", "serve"]
            running = subprocess.Popen(command, env=made.environ, stdout=log, stderr=log, cwd=Path(__file__).parents[2])

        def warnings() -> int:
            lines = [line for line in made.log() if line["event"] == "setting"]
            return sum(f"{pair}/cert.pem expired on" in line["message"] for line in lines)

        try:
            wait_until(lambda: any(line["event"] == "worker_ready" for line in made.log()), "the start")
            assert warnings() == 1
            running.send_signal(signal.SIGHUP)
            wait_until(lambda: any(line["event"] == "reload_finished" for line in made.log()), "the reload")
            assert warnings() == 2
        finally:
            running.terminate()
            running.wait(DEADLINE)
