"""Errors about files name the user of the process and the mend, as a real other user gets them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sigil.serving.files.errors import file_error
from tests.support.other_user import UID, as_user, needs_root, open_directory
from tests.support.ports import free_port

pytestmark = needs_root


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_directory() as made:
        yield made


def file(path: Path, mode: int = 0o600, owner: int = 0, content: str = "x" * 40) -> Path:
    path.write_text(content)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


SERVER = "sigil.config.settings.load(os.environ)"
RELAY = "relay.config.load(os.environ)"
APNS = {"APNS_KEY_ID": "A" * 10, "APNS_TEAM_ID": "A" * 10, "APNS_TOPIC": "com.example"}
FILES = {
    SERVER: [
        "SIGIL_MNEMONIC_PATH",
        "API_KEY_FILE",
        "SIGIL_REVOKED_API_KEYS_FILE",
        "WEBHOOK_SECRET_FILE",
        "WEBHOOK_URL_FILE",
        "METRICS_TOKEN_FILE",
        "SIGIL_INIT_TOKEN_FILE",
    ],
    RELAY: [
        "DATABASE_URL_FILE",
        "TOKEN_ENCRYPTION_KEY_FILE",
        "RELAY_TRUSTED_SERVERS_FILE",
        "METRICS_TOKEN_FILE",
        "FCM_SERVICE_ACCOUNT",
        "APNS_KEY_PATH",
    ],
}


@pytest.mark.parametrize("load", [SERVER, RELAY])
@pytest.mark.parametrize("container", [True, False])
def test_a_file_of_a_setting_that_another_user_owns_names_the_mend(load: str, container: bool, folder: Path) -> None:
    path = file(folder / "secret")
    lines = as_user(load, APNS | dict.fromkeys(FILES[load], str(path)), container=container).splitlines()
    place = "<that file on the host>" if container else path
    for name in FILES[load]:
        assert (
            f"{name}: cannot read {path}: permission denied for uid {UID} (file owner 0, mode 0600): "
            f"sudo chown {UID} {place}"
        ) in lines


@pytest.mark.parametrize("load", [SERVER, RELAY])
def test_a_directory_in_place_of_a_file_names_the_missing_mount(load: str, folder: Path) -> None:
    text = as_user(load, APNS | dict.fromkeys(FILES[load], str(folder)))
    for name in FILES[load]:
        assert (
            f"{name}: cannot read {folder}: it is a directory, and a file is expected: a container engine makes a "
            "directory of a bind mount whose source is missing"
        ) in text


def test_a_file_of_the_own_user_without_the_bit_names_chmod(folder: Path) -> None:
    path = file(folder / "secret", 0o200, UID)
    text = as_user(SERVER, {"API_KEY_FILE": str(path)})
    assert f"(file owner {UID}, mode 0200): chmod u+r {path}" in text


def test_a_directory_that_the_user_may_not_enter_is_named(folder: Path) -> None:
    """As /etc/letsencrypt/archive, behind the links of certbot."""
    closed = folder / "archive"
    closed.mkdir(0o700)
    target = file(closed / "key.pem")
    link = folder / "key.pem"
    link.symlink_to(target)
    text = as_user(SERVER, {"API_KEY_FILE": str(link)})
    assert (
        f"cannot read {link}: permission denied for uid {UID} (directory {closed}: owner 0, mode 0700): let that user "
        "enter the directory, or put the file into another one"
    ) in text


def test_a_link_to_another_users_file_names_the_file(folder: Path) -> None:
    target = file(folder / "target")
    link = folder / "link"
    link.symlink_to(target)
    text = as_user(SERVER, {"API_KEY_FILE": str(link)})
    assert f"cannot read {link}: permission denied for uid {UID} (file {target}: owner 0, mode 0600)" in text


def test_a_dangling_link_names_its_target(folder: Path) -> None:
    link = folder / "link"
    link.symlink_to("/nowhere/secret")
    text = as_user(SERVER, {"API_KEY_FILE": str(link)})
    assert f"cannot read {link}: it links to /nowhere/secret, which does not exist here" in text


@pytest.mark.parametrize("denied", ["cert.pem", "key.pem"])
def test_the_tls_pair_names_the_mend(denied: str, folder: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        file(folder / name, 0o600, 0 if name == denied else UID)
    environ = {
        "SIGIL_MODE": "init",
        "SIGIL_PORT": str(free_port()),
        "TLS_CERT_PATH": str(folder / "cert.pem"),
        "TLS_KEY_PATH": str(folder / "key.pem"),
    }
    assert as_user("sigil.app.checks.check(os.environ)", environ) == (
        f"TLS: cannot read {folder / denied}: permission denied for uid {UID} (file owner 0, mode 0600): "
        f"sudo chown {UID} {folder / denied}"
    )


def test_a_directory_for_a_new_pair_names_the_mend(folder: Path) -> None:
    closed = folder / "tls"
    closed.mkdir(0o755)
    work = (
        "from sigil.serving.tls.self_signed import ensure_pair\n"
        f"ensure_pair(Path('{closed}/cert.pem'), Path('{closed}/key.pem'), generate=True)"
    )
    assert as_user(work, container=True) == (
        f"TLS: cannot write {closed}/cert.pem: permission denied for uid {UID} (directory {closed}: owner 0, "
        f"mode 0755): sudo chown {UID} <that directory on the host>; or set TLS_CERT_PATH and TLS_KEY_PATH"
    )


def test_a_directory_for_one_file_of_a_pair_is_checked_before_the_other_is_made(folder: Path) -> None:
    closed, opened = folder / "certs", folder / "keys"
    closed.mkdir(0o755)
    opened.mkdir()
    opened.chmod(0o777)
    work = (
        "from sigil.serving.tls.self_signed import ensure_pair\n"
        f"ensure_pair(Path('{closed}/cert.pem'), Path('{opened}/key.pem'), generate=True)"
    )
    assert as_user(work).startswith(f"TLS: cannot write {closed}/cert.pem: permission denied for uid {UID}")
    assert list(opened.iterdir()) == []


ENTER_STATE = "sigil.app.state.enter_state(sigil.config.settings.load(os.environ))"


def test_a_state_directory_that_cannot_be_made_names_the_mend(folder: Path) -> None:
    parent = folder / "run"
    parent.mkdir(0o755)
    environ = {"SIGIL_MODE": "init", "SIGIL_STATE_DIR": f"{parent}/state"}
    text = as_user(ENTER_STATE, environ)
    assert text.startswith(
        f"SIGIL_STATE_DIR {parent}/state cannot be used: permission denied for uid {UID} (directory {parent}: owner 0, "
        f"mode 0755): sudo chown {UID} {parent}; or set SIGIL_STATE_DIR"
    )


@pytest.mark.parametrize(
    ("work", "environ"),
    [
        ("sigil.app.state.enter_state(sigil.config.settings.load(os.environ))", {"SIGIL_STATE_DIR": "/run/sigil"}),
        ("asyncio.run(relay.app.wiring.open_registry(relay.config.load(os.environ), 'test').open(print))", {}),
        (
            "from sigil.serving.tls.self_signed import ensure_pair\n"
            "ensure_pair(Path('/var/lib/absent/tls/cert.pem'), Path('/var/lib/absent/tls/key.pem'), generate=True)",
            {},
        ),
        ("print(sigil.serving.files.errors.file_error('create', '/etc/words', PermissionError(13, '')))", {}),
    ],
)
def test_a_directory_of_the_system_keeps_its_owner(work: str, environ: dict[str, str]) -> None:
    text = as_user(f"import sigil.serving.files.errors\n{work}", {"SIGIL_MODE": "init"} | environ)
    assert f"permission denied for uid {UID} (directory /" in text
    assert f"use a directory of that user, such as `sudo install -d -o {UID} NEW_DIRECTORY` makes" in text
    assert "chown" not in text


def test_a_directory_that_is_missing_is_made_and_not_its_parent_handed_over(folder: Path) -> None:
    work = (
        "from sigil.serving.tls.self_signed import ensure_pair\n"
        f"ensure_pair(Path('{folder}/a/b/cert.pem'), Path('{folder}/a/b/key.pem'), generate=True)"
    )
    assert (
        f"TLS: cannot write {folder}/a/b/cert.pem: permission denied for uid {UID} (directory {folder}: owner 0, mode "
        f"0755): sudo install -d -o {UID} {folder}/a/b; or set TLS_CERT_PATH"
    ) in as_user(work)


def test_a_state_directory_of_another_user_names_the_mend(folder: Path) -> None:
    state = folder / "state"
    state.mkdir(0o755)
    text = as_user(ENTER_STATE, {"SIGIL_MODE": "init", "SIGIL_STATE_DIR": str(state)})
    assert f"belongs to uid 0, and the server runs as uid {UID}: sudo chown {UID} that directory" in text


def test_the_data_directory_of_the_relay_names_the_mend(folder: Path) -> None:
    data = folder / "relay"
    data.mkdir(0o755)
    work = "asyncio.run(relay.app.wiring.open_registry(relay.config.load(os.environ), 'test').open(print))"
    text = as_user(work, {"RELAY_DATA_DIR": str(data)})
    assert (
        f"{data}/relay.db cannot be opened: permission denied for uid {UID} (directory {data}: owner 0, mode 0755): "
        f"sudo chown {UID} {data}; set RELAY_DATA_DIR"
    ) in text
    data.chmod(0o777)
    file(data / "relay.db")
    assert f"(file owner 0, mode 0600): sudo chown {UID} {data}/relay.db" in as_user(
        work, {"RELAY_DATA_DIR": str(data)}
    )


def test_a_data_directory_that_was_closed_later_names_the_mend(folder: Path) -> None:
    """SQLite says "attempt to write a readonly database"."""
    data = folder / "relay"
    data.mkdir(0o755)
    os.chown(data, UID, UID)
    work = "relay.app.master.migrate(relay.app.wiring.open_registry(relay.config.load(os.environ), 'test'))"
    assert as_user(work, {"RELAY_DATA_DIR": str(data)}) == ""
    os.chown(data, 0, 0)
    text = as_user(work, {"RELAY_DATA_DIR": str(data)})
    assert (
        f"{data}/relay.db cannot be used: cannot write {data}: permission denied for uid {UID} (directory owner 0, "
        f"mode 0755): sudo chown {UID} {data}"
    ) in text


def test_the_marker_of_the_first_boot_names_the_mend(folder: Path) -> None:
    path = file(folder / "server_id")
    environ = {"SIGIL_MODE": "init", "TLS_CERT_PATH": str(folder / "cert.pem"), "TLS_KEY_PATH": str(folder / "key.pem")}
    text = as_user("sigil.app.checks.check(os.environ)", environ)
    assert f"cannot read {path}: permission denied for uid {UID} (file owner 0, mode 0600): sudo chown" in text


def test_a_new_file_of_a_command_names_the_mend(folder: Path) -> None:
    closed = folder / "out"
    closed.mkdir(0o755)
    work = f"sigil.cli.commands.sigil(['mnemonic', '--out', '{closed}/words'], standalone_mode=False)"
    command = f"import contextlib, io\nwith contextlib.redirect_stderr(sys.stdout):\n    try:\n        {work}\n"
    text = as_user(command + "    except SystemExit:\n        pass")
    assert f"cannot create {closed}/words: permission denied for uid {UID} (directory {closed}: owner 0" in text


def test_access_that_the_mode_allows_points_to_the_rules_of_the_host(folder: Path) -> None:
    path = file(folder / "secret", 0o644)
    text = file_error("read", path, PermissionError(13, "Permission denied"))
    assert "the mode allows it, so SELinux or AppArmor denies it: with SELinux add :Z to the mount" in text


def test_a_read_only_file_system_names_the_mend(folder: Path) -> None:
    assert file_error("write", folder, OSError(30, "Read-only file system")) == (
        f"cannot write {folder}: the file system is read-only: mount a writable volume there, or choose another path"
    )


@pytest.mark.parametrize("number", [2, 5, 27])
def test_other_errors_keep_the_words_of_the_system(number: int, folder: Path) -> None:
    error = OSError(number, os.strerror(number))
    assert file_error("read", folder, error) == f"cannot read {folder}: {os.strerror(number)}"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_its_remedy(number: int, folder: Path) -> None:
    error = OSError(number, os.strerror(number))
    remedy = "free some space there, or choose another path"
    assert file_error("create", folder, error) == f"cannot create {folder}: {os.strerror(number)}: {remedy}"
