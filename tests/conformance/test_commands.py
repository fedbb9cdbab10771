"""The console script: commands, settings that do not start, TLS pairs."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mnemonic import Mnemonic

from .certificates import write_pair
from .server import Server, minimal_environment, run
from .wire import API_KEYS, ServerIdentity

Make = Callable[..., Server]
Finished = subprocess.CompletedProcess[str]

KNOWN_WORDS = "zoo " * 23 + "vote"
KNOWN_ID = "00ae1e231c6d77214ea442e384f05c696b7da9fb040e6252bd1941b5728c6dcd"


def output_of(finished: Finished) -> str:
    return finished.stdout + finished.stderr


def assert_stopped(finished: Finished, *expected: str) -> None:
    """Checks that the command failed: exit code not 0, `expected` in one line, no traceback."""
    text = output_of(finished)
    assert finished.returncode != 0, text
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if all(text in line for text in expected)]
    assert len(lines) == 1, text


def serve(server: Server, *dropped: str, **changed: str) -> Finished:
    return run("serve", env=environment(server, *dropped, **changed), timeout=60)


def environment(server: Server, *dropped: str, **changed: str) -> dict[str, str]:
    kept = {name: value for name, value in server.environment.items() if name not in dropped}
    return {**kept, **changed}


def test_version_and_help_need_no_settings(tmp_path: Path) -> None:
    env = minimal_environment(tmp_path)
    version, helped = run("--version", env=env), run("--help", env=env)
    assert (version.returncode, helped.returncode) == (0, 0)
    assert re.search(r"\d+\.\d+\.\d+", version.stdout)
    for command in ("serve", "check-config", "health", "keygen", "identity", "mnemonic", "device"):
        assert command in helped.stdout


def test_the_version_is_that_of_the_running_server(server: Server, tmp_path: Path) -> None:
    version = server.http.get("/health").json()["version"]
    assert version in run("--version", env=minimal_environment(tmp_path)).stdout


def test_check_config_accepts_good_settings_and_starts_nothing(own_server: Make) -> None:
    server = own_server(SIGIL_WORKERS="1")
    finished = run("check-config", env=server.environment)
    assert finished.returncode == 0, output_of(finished)
    assert not server.state.exists()
    assert not server.cert.exists()
    assert " ".join(server.identity.mnemonic.split()[:3]) not in output_of(finished)


BAD = {
    "SIGIL_PORT": "99999",
    "SIGIL_WORKERS": "none",
    "SIGIL_STORE_SIZE": "plenty",
    "SIGIL_RATE_LIMIT": "many",
    "SIGIL_DEVICE_RATE": "-1/min",
    "SIGIL_MAX_PENDING_PER_DEVICE": "x",
    "SIGIL_NUMBER_MATCHING": "maybe",
    "LOG_LEVEL": "loud",
    "SIGIL_TELEMETRY": "some",
    "TLS_AUTO_GENERATE": "perhaps",
    "TRUSTED_PROXY_IP": "nonsense",
    "TRUSTED_PROXY_CIDR": "10.0.0.0/99",
    "SIGIL_PUBLIC_URL": "nowhere",
    "SIGIL_REVOKED_API_KEYS": "xyz",
    "API_KEY": "short-preset-key",
    "SIGIL_MODE": "sideways",
}


def test_every_bad_value_gets_one_line_that_names_it(own_server: Make) -> None:
    finished = run("check-config", env={**own_server().environment, **BAD})
    text = output_of(finished)
    assert finished.returncode != 0
    assert "Traceback" not in text
    assert BAD["API_KEY"] not in text
    named = {name: sum(bool(re.search(rf"\b{name}\b", line)) for line in text.splitlines()) for name in BAD}
    assert {name: count for name, count in named.items() if count != 1} == {}, text


def test_serve_stops_with_one_line_on_a_bad_value(own_server: Make) -> None:
    finished = serve(own_server(), SIGIL_NUMBER_MATCHING="maybe")
    assert_stopped(finished, "SIGIL_NUMBER_MATCHING")
    assert len(output_of(finished).strip().splitlines()) == 1


@pytest.mark.parametrize("command", ["serve", "check-config", "identity"])
def test_without_a_mnemonic_the_error_names_the_settings(own_server: Make, command: str) -> None:
    env = environment(own_server(), "SIGIL_MNEMONIC_PATH")
    assert_stopped(run(command, env=env, timeout=60), "SIGIL_MNEMONIC or SIGIL_MNEMONIC_PATH required")


def test_an_invalid_mnemonic_is_rejected_and_not_repeated(own_server: Make) -> None:
    server = own_server()
    words = server.identity.mnemonic.split()
    broken = " ".join([*words[1:], words[0]])
    if Mnemonic("english").check(broken):
        broken = " ".join([*words[2:], *words[:2]])
    for text in (broken, Mnemonic("english").generate(128)):
        server.mnemonic_file.write_text(text)
        finished = run("check-config", env=server.environment)
        assert_stopped(finished, "SIGIL_MNEMONIC")
        assert " ".join(text.split()[:2]) not in output_of(finished)


def test_a_mnemonic_given_twice_is_an_error(own_server: Make) -> None:
    server = own_server()
    assert_stopped(
        run("check-config", env=environment(server, SIGIL_MNEMONIC=server.identity.mnemonic)), "SIGIL_MNEMONIC_PATH"
    )


def test_a_secret_and_its_file_at_once_are_an_error(own_server: Make, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("k" * 40)
    env = environment(own_server(), API_KEY="j" * 40, API_KEY_FILE=str(secret))
    assert_stopped(run("check-config", env=env), "API_KEY_FILE")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"SIGIL_ATTESTATION_REQUIRED": "true"}, "SIGIL_ATTESTATION_REQUIRED"),
        ({"WEBHOOK_URL": "https://example.com/hook"}, "WEBHOOK_"),
        ({"API_KEY_FILE": "/nonexistent/key"}, "API_KEY_FILE"),
    ],
)
def test_a_setting_that_cannot_be_honoured_stops_the_start(
    own_server: Make, changed: dict[str, str], expected: str
) -> None:
    assert_stopped(run("check-config", env=environment(own_server(), **changed)), expected)


def test_unknown_settings_and_open_secrets_are_warned_about(own_server: Make) -> None:
    server = own_server()
    server.mnemonic_file.chmod(0o644)
    finished = run("check-config", env=environment(server, SIGIL_PROT="8443"))
    assert finished.returncode == 0, output_of(finished)
    lines = output_of(finished).splitlines()
    assert [line for line in lines if "SIGIL_PROT" in line and "SIGIL_PORT" in line]
    assert [line for line in lines if str(server.mnemonic_file) in line or "SIGIL_MNEMONIC_PATH" in line]


def test_mnemonic_prints_24_words_that_are_valid(tmp_path: Path) -> None:
    env = minimal_environment(tmp_path)
    finished, target = run("mnemonic", env=env), tmp_path / "words"
    words = finished.stdout.strip()
    assert len(words.split()) == 24
    assert Mnemonic("english").check(words)
    written = run("mnemonic", "--out", str(target), env=env)
    assert written.returncode == 0, output_of(written)
    assert target.stat().st_mode & 0o777 == 0o600
    assert written.stdout == ""
    note = "Write the 24 words on paper too: nothing else restores the server."
    assert written.stderr == f"Wrote {target} (mode 0600).\n{note}\n"
    other = target.read_text().strip()
    assert Mnemonic("english").check(other)
    assert other != words
    assert other not in output_of(written)
    again = run("mnemonic", "--out", str(target), env=env)
    assert_stopped(again, f"{target} is there already and is never overwritten; choose another name")
    assert target.read_text().strip() == other


def test_the_directory_of_a_secret_is_created_for_its_owner_only(tmp_path: Path) -> None:
    target = tmp_path / "sigil" / "words"
    written = run("mnemonic", "--out", str(target), env=minimal_environment(tmp_path))
    assert written.returncode == 0, output_of(written)
    assert target.parent.stat().st_mode & 0o777 == 0o700
    assert Mnemonic("english").check(target.read_text().strip())


def test_identity_is_derived_from_the_mnemonic(own_server: Make) -> None:
    server = own_server()
    server.write_mnemonic(ServerIdentity(KNOWN_WORDS))
    plain, machine = run("identity", env=server.environment), run("identity", "--json", env=server.environment)
    assert (plain.returncode, machine.returncode) == (0, 0)
    assert KNOWN_ID in plain.stdout
    shown = json.loads(machine.stdout)
    assert shown["server_id"] == KNOWN_ID == server.identity.server_id
    assert shown["server_public_keys"] == server.identity.public_keys


@pytest.mark.parametrize(("flags", "prefix"), [((), "sgk_test_"), (("--live",), "sgk_live_")])
def test_keygen_derives_keys_from_the_mnemonic(own_server: Make, flags: tuple[str, ...], prefix: str) -> None:
    server = own_server()
    key = run("keygen", *flags, env=server.environment).stdout.strip().splitlines()[-1]
    API_KEYS.append(key)
    assert re.fullmatch(prefix + "[0-9a-f]{64}", key)
    assert key == server.identity.api_key(prefix, bytes.fromhex(key[9:41]))


def test_keygen_writes_a_file_for_its_owner_only(own_server: Make, tmp_path: Path) -> None:
    target = tmp_path / "api-key"
    finished = run("keygen", "--out", str(target), env=own_server().environment)
    assert finished.returncode == 0, output_of(finished)
    assert target.stat().st_mode & 0o777 == 0o600
    assert (finished.stdout, finished.stderr) == ("", f"Wrote {target} (mode 0600).\n")
    key = target.read_text().strip()
    API_KEYS.append(key)
    assert key.startswith("sgk_test_")
    assert key not in output_of(finished)


def test_health_reports_by_its_exit_code(server: Server, own_server: Make) -> None:
    assert run("health", env=server.environment).returncode == 0
    down = run("health", env=own_server().environment)
    assert down.returncode != 0
    assert "Traceback" not in output_of(down)


def test_health_with_a_url_verifies_the_certificate(server: Server) -> None:
    finished = run("health", "--url", f"https://127.0.0.1:{server.port}", env=server.environment)
    assert finished.returncode != 0
    assert "its certificate is not accepted" in output_of(finished)
    trusted = run("health", "--url", f"https://127.0.0.1:{server.port}", "--ca", str(server.cert), env={})
    assert trusted.returncode == 0, output_of(trusted)


def test_a_second_server_on_the_same_port_does_not_start(server: Server, own_server: Make) -> None:
    other = own_server()
    finished = serve(other, SIGIL_PORT=str(server.port))
    assert_stopped(finished, str(server.port))
    assert server.fetch("GET", "/health").status == 200


def test_a_second_server_on_the_same_state_directory_does_not_start(server: Server, own_server: Make) -> None:
    finished = serve(own_server(), SIGIL_STATE_DIR=str(server.state))
    assert_stopped(finished, str(server.state))
    assert server.fetch("GET", "/health").status == 200


def test_a_port_of_another_program_stops_the_start(own_server: Make) -> None:
    server = own_server()
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = str(held.getsockname()[1])
        assert_stopped(serve(server, SIGIL_PORT=port), port, "set SIGIL_PORT to another port")


def test_a_state_directory_that_is_a_symlink_stops_the_start(own_server: Make, tmp_path: Path) -> None:
    server = own_server()
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    server.state.symlink_to(target)
    try:
        assert_stopped(serve(server), str(server.state))
    finally:
        server.state.unlink()


def test_a_store_larger_than_its_memory_stops_the_start(own_server: Make) -> None:
    assert_stopped(serve(own_server(), SIGIL_STORE_SIZE="4000GiB"), "SIGIL_STORE_SIZE")


# TLS


def test_the_created_certificate_names_this_host_and_its_key_is_private(server: Server) -> None:
    assert server.key.stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate(server.cert.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ipaddress.ip_address("127.0.0.1") in names.get_values_for_type(x509.IPAddress)
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    key = load_pem_private_key(server.key.read_bytes(), None)
    assert key.public_key() == certificate.public_key()


def test_only_tls_1_3_or_1_2_is_accepted(server: Server) -> None:
    with server.socket(["h2", "http/1.1"]) as connection:
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}
        assert connection.selected_alpn_protocol() == "h2"


@pytest.mark.parametrize("fault", ["keys of two pairs", "no key", "no certificate", "invalid"])
def test_a_broken_pair_stops_the_start_and_is_not_changed(own_server: Make, tmp_path: Path, fault: str) -> None:
    server = own_server()
    write_pair(server.cert, server.key)
    if fault == "keys of two pairs":
        write_pair(tmp_path / "other-cert.pem", server.key)
    elif fault == "no key":
        server.key.unlink()
    elif fault == "no certificate":
        server.cert.unlink()
    else:
        server.cert.write_text("invalid")
    before = [path.read_bytes() for path in (server.cert, server.key) if path.exists()]
    finished = serve(server)
    assert finished.returncode != 0
    assert "Traceback" not in output_of(finished)
    assert re.search("TLS_(CERT|KEY)_PATH|cert.pem|key.pem", output_of(finished))
    assert [path.read_bytes() for path in (server.cert, server.key) if path.exists()] == before


def test_a_missing_pair_without_auto_generation_stops_the_start(own_server: Make) -> None:
    finished = serve(own_server(), TLS_AUTO_GENERATE="false")
    assert finished.returncode != 0
    assert re.search("TLS_(CERT|KEY)_PATH|TLS_AUTO_GENERATE", output_of(finished))


def test_init_mode_without_a_mnemonic_is_served_or_rejected_in_one_line(own_server: Make) -> None:
    finished = run("check-config", env=environment(own_server(), "SIGIL_MNEMONIC_PATH", SIGIL_MODE="init"))
    assert "Traceback" not in output_of(finished)
    if finished.returncode != 0:
        assert_stopped(finished, "init")
