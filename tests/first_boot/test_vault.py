"""The wizard's commitment: once, whole, for its owner alone."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sigil.first_boot.commitment import SESSION_SECONDS, AlreadyCommitted, Commitment, Session, VaultUnusable
from sigil.first_boot.marker import Marker, MarkerUnusable
from sigil.first_boot.vault import VAULT_FILE, FileVault
from sigil.protocol.identity import DerivedSecrets


def commitment(number: int = 1) -> Commitment:
    return Commitment(DerivedSecrets(*(bytes([number]) * 32 for _ in range(4))), Session.begin("token", 1000.0))


@pytest.fixture
def vault(tmp_path: Path) -> FileVault:
    return FileVault(tmp_path)


def test_what_is_committed_is_read_by_all(vault: FileVault, tmp_path: Path) -> None:
    assert not vault.is_committed()
    assert vault.read() is None
    vault.commit(commitment())
    assert vault.is_committed()
    assert FileVault(tmp_path).read() == commitment()


def test_its_file_is_its_owners_alone_and_the_only_one(vault: FileVault, tmp_path: Path) -> None:
    os.umask(before := os.umask(0))
    vault.commit(commitment())
    os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == [VAULT_FILE]
    assert stat.S_IMODE((tmp_path / VAULT_FILE).stat().st_mode) == 0o600


def test_of_many_at_once_one_wins_and_the_others_are_told(vault: FileVault, tmp_path: Path) -> None:
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


def test_what_a_killed_worker_left_half_made_is_swept_and_the_rest_stays(vault: FileVault, tmp_path: Path) -> None:
    vault.commit(commitment())
    (tmp_path / f"{VAULT_FILE}.new.0123").write_bytes(b"half a secr")
    vault.remove_temporary_files()
    assert [path.name for path in tmp_path.iterdir()] == [VAULT_FILE]


def test_a_racer_whose_file_was_swept_away_is_told_that_another_won(
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
def test_a_damaged_one_is_refused_without_its_content(vault: FileVault, tmp_path: Path, content: bytes) -> None:
    (tmp_path / VAULT_FILE).write_bytes(content)
    with pytest.raises(VaultUnusable, match="damaged") as raised:
        vault.read()
    assert raised.value.__cause__ is None


def test_a_link_in_its_place_is_not_followed(vault: FileVault, tmp_path: Path) -> None:
    elsewhere = FileVault(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    elsewhere.commit(commitment())
    (tmp_path / VAULT_FILE).symlink_to(tmp_path / "elsewhere" / VAULT_FILE)
    with pytest.raises(VaultUnusable):
        vault.read()


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "gone")
    assert not vault.is_committed()
    with pytest.raises(VaultUnusable):
        vault.commit(commitment())


def test_a_commitment_shows_nothing_of_itself() -> None:
    assert "\\x01" not in repr(commitment()) + str(commitment())


def test_a_session_opens_with_its_token_for_half_an_hour() -> None:
    session = Session.begin("token", 1000.9)
    assert session.accepts("token", 1000.9)
    assert session.accepts("token", 999 + SESSION_SECONDS)
    assert not session.accepts("token", 1000 + SESSION_SECONDS)
    assert session.is_expired(1000 + SESSION_SECONDS)
    for wrong in ("", "Token", "token ", "\udcff"):
        assert not session.accepts(wrong, 1001)


def test_a_marker_stays_as_it_was_first_written(tmp_path: Path) -> None:
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
def test_a_marker_that_names_no_server_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "server_id").write_bytes(content)
    with pytest.raises(MarkerUnusable, match="contains no server_id"):
        Marker(tmp_path).read()


def test_a_marker_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(MarkerUnusable, match="cannot write"):
        Marker(tmp_path / "a file").write_if_absent("a1" * 32)
