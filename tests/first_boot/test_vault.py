"""The vault and the marker: written once, atomically, readable only by the owner."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sigil.app.init_mode import _adoptable, _remove_commitment, committed_identity
from sigil.config.settings import Config
from sigil.first_boot.commitment import (
    SESSION_SECONDS,
    AlreadyCommitted,
    Commitment,
    Session,
    VaultOutdated,
    VaultUnusable,
)
from sigil.first_boot.marker import Marker, MarkerUnusable
from sigil.first_boot.vault import VAULT_FILE, FileVault
from sigil.protocol.identity import DerivedSecrets
from sigil.serving.startup_error import StartupError


def commitment(number: int = 1) -> Commitment:
    return Commitment(DerivedSecrets(*(bytes([number]) * 32 for _ in range(6))), Session.begin("token", 1000.0))


@pytest.fixture
def vault(tmp_path: Path) -> FileVault:
    return FileVault(tmp_path)


def test_every_vault_of_the_directory_reads_the_commitment(vault: FileVault, tmp_path: Path) -> None:
    assert not vault.is_committed()
    assert vault.read() is None
    vault.commit(commitment())
    assert vault.is_committed()
    assert FileVault(tmp_path).read() == commitment()


def test_the_commitment_is_one_file_that_only_the_owner_can_read(vault: FileVault, tmp_path: Path) -> None:
    os.umask(before := os.umask(0))
    vault.commit(commitment())
    os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == [VAULT_FILE]
    assert stat.S_IMODE((tmp_path / VAULT_FILE).stat().st_mode) == 0o600


def test_of_concurrent_commits_one_wins_and_the_others_raise(vault: FileVault, tmp_path: Path) -> None:
    gate = threading.Barrier(16)

    def race(number: int) -> int | None:
        gate.wait(60)
        try:
            FileVault(tmp_path).commit(commitment(number))
        except AlreadyCommitted:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(race, range(1, 17)) if number]
    assert len(winners) == 1
    assert vault.read() == commitment(winners[0])
    assert [path.name for path in tmp_path.iterdir()] == [VAULT_FILE]


def test_temporary_files_of_killed_workers_are_removed_and_the_commitment_stays(
    vault: FileVault, tmp_path: Path
) -> None:
    vault.commit(commitment())
    (tmp_path / f"{VAULT_FILE}.new.0123").write_bytes(b"half a secr")
    vault.remove_temporary_files()
    assert [path.name for path in tmp_path.iterdir()] == [VAULT_FILE]


def test_a_commit_whose_temporary_file_was_removed_is_already_committed(
    vault: FileVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner = FileVault(vault._path)
    link = os.link

    def late(source: Path, target: Path, **options: bool) -> None:
        monkeypatch.setattr(os, "link", link)
        winner.commit(commitment(2))
        winner.remove_temporary_files()
        link(source, target, **options)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(AlreadyCommitted):
        vault.commit(commitment(1))
    assert vault.read() == commitment(2)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"secrets": 7}'])
def test_the_error_of_a_damaged_commitment_does_not_contain_it(
    vault: FileVault, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / VAULT_FILE).write_bytes(content)
    with pytest.raises(VaultUnusable, match="damaged") as raised:
        vault.read()
    assert raised.value.__cause__ is None


def older_commitment() -> bytes:
    members = msgspec.json.decode(msgspec.json.encode(commitment()))
    del members["secrets"]["enrolment"], members["secrets"]["attest_nonce"]
    return msgspec.json.encode(members)


def test_a_commitment_of_an_older_version_is_an_error_with_the_remedy(vault: FileVault, tmp_path: Path) -> None:
    (tmp_path / VAULT_FILE).write_bytes(older_commitment())
    with pytest.raises(StartupError, match=r"older version.*SIGIL_MNEMONIC_PATH, or remove the file") as raised:
        committed_identity(Config(state_dir=tmp_path))
    assert isinstance(raised.value.__cause__, VaultOutdated)
    assert raised.value.__cause__.__cause__ is raised.value.__cause__.__context__ is None


def test_the_mnemonic_in_the_settings_removes_a_commitment_of_an_older_version(tmp_path: Path) -> None:
    (tmp_path / VAULT_FILE).write_bytes(older_commitment())
    config = Config(state_dir=tmp_path, mode="operational")
    assert _adoptable(config) is None
    _remove_commitment(config)
    assert not (tmp_path / VAULT_FILE).exists()
    (tmp_path / VAULT_FILE).write_bytes(older_commitment())
    with pytest.raises(StartupError, match="older version"):
        _adoptable(Config(state_dir=tmp_path, mode="init"))


def test_a_commitment_whose_keys_are_none_is_one_line_at_the_start(vault: FileVault, tmp_path: Path) -> None:
    """Zero is outside the order of every curve: only a damaged file holds it."""
    vault.commit(commitment(0))
    with pytest.raises(StartupError, match="identity is damaged; remove it") as raised:
        committed_identity(Config(state_dir=tmp_path))
    assert raised.value.__cause__ is None


def test_a_symbolic_link_is_not_followed(vault: FileVault, tmp_path: Path) -> None:
    elsewhere = FileVault(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    elsewhere.commit(commitment())
    (tmp_path / VAULT_FILE).symlink_to(tmp_path / "elsewhere" / VAULT_FILE)
    with pytest.raises(VaultUnusable):
        vault.read()


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "gone")
    assert not vault.is_committed()
    with pytest.raises(VaultUnusable):
        vault.commit(commitment())


def test_the_repr_of_a_commitment_shows_no_secret() -> None:
    assert "\\x01" not in repr(commitment()) + str(commitment())


def test_a_session_accepts_its_token_for_half_an_hour() -> None:
    session = Session.begin("token", 1000.9)
    assert session.accepts("token", 1000.9)
    assert session.accepts("token", 999 + SESSION_SECONDS)
    assert not session.accepts("token", 1000 + SESSION_SECONDS)
    assert session.is_expired(1000 + SESSION_SECONDS)
    for wrong in ("", "Token", "token ", "\udcff"):
        assert not session.accepts(wrong, 1001)


def test_an_existing_marker_is_not_overwritten(tmp_path: Path) -> None:
    marker = Marker(tmp_path / "made" / "on demand")
    assert marker.read() is None
    marker.write_if_absent("a1" * 32)
    marker.write_if_absent("b2" * 32)
    assert marker.read() == "a1" * 32
    assert [path.name for path in marker.path.parent.iterdir()] == ["server_id"]
    marker.remove()
    marker.remove()
    assert marker.read() is None


@pytest.mark.parametrize("content", [b"", b"a1", b"A1" * 32, b"a1" * 32 + b"\nx", b"\xff" * 64])
def test_a_marker_without_a_server_id_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "server_id").write_bytes(content)
    with pytest.raises(MarkerUnusable, match="contains no server_id"):
        Marker(tmp_path).read()


def test_a_marker_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(MarkerUnusable, match="cannot write"):
        Marker(tmp_path / "a file").write_if_absent("a1" * 32)
